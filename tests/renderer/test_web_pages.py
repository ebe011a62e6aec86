"""Pages that their browsers draw: those for which there is no room, and all where a person says so."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from renderer.config import ViewConfig
from renderer.viewer import web_stage
from renderer.viewer.state import ViewState
from renderer.viewer.web import WebView
from renderer.viewer.web_scene import WebScene
from tests.renderer.makers import frame, head_topology, in_thread, mesh, rig
from tests.renderer.test_web import free_port


class Shown:
    """A scene of viser that remembers what stands in it."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self.backgrounds: list[np.ndarray] = []

    def _add(self, name: str, **properties: Any) -> Any:
        node = SimpleNamespace(**properties, remove=lambda: self.nodes.pop(name))
        self.nodes[name] = node
        return node

    def add_mesh_simple(self, name: str, vertices: np.ndarray, _: np.ndarray, **properties: Any) -> Any:
        return self._add(name, vertices=vertices, **properties)

    def add_grid(self, name: str, **properties: Any) -> Any:
        return self._add(name, **properties)

    def add_camera_frustum(self, name: str, **properties: Any) -> Any:
        return self._add(name, image=None, **properties)

    def set_background_image(self, rgb: np.ndarray, **_: Any) -> None:
        self.backgrounds.append(rgb)


class Page:
    """A client of viser."""

    def __init__(self) -> None:
        self.scene, self.told, self.files = Shown(), [], []
        self.camera = SimpleNamespace(
            position=(0.3, 0.1, 0.6), look_at=(0.0, 0.0, 0.0), fov=0.45, image_width=320, image_height=180
        )

    def add_notification(self, title: str, body: str) -> None:
        self.told.append((title, body))

    def send_file_download(self, name: str, data: bytes) -> None:
        self.files.append((name, data))


@pytest.fixture
def state() -> ViewState:
    state, topology = ViewState("take", live=False), head_topology()
    for message in (topology, rig(2), frame("cam_0", 9), mesh(9, topology)):
        state.apply(message, 0)
    return state


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[int, Page]:
    monkeypatch.setattr(web_stage, "MOST_PAGES", 1)
    return {}


@pytest.fixture
def web(pages: dict[int, Page], monkeypatch: pytest.MonkeyPatch) -> Iterator[WebView]:
    in_thread(lambda: None)  # skips where nothing can be drawn here
    web = WebView(ViewConfig(web_port=free_port(), cameras=2))
    monkeypatch.setattr(web._server, "get_clients", lambda: pages)
    yield web
    web.close()


def test_a_page_without_room_gets_head_and_pictures_for_its_browser_until_there_is_room(
    web: WebView, pages: dict[int, Page], state: ViewState
) -> None:
    first, second = Page(), Page()
    pages |= {1: first, 2: second}
    web.update(state, 0, 1.0)
    head = second.scene.nodes["/head"]
    assert head.visible and not first.scene.nodes and len(first.scene.backgrounds) == 1
    assert second.scene.nodes["/cameras/cam_0"].image is not None and second.scene.nodes["/floor"].visible
    later = mesh(10, head_topology())
    state.apply(later, 0)
    web.update(state, 0, 2.0)
    assert head.vertices is state.mesh.vertices, "it follows"
    web._wanted.update(pages)
    web.update(state, 0, 3.0)
    assert [name for name, _ in first.files] == ["mien.png"] and not second.files and not web._wanted
    assert second.told[0][0] == "No picture was saved", "the click is answered, not kept"
    del pages[1]
    web.update(state, 0, 4.0)
    assert not second.scene.nodes and len(second.scene.backgrounds) == 1, "now it is drawn here"


def test_where_browsers_draw_there_is_no_picture_to_save(
    web: WebView, pages: dict[int, Page], state: ViewState
) -> None:
    pages[1], pages[2] = Page(), Page()
    web.update(state, 0, 1.0)
    assert web._shot.visible
    web._wanted.add(1)
    web._where.value = "in the browser"
    web.update(state, 0, 2.0)
    assert not web._shot.visible and not web._wanted and not pages[2].scene.nodes
    web._where.value = "here, all of it"
    web.update(state, 0, 3.0)
    assert web._shot.visible and pages[2].scene.nodes and not pages[1].files


def test_a_browser_that_begins_to_draw_a_take_that_stands_still_draws_the_present_head(
    web: WebView, pages: dict[int, Page], state: ViewState
) -> None:
    pages[1] = Page()
    web.update(state, 0, 1.0)
    later = mesh(10, head_topology())
    later = replace(later, vertices=later.vertices + np.float32(0.01))
    state.apply(later, 0)
    web.update(state, 0, 2.0)
    assert web._scene._frusta["cam_0"].image is None, "nothing is sent that nobody sees"
    web._where.value = "in the browser"
    web.update(state, 0, 3.0)
    handle = web._scene._mesh_handle
    assert handle.visible
    np.testing.assert_array_equal(handle.vertices, later.vertices)
    assert web._scene._frusta["cam_0"].image is not None


def test_what_one_page_has_of_its_own_turns_no_other_page(state: ViewState) -> None:
    page = Page()
    WebScene(SimpleNamespace(scene=None, initial_camera=None), page).send_mesh(state)
    assert set(page.scene.nodes) == {"/head", "/floor"} and not page.scene.backgrounds
