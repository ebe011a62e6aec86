"""What a person sets on the page: a look, and where a take is played."""

from dataclasses import dataclass, replace
from typing import Any

from renderer.viewer.controls import FRUSTA, OVERLAYS, SCANS, Frusta, Look, Overlay, ScanShown, View
from renderer.viewer.materials import MATERIALS, Material
from renderer.viewer.timeline import SPEEDS, Timeline

_VIEW_NAMES: dict[View, str] = {"free": "head", "camera": "one camera", "wall": "all cameras"}


def _key(names: dict[Any, str], name: str) -> Any:
    return next(key for key, value in names.items() if value == name)


class LookPanel:
    """Widgets of the look. They are read, never listened to: what a person set last counts.

    Args:
        gui: of a viser server.
        look: to begin with.
        layered: whether there is a second layer.
        scanned: whether there are raw scans.
        live: whether meshes come from the bus.
    """

    def __init__(self, gui: Any, look: Look, *, layered: bool, scanned: bool, live: bool) -> None:
        """Make them."""
        self._begin = look
        with gui.add_folder("Head"):
            self._view = gui.add_dropdown("View", tuple(_VIEW_NAMES.values()), initial_value=_VIEW_NAMES[look.view])
            self._camera = gui.add_slider("Camera", 0, 63, 1, min(max(look.first_camera, 0), 63))
            self._material = gui.add_dropdown("Material", MATERIALS, initial_value=look.material)
            self._edges = gui.add_checkbox("Edges", look.edges)
            self._eyes = gui.add_checkbox("Eyes", look.eyes)
            self._onion = gui.add_checkbox("Onion skin", look.onion)
            self._flat = gui.add_checkbox("Orthographic", look.camera.orthographic)
            self._scan = gui.add_dropdown("Raw scan", SCANS, initial_value=look.scan, visible=scanned)
            self._frusta = gui.add_dropdown("Cameras", FRUSTA, initial_value=look.frusta)
            self._held = gui.add_checkbox("Hold", look.held, visible=live)
            self._ghost = gui.add_checkbox("Second layer", look.ghost, visible=layered)
            self._swapped = gui.add_checkbox("B is the head", look.swapped, visible=layered)
        with gui.add_folder("Mesh over pictures"):
            self._overlay = gui.add_dropdown("Overlay", OVERLAYS, initial_value=look.overlay)
            self._opacity = gui.add_slider("Opacity", 0.0, 1.0, 0.1, look.opacity)

    def look(self) -> Look:
        """Return what is set; the camera is each page's own."""
        view: View = _key(_VIEW_NAMES, self._view.value)
        material: Material = self._material.value
        overlay: Overlay = self._overlay.value
        frusta: Frusta = self._frusta.value
        scan: ScanShown = self._scan.value
        return replace(
            self._begin,
            camera=replace(self._begin.camera, orthographic=self._flat.value),
            view=view,
            first_camera=int(self._camera.value),
            material=material,
            edges=self._edges.value,
            eyes=self._eyes.value,
            onion=self._onion.value,
            frusta=frusta,
            scan=scan,
            held=self._held.value,
            ghost=self._ghost.value,
            swapped=self._swapped.value,
            overlay=overlay,
            opacity=round(float(self._opacity.value), 2),
        )


@dataclass(slots=True)
class _Told:
    """What the widgets were set to from here; anything else was a person."""

    place: float = 0.0
    playing: bool = True
    looping: bool = True
    loop: tuple[float, float] = (0.0, 1.0)
    speed: str = "1"


class TimePanel:
    """Widgets of a take's time line: scrub, play, loop, pace.

    Args:
        gui: of a viser server.
        line: what they set.
    """

    def __init__(self, gui: Any, line: Timeline) -> None:
        """Make them."""
        self._line = line
        bar = line.bar()
        self._told = _Told(playing=bar.playing, looping=bar.looping)
        self._rows, self._length_s = bar.rows, bar.length_s
        with gui.add_folder("Time"):
            step = max(self._length_s / max(self._rows - 1, 1), 1e-3)
            end = max(self._length_s, step)
            self._place = gui.add_slider("Seconds", 0.0, round(end, 3), round(step, 4), 0.0)
            self._playing = gui.add_checkbox("Play", bar.playing)
            self._looping = gui.add_checkbox("Loop", bar.looping)
            self._loop = gui.add_multi_slider("From, to", 0.0, 1.0, 0.01, initial_value=(0.0, 1.0))
            paces = tuple(f"{speed:g}" for speed in SPEEDS)
            self._speed = gui.add_dropdown("Pace", paces, initial_value="1")

    def update(self) -> None:
        """Do what a person set since the last call, and show where the take is."""
        line, told = self._line, self._told
        if self._playing.value != told.playing:
            line.press("space")
        if self._looping.value != told.looping:
            line.press("l")
        if self._speed.value != told.speed:
            line.speed = float(self._speed.value)
        if tuple(self._loop.value) != told.loop:
            line.set_loop(*self._loop.value)
        moved = abs(float(self._place.value) - told.place) > 1e-6
        if moved:
            line.start(float(self._place.value))
        bar = line.bar()
        self._playing.value, self._looping.value = bar.playing, bar.looping
        if not moved:  # the hand keeps the knob
            self._place.value = round(bar.seconds, 3)
        told.place, told.speed = float(self._place.value), self._speed.value
        told.playing, told.looping, told.loop = bar.playing, bar.looping, tuple(self._loop.value)
