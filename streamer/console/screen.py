"""The operator's screen in a terminal: draws the state twice a second, and turns keys into commands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from rich.console import Group, RenderableType
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Footer, Input, Static
from textual.worker import WorkerFailed

from streamer.console import panels
from streamer.console.state import ConsoleState
from streamer.errors import MienError, ScreenError
from streamer.process_logs import tail

PERIOD_S = 0.5
LOG_LINES = 200
PROMPTS = {
    "mark": "text of the marker (may be empty)",
    "slate": "slate of the next take",
    "notes": "notes of the next take",
    "take": "number of the next take",
}


class Desk(Protocol):
    """What the screen acts on."""

    def state(self) -> ConsoleState:
        """Return the latest state."""

    def command(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a command to the recorder; raises MienError."""

    def restart(self, name: str) -> None:
        """Start a process again."""

    def log(self, name: str) -> Path:
        """Return the log file of a process."""

    def over(self) -> bool:
        """Whether the run has ended by itself."""


class Screen(App[None]):
    """The console.

    Args:
        desk: what it shows and acts on.
    """

    CSS = """
    #head { height: 1; }
    .box { border: round $primary-darken-2; padding: 0 1; }
    #top { height: auto; max-height: 60%; }
    #cameras { width: 1fr; height: auto; overflow-y: auto; }
    #processes { width: 1fr; height: 100%; }
    #middle { height: 8; }
    #flow { width: 1fr; height: 100%; }
    #storage { width: 1fr; height: 100%; }
    #alarms { height: auto; min-height: 3; max-height: 10; }
    #log { height: 1fr; min-height: 4; }
    #ask { display: none; }
    #ask.wanted { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "record", "record"),
        Binding("s", "stop", "stop"),
        Binding("m", "prompt('mark')", "mark"),
        Binding("n", "prompt('slate')", "slate"),
        Binding("t", "prompt('take')", "take"),
        Binding("o", "prompt('notes')", "notes"),
        Binding("up", "choose(-1)", "process", show=False),
        Binding("down", "choose(1)", "process"),
        Binding("ctrl+r", "restart", "restart it"),
        Binding("l", "toggle_log", "its log"),
        Binding("escape", "cancel", "cancel", show=False),
        Binding("q", "leave", "quit"),
        Binding("ctrl+c", "leave", "quit", show=False, priority=True),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, desk: Desk) -> None:
        """Prepare; `run` draws."""
        super().__init__()
        self._desk = desk
        self._chosen = 0
        self._asking = ""
        self._logs = False
        self._leaving = False
        self.left = False
        """Whether it ended as it should: the operator quit, or the run is over."""

    def compose(self) -> ComposeResult:
        """Lay the parts out."""
        yield Static(id="head")
        with Horizontal(id="top"):
            yield self._box("cameras", "cameras")
            yield self._box("processes", "processes")
        with Horizontal(id="middle"):
            yield self._box("flow", "sets and meshes")
            yield self._box("storage", "disk, takes, fits")
        yield self._box("alarms", "alarms")
        with VerticalScroll(id="log", classes="box"):
            yield Static(id="lines")
        with Vertical(id="ask"):
            yield Input(id="answer")
        yield Footer(compact=True)

    def _box(self, name: str, title: str) -> Static:
        box = Static(id=name, classes="box")
        box.border_title = title
        return box

    def on_mount(self) -> None:
        """Begin to draw."""
        self.set_interval(PERIOD_S, self.draw)
        self.draw()

    def draw(self) -> None:
        """Show the latest state; end when the run has ended."""
        if self._desk.over():
            self._leave()
            return
        state = self._desk.state()
        parts: dict[str, RenderableType] = {
            "head": panels.header(state),
            "cameras": panels.cameras(state),
            "processes": panels.processes(state, self._process_name(state)),
            "flow": panels.flow(state),
            "storage": panels.storage(state),
            "alarms": panels.alarms(state),
        }
        for name, part in parts.items():
            self.query_one(f"#{name}", Static).update(part)
        self._draw_log(state)

    def _draw_log(self, state: ConsoleState) -> None:
        box, name = self.query_one("#log", VerticalScroll), self._process_name(state)
        lines = tail(self._desk.log(name), LOG_LINES) if self._logs and name else list(state.events)
        title = f"log of {name}" if self._logs else "events"
        at_end = box.scroll_offset.y >= box.max_scroll_y - 1
        if box.border_title != title:
            box.border_title, at_end = title, True
        self.query_one("#lines", Static).update(
            Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))
        )
        if at_end:
            box.scroll_end(animate=False)

    def _process_name(self, state: ConsoleState) -> str:
        own = [each.name for each in state.processes if each.state != "elsewhere"]
        return own[self._chosen % len(own)] if own else ""

    def action_choose(self, step: int) -> None:
        """Choose another process."""
        self._chosen += step
        self.draw()

    def action_toggle_log(self) -> None:
        """Show the log of the chosen process, or the events."""
        self._logs = not self._logs
        self.draw()

    def action_restart(self) -> None:
        """Start the chosen process again."""
        name = self._process_name(self._desk.state())
        if name:
            self._desk.restart(name)
            self.notify(f"{name} is started again", markup=False)

    def action_record(self) -> None:
        """Begin a take."""
        self._send("start", {})

    def action_stop(self) -> None:
        """End the take."""
        self._send("stop", {})

    def action_prompt(self, what: str) -> None:
        """Ask for a text."""
        if self._asking:
            return
        self._asking = what
        answer = self.query_one("#answer", Input)
        answer.placeholder, answer.value = PROMPTS[what], ""
        self.query_one("#ask").add_class("wanted")
        answer.focus()

    def action_cancel(self) -> None:
        """Ask no more."""
        self._asking = ""
        self.query_one("#ask").remove_class("wanted")
        self.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send what was asked for."""
        what, text = self._asking, event.value.strip()
        self.action_cancel()
        if what == "mark":
            self._send("mark", {"text": text})
        elif what == "take":
            self._send("set", {"take": int(text) if text.isascii() and text.isdigit() else text})
        elif what:
            self._send("set", {what: text})

    def action_leave(self) -> None:
        """Quit; while a take is on only when asked twice."""
        if self._desk.state().take.state == "recording" and not self._leaving:
            self._leaving = True
            self.notify("a take is being recorded: press again to end it and quit", severity="warning")
            self.set_timer(5.0, self._stay)
            return
        self._leave()

    async def action_quit(self) -> None:
        """Quit as `q` does: the key of Textual's own (ctrl+q) would not ask."""
        self.action_leave()

    def why_it_failed(self) -> str:
        """Return, in one line, what ended it though nobody asked it to end."""
        error: BaseException | None = self._exception
        if isinstance(error, WorkerFailed):
            error = error.error
        return " ".join(f"{type(error).__name__}: {error}".split()) if error else "it ended by itself"

    def _leave(self) -> None:
        self.left = True
        self.exit()

    def _stay(self) -> None:
        self._leaving = False

    def _send(self, name: str, arguments: Mapping[str, Any]) -> None:
        def send() -> None:
            try:
                self._desk.command(name, arguments)
            except MienError as error:
                self.call_from_thread(self._refused, str(error))

        self.run_worker(send, thread=True, exit_on_error=True)

    def _refused(self, line: str) -> None:
        self.notify(line, severity="error", timeout=8.0, markup=False)


def show(desk: Desk, *, headless: bool = False) -> None:
    """Draw until the operator quits or the run is over.

    Args:
        desk: what is shown and acted on.
        headless: without a terminal, for tests.

    Raises:
        ScreenError: it could not be drawn, or no more.
    """
    screen = Screen(desk)
    screen.run(headless=headless)
    if not screen.left:
        raise ScreenError(f"the screen failed ({screen.why_it_failed()})")
