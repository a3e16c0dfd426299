"""Programs that a command runs (pip, git): none outlives it, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that a process gets when the one that started it dies."""


def run_program(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it prints.

    An interruption ends it and what it has started; it dies as well where this process is killed.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
        preexec_fn=dying_with(os.getpid(), ctypes.CDLL(None)),
    )
    try:
        out, err = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def dying_with(parent: int, libc: ctypes.CDLL) -> Callable[[], None]:
    """What a new process does before its program starts, so that it dies with its ``parent``."""

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died already
            os._exit(1)

    return prepare
