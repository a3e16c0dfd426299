"""Workers that may have no more memory from some moment on."""

from __future__ import annotations

import subprocess
import time

import psutil

from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge, judge_end, judge_processes
from tests.faults.ground import SCENES, Done, kill, marked, patience
from tests.faults.kills import fresh_seconds

COMMANDS = ("run", "books", "tune", "ablate")


def attempt(case: Case) -> None:
    """A command whose workers are limited at a random moment, then the same without a limit."""
    rng, ground = case.rng, case.ground
    name = COMMANDS[case.number % len(COMMANDS)]
    lasts, folder = fresh_seconds(ground, name), ground.begin(name, case.folder / "place")
    at, more = rng.uniform(0, lasts), rng.choice((0.5, 0.8, 1.0, 1.02, 1.1))
    case.what = f"{name}: its workers have {more} times their memory from {at:.1f} s on"
    [words] = SCENES[name].commands
    process = ground.start(words, folder, mark=case.folder.name)
    began = time.monotonic()
    limited: set[int] = set()
    while process.poll() is None and time.monotonic() - began < lasts + 60:
        if time.monotonic() - began >= at:
            limit_workers(process, more, limited)
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    text, hung = wait(process, case)
    judge(case, [Done(words, process.returncode, text, time.monotonic() - began, hung)], (0, 1, 2))
    judge_processes(case)
    judge_end(case, name, folder)


def limit_workers(process: subprocess.Popen[str], more: float, limited: set[int]) -> None:
    """Limit the address space of every worker that isn't yet."""
    try:
        for worker in psutil.Process(process.pid).children():
            if worker.pid not in limited:
                limit = max(int(worker.memory_info().vms * more), 200 << 20)
                worker.rlimit(psutil.RLIMIT_AS, (limit, limit))
                limited.add(worker.pid)
    except psutil.Error:
        pass


def wait(process: subprocess.Popen[str], case: Case) -> tuple[str, bool]:
    """What a command said, and whether it had to be ended."""
    try:
        return process.communicate(timeout=patience())[0], False
    except subprocess.TimeoutExpired:
        for each in marked(case.folder.name):
            kill(each)
        return process.communicate()[0], True


KIND = Kind("memory", short=(0,), long=40, attempt=attempt)
