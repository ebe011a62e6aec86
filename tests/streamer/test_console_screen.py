"""The operator's screen, driven by keys without a terminal."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from streamer.console.screen import Screen, show
from streamer.console.state import ConsoleState
from streamer.errors import ScreenError, TransportError
from tests.streamer.console_makers import trouble

SIZE = (150, 46)


class Desk:
    """Notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now: ConsoleState = trouble()
        self.asked: list[tuple[str, Any]] = []
        self.refuse = ""
        self.ended = False

    def state(self) -> ConsoleState:
        return self.now

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((name, dict(arguments)))
        if self.refuse:
            raise TransportError(self.refuse)
        return {}

    def restart(self, name: str) -> None:
        self.asked.append(("restart", name))

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def over(self) -> bool:
        return self.ended


def play(desk: Desk, act: Callable[[Screen, Pilot[None]], Awaitable[None]]) -> Screen:
    screen = Screen(desk)

    async def run() -> None:
        async with screen.run_test(size=SIZE, notifications=True) as pilot:
            await act(screen, pilot)

    asyncio.run(run())
    return screen


def shown(screen: Screen) -> str:
    picture = screen.export_screenshot()
    return picture.replace("&#160;", " ").replace("&#x27;", "'")


def test_everything_is_on_the_screen(tmp_path: Path) -> None:
    seen: list[str] = []

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.pause()
        seen.append(shown(screen))

    play(Desk(tmp_path), act)
    (text,) = seen
    for word in ("REC", "s12_T004", "cam_5", "22.1", "+0.8 ppm", "locked", "dropped-by-camera", "no pictures"):
        assert word in text, word
    for word in (
        "superseded",
        "41.7 GB free",
        "118.0 MB/s",
        "silent 5 s",
        "in 3 s",
        "1 running",
        "p99 88",
        "load 63 %",
    ):
        assert word in text, word
    assert "check its cable and power" in text, "an alarm leads on"


def test_keys_become_commands(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("r", "s")
        await pilot.press("m", *"smile", "enter")
        await pilot.press("n", *"s13", "enter")
        await pilot.press("t", "7", "enter")
        await pilot.press("n", *"lost", "escape")  # thought better of it
        await pilot.press("down", "down", "ctrl+r")
        await screen.workers.wait_for_complete()

    play(desk, act)
    wanted = [("start", {}), ("stop", {}), ("mark", {"text": "smile"}), ("set", {"slate": "s13"}), ("set", {"take": 7})]
    assert sorted(map(repr, desk.asked)) == sorted(map(repr, [*wanted, ("restart", "serve")]))


def test_a_refusal_is_told_and_ends_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.refuse = "a [/b] c"
    told: list[str] = []

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("s")
        await screen.workers.wait_for_complete()
        await pilot.pause()
        told.extend(note.message for note in screen._notifications)
        told.append(shown(screen))

    play(desk, act)
    assert told[0] == desk.refuse and desk.refuse in told[1]


def test_brackets_in_names_and_paths_are_shown(tmp_path: Path) -> None:
    desk, seen = Desk(tmp_path), list[str]()
    state = desk.now
    desk.now = replace(
        state,
        cameras=(replace(state.cameras[0], name="[left]", clock="[/i]"), *state.cameras[1:]),
        take=replace(state.take, last="takes/[/b]/s12_T003"),
    )

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.pause()
        seen.append(shown(screen))

    play(desk, act)
    assert all(word in seen[0] for word in ("[left]", "[/i]", "takes/[/b]/s12_T003"))


def test_a_screen_that_fails_is_told_from_one_that_was_left(tmp_path: Path) -> None:
    class Broken(Desk):
        def state(self) -> ConsoleState:
            raise ValueError("a column\nis missing")

    with pytest.raises(ScreenError, match=r"the screen failed \(ValueError: a column is missing\)"):
        show(Broken(tmp_path), headless=True)
    desk = Desk(tmp_path)
    desk.ended = True
    show(desk, headless=True)


def test_the_log_of_a_process_with_what_the_supervisor_says(tmp_path: Path) -> None:
    (tmp_path / "view.log").write_text("==== 10:31:04 view failed\nGLFW: the display went away\n")
    seen: list[str] = []

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("l")
        await pilot.pause()
        seen.append(shown(screen))

    play(Desk(tmp_path), act)
    assert "log of view" in seen[0] and "the display went away" in seen[0]


@pytest.mark.parametrize("key", ["q", "ctrl+q"])
def test_quitting_while_recording_is_asked_twice_and_the_end_of_the_run_ends_the_screen(
    tmp_path: Path, key: str
) -> None:
    desk = Desk(tmp_path)
    still: list[bool] = []

    async def act(screen: Screen, pilot: Pilot[None]) -> None:
        await pilot.press(key)
        still.append(screen.is_running and screen._exit is False)
        desk.now = replace(desk.now, take=replace(desk.now.take, state="armed"))
        desk.ended = True
        screen.draw()
        still.append(screen._exit is False)

    play(desk, act)
    assert still == [True, False]
