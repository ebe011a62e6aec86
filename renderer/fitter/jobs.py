"""Jobs of the queue: their states, what may follow what, and what becomes of a job whose run ended badly. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal[
    "queued", "running", "pause-requested", "paused", "cancel-requested", "cancelled", "retry-wait", "failed", "done"
]
Cause = Literal["lost", "memory", "diverged", "disk", "busy", "input"]

FOLLOWS: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"running", "paused", "cancelled"}),
    "running": frozenset({"pause-requested", "cancel-requested", "queued", "retry-wait", "failed", "done"}),
    "pause-requested": frozenset({"paused", "running", "cancel-requested", "queued", "retry-wait", "failed", "done"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancel-requested": frozenset({"cancelled", "done", "failed"}),
    "retry-wait": frozenset({"queued", "running", "paused", "cancelled"}),
    "cancelled": frozenset({"queued"}),
    "failed": frozenset({"queued"}),
    "done": frozenset(),
}
"""State to the states that may follow it; everything else is refused."""
HELD: frozenset[State] = frozenset({"running", "pause-requested", "cancel-requested"})
"""States in which a worker holds the job."""
ENDED: frozenset[State] = frozenset({"cancelled", "failed", "done"})
"""States that only a person changes."""

MOST: Mapping[Cause, int] = {"lost": 3, "memory": 2, "diverged": 1, "disk": 3, "busy": 60, "input": 0}
"""How often a job is tried again after each cause; for `lost`, in a row without a new checkpoint between; for `busy`
as long as a process may need that does not know yet that it has lost the job."""
BACK_OFF_S = 10.0
"""Wait before the first try again; doubled each time, but for `busy`."""
FEWER_SAMPLES = 0.5
"""Samples of a step after a lack of memory, as a part of those before."""
LOWER_RATE = 0.3
"""Learning rate after a loss that was not finite, as a part of that before."""


@dataclass(frozen=True)
class Job:
    """One row of the queue."""

    id: int
    """Its number, in order of arrival."""
    take: str
    """Path of the take."""
    preset: str
    """Name of the recipe."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Values of the recipe that are replaced, by dotted name."""
    frames: tuple[int | None, int | None] = (None, None)
    """First frame and the one after the last."""
    hold_out: tuple[str, ...] = ()
    """Cameras that are not trained on."""
    mesh_channel: str = "mesh"
    """Where the prior's meshes are."""
    priority: int = 0
    """Greater ones first."""
    state: State = "queued"
    """What it is doing."""
    tries: Mapping[str, int] = field(default_factory=dict)
    """Cause to how often the job has been tried again for it."""
    rate_scale: float = 1.0
    """Learning rates are multiplied by this."""
    not_before_s: float = 0.0
    """Earliest time of the next try, Unix time."""
    owner: str = ""
    """The worker that holds it, `host:pid:start`."""
    token: str = ""
    """Drawn for each lease: what does not show it may not write."""
    lease_until_s: float = 0.0
    """When the lease lapses, Unix time."""
    step: int = 0
    """Steps done."""
    steps: int = 0
    """Steps in all."""
    phase: str = ""
    """See `renderer.fitter.run.Pulse`."""
    loss: float | None = None
    """Of the last step."""
    psnr_db: float | None = None
    """Of held-out pictures, dB: of the last glance, in the end of the evaluation."""
    ssim: float | None = None
    """Of the evaluation."""
    seconds: float = 0.0
    """Spent on steps."""
    eta_s: float | None = None
    """Until the last step."""
    message: str = ""
    """One line for the person who asks why."""
    created_s: float = 0.0
    """Unix time of arrival."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job whose run ended badly."""

    state: State
    """`retry-wait` or `failed`."""
    tries: Mapping[str, int]
    """Counted."""
    not_before_s: float
    """Earliest time of the next try."""
    overrides: Mapping[str, Any]
    """Of the next try."""
    rate_scale: float
    """Of the next try."""
    message: str
    """Why."""


def after_failure(job: Job, cause: Cause, why: str, now_s: float, samples: int) -> Verdict:
    """Decide whether to try again, and how.

    Args:
        job: as it is.
        cause: what went wrong.
        why: one line.
        now_s: Unix time.
        samples: samples of a step of the failed run.
    """
    count = job.tries.get(cause, 0) + 1
    tries = {**job.tries, cause: count}
    if count > MOST[cause]:
        again = "" if MOST[cause] == 0 else f" (after {MOST[cause]} more {'try' if MOST[cause] == 1 else 'tries'})"
        return Verdict("failed", tries, 0.0, job.overrides, job.rate_scale, why + again)
    wait_s = BACK_OFF_S if cause == "busy" else BACK_OFF_S * 2 ** (count - 1)
    if cause in ("memory", "diverged") or (cause == "lost" and count == 1):
        wait_s = 0.0  # a machine that was switched off says nothing against the job
    overrides = dict(job.overrides)
    if cause == "memory":
        overrides["samples"] = max(int(samples * FEWER_SAMPLES), 1)
    scale = job.rate_scale * (LOWER_RATE if cause == "diverged" else 1.0)
    remedy = {
        "lost": "goes on from the last checkpoint",
        "memory": f"out of memory; goes on with {overrides.get('samples')} samples a step",
        "diverged": f"goes on from the last checkpoint with learning rates times {scale:.2g}",
        "disk": "the disk refused a file; goes on from the last checkpoint",
        "busy": f"tried again in {BACK_OFF_S:.0f} s",
    }[cause]
    return Verdict("retry-wait", tries, now_s + wait_s, overrides, scale, f"{why}; {remedy}" if why else remedy)
