"""Commands in forks of a warm Python are as those in fresh ones."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes import environment, heeding, python, warm_python, without_torch

CODE = """
import os, signal, subprocess, sys, time, atexit
print(os.getcwd(), os.environ.get("SAID"), sys.argv[1:], "extra" in sys.modules or __import__("extra").HERE)
print("loaded" if "torch" in sys.modules else "not loaded", file=sys.stderr)
atexit.register(print, "at the end")
if sys.argv[1] == "sleep":
    other = subprocess.Popen(["sleep", "60"])
    open("asleep.new", "w").write(f"{os.getpid()} {other.pid}")
    os.rename("asleep.new", "asleep")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        other.kill()
        sys.exit(5)
if sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "raise":
    raise KeyError("nothing")
sys.exit(int(sys.argv[1]))
"""


def run(python: str, how: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "probing.py").write_text(CODE)
    (folder / "extra.py").write_text("HERE = True")
    env = environment([folder]) | {"SAID": "hello"}
    words = [python, "-m", "probing", how]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("how", ["0", "3", "raise", "die"])
def test_a_warm_process_ends_and_says_as_a_fresh_one(how: str, tmp_path: Path) -> None:
    warm, fresh = run(str(warm_python()), how, tmp_path), run(sys.executable, how, tmp_path)
    assert (warm.returncode, warm.stdout) == (fresh.returncode, fresh.stdout)
    assert warm.stderr.splitlines()[0] == "loaded" and fresh.stderr.splitlines()[0] == "not loaded"
    assert warm.stderr.splitlines()[-1] == fresh.stderr.splitlines()[-1] or how != "raise"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 5)])
def test_a_signal_reaches_a_warm_process_and_what_it_has_started(number: int, code: int, tmp_path: Path) -> None:
    """A handler of its own is asked, and whoever dies takes along what belongs to it, where it is killed."""
    (tmp_path / "extra.py").write_text("HERE = True")
    (tmp_path / "probing.py").write_text(CODE)
    words = [str(warm_python()), "-m", "probing", "sleep"]
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment([tmp_path]), stdout=subprocess.DEVNULL, preexec_fn=heeding
    )
    while not (tmp_path / "asleep").exists():
        assert process.poll() is None
        time.sleep(0.02)
    family = [psutil.Process(int(pid)) for pid in (tmp_path / "asleep").read_text().split()]
    process.send_signal(number)
    assert process.wait(30) == code
    if number == signal.SIGTERM:
        family.pop().kill()
    assert psutil.wait_procs(family, timeout=30)[1] == []


def test_what_stands_in_the_place_of_torch_is_seen(tmp_path: Path) -> None:
    assert python([], fresh=False) == python([tmp_path], fresh=False) == str(warm_python())
    assert python([without_torch(tmp_path)], fresh=False) == python([], fresh=True) == sys.executable
