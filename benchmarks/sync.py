"""How well `mien sync check` measures skew: the simulated rig with injected skews that no stamp tells of.

    python benchmarks/sync.py [--seconds S] [--cameras N] [--json]

The pictures are rendered by the simulated rig at the exposure times of a grid, one camera later than its stamps say,
once under the swelling lamp and once by the performance alone; then a device clock that drifts by 50 ppm is followed
from delayed arrivals.
"""

import argparse
import json

import numpy as np

from rig.clock import NS, Pulses
from rig.config import SimulatedConfig
from rig.drivers.simulated import RenderingStage
from rig.simulation.lamp import LampStage
from rig.simulation.stage import Stage
from rig.sync.check import check_sync
from rig.sync.line import ClockFollower
from rig.sync.signals import Track, small_picture
from streamer.types import F32

SKEWS_MS = (1.0, 5.0, 12.5, 40.0)
START_NS = 1_790_000_000 * NS
FPS = 30.0


def film(stage: RenderingStage, times_s: list[float], cameras: tuple[str, ...]) -> dict[str, F32]:
    """Small pictures of the wanted cameras at these times."""
    taken: dict[str, list[F32]] = {camera: [] for camera in cameras}
    for time_s in times_s:
        pictures = stage.render(time_s)[0]
        for camera in cameras:
            taken[camera].append(small_picture(pictures[camera]))
    return {camera: np.stack(pictures) for camera, pictures in taken.items()}


def errors_ms(stage: RenderingStage, seconds: float) -> dict[str, list[float]]:
    """Injected skew of the last camera to the error of the measured one, and the standard error that was stated, ms."""
    pulses = Pulses.at(FPS)
    first = pulses.first_at_or_after(START_NS)
    ids = tuple(range(first, first + round(seconds * FPS)))
    stamps = tuple(pulses.exposure_ns(k) for k in ids)
    times_s = [(t - START_NS) / NS for t in stamps]
    names = stage.calibration.ids
    straight = film(stage, times_s, names)
    found = {}
    for skew_ms in SKEWS_MS:
        late = film(stage, [t + skew_ms / 1000 for t in times_s], names[-1:])
        shown = {**straight, **late}
        tracks = [Track(n, ids, stamps, tuple(range(len(ids))), (0,) * len(ids), shown[n]) for n in names]
        report = check_sync(tracks, method="auto", limit_ms=1.0, search_ms=100.0)
        measured = report.cameras[names[-1]]
        told = measured.offset_ms is not None and measured.error_ms is not None
        found[f"{skew_ms:g}"] = (
            [round((measured.offset_ms or 0.0) - skew_ms, 3), measured.error_ms or 0.0] if told else []
        )
    return found


def drift_error_us(ppm: float, seconds: float = 600.0, fps: float = 73.0) -> float:
    """Worst error of the followed clock after its second second, arrivals delayed by 0.5 ms on average, us."""
    rng = np.random.default_rng(1)
    follower = ClockFollower(1.0, one_sided=True)
    worst = 0.0
    for k in range(round(seconds * fps)):
        true = START_NS + round(k * NS / fps)
        ticks = round((true - START_NS) * (1 + ppm * 1e-6))
        error = follower.observe(ticks, true + round(rng.exponential(5e5))) - true
        worst = max(worst, abs(error) / 1000) if k > 2 * fps else worst
    return round(worst, 1)


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, object] = {"seconds": args.seconds, "cameras": args.cameras}
    for name in ("lamp", "performance"):
        stage: RenderingStage = Stage(SimulatedConfig(cameras=args.cameras, width=320, height=240))
        try:
            lit: RenderingStage = LampStage(stage) if name == "lamp" else stage
            result[f"error_ms_by_{name}"] = errors_ms(lit, args.seconds)
        finally:
            stage.close()
    result["drift_50_ppm_error_us"] = drift_error_us(50.0)
    print(json.dumps(result) if args.json else "\n".join(f"{name:28} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
