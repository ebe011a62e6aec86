"""The doctor notices what is planted."""

import socket
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path

import pytest

from streamer import doctor
from streamer.config import BusConfig, LiveConfig, RecordConfig, ServeConfig


@pytest.mark.parametrize(
    ("section", "key"),
    [("bus", "infer_port"), ("bus", "control_port"), ("serve", "websocket_port"), ("live", "http_port"), ("view", "")],
)
def test_a_taken_port_is_named(section: str, key: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        made = {"bus": BusConfig(), "serve": ServeConfig(), "live": LiveConfig()}
        if key:
            made[section] = replace(made[section], **{key: port})
        check = doctor.ports(made["bus"], made["serve"], made["live"], 0 if key else port)
    assert check.state == "warn" and f"{section}.{key or 'web_port'} = {port} is in use" in check.found and check.remedy


def test_two_that_want_one_port_are_named() -> None:
    check = doctor.ports(BusConfig(node_port=5710), ServeConfig(), LiveConfig(http_port=0), 0)
    assert check.state == "warn" and "bus.infer_port = 5710 is that of bus.node_port" in check.found


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the answer of the system: root, who runs tests in containers, may write anywhere."""
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    checks = doctor.first_look(BusConfig(), RecordConfig(directory=str(tmp_path / "takes")))
    assert [check.state for check in checks if check.name == "disk space"] == ["fail"]
    assert f"may not write to {tmp_path}" in checks[0].found and "--out" in checks[0].remedy


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
