"""The configuration of a running `mien live`: for its owner alone, and gone with it, however it ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

from streamer.running_config import YOUNG_S, remove_left_behind, running_config

HOLD = """
import sys, time
from pathlib import Path
from streamer.running_config import running_config

with running_config("x = 1", Path(sys.argv[1])) as path:
    print(path, flush=True)
    time.sleep(600)
"""
ROOT = Path(__file__).parents[2]


def test_it_is_for_its_owner_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    with running_config("password = 'x'", tmp_path) as path:
        assert path.read_text() == "password = 'x'" and path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.iterdir())


def test_what_a_killed_one_leaves_the_next_one_removes(tmp_path: Path) -> None:
    later_s = time.time() + YOUNG_S + 1
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True, cwd=ROOT) as first:
        assert first.stdout is not None
        path = Path(first.stdout.readline().strip())
        remove_left_behind(tmp_path, later_s)
        assert path.exists(), "a process may still have to read it"
        first.kill()
    remove_left_behind(tmp_path, path.stat().st_mtime + YOUNG_S / 2)
    assert path.exists(), "so young that its owner may be about to lock it"
    remove_left_behind(tmp_path, later_s)
    assert not path.exists()


def test_what_others_put_there_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """A directory, a pipe, links: each was an error that ended every `mien live` on the machine."""
    precious = tmp_path / "precious.toml"
    precious.write_text("x = 1")
    names = [tmp_path / f"mien-live-{kind}.toml" for kind in ("directory", "pipe", "loop", "link")]
    names[0].mkdir()
    os.mkfifo(names[1])
    names[2].symlink_to(names[2])
    names[3].symlink_to(precious)
    left_behind = tmp_path / "mien-live-zz.toml"
    left_behind.write_text("x = 1")
    remove_left_behind(tmp_path, time.time() + YOUNG_S + 1)
    assert not left_behind.exists(), "the sweep went on"
    assert precious.exists() and all(os.path.lexists(name) for name in names)
    with running_config("x = 1", tmp_path) as path:
        assert path.is_file()
