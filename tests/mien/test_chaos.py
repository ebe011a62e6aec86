"""A few of the faults of benchmarks/chaos.py on one running house; nothing here depends on how fast the machine is."""

import os
import signal
import threading
from pathlib import Path

import pytest

from streamer.report import require_closed
from tests.mien.faults import garbage
from tests.mien.house import House

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")


@pytest.mark.timeout(240)
def test_a_house_stays_up(tmp_path: Path) -> None:
    """The recorder is killed in the middle of a take, the node frozen and let go, every port is fed random bytes."""
    with House(tmp_path, {"live.silence_s": 120}) as house:
        house.wait_ready()
        before = house.pids()

        house.wait("a take", lambda: house.state()["take"]["messages"] > 20)
        house.take("mark", text="before the fault")
        house.kill("record")
        house.wait("the restart", lambda: house.process("record").get("restarts") == 1)
        house.wait("recording again", lambda: house.state()["take"]["state"] == "recording")
        house.wait("the repair", lambda: any("is repaired" in line for line in house.state()["events"]))
        took = house.state()["take"]["take"]
        assert Path(took).name == "slate_T002", "it went on in the next take"

        os.kill(before["node"], signal.SIGSTOP)
        house.wait("the alarm", lambda: any("node: no sign of life" in alarm for alarm in house.alarms()))
        os.kill(before["node"], signal.SIGCONT)
        house.wait("the alarm to end", lambda: not any("node: no sign" in alarm for alarm in house.alarms()))
        count = len(house.meshes)
        house.wait("meshes again", lambda: len(house.meshes) > count + 5)

        garbage(house)
        count = len(house.meshes)
        house.wait("meshes after garbage", lambda: len(house.meshes) > count + 5)
        after = house.pids()
        assert {name for name in before if before[name] != after[name]} == {"record"}, "the others were not touched"
        assert house.take("status")["state"] == "recording"
        house.wait("a while of the second take", lambda: house.state()["take"]["messages"] > 100)

        result = house.end()
        assert result["restarts"] == {"record": 1, "infer": 0, "node": 0}
        for _ in range(100):
            if not house.left_behind():
                break
            threading.Event().wait(0.1)
        assert house.left_behind() == []
    require_closed(house.account())
    assert house.damaged() == [] and len(house.takes()) == 2
