"""Fuzzes both Python decoders of records with atheris (libFuzzer): nothing but their own errors may come out.

    pip install atheris numpy       (in a Python of its own: it is no dependency of Mien)
    python tests/plugins/fuzz_records.py -max_total_time=180 plugins/golden plugins/golden/faults

The folders are the first inputs; what it finds it writes beside them (give an empty folder first to keep them clean).
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["streamer.gateway", "plugins"]):
    from plugins.blender.mien_live import records as blender
    from streamer.gateway import decoding, variants
    from streamer.gateway.records import Kind

from streamer.errors import WireError

DECODERS = {
    Kind.HELLO: decoding.decode_hello,
    Kind.TOPOLOGY: decoding.decode_topology,
    Kind.FRAME: decoding.decode_frame,
    Kind.WEIGHTS: decoding.decode_frame,
    Kind.HEALTH: decoding.decode_health,
    Kind.END: decoding.decode_end,
}


def one(data: bytes) -> None:
    """Read the bytes as a stream, with both."""
    try:
        splitter = decoding.Splitter()
        for record in splitter.feed(data):
            if record.header.kind == Kind.REQUEST:
                variants.parse_request(record.payload)
            elif record.header.kind in DECODERS:
                DECODERS[Kind(record.header.kind)](record)
        splitter.close()
    except WireError as error:
        assert str(error)
    try:
        cutter, reader = blender.Splitter(), blender.Reader()
        for whole in cutter.feed(data):
            reader.read(whole)
        cutter.close()
    except blender.RecordError as error:
        assert error.fault in ("newer", "foreign", "damaged", "incomplete")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
