"""Processes that are sent signals while they start, import, work and end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GOES_ON = "What was finished is kept; the same command goes on from there."
COMMAND = """
import sys, time, types
import bench.core.signals as signals
import bench.__main__ as entry
fake = types.ModuleType("bench.cli.app")
def call():
    try:
        print("ready", flush=True)
        {body}
    finally:
        print("tidied", flush=True)
    return 0
fake.call = call
sys.modules["bench.cli.app"] = fake
entry.main()
"""

JUST_BEHIND_A_LOOK = """
import signal, time
time.sleep(1)
while signal.getitimer(signal.ITIMER_REAL)[0] < 0.015:
    time.sleep(0.001)
raise ImportError('not whole')
"""
"""An import that fails long before `bench.core.signals` looks again whether it is over, and not while that breaks in."""


def heeding() -> None:
    """Signals have their own meaning again, whatever these tests were started with."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def ignoring() -> None:
    """As under ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def start(body: str, folder: Path, prepare: Callable[[], None] = heeding) -> subprocess.Popen[str]:
    """A command that does ``body``, waited for until it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body=body)],
        cwd=folder,
        env=environment([folder]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "import slow",
        "import bare; time.sleep(60)",
        "import hidden; time.sleep(60)",
        "exec('while True: pass')",
    ],
)
def test_a_signal_ends_a_command_in_order_whatever_it_does(number: signal.Signals, body: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(JUST_BEHIND_A_LOOK)
    (tmp_path / "bare.py").write_text(
        "import time\ntry:\n    time.sleep(1)\nexcept BaseException:\n    pass\ntime.sleep(1)\n"
    )
    (tmp_path / "hidden.py").write_text(
        "import time\nclass Holder:\n    def __del__(self):\n        time.sleep(1)\nHolder()\ntime.sleep(9)\n"
    )
    process = start(body, tmp_path)
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (128 + number, "tidied\n")
    said = {signal.SIGINT: "Interrupted.", signal.SIGTERM: "Ended by SIGTERM.", signal.SIGHUP: "The terminal has gone."}
    assert err == f"\n{said[number]} {GOES_ON}\n"


def test_a_second_ctrl_c_breaks_no_tidying_off(tmp_path: Path) -> None:
    body = "time.sleep(60)\n    except KeyboardInterrupt:\n        time.sleep(0.5)\n        raise"
    process = start(body, tmp_path)
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "tidied\n", f"\nInterrupted. {GOES_ON}\n")


def test_a_signal_after_the_work_ends_at_once(tmp_path: Path) -> None:
    """As while Python waits for threads, or calls what libraries have left for the end."""
    body = "import atexit; atexit.register(time.sleep, 60)"
    process = start(body, tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "tidied\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, f"\nInterrupted. {GOES_ON}\n")


def test_a_signal_while_python_takes_itself_down_changes_no_code(tmp_path: Path) -> None:
    code = "import atexit, os, bench.core.signals as s; s.guard_signals(); atexit._run_exitfuncs(); os.kill(os.getpid(), 2)"
    done = subprocess.run([sys.executable, "-c", code], env=environment([tmp_path]), preexec_fn=heeding)
    assert done.returncode == 0


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    process = start("time.sleep(0.5)", tmp_path, ignoring)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "tidied\n", "")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_command_line_is_imported(number: signal.Signals, tmp_path: Path) -> None:
    """From where Python has found the package: before, it is Python's own start."""
    (modules := tmp_path / "modules").mkdir()
    (modules / "typer.py").write_text("print('ready', flush=True)\nimport time\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--help"],
        cwd=tmp_path,
        env=environment([modules]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number and err.endswith(f"{GOES_ON}\n") and "Traceback" not in err
