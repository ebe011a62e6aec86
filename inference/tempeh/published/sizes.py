"""How big the published network is: one configuration for the released size and for small ones. No torch."""

from dataclasses import dataclass, field

from streamer.config import limits


@dataclass(frozen=True, slots=True)
class PublishedSizes:
    """Sizes of both stages; the defaults are those of the release."""

    vertices: int = field(default=5023, metadata=limits(4, 1_000_000))
    """Vertices of the mesh; rows of the coarse output layer."""
    trunk_channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the four levels of the residual trunk of the 2D nets (ResNet-34)."""
    trunk_blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Residual blocks of each level."""
    descriptor: int = field(default=8, metadata=limits(1, 256))
    """Feature channels that leave a 2D net."""
    grid: int = field(default=32, metadata=limits(4, 128))
    """Voxels along an edge of the coarse volume; divisible by 4 and by 2 to the number of `coarse_levels`."""
    step_mm: float = field(default=25.0, metadata=limits(0.1, 500.0))
    """Distance of the voxels of the coarse volume."""
    centre_mm: tuple[float, ...] = (0.0, -50.0, 0.0)
    """Centre of the coarse volume, world."""
    localiser_channels: int = field(default=32, metadata=limits(1, 512))
    """Channels of the localiser's convolutions."""
    localiser_hidden: int = field(default=96, metadata=limits(1, 4096))
    """Units of the localiser's hidden layer."""
    localiser_scale: float = field(default=0.4, metadata=limits(0.01, 2.0))
    """Largest scale of the warped volume, relative to the coarse one."""
    front: int = field(default=16, metadata=limits(1, 512))
    """Channels of the first, 7-wide convolution of both 3D nets."""
    width: int = field(default=32, metadata=limits(1, 512))
    """Channels of both 3D nets at full resolution."""
    coarse_levels: tuple[int, ...] = (64, 128, 128, 128, 128)
    """Channels of the coarse 3D net after each halving."""
    coarse_back: tuple[int, ...] = (64, 128)
    """Channels of its last layers; the last number is the length of an attention key."""
    local_grid: int = field(default=8, metadata=limits(2, 64))
    """Voxels along an edge of a vertex's volume; divisible by 2 to the number of `local_levels` less one."""
    local_step_mm: float = field(default=2.0, metadata=limits(0.01, 100.0))
    """Distance of these voxels."""
    local_levels: tuple[int, ...] = (64, 128, 128)
    """Channels of the refinement's 3D net after each level; the last level does not halve."""
    local_back: tuple[int, ...] = (32, 32)
    """Channels of its last layers."""

    @property
    def fused(self) -> int:
        """Channels of a fused volume: mean and variance of each feature."""
        return 2 * self.descriptor

    @property
    def reach_mm(self) -> float:
        """Half the distance of the outer voxels of the coarse volume: the unit of the localiser's translation."""
        return 0.5 * (self.grid - 1) * self.step_mm


FULL = PublishedSizes()
"""The release: 35,421,219 parameters (coarse) and 27,457,993 (refinement)."""

MEDIUM = PublishedSizes(
    trunk_channels=(32, 48, 64, 96),
    trunk_blocks=(2, 2, 2, 2),
    grid=16,
    step_mm=50.0,
    front=16,
    width=24,
    coarse_levels=(32, 48, 64, 64),
    coarse_back=(48, 64),
    local_levels=(32, 48, 48),
    local_back=(24, 24),
)
"""For rigs of one's own and one graphics card, or a patient processor: a sixth of the arithmetic of the release."""

SMALL = PublishedSizes(
    vertices=64,
    trunk_channels=(8, 12, 16, 24),
    trunk_blocks=(1, 1, 1, 1),
    descriptor=4,
    grid=8,
    step_mm=100.0,
    localiser_channels=8,
    localiser_hidden=16,
    front=4,
    width=8,
    coarse_levels=(12, 16),
    coarse_back=(16, 24),
    local_grid=4,
    local_levels=(12, 12),
    local_back=(8, 8),
)
"""For tests: every part of the full network, 80 times narrower."""
