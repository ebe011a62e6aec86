"""What a take costs beside bare appends to a file, and whether kill -9 ever hurts one.

    python benchmarks/recording.py --sets 150
    python benchmarks/recording.py --kill-rounds 50
    python benchmarks/recording.py --hour

Sixteen pictures of 300 KB and one mesh per set, as at 30 fps (145 MB/s). Takes, the writer of the `mcap` package and
bare appends alternate in the same run. CPU time is that of the whole process, the kernel's work included; it moves less
than wall time on a busy machine. `--hour` writes the messages of an hour of sixteen cameras and meshes with pictures of
64 bytes, opens it in a fresh process and reads anywhere. Ends with 1 if a target is missed: 20 % of a core live, 0.6 of
the rate of bare appends, 0.5 s to open an hour, 20 ms to read anywhere (95 %), no killed take hurt.
"""

import argparse
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType, Writer

from streamer.config import RecordConfig
from streamer.geometry import look_at
from streamer.takes import TakeWriter, open_take
from streamer.takes.carve import Found, carve
from streamer.takes.recover import recover_take
from streamer.takes.stored import Unpacker, channel_of
from streamer.takes.tables import TOPICS
from streamer.types import Calibration, Camera, Frame, MeshFrame
from streamer.wire import encode

FPS = 30
PICTURE_BYTES = 300_000
VERTICES = 4283


def calibration(cameras: int) -> Calibration:
    """Any rig."""
    matrix = np.array([[1500.0, 0, 800], [0, 1500.0, 600], [0, 0, 1]])
    pose = look_at(np.array([0.0, 0, 1]), np.zeros(3))
    return Calibration(
        tuple(Camera(f"cam_{i:02d}", str(i), 1600, 1200, matrix, np.zeros(5), pose) for i in range(cameras))
    )


def material(cameras: int) -> tuple[list[Frame], MeshFrame]:
    """One set; the pictures are noise, as JPEG is to a disk."""
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, PICTURE_BYTES, np.uint8) for _ in range(cameras)]
    frames = [Frame(f"cam_{i:02d}", 0, 0, 0, 0, "host", 0, 0, 1600, 1200, "jpeg", p) for i, p in enumerate(pictures)]
    vertices = rng.normal(0, 0.1, (VERTICES, 3)).astype(np.float32)
    return frames, MeshFrame(0, 0, 0, "0" * 16, vertices, np.eye(4, dtype=np.float32))


def cpu_s() -> float:
    """CPU seconds of this process so far, all threads, user and kernel."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def write_take(folder: Path, sets: int, frames: list[Frame], mesh: MeshFrame) -> list[float]:
    """Write a take; return the seconds that each set took."""
    spent = []
    path, rig = folder / "take", calibration(len(frames))
    with TakeWriter(path, calibration=rig, config_text="", show="bench", slate="take", take=1) as writer:
        for number in range(sets):
            now = number * 10**9 // FPS
            fresh = [replace(f, frame_id=number, sequence=number, exposure_time_ns=now) for f in frames]
            began = time.perf_counter()
            for frame in fresh:
                writer.write("frame", frame, now)
            writer.write("mesh", replace(mesh, frame_id=number, exposure_time_ns=now), now)
            spent.append(time.perf_counter() - began)
    return spent


def write_raw(folder: Path, sets: int, frames: list[Frame], mesh: MeshFrame) -> list[float]:
    """Append the same bytes to one file; return the seconds that each set took."""
    spent = []
    payload = [frame.data.data for frame in frames] + [mesh.vertices.reshape(-1).view(np.uint8).data]
    with (folder / "raw").open("wb", buffering=0) as file:
        for _ in range(sets):
            began = time.perf_counter()
            for part in payload:
                file.write(part)
            spent.append(time.perf_counter() - began)
        os.fdatasync(file.fileno())
    return spent


def write_package(folder: Path, sets: int, frames: list[Frame], mesh: MeshFrame) -> list[float]:
    """Write the same messages with the writer of the `mcap` package; return the seconds of each set."""
    spent = []
    with (folder / "package.mcap").open("wb", buffering=0) as file:
        writer = Writer(file, chunk_size=1_000_000, compression=CompressionType.NONE)
        writer.start()
        schema = writer.register_schema("bytes", "", b"")
        topics = {name: writer.register_channel(name, "", schema) for name in [*(f.camera for f in frames), "mesh"]}
        for number in range(sets):
            now = number * 10**9 // FPS
            began = time.perf_counter()
            for frame in frames:
                fresh = replace(frame, frame_id=number, sequence=number, exposure_time_ns=now)
                writer.add_message(topics[frame.camera], now, b"".join(encode("frame", fresh)), now, number)
            fresh_mesh = replace(mesh, frame_id=number, exposure_time_ns=now)
            writer.add_message(topics["mesh"], now, b"".join(encode("mesh", fresh_mesh)), now, number)
            spent.append(time.perf_counter() - began)
        writer.finish()
        os.fdatasync(file.fileno())
    return spent


def measure(write: Callable[..., list[float]], sets: int, frames: list[Frame], mesh: MeshFrame) -> dict[str, float]:
    """Run one writer in a fresh folder."""
    gigabytes = sets * (sum(f.data.nbytes for f in frames) + mesh.vertices.nbytes) / 1e9
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        cpu, wall = cpu_s(), time.perf_counter()
        spent = write(Path(name), sets, frames, mesh)
        cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
        result = {
            "cpu_s_per_gb": cpu / gigabytes,
            "mb_per_s": gigabytes * 1e3 / wall,
            "set_ms_p50": 1e3 * statistics.median(spent),
            "set_ms_p99": 1e3 * sorted(spent)[int(0.99 * len(spent))],
            "cpu_percent_live": 100 * cpu / sets * FPS,
        }
        if write is write_take:
            result |= read_back(Path(name) / "take", sets)
    return result


def read_back(path: Path, sets: int) -> dict[str, float]:
    """Open the take, and read single frames anywhere."""
    began = time.perf_counter()
    with open_take(path) as take:
        count = take.frame_count
        opened = time.perf_counter() - began
        seeks = []
        for row in np.random.default_rng(2).integers(0, sets, 200).tolist():
            began = time.perf_counter()
            take.frame("cam_03", row)
            seeks.append(time.perf_counter() - began)
    if count != 16 * sets:
        raise SystemExit(f"{count} frames came back, expected {16 * sets}")
    return {"open_ms": 1e3 * opened, "seek_ms_p50": 1e3 * statistics.median(seeks)}


def write_hour(path: Path, seconds: int) -> None:
    """An hour of sixteen cameras and a mesh that moves, with next to nothing in the pictures."""
    frames, _ = material(16)
    tiny = [replace(frame, data=frame.data[:64]) for frame in frames]
    rng = np.random.default_rng(1)
    base = rng.normal(0, 0.1, (VERTICES, 3)).astype(np.float32)
    moved = [base + np.float32(0.001 * k) for k in range(30)]
    heads = [MeshFrame(0, 0, 0, "0" * 16, vertices, np.eye(4, dtype=np.float32)) for vertices in moved]
    with TakeWriter(path, calibration=calibration(16), config_text="", show="bench", slate="hour", take=1) as writer:
        for number in range(seconds * FPS):
            now = number * 10**9 // FPS
            for frame in tiny:
                writer.write("frame", replace(frame, frame_id=number, sequence=number, exposure_time_ns=now), now)
            writer.write("mesh", replace(heads[number % 30], frame_id=number, exposure_time_ns=now), now)


def read_hour(path: Path) -> dict[str, float]:
    """Open the take as a fresh process does, and read anywhere; times in ms."""
    began = time.perf_counter()
    take = open_take(path)
    opened = time.perf_counter() - began
    count = take.frame_count
    listed = time.perf_counter() - began
    heads = take.meshes()
    seeks: dict[str, list[float]] = {"frame": [], "mesh": []}
    for row in np.random.default_rng(2).integers(0, len(heads), 500).tolist():
        began = time.perf_counter()
        take.frame(f"cam_{row % 16:02d}", row)
        seeks["frame"].append(1e3 * (time.perf_counter() - began))
        began = time.perf_counter()
        if heads[row].frame_id != row:
            raise SystemExit(f"mesh {row} is another one")
        seeks["mesh"].append(1e3 * (time.perf_counter() - began))
    began = time.perf_counter()
    if len(take.ledger.timing["frame_id"]) != count + len(heads):
        raise SystemExit("the ledger does not name every message")
    told = time.perf_counter() - began
    result = {"messages": count + len(heads), "open_ms": 1e3 * opened, "open_and_list_ms": 1e3 * listed}
    result["ledger_timing_ms"] = 1e3 * told
    for name, spent in seeks.items():
        result[f"{name}_seek_ms_p50"] = statistics.median(spent)
        result[f"{name}_seek_ms_p95"] = sorted(spent)[int(0.95 * len(spent))]
    return {key: round(value, 3) for key, value in result.items()}


def hour(seconds: int) -> dict[str, float]:
    """Write the take in one process, read it in another."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        path = Path(name) / "take"
        write_hour(path, seconds)
        command = [sys.executable, __file__, "--read-hour", str(path)]
        result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def write_for_ever(path: Path) -> None:
    """The process that is killed: says after every set how many messages the system has."""
    frames, mesh = material(4)
    record = RecordConfig(roll_s=2.0)
    with TakeWriter(
        path, calibration=calibration(4), config_text="", show="b", slate="k", take=1, record=record
    ) as writer:
        number = 0
        while True:
            now = number * 10**9 // FPS
            for frame in frames:
                writer.write("frame", replace(frame, frame_id=number, sequence=number, exposure_time_ns=now), now)
            writer.write("mesh", replace(mesh, frame_id=number, exposure_time_ns=now), now)
            number += 1
            sys.stdout.write(f"{writer.on_disk}\n")
            sys.stdout.flush()


def kill_once(delay_s: float) -> tuple[int, int, int]:
    """Kill a writer after a random time; return messages that it had handed over, on file, recovered."""
    frames, head = material(4)
    pictures = {frame.camera: frame.data for frame in frames}
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        path = Path(name) / "take"
        command = [sys.executable, __file__, "--write-for-ever", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            lines = child.stdout or sys.exit("no pipe")
            lines.readline()
            time.sleep(delay_s)
            os.kill(child.pid, signal.SIGKILL)
            said = [line for line in lines.read().split("\n")[:-1] if line]
        count = 0
        for file in sorted(path.glob("*.mcap")):
            unpacker = Unpacker()
            for item in carve(file):
                if not isinstance(item, Found):
                    continue
                if channel_of(item.parts) in TOPICS:
                    continue
                count += 1
                _, message = unpacker.decode(item.parts, item.packed, item.keys.log_time_ns)
                if isinstance(message, Frame) and not np.array_equal(message.data, pictures[message.camera]):
                    raise SystemExit(f"a recovered picture of {message.camera} is wrong")
                if isinstance(message, MeshFrame) and np.abs(message.vertices - head.vertices).max() > 5e-6:
                    raise SystemExit(f"the recovered mesh {message.frame_id} is wrong")
        report = recover_take(path)
        with open_take(path) as take:
            recovered = sum(take.info.messages.values())
            sequences = [[frame.sequence for frame in take.frames(camera)] for camera in take.cameras]
            if not take.info.ledger or (wrong := take.ledger.compare()):
                raise SystemExit(f"the ledger is not what is there: {wrong.lines()}")
        if not report.ok or any(got != list(range(len(got))) for got in sequences):
            raise SystemExit(f"the take is not whole after recovery: {report}")
    return int(said[-1]) if said else 0, count, recovered


def main() -> int:
    """Measure and print; 1 if a budget is missed or a killed take was hurt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="as every benchmark; this one prints nothing else")
    parser.add_argument("--sets", type=int, default=150, help="sets per run (default: 150, 5 s of recording)")
    parser.add_argument("--repeats", type=int, default=5, help="takes and bare appends, alternating; medians are shown")
    parser.add_argument("--kill-rounds", type=int, default=0, help="kill a writer so many times instead")
    parser.add_argument("--hour", action="store_true", help="open an hour and read anywhere instead (a minute)")
    parser.add_argument("--seconds", type=int, default=3600, help="length of the hour (default: 3600)")
    parser.add_argument("--read-hour", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write-for-ever", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_for_ever is not None:
        write_for_ever(args.write_for_ever)
    if args.read_hour is not None:
        print(json.dumps(read_hour(args.read_hour)))
        return 0
    if args.hour:
        found = hour(args.seconds)
        print(json.dumps(found, indent=2))
        slow = found["open_and_list_ms"] > 500 or max(found["frame_seek_ms_p95"], found["mesh_seek_ms_p95"]) > 20
        return 1 if slow else 0
    if args.kill_rounds:
        rounds = [kill_once(random.uniform(0.0, 1.5)) for _ in range(args.kill_rounds)]
        hurt = sum(not handed <= on_file == recovered for handed, on_file, recovered in rounds)
        total = sum(recovered for _, _, recovered in rounds)
        print(json.dumps({"rounds": len(rounds), "hurt": hurt, "messages_recovered": total}, indent=2))
        return 1 if hurt else 0
    frames, mesh = material(16)
    runs: dict[str, list[dict[str, float]]] = {"take": [], "package": [], "raw": []}
    for _ in range(args.repeats):
        runs["take"].append(measure(write_take, args.sets, frames, mesh))
        runs["package"].append(measure(write_package, args.sets, frames, mesh))
        runs["raw"].append(measure(write_raw, args.sets, frames, mesh))
    medians = {
        name: {key: round(statistics.median(run[key] for run in results), 3) for key in results[0]}
        for name, results in runs.items()
    }
    take = medians["take"]["cpu_s_per_gb"]
    ratios = {f"cpu_ratio_to_{name}": round(take / medians[name]["cpu_s_per_gb"], 2) for name in ("package", "raw")}
    ratios["rate_ratio_to_raw"] = round(medians["take"]["mb_per_s"] / medians["raw"]["mb_per_s"], 2)
    print(json.dumps({**medians, **ratios}, indent=2))
    return 1 if medians["take"]["cpu_percent_live"] > 20 or ratios["rate_ratio_to_raw"] < 0.6 else 0


if __name__ == "__main__":
    sys.exit(main())
