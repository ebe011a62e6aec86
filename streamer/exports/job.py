"""What a writer of one format gets."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.exports.motion import Motion, Progress, Sample
from streamer.exports.options import ExportOptions
from streamer.exports.presets import Preset


@dataclass(frozen=True, slots=True)
class Job:
    """One export."""

    motion: Motion
    """The meshes."""
    options: ExportOptions
    """What was asked for."""
    preset: Preset
    """Axes and unit of the file."""
    on_progress: Progress | None = None
    """Called with what is done and what there is in all."""
    notes: list[str] = field(default_factory=list)
    """What the format cannot hold, what the program has to be told: a writer adds its own."""

    def samples(self, walk: int = 0, walks: int = 1) -> Iterator[Sample]:
        """Walk the meshes; see `Motion.walk`."""
        return self.motion.walk(self.on_progress, (walk, walks))
