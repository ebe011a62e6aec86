"""A take in the hands of a person: what ends the viewer, and what only ends the playing."""

from pathlib import Path

from renderer.viewer.source import TakeSource
from renderer.viewer.state import ViewState
from tests.renderer.test_app import write_take


def test_a_loop_that_is_turned_off_stops_at_the_end_and_leaves_the_viewer_open(tmp_path: Path) -> None:
    write_take(tmp_path / "take", "mesh")
    source, state = TakeSource(tmp_path / "take", loop=True), ViewState("take", live=False)

    def shown(now_s: float) -> int:
        for message in source.drain(now_s):
            state.apply(message, 0)
        assert state.mesh is not None
        return state.mesh.frame_id

    assert shown(0.0) == 100 and source.line.press("l")
    assert shown(50.0) == 105 == shown(90.0) and source.line.ended
    assert not source.ended, "it may begin again"
    assert source.line.press("space") and shown(90.0) == 100
    assert shown(90.04) == 101 and source.line.bar().playing
    source.close()
