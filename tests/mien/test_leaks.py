"""The guard of tests/conftest.py notices a planted leak of each kind."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLANTED = """
import os, pathlib, threading
stop = threading.Event()
def test_thread():
    threading.Thread(target=stop.wait, args=(60,), name="forgotten").start()
def test_segment():
    pathlib.Path(f"/dev/shm/mien-{os.getpid()}-planted-0").touch()
def test_clean():
    thread = threading.Thread(target=lambda: None)
    thread.start()
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm here, so no segments to look for")
def test_leaks_fail_the_test_that_made_them(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((Path(__file__).parents[1] / "conftest.py").read_text("utf-8"))
    pytester.makepyfile(
        PLANTED + "def teardown_module():\n    stop.set()\n"
        "    for path in pathlib.Path('/dev/shm').glob(f'mien-{os.getpid()}-planted-*'):\n        path.unlink()\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:cacheprovider", timeout=50)
    result.assert_outcomes(passed=3, errors=2)
    told = result.stdout.str()
    assert "left behind: ['forgotten']" in told and "-planted-0']" in told
