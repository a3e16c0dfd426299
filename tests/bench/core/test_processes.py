from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.core.errors import UserError
from bench.core.processes import open_pool, run_program
from tests.processes import environment

FAMILY = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\ntime.sleep(60)"
PARENT = f"""
import sys
from bench.core.signals import Ending, guard_signals
from bench.core.processes import run_program
guard_signals()
Ending.at_once = False
run_program([sys.executable, "-c", {FAMILY!r}])
"""


def test_a_program_is_run_to_its_end() -> None:
    done = run_program(
        [sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"], os.environ
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n", "2\n")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_program_outlives_the_command_that_runs_it(how: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 30
    while len(family := psutil.Process(process.pid).children(recursive=True)) < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    process.wait(30)
    child, *others = family
    gone, alive = psutil.wait_procs([child] if how is signal.SIGKILL else family, timeout=10)
    for each in others:
        if each.is_running():
            each.kill()  # of a killed parent, only the system ends the child, and the child its own
    assert not alive


def test_a_killed_process_of_a_pool_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the pool sets it
    with pytest.raises(UserError, match="was killed by the system"), open_pool(1) as pool:
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
