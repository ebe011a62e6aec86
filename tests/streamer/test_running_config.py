"""The configuration beside the logs: one `mien live` for one folder, and nothing to clean up after a kill."""

import subprocess
import sys
from pathlib import Path

import pytest

from streamer.errors import ProcessError
from streamer.running_config import running_config

HOLD = """
import sys, time
from pathlib import Path
from streamer.running_config import running_config

with running_config(Path(sys.argv[1]), "first = 1  # longer than the second"):
    print("held", flush=True)
    time.sleep(600)
"""
ROOT = Path(__file__).parents[2]


def test_a_second_one_is_refused_until_the_first_is_gone_however_it_ended(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    with subprocess.Popen([sys.executable, "-c", HOLD, logs], stdout=subprocess.PIPE, cwd=ROOT) as first:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(ProcessError, match=r"logs: another mien live.*live\.logs"), running_config(logs, "x = 2"):
            pass
        assert (logs / "config.toml").read_text().startswith("first = 1"), "a process may still have to read it"
        first.kill()
    with running_config(logs, "second = 2") as path:
        assert path.read_text() == "second = 2"
