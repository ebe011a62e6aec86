"""`[fitter] auto = true`: a take that closes is in the queue, and a take that cannot be fitted harms nobody."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

import mien
from renderer.config import FitterConfig
from renderer.fitter.store import Store
from streamer.config import RecordConfig, SyncConfig
from streamer.takes.session import Session
from streamer.types import Calibration, Frame
from tests.renderer.fit_makers import camera, centre_at, paint
from tests.renderer.fit_takes import write_take


def test_a_take_that_the_recorder_closes_is_queued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the recorder's own session and the hook that the command line gives it; without meshes, so without prior."""
    fitter = FitterConfig(queue=str(tmp_path / "q"), auto=True, hold_out=("cam_1", "unknown"))
    record = RecordConfig(directory=str(tmp_path / "takes"), min_free_gb=0.0)
    ring = [camera(i, 4) for i in range(4)]
    for settings in (SimpleNamespace(fitter=fitter), SimpleNamespace(fitter=dataclasses.replace(fitter, auto=False))):
        session = Session(record, SyncConfig(), "", on_closed=lambda path, s=settings: mien._take_closed(s, path))  # type: ignore[misc]
        session.begin(None)
        session.put("calibration", Calibration(tuple(ring)))
        for view in ring:
            identity = (view.id, 1, 1, 1, 10**9, "test", 10**9, 10**9)
            session.put("frame", Frame(*identity, view.width, view.height, "rgb8", paint(view, centre_at(0, 4))))
        session.close()
    assert len(session.closed) == 1 and session.failure is None
    with Store(tmp_path / "q") as store:
        (job,) = store.jobs()
    assert job.overrides == {"prior": False} and job.hold_out == ("cam_1",) and job.preset == "auto"
    assert "_T001" in job.take and "_T001 is job 1" in capsys.readouterr().err


def test_a_take_is_queued_once_and_what_cannot_be_fitted_is_told(tmp_path: Path) -> None:
    from renderer.fitter.enqueue import queue_closed

    fitter, told = FitterConfig(queue=str(tmp_path / "q"), auto=True), list[str]()
    take = write_take(tmp_path / "take")
    assert [queue_closed(take, fitter, told.append), queue_closed(take, fitter, told.append)] == [1, None]
    blind = write_take(tmp_path / "blind", pictures={(step, index): None for step in range(4) for index in range(1, 5)})
    assert queue_closed(blind, fitter, told.append) is None
    assert len(told) == 2 and "is job 1" in told[0] and "was not queued" in told[1]
    with Store(tmp_path / "q") as store:
        assert [job.overrides for job in store.jobs()] == [{}]
