"""From what a person typed to a job, refused at once if it could never be done."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from renderer.config import FitterConfig
from renderer.fitter.jobs import Job
from renderer.fitter.presets import preset_of
from renderer.fitter.store import Store
from streamer.errors import ConfigError, MienError, TakeError
from streamer.takes.reader import open_take


def values_from(pairs: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` pairs as a mapping; values are JSON where they can be read as such, else text.

    Raises:
        ConfigError: no `=`.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"'{pair}' is not KEY=VALUE")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def job_for(
    take: Path,
    *,
    preset: str,
    overrides: Mapping[str, Any],
    frames: tuple[int | None, int | None] = (None, None),
    hold_out: Sequence[str] = (),
    mesh_channel: str = "mesh",
    priority: int = 0,
) -> Job:
    """Return a job for a take that can be read and has pictures of two cameras or more.

    Args:
        take: its folder.
        preset: name of the recipe, or `auto`.
        overrides: values of the recipe, by dotted name.
        frames: first and one after the last.
        hold_out: cameras not to train on, by id or serial.
        mesh_channel: `mesh` or `truth`.
        priority: greater comes first.

    Raises:
        ConfigError: no such preset or value.
        TakeError: the take cannot be read, or cannot be fitted.
    """
    recipe = preset_of("preview" if preset == "auto" else preset, overrides)
    with open_take(take) as opened:
        known = {name for camera in opened.calibration.cameras for name in (camera.id, camera.serial)}
        unknown = sorted(set(hold_out) - known)
        if unknown:
            raise TakeError(f"cannot hold out '{unknown[0]}': {take} has {', '.join(opened.calibration.ids)}")
        held = {c.id for c in opened.calibration.cameras if c.id in hold_out or c.serial in hold_out}
        left = [name for name in opened.cameras if name not in held]
        if len(left) < 2:
            raise TakeError(f"{take} has pictures of {len(left)} cameras to train on; a field needs two or more")
        if recipe.prior and not len(opened.meshes(mesh_channel)) and not len(opened.meshes("truth")):
            raise TakeError(f"{take} has no meshes; run mien reprocess first, or add it with --no-prior")
    return Job(0, str(take.resolve()), preset, dict(overrides), frames, tuple(hold_out), mesh_channel, priority)


def queue_closed(take: Path, fitter: FitterConfig, say: Callable[[str], None]) -> int | None:
    """Queue a take that was just closed, by the configuration; without its meshes where it has none.

    A take that cannot be fitted, or a queue that cannot be written, is told and is no failure:
    the take is safe. A take that is in the queue already is left alone.

    Args:
        take: its folder.
        fitter: `[fitter]`.
        say: told in one line what became of it.

    Returns:
        The number of the job, or None.
    """
    try:
        with open_take(take) as opened:
            prior = bool(len(opened.meshes("mesh")) or len(opened.meshes("truth")))
            cameras = {name for camera in opened.calibration.cameras for name in (camera.id, camera.serial)}
        values = {} if prior else {"prior": False}
        held_out = [name for name in fitter.hold_out if name in cameras]
        job = job_for(take, preset=fitter.preset, overrides=values, hold_out=held_out)
        with Store(Path(fitter.queue)) as store:
            if any(one.take == job.take for one in store.jobs()):
                return None
            number = store.add(job, time.time())
    except (MienError, OSError) as error:
        say(f"fitter.auto: {take} was not queued: {error}")
        return None
    say(f"fitter.auto: {take} is job {number}")
    return number
