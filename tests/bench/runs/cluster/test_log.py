from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.core.machine import Machine
from bench.core.record import RunSpec
from bench.runs.cluster import log
from bench.runs.cluster.submission import Array, Submission
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths

SAYING = """
import os, sys
store = sys.argv[1]
print("out", os.environ["HF_TOKEN"], flush=True)
print("at", os.path.expanduser("~/secret"), store + "/x", os.uname().nodename, os.environ["SLURMD_NODENAME"], file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = WorkerConfig.of(Machine(tmp_path / "out", tmp_path / "my store", executor="slurm"), Paths())
    made = Submission(tmp_path / "a b", config, (Array("name", (Job(RunSpec("tofu", {}, "lab", "lab", (), 0)),)),), 60)
    made.write()
    return made.folder


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_TOKEN": "correct horse battery", "SLURMD_NODENAME": "n1"}
    command: Sequence[str] = [sys.executable, "-m", log.__name__, str(folder), "-u", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_no_secret_and_no_place_reaches_the_log(folder: Path) -> None:
    process = start(folder, "-c", SAYING, str(folder.parent / "my store"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "out …\n"
    assert err == "at …/secret …/x … …\n", "home, store, host and node"


def test_a_damaged_submission_still_hides_what_is_known_without_it(folder: Path) -> None:
    (folder / "submission.json").write_text("[]")
    out, err = start(folder, "-c", SAYING, "/scratch/me/store").communicate(timeout=60)
    assert out == "out …\n" and err == "at …/secret …/x … …\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9), ("import os; os.abort()", -6)],
)
def test_it_ends_as_the_job_has_ended_and_keeps_its_last_words(script: str, code: int, folder: Path) -> None:
    process = start(folder, "-c", f"print('last words', end='', flush=True)\n{script}")
    assert process.communicate(timeout=60)[0] == "last words" and process.returncode == code


def test_signals_are_passed_on(folder: Path) -> None:
    script = """
import signal, time
heard = []
signal.signal(signal.SIGUSR2, lambda *_: heard.append(print("heard")))
print("ready", flush=True)
while not heard:
    time.sleep(0.05)
"""
    process = start(folder, "-c", script)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGUSR2)
    assert process.communicate(timeout=60)[0] == "heard\n" and process.returncode == 0


def test_what_the_job_left_running_holds_nothing_up(folder: Path) -> None:
    began = time.monotonic()
    process = start(folder, "-c", "import os; print('said', flush=True); os.execlp('sh', 'sh', '-c', 'sleep 60 &')")
    assert process.communicate(timeout=50)[0] == "said\n" and process.returncode == 0
    assert time.monotonic() - began < 40
