"""Takes on disk: a folder of rolled MCAP files with the calibration and the configuration as used.

layout      names, paths and take.json
framing     one message as one self-checking blob
mesh_codec  vertices to few bytes; mesh_walk, byte_planes: its parts; stored: what is encoded in a take
disk        a file that only grows by whole writes, and the durability thread
mcap_file   one MCAP file being written; rolling: one after the other
writer      TakeWriter: messages -> take
index       where the messages of one file are
sets        frames -> frame sets, from ids and times alone
reader      open_take: take -> messages; sequences: its meshes and frame sets; moments: time, timecode, markers
carve       every whole message of a damaged file
recover     a killed or cut take becomes whole again
verify      is it whole, and what is in it
recorder    bus -> takes; session: commands between takes; recording: one take; intake: queue, ledger, pre-roll
osc         commands by Open Sound Control
replay      take -> bus
editing     trim, merge; catalogue: list, info; extras: thumbnails, Epic's metadata

In a notebook:

    import streamer.takes
    take = streamer.takes.open("takes/demo/slate_T001")
    vertices = take.meshes()[100].vertices
"""

from streamer.takes.layout import TakeInfo, new_take_path
from streamer.takes.reader import Take, open_take
from streamer.takes.writer import TakeWriter

open = open_take

__all__ = ["Take", "TakeInfo", "TakeWriter", "new_take_path", "open", "open_take"]
