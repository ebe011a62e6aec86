"""The doctor notices what is planted."""

import socket
from importlib.metadata import requires
from pathlib import Path

import pytest

from streamer import doctor
from streamer.config import BusConfig, RecordConfig, ServeConfig


def test_taken_port_is_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        check = doctor.ports(BusConfig(infer_port=port), ServeConfig())
        gateway = doctor.ports(BusConfig(), ServeConfig(websocket_port=port))
    assert check.state == "warn" and f"bus.infer_port = {port} is in use" in check.found and check.remedy
    assert f"serve.websocket_port = {port} is in use" in gateway.found and gateway.remedy


def test_full_disk_fails_and_leaves_nothing(tmp_path: Path) -> None:
    (check,) = doctor.disk(RecordConfig(directory=str(tmp_path / "takes"), min_free_gb=1e6))
    assert check.state == "fail" and "record.min_free_gb" in check.remedy
    doctor.disk(RecordConfig(directory=str(tmp_path / "takes")))
    assert list(tmp_path.iterdir()) == []


def test_wrong_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy==0.1", 'viser==0.1; extra == "view"'])
    base, view, train = doctor.packages()
    assert base.state == "fail" and "instead of 0.1" in base.found
    assert view.state == "warn" and "mien[view]" in view.remedy
    assert train.state == "ok"


def test_every_requirement_is_understood() -> None:
    texts = requires("mien") or []
    assert texts and all(doctor.REQUIREMENT.fullmatch(text) for text in texts)


def test_text_shows_state_and_remedy() -> None:
    checks = [doctor.Check("a", "ok", "fine"), doctor.Check("bb", "fail", "broken", "mend it")]
    assert doctor.as_text(checks).splitlines() == ["ok    a   fine", "fail  bb  broken", "          -> mend it"]
    assert not doctor.as_json(checks)["ok"]
