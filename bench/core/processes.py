"""Programs that a command runs (pip, git) and processes that share its work: none outlives it, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context

from bench.core.errors import UserError

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


@contextmanager
def open_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes with a thread each, started anew: they leave an interruption to this one, and die with it.

    `UserError` where one of them is killed.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started now
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=serve, initargs=(os.getpid(),))
    try:
        yield pool
    except BrokenProcessPool:
        raise UserError(
            "A process of this command was killed by the system or by somebody; the system does so when memory has run "
            "out: run the command again, with --jobs 1 where it has that."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def serve(parent: int) -> None:
    """What each process of a pool begins with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dying_with(parent, ctypes.CDLL(None))()


def dying_with(parent: int, libc: ctypes.CDLL) -> Callable[[], None]:
    """What a new process does before its program starts, so that it dies with its ``parent``."""

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died already
            os._exit(1)

    return prepare
