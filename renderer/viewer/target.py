"""Anti-aliased framebuffers."""

import moderngl

_STEP = 64


class Target:
    """A multisampled framebuffer with depth, drawn into from its lower left, and the textures it resolves to.

    Resolving costs by the pixel (15 ns in software), so only the part in use is cleared and resolved.

    Args:
        context: where it lives.
        width: of the largest part, px.
        height: of the largest part, px.
        samples: per pixel, 0 for none; what the driver cannot do is lowered to what it can.
    """

    def __init__(self, context: moderngl.Context, width: int, height: int, samples: int = 4) -> None:
        """Allocate."""
        self._context = context
        self._size = (width, height)
        self._part = (width, height)
        self._resolved: tuple[moderngl.Texture, moderngl.Framebuffer] | None = None
        self._allocate(samples)

    def _allocate(self, samples: int) -> None:
        self._asked = samples
        samples = min(samples, self._context.max_samples)
        self._colour = self._context.renderbuffer(self._size, 4, samples=samples)
        self._depth = self._context.depth_renderbuffer(self._size, samples=samples)
        self._drawn = self._context.framebuffer([self._colour], self._depth)

    def set_samples(self, samples: int) -> None:
        """Change the samples per pixel; what was drawn is lost, what was resolved stays."""
        if samples != self._asked:
            self._release_drawn()
            self._allocate(samples)

    def begin(self, width: int, height: int, colour: tuple[float, float, float, float]) -> None:
        """Draw into the lower left part of this size from now on.

        Args:
            width: px, at most that of the target.
            height: px, at most that of the target.
            colour: premultiplied RGBA that it is cleared to.
        """
        self._part = (width, height)
        self._drawn.use()
        self._drawn.clear(*colour, depth=1.0, viewport=(0, 0, width, height))
        self._context.viewport = (0, 0, width, height)

    def resolve(self) -> tuple[moderngl.Texture, tuple[float, float]]:
        """Average the samples of the part.

        Returns:
            A texture, row 0 at the bottom, and the shares of its width and height, from its lower left, that the part
            takes.
        """
        sides = zip(self._part, self._size, strict=True)
        rounded = tuple(min(-(-side // _STEP) * _STEP, whole) for side, whole in sides)
        if self._resolved is None or self._resolved[0].size != rounded:
            self._release_resolved()
            texture = self._context.texture((rounded[0], rounded[1]), 4)
            texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
            self._resolved = (texture, self._context.framebuffer([texture]))
        texture, framebuffer = self._resolved
        self._context.copy_framebuffer(framebuffer, self._drawn)
        return texture, (self._part[0] / rounded[0], self._part[1] / rounded[1])

    def _release_resolved(self) -> None:
        if self._resolved is not None:
            self._resolved[1].release()
            self._resolved[0].release()
            self._resolved = None

    def release(self) -> None:
        """Free the GPU's memory."""
        self._release_resolved()
        self._release_drawn()

    def _release_drawn(self) -> None:
        for item in (self._drawn, self._colour, self._depth):
            item.release()
