"""What an export is asked for: which meshes, at what times, made how calm, for whom."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from streamer.errors import TakeError

Format = Literal["npz", "usd", "abc", "gltf", "obj", "pc2", "mdd", "csv", "nersemble"]
FORMATS: tuple[Format, ...] = get_args(Format)
Filter = Literal["none", "zero-phase", "one-euro"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
Morphs = Literal["none", "arkit", "pca"]
MORPHS: tuple[Morphs, ...] = get_args(Morphs)
Stabilise = Literal["none", "rigid"]
STABILISE: tuple[Stabilise, ...] = get_args(Stabilise)

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "usd": (".usd", ".usdc", ".usda"),
    "abc": (".abc",),
    "gltf": (".glb", ".gltf"),
    "pc2": (".pc2",),
    "mdd": (".mdd",),
}
"""Names that readers of a format insist on; other formats take any."""
MORPH_FORMATS: dict[Format, tuple[Morphs, ...]] = {"gltf": ("pca", "arkit"), "usd": ("none", "arkit")}
"""Ways of holding motion per format, the default first; other formats hold every vertex of every frame."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Everything that can be asked of an export; the defaults change nothing that was recorded."""

    channel: str = "mesh"
    """`mesh` or `truth`."""
    target: str = ""
    """Program that the file is for, see docs/export.md; empty: the format's own custom."""
    name: str = "head"
    """Name of the object, a letter followed by letters, digits and underscores."""
    frames: tuple[int, int] | None = None
    """First and last mesh, counted from 0, both included; None: all."""
    fps: Fraction | None = None
    """Resample at this rate, frames per second; None: the meshes as recorded."""
    speed: float = 1.0
    """Play so many times faster, above 0."""
    start_frame: int = 0
    """Frame number of the first sample in the file."""
    filter: Filter = "none"
    """Over time: `zero-phase`, or `one-euro` as live clients do."""
    cutoff_hz: float | None = None
    """Cut-off of the filter; None: 8 Hz for zero-phase, 2 Hz (at rest) for one-euro."""
    stabilise: Stabilise = "none"
    """`rigid`: without the motion of the skull, in the head frame."""
    morphs: Morphs | None = None
    """How glTF and USD hold motion; None: pca for gltf, none for usd."""
    components: int = 64
    """Most shapes of a PCA, 1 to 1024."""
    tolerance_mm: float = 0.01
    """Largest error that a PCA may leave while it has shapes left, mm."""
    clip_frames: int = 0
    """USD: value clips of so many samples in files of their own; 0: one file."""
    sequence: str = ""
    """NeRSemble: name of the sequence; empty: the slate."""
    keep_lenses: bool = False
    """NeRSemble: pictures and lenses as they are (per-serial extension) instead of one shared pinhole."""
    force: bool = False
    """Replace what exists."""

    def __post_init__(self) -> None:
        """Refuse what no format can do.

        Raises:
            TakeError: a name that is none, or numbers out of range.
        """
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.name):
            raise TakeError(f"name {self.name!r} is not usable; a letter, then letters, digits and underscores")
        limits: tuple[tuple[str, float | None, float, float], ...] = (
            ("--fps", None if self.fps is None else float(self.fps), 0.01, 10_000),
            ("--speed", self.speed, 0.001, 1000),
            ("--cutoff-hz", self.cutoff_hz, 0.01, 1000),
            ("--components", self.components, 1, 1024),
            ("--tolerance-mm", self.tolerance_mm, 0, 1000),
            ("--clip-frames", self.clip_frames, 0, 1_000_000),
            ("--start-frame", self.start_frame, -10_000_000, 10_000_000),
        )
        for flag, value, low, high in limits:
            if value is not None and not low <= value <= high:
                raise TakeError(f"{flag} {value:g} is out of range; {low:g} to {high:g}")

    def morphs_of(self, format: Format) -> Morphs:
        """Return how this format shall hold motion.

        Raises:
            TakeError: it cannot hold it so.
        """
        known = MORPH_FORMATS.get(format, ("none",))
        if self.morphs is not None and self.morphs not in known:
            raise TakeError(f"--morphs {self.morphs}: format {format} knows {', '.join(known)}")
        return self.morphs or known[0]
