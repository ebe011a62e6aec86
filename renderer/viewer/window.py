"""A window on a display, through GLFW."""

import os
import sys
import warnings
from types import ModuleType
from typing import Any

from renderer.viewer.events import Events
from renderer.viewer.layout import Rect
from streamer.errors import GraphicsError, MissingExtra


def has_display() -> bool:
    """Whether this session can open a window."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _load() -> ModuleType:
    try:
        import glfw
    except ImportError as error:
        raise MissingExtra("glfw", "view") from error
    return glfw


class Window:
    """An OpenGL 3.3 window; its context is current in the thread that made it.

    Args:
        width: of the picture, px.
        height: of the picture, px.
        title: in its frame.

    Raises:
        MissingExtra: glfw is not installed.
        GraphicsError: there is no display, or it has no OpenGL 3.3.
    """

    def __init__(self, width: int, height: int, title: str) -> None:
        """Open it."""
        self._glfw: Any = _load()
        glfw = self._glfw
        with warnings.catch_warnings(record=True) as said:  # glfw reports its errors as warnings
            warnings.simplefilter("always")
            handle = self._open(width, height, title)
        if handle is None:
            reason = "; ".join(str(item.message) for item in said) or "unknown reason"
            raise GraphicsError(
                f"no window on this display ({reason}); use --web or --snapshot, or install its OpenGL "
                "(Debian: sudo apt-get install libgl1)"
            )
        self._handle = handle
        self._title = title
        self._events = Events()
        self._cursor = (0.0, 0.0)
        self._on_bar = False
        self.bar: Rect | None = None
        """Place of the time line, px of the framebuffer: a drag that begins there scrubs."""
        glfw.make_context_current(handle)
        glfw.swap_interval(0)
        glfw.set_char_callback(handle, self._on_char)
        glfw.set_key_callback(handle, self._on_key)
        glfw.set_cursor_pos_callback(handle, self._on_cursor)
        glfw.set_mouse_button_callback(handle, self._on_button)
        glfw.set_scroll_callback(handle, self._on_scroll)

    def _open(self, width: int, height: int, title: str) -> Any:
        glfw = self._glfw
        if not glfw.init():
            return None
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        glfw.window_hint(glfw.DEPTH_BITS, 0)
        handle = glfw.create_window(width, height, title, None, None)
        if not handle:
            glfw.terminate()
            return None
        return handle

    def _on_char(self, _: Any, code: int) -> None:
        character = chr(code).lower()
        self._events.keys.append("space" if character == " " else character)

    def _on_key(self, _: Any, key: int, __: int, action: int, ___: int) -> None:
        glfw = self._glfw
        names = {glfw.KEY_LEFT: "left", glfw.KEY_RIGHT: "right", glfw.KEY_HOME: "home", glfw.KEY_END: "end"}
        if action != glfw.RELEASE and key in names:
            self._events.keys.append(names[key])

    def _pixels(self, handle: Any, x: float, y: float) -> tuple[float, float]:
        """From the window's coordinates to those of its framebuffer, which displays of high density have more of."""
        glfw = self._glfw
        wide, high = glfw.get_window_size(handle)
        width, height = glfw.get_framebuffer_size(handle)
        return x * width / max(wide, 1), y * height / max(high, 1)

    def _on_button(self, handle: Any, button: int, action: int, _: int) -> None:
        glfw = self._glfw
        x, y = self._pixels(handle, *self._cursor)
        if button == glfw.MOUSE_BUTTON_MIDDLE and action == glfw.PRESS:
            self._events.focus = x, y
        if button == glfw.MOUSE_BUTTON_LEFT:
            bar = self.bar
            self._on_bar = action == glfw.PRESS and bar is not None and bar.holds(x, y)
            if self._on_bar:
                self._events.scrub = x

    def _on_cursor(self, handle: Any, x: float, y: float) -> None:
        glfw = self._glfw
        _, height = glfw.get_window_size(handle)
        dx, dy = (x - self._cursor[0]) / max(height, 1), (y - self._cursor[1]) / max(height, 1)
        self._cursor = (x, y)
        if glfw.get_mouse_button(handle, glfw.MOUSE_BUTTON_LEFT) == glfw.PRESS:
            if self._on_bar:
                self._events.scrub = self._pixels(handle, x, y)[0]
            else:
                self._events.orbit = (self._events.orbit[0] + dx, self._events.orbit[1] + dy)
        elif glfw.get_mouse_button(handle, glfw.MOUSE_BUTTON_RIGHT) == glfw.PRESS:
            self._events.pan = (self._events.pan[0] + dx, self._events.pan[1] + dy)

    def _on_scroll(self, _: Any, __: float, clicks: float) -> None:
        self._events.zoom += clicks

    def poll(self) -> Events:
        """Return what a person did since the last call."""
        self._glfw.poll_events()
        events, self._events = self._events, Events()
        return events

    @property
    def closed(self) -> bool:
        """Whether a person closed it, or pressed Escape."""
        glfw = self._glfw
        escape = glfw.get_key(self._handle, glfw.KEY_ESCAPE) == glfw.PRESS
        return bool(glfw.window_should_close(self._handle)) or escape

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its framebuffer, px; zeros while it is minimised."""
        width, height = self._glfw.get_framebuffer_size(self._handle)
        return int(width), int(height)

    def entitle(self, title: str) -> None:
        """Write its title."""
        if title != self._title:
            self._title = title
            self._glfw.set_window_title(self._handle, title)

    def show(self) -> None:
        """Bring what was drawn onto the display."""
        self._glfw.swap_buffers(self._handle)

    def close(self) -> None:
        """Close it."""
        self._glfw.destroy_window(self._handle)
        self._glfw.terminate()
