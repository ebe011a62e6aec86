"""OpenGL contexts and programs: headless through EGL, or of the window that is current."""

import sys
from functools import cache
from importlib import resources

import moderngl
import numpy as np
from numpy.typing import ArrayLike

from streamer.errors import GraphicsError

PACKAGES = "libegl1 libgl1-mesa-dri libgles2"
"""Debian packages that draw without a screen or a GPU."""


def headless_context() -> moderngl.Context:
    """Open an OpenGL 3.3 context that needs no display. It belongs to the calling thread; release it when done.

    Raises:
        GraphicsError: EGL or a driver for it is missing.
    """
    linux = sys.platform == "linux"
    try:
        if linux:
            return moderngl.create_context(require=330, standalone=True, backend="egl")  # type: ignore[arg-type]
        return moderngl.create_context(require=330, standalone=True)
    except Exception as error:  # glcontext raises nothing more specific
        hint = f"; on Debian: sudo apt-get install {PACKAGES}" if linux else "; update the graphics driver"
        raise GraphicsError(f"no OpenGL 3.3 without a display ({error}){hint}") from error


def window_context() -> moderngl.Context:
    """Wrap the context that a window made current.

    Raises:
        GraphicsError: it is older than OpenGL 3.3.
    """
    try:
        return moderngl.create_context(require=330)
    except Exception as error:  # glcontext raises nothing more specific
        raise GraphicsError(f"the window has no OpenGL 3.3 ({error}); use --snapshot, --video or --web") from error


def write_uniforms(program: moderngl.Program, **values: ArrayLike) -> None:
    """Set uniforms of floats; those that the compiler found unused are passed over.

    Args:
        program: the program.
        **values: name to numbers; matrices as numpy has them, row by row.
    """
    for name, value in values.items():
        member = program.get(name, None)
        if isinstance(member, moderngl.Uniform):
            array = np.asarray(value, np.float32)
            member.write((array.T if array.ndim == 2 else array).tobytes())  # GLSL has columns


@cache
def _source(name: str) -> str:
    return resources.files("renderer.viewer").joinpath("shaders", name).read_text("utf-8")


def build_program(
    context: moderngl.Context, vertex: str, fragment: str = "", geometry: str = "", include: str = "", defines: str = ""
) -> moderngl.Program:
    """Compile a program from the files in `shaders/`.

    Args:
        context: where it will run.
        vertex: file of the vertex stage.
        fragment: file of the fragment stage; empty: the program only transforms vertices.
        geometry: file of the geometry stage, if there is one.
        include: file put before the fragment stage.
        defines: macros that all stages see, separated by blanks; GEOMETRY is there where there is such a stage.
    """
    names = [*defines.split(), *(["GEOMETRY"] if geometry else [])]
    head = "#version 330 core\n" + "".join(f"#define {name}\n" for name in names)
    return context.program(
        vertex_shader=head + _source(vertex),
        fragment_shader=head + (_source(include) if include else "") + _source(fragment) if fragment else None,
        geometry_shader=head + _source(geometry) if geometry else None,
    )
