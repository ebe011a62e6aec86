"""The supervisor against real processes: restarts, order, failures, and what is left when it is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ProcessError
from streamer.process_logs import LARGEST_BYTES, last_words, note, prepare, tail
from streamer.restarts import ProcessSpec, RestartPolicy
from streamer.supervise import Supervisor

ROOT = Path(__file__).resolve().parents[2]

# A stand-in for `python -m mien`: obeys the leash, writes its pid, then does as its first argument says.
CHILD = """
import os, pathlib, signal, sys, threading, time
from streamer.leash import follow
follow(os.environ, grace_s=0.2)
stop = threading.Event()
what, where = sys.argv[1], pathlib.Path(sys.argv[2])
signal.signal(signal.SIGTERM, signal.SIG_IGN if what == "deaf" else lambda *_: stop.set())
if what == "refuse":
    sys.exit("mien node: port 5700 on 127.0.0.1 is in use; stop the other process or set bus.node_port")
with where.open("a") as file:
    file.write(f"{os.getpid()}\\n")
while what != "once" and not stop.wait(0.05):
    pass
if what == "torn":
    sys.exit(3)
if what == "closing":  # as `streamer.processes.Stop` does: a second signal kills
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    where.with_suffix(".closing").touch()
    while not where.with_suffix(".go").exists():
        time.sleep(0.01)
with where.with_suffix(".order").open("a") as file:
    file.write(f"{what}\\n")
"""
COMMAND = (sys.executable, "-c", CHILD)
QUICK = RestartPolicy(first_s=0.01, longest_s=0.02)


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        threading.Event().wait(0.01)


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    """Zombies count as dead: nobody reaps orphans in a bare container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def polled(supervisor: Supervisor, condition: Callable[[], bool]) -> Callable[[], bool]:
    def check() -> bool:
        supervisor.poll()
        return condition()

    return check


def spec(name: str, what: str, where: Path, **more: object) -> ProcessSpec:
    return ProcessSpec(name, (what, str(where)), **{"beats": False, **more})  # type: ignore[arg-type]


def test_killed_child_is_started_again(tmp_path: Path) -> None:
    first, second_life = tmp_path / "pids", tmp_path / "pids_2"
    specs = [spec("infer", "wait", tmp_path / "pids{again}")]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(first)) == 1 and supervisor.ready), "first start")
        os.kill(pids(first)[0], signal.SIGKILL)
        until(polled(supervisor, lambda: len(pids(second_life)) == 1), "restart")
        assert supervisor.restarts == {"infer": 1}
        (second,) = pids(second_life)
        assert supervisor.pid("infer") == second
    assert not alive(second)


def test_supervisor_killed_leaves_no_orphan(tmp_path: Path) -> None:
    """Both a child that obeys SIGTERM and one that ignores it are gone."""
    script = f"""
import sys, time
from pathlib import Path
from streamer.restarts import ProcessSpec
from streamer.supervise import Supervisor
specs = [ProcessSpec(w, (w, sys.argv[1] + "/" + w), beats=False) for w in ("wait", "deaf")]
supervisor = Supervisor(specs, logs=Path(sys.argv[1]), command=(sys.executable, "-c", {CHILD!r}))
while True:
    supervisor.poll()
    time.sleep(0.02)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    try:
        until(lambda: bool(pids(tmp_path / "wait") and pids(tmp_path / "deaf")), "both children")
        children = pids(tmp_path / "wait") + pids(tmp_path / "deaf")
        assert all(map(alive, children))
    finally:
        process.kill()
        process.wait()
    until(lambda: not any(map(alive, children)), "the end of both children")
    assert (tmp_path / "wait.order").read_text() == "wait\n", "the obedient one was stopped, not cut off"


def test_failure_before_ready_is_one_clear_line(tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        Supervisor(
            [spec("node", "refuse", tmp_path / "pids", beats=True)],
            logs=tmp_path,
            command=COMMAND,
            working_s=lambda _name: started,  # a beat from before this start proves nothing
        ) as supervisor,
        pytest.raises(ProcessError) as caught,
    ):
        until(polled(supervisor, lambda: False), "the failure")
    text = str(caught.value)
    assert "\n" not in text
    assert "node ended with exit code 1" in text and "port 5700 on 127.0.0.1 is in use" in text
    assert str(tmp_path / "node.log") in text


def test_dependents_start_after_and_stop_before(tmp_path: Path) -> None:
    beats: dict[str, float] = {}
    specs = [
        ProcessSpec("infer", ("sink", str(tmp_path / "a"))),
        ProcessSpec("node", ("source", str(tmp_path / "a")), after=("infer",), beats=False),
    ]
    supervisor = Supervisor(specs, logs=tmp_path, command=COMMAND, working_s=lambda name: beats.get(name, 0.0))
    with supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "a")) == 1), "infer")
        supervisor.poll()
        assert supervisor.pid("node") is None, "started before infer was ready"
        beats["infer"] = time.monotonic()
        until(polled(supervisor, lambda: len(pids(tmp_path / "a")) == 2), "node")
        assert supervisor.ready
    assert (tmp_path / "a.order").read_text().split() == ["source", "sink"]


def test_never_ready_names_the_process(tmp_path: Path) -> None:
    late = spec("view", "wait", tmp_path / "pids", beats=True, start_timeout_s=0.1)
    with (
        Supervisor([late], logs=tmp_path, command=COMMAND) as supervisor,
        pytest.raises(ProcessError, match=r"view was not ready after 0\.1 s"),
    ):
        until(polled(supervisor, lambda: False), "the time-out")


def test_deaf_child_is_killed_and_told(tmp_path: Path) -> None:
    where = tmp_path / "pids"
    deaf = spec("record", "deaf", where, stop_timeout_s=0.1)
    with Supervisor([deaf], logs=tmp_path, command=COMMAND) as supervisor:
        until(polled(supervisor, lambda: len(pids(where)) == 1), "start")
        assert supervisor.stop("record") == -signal.SIGKILL
    assert not alive(pids(where)[0])


def test_frozen_child_is_killed_and_started_again_and_nobody_else(tmp_path: Path) -> None:
    """It gave signs of life and stopped to; the one beside it goes on undisturbed."""
    heard = {"infer": 0.0, "node": 0.0}
    beating = {"infer", "node"}

    def sign(name: str) -> float:
        if name in beating:
            heard[name] = time.monotonic()
        return heard[name]

    specs = [spec(name, "wait", tmp_path / f"{name}{{again}}", beats=True, silence_s=0.3) for name in heard]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, working_s=sign, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: supervisor.ready and bool(pids(tmp_path / "infer"))), "start")
        os.kill(pids(tmp_path / "infer")[0], signal.SIGSTOP)
        beating.discard("infer")
        until(polled(supervisor, lambda: supervisor.restarts["infer"] == 1), "the restart")
        beating.add("infer")
        until(polled(supervisor, lambda: supervisor.ready and bool(pids(tmp_path / "infer_2"))), "its second life")
        assert supervisor.restarts == {"infer": 1, "node": 0}
        assert supervisor.pid("node") == pids(tmp_path / "node")[0]
        infer = supervisor.states()[0]
        assert (infer.state, infer.restarts) == ("ready", 1) and "no sign of life" in infer.why
    told = [event.what for event in supervisor.events if event.process == "infer"]
    assert told == ["started", "ready", "frozen", "failed", "started", "ready"]
    written = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [each["what"] for each in written if each["process"] == "infer"] == told
    assert "==== " in (tmp_path / "infer.log").read_text()


def test_a_supervisor_that_was_away_judges_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It slept for an hour and heard nothing meanwhile: everybody gets the whole time to speak again."""
    shift, real, heard = [0.0], time.monotonic, [0.0]
    monkeypatch.setattr("streamer.supervise.time.monotonic", lambda: real() + shift[0])
    specs = [spec("node", "wait", tmp_path / "pids", beats=True, silence_s=60.0)]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, working_s=lambda _: heard[0]) as supervisor:
        supervisor.poll()
        heard[0] = real() + 1e-6
        until(polled(supervisor, lambda: supervisor.ready and bool(pids(tmp_path / "pids"))), "start")
        for ahead_s in (3600.0, 3600.5, 3659.0):
            shift[0] = ahead_s
            supervisor._looked_s = max(supervisor._looked_s, real() + ahead_s - 0.5) if ahead_s > 3600 else real()
            supervisor.poll()
        assert [event.what for event in supervisor.events] == ["started", "ready"]
        shift[0] = 3670.0
        supervisor._looked_s = real() + shift[0] - 0.5
        supervisor.poll()
        assert supervisor.events[-1].what == "frozen"


def test_restart_on_demand_is_no_failure(tmp_path: Path) -> None:
    first, second = tmp_path / "pids", tmp_path / "pids_2"
    specs = [spec("view", "wait", tmp_path / "pids{again}", later=("wait", str(second)))]
    with Supervisor(specs, logs=tmp_path, command=COMMAND) as supervisor:
        until(polled(supervisor, lambda: len(pids(first)) == 1), "start")
        supervisor.restart("view")
        until(polled(supervisor, lambda: len(pids(second)) == 1), "the second life")
        assert supervisor.restarts == {"view": 0} and not alive(pids(first)[0])


def test_a_process_is_told_to_end_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGTERM kills a recorder that is closing its take: neither a key pressed twice nor Ctrl-C sends it."""
    told: list[int] = []
    send, wait = subprocess.Popen.send_signal, subprocess.Popen.wait

    def spy(process: "subprocess.Popen[bytes]", number: int) -> None:
        told.append(number)
        send(process, number)

    monkeypatch.setattr(subprocess.Popen, "send_signal", spy)
    specs = [spec("record", "closing", tmp_path / "pids{again}", later=("closing", str(tmp_path / "later")))]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids")) == 1), "start")
        supervisor.restart("record")
        until(polled(supervisor, (tmp_path / "pids.closing").exists), "its closing")
        supervisor.restart("record")
        supervisor.poll()
        assert told == [signal.SIGTERM]
        (tmp_path / "pids.go").touch()
        until(polled(supervisor, lambda: len(pids(tmp_path / "later")) == 1), "the second life")
        assert supervisor.restarts == {"record": 0}
        supervisor.restart("record")
        until(polled(supervisor, (tmp_path / "later.closing").exists), "the closing of that")

        def interrupted(_process: "subprocess.Popen[bytes]", _timeout: float | None = None) -> int:
            monkeypatch.setattr(subprocess.Popen, "wait", wait)
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            supervisor.stop("record")
        assert told == [signal.SIGTERM] * 2
        (tmp_path / "later.go").touch()
        assert supervisor.stop("record") == 0 and told == [signal.SIGTERM] * 2


@pytest.mark.parametrize(("what", "how"), [("torn", "told to end and ended with exit code 3"), ("deaf", "in 0.2 s")])
def test_a_restart_that_did_not_end_cleanly_is_a_failure(tmp_path: Path, what: str, how: str) -> None:
    """What it was recording has to be repaired: that is done for processes that failed."""
    specs = [spec("record", what, tmp_path / "pids", later=("wait", str(tmp_path / "later")), stop_timeout_s=0.2)]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids")) == 1), "start")
        supervisor.restart("record")
        until(polled(supervisor, lambda: len(pids(tmp_path / "later")) == 1), "the second life")
        assert supervisor.restarts == {"record": 1}
        assert how in supervisor.states()[0].why


def test_a_restart_on_demand_is_not_blamed_on_an_old_failure(tmp_path: Path) -> None:
    specs = [spec("view", "wait", tmp_path / "pids{again}")]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids")) == 1), "start")
        os.kill(pids(tmp_path / "pids")[0], signal.SIGKILL)
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids_2")) == 1), "the second life")
        assert "SIGKILL" in supervisor.states()[0].why
        supervisor.restart("view")
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids_3")) == 1), "the third life")
        assert supervisor.states()[0].why == ""


def test_without_heartbeats_an_early_failure_is_one_before_it_was_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer whose port is taken counts as ready as soon as it runs, and must not be started for ever."""
    specs = [spec("view", "refuse", tmp_path / "pids", later=("wait", str(tmp_path / "later")))]
    with (
        Supervisor(specs, logs=tmp_path / "a", command=COMMAND, policy=QUICK) as supervisor,
        pytest.raises(ProcessError, match=r"view ended with exit code 1: mien node: port 5700"),
    ):
        until(polled(supervisor, lambda: False), "the failure")
    monkeypatch.setattr("streamer.children.PROVEN_S", 0.0)
    with Supervisor(specs, logs=tmp_path / "b", command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "later")) == 1), "the second life")
        assert supervisor.restarts == {"view": 1}


def test_work_that_is_never_done_is_started_again(tmp_path: Path) -> None:
    specs = [spec("infer", "once", tmp_path / "pids{again}", later=("wait", str(tmp_path / "pids_2")), endless=True)]
    with Supervisor(specs, logs=tmp_path, command=COMMAND, policy=QUICK) as supervisor:
        until(polled(supervisor, lambda: len(pids(tmp_path / "pids_2")) == 1), "the second life")
        assert supervisor.restarts == {"infer": 1} and supervisor.done == frozenset()


def test_a_run_that_persists_never_gives_up() -> None:
    policy = RestartPolicy(most=None)
    assert policy.delay_s([float(k) for k in range(200)], 200.0) == policy.longest_s


def test_last_words_are_the_process_s_own_and_a_large_log_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    assert last_words(log) == "nothing"
    log.write_text("\x1b[31mport 5700 is in use\x1b[0m\n\n")
    note(log, "node failed", 0.0)
    assert last_words(log) == "port 5700 is in use"
    assert len(tail(log, 1)) == 1 and "node failed" in tail(log, 1)[0]
    with log.open("ab") as file:
        file.truncate(LARGEST_BYTES + 1)
    prepare(log)
    assert not log.exists() and (tmp_path / "node.log.1").stat().st_size == LARGEST_BYTES + 1


def test_work_done_is_no_failure(tmp_path: Path) -> None:
    with Supervisor([spec("node", "once", tmp_path / "pids")], logs=tmp_path, command=COMMAND) as supervisor:
        until(polled(supervisor, lambda: supervisor.done == {"node"}), "the end of the work")
        assert supervisor.restarts == {"node": 0} and supervisor.ready


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30).map(sorted))
def test_back_off_grows_and_gives_up(failures: list[float]) -> None:
    policy = RestartPolicy()
    now = failures[-1]
    recent = [f for f in failures if now - f <= policy.window_s]
    delay = policy.delay_s(failures, now)
    if len(recent) > policy.most:
        assert delay is None
    else:
        expected = [0.0, *(min(policy.longest_s, policy.first_s * 2**k) for k in range(len(recent)))]
        assert delay == expected[len(recent) - 1], "the first at once, then later and later"
