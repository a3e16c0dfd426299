"""One job where it runs: what a local worker does, heeding the cluster's signals, with its news in a journal.

Told to stop before its time limit (`WARNING`) or by preemption (SIGTERM), a job writes its state, gives its leases back and
goes into the queue again; it ends with the same scores to the bit. One that meets its time limit again and again without
getting further has failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core import distributed, stopping
from bench.core.scrub import scrub
from bench.core.stopping import Stopped
from bench.core.types import Json
from bench.runs.cluster import commands
from bench.runs.cluster.asking import WARNING, limit_seconds
from bench.runs.cluster.submission import Submission, Task, ending
from bench.runs.executor import Worker, with_times
from bench.runs.progress import ignore_event

HEEDED = (signal.Signals[f"SIG{WARNING}"], signal.SIGTERM)
"""The warning before a time limit, and what preemption sends."""
MOST_VAIN = 2
"""Time limits in a row that a job may meet without getting further."""
LIMIT_SECONDS = 90
"""SLURM gives its warning up to so many seconds early."""
HURRY_SECONDS = 20
"""A job that hasn't stopped by itself so long before its time limit goes as it is: the work since its last state is lost."""
QUIET_SECONDS = 2.0
"""Between two lines of progress in a journal."""
KILLED_SECONDS = 600
"""How long a job waits for SLURM to end it, when that has said so."""
HAS_STOPPED = 75
"""Exit code of the processes of torchrun that stopped as they were asked to."""
REQUEUE_TRIES, REQUEUE_PAUSE = 12, 5.0


def run_on_node(folder: str, array: str, index: int) -> str:
    """Do one job of a submission; what submitit calls. Returns its status, ``requeued`` where it will begin again."""
    task = find_task(folder, array, index)
    attempt = Attempt(task)
    attempt.begin()
    for number in HEEDED:
        signal.signal(number, attempt.hear)
    try:
        ended = attempt.in_processes() if task.submission.config.machine.world > 1 else do_task(task)
    except Stopped as stop:
        return attempt.leave(stop.further)
    say_hidden(task, {"event": "end", **ended})
    return str(ended["status"])


def find_task(folder: str, array: str, index: int) -> Task:
    """The job of a submission's folder, by its array and number."""
    submission = Submission.read(Path(folder))
    return next(task for task in submission.tasks() if task.id == (array, index))


def do_task(task: Task) -> Json:
    """Do a job in this process, as a local worker does; its status and error. Under torchrun every process calls this."""
    stopping.listen()
    config = task.submission.config
    device = distributed.join_processes(config.machine.device)
    config = replace(config, machine=replace(config.machine, device=device))
    tell = Diary(task).tell if distributed.is_first() else ignore_event
    try:
        return Worker(config, with_times(task.job, tell)).do(task.job, wait=True)
    finally:
        if sys.exc_info()[0] is None:
            distributed.leave_processes()


def serve_rank(folder: str, array: str, index: int) -> None:
    """One process of torchrun inside a job; its exit code says whether it stopped as it was asked to."""
    task = find_task(folder, array, index)
    for number in HEEDED:
        signal.signal(number, lambda number, _: stopping.ask_to_stop(signal.Signals(number).name))
    try:
        ended = do_task(task)
    except Stopped as stop:
        if distributed.is_first():
            task.say({"event": "stopped", "further": stop.further})
        sys.stdout.flush()
        os._exit(HAS_STOPPED)
    if distributed.is_first():
        say_hidden(task, {"event": "end", **ended})


def say_hidden(task: Task, event: Json) -> None:
    """Add a worker's event to a job's journal, its message without secrets and the folders of this machine."""
    message = scrub(event.get("message", ""), task.submission.config.folders())
    task.say(event | ({"message": message} if message else {}))


class Diary:
    """Writes a worker's events into its journal, progress now and then, and heeds a request to stop after each node."""

    def __init__(self, task: Task) -> None:
        self.task, self.last = task, float("-inf")

    def tell(self, event: Json) -> None:
        """Note an event."""
        if event["status"] == "progress":
            if time.monotonic() - self.last < QUIET_SECONDS:
                return
            self.last = time.monotonic()
        say_hidden(self.task, event)
        if event["status"] == "done":  # training heeds at the end of a step, so that every attempt makes one at least
            stopping.heed(further=True)


class Attempt:
    """One beginning of a job, until it ends or goes back into the queue."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.before = task.events()
        """What earlier attempts said."""
        self.slurm = slurm_id()
        self.left = threading.Lock()
        """Held by who takes the job away, so that it is done once."""
        self.torchrun: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Say that it begins, and where."""
        node, restarts = os.environ.get("SLURMD_NODENAME", ""), int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        self.task.say({"event": "begin", "slurm": self.slurm, "node": node, "restarts": restarts})
        again = f", start {restarts + 1}" if restarts else ""
        self.note(f"on {node}{again} (SLURM's job {self.slurm})")

    def note(self, text: str) -> None:
        """Leave a remark for whoever watches."""
        self.task.say({"stage": "", "status": "note", "job": self.task.job.name, "message": text, "seconds": 0.0})

    def hear(self, number: int, _: Any) -> None:
        """A signal: work stops at its next safe place; before a time limit it is ended when that takes too long."""
        name = signal.Signals(number).name
        if not stopping.reason() and name != "SIGTERM":
            patience = max(1, self.task.submission.warning - HURRY_SECONDS)
            timer = threading.Timer(patience, self.leave_now)
            timer.daemon = True
            timer.start()
        stopping.ask_to_stop(name)

    def in_processes(self) -> Json:
        """Do the job in as many processes as it has GPUs, under torchrun."""
        world, task = self.task.submission.config.machine.world, self.task
        words = [str(task.submission.folder), task.array.name, str(task.index)]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        self.torchrun = subprocess.Popen(
            [*command, "-m", "bench", "exec", "--task", *words],
            preexec_fn=ignore_warning,  # it would end; its processes have handlers of their own
        )
        code = self.torchrun.wait()
        said = task.events()[len(self.before) :]
        if (ended := ending(said)) is not None:
            return ended
        if stopping.reason():
            raise Stopped(next((event["further"] for event in said if event.get("event") == "stopped"), False))
        message = f"torchrun ended with code {code}; see the job's log"
        self.fail(message)
        return {"status": "failed", "message": message}

    def fail(self, message: str) -> None:
        """Write the job's failed record."""
        Worker(self.task.submission.config, ignore_event).record_failure(self.task.job, message)

    def leave_now(self) -> None:
        """Leave though the work has not stopped; for a thread."""
        with suppress(Stopped):
            self.leave(False)
        if self.torchrun is not None:
            self.torchrun.kill()
        os._exit(1)

    def leave(self, further: bool | None) -> str:
        """Go back into the queue, or end where going on is of no use; ``further`` as in `Stopped`."""
        self.left.acquire()  # never given back: this process is at its end
        if stopping.reason() == "SIGTERM":
            return self.leave_to_slurm()
        done = any(event.get("status") == "done" for event in self.task.events()[len(self.before) :])
        gains = None if further is None and not done else bool(further or done)
        at_limit = seconds_left(self.slurm) <= self.task.submission.warning + LIMIT_SECONDS
        self.task.say({"event": "left", "gains": gains, "at_limit": at_limit})
        if at_limit and count_vain(self.task.events()) >= MOST_VAIN:
            message = (
                f"it met its time limit {MOST_VAIN} times without getting further: give each job more, with --slurm "
                "time=MINUTES, and run the same command again"
            )
            self.fail(message)
            self.task.say({"event": "end", "status": "failed", "message": message})
            return "failed"
        self.note(f"stopped before its {'time limit' if at_limit else 'end'}; it goes on when SLURM starts it again")
        return self.requeue()

    def leave_to_slurm(self) -> str:
        """After SIGTERM: a preempted job is requeued now, so that its node is free at once; a cancelled one ends."""
        known = describe(self.slurm)
        if "PreemptTime=" in known and "PreemptTime=None" not in known and "JobState=RUNNING" in known:
            self.task.say({"event": "left", "gains": None, "at_limit": False})
            self.note("preempted; it goes on when SLURM starts it again")
            return self.requeue()
        if not known or "JobState=RUNNING" in known:  # what sent it is on its way to end the job, or to start it again
            time.sleep(KILLED_SECONDS)
        return "ended"

    def requeue(self) -> str:
        """Ask SLURM to start this job again; it ends this one. Where nobody answers, SLURM itself is waited for."""
        for _ in range(REQUEUE_TRIES):
            with suppress(commands.Silent):
                if commands.call("scontrol", "requeue", self.slurm).returncode == 0:
                    return "requeued"
            time.sleep(REQUEUE_PAUSE)
        self.note("SLURM's controller does not answer, so that the job could not be put back into the queue")
        return "requeued"


def ignore_warning() -> None:
    """Let the warning pass; for a process that is about to be another program."""
    signal.signal(HEEDED[0], signal.SIG_IGN)


def slurm_id() -> str:
    """This job's number, as SLURM's commands take it."""
    array, number = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{number}" if array else os.environ.get("SLURM_JOB_ID", "")


def describe(slurm: str) -> str:
    """What SLURM knows of a job; empty where it doesn't answer."""
    try:
        return commands.ask("scontrol", "show", "job", slurm)
    except commands.Silent:
        return ""


def seconds_left(slurm: str, ask: Callable[..., str] = commands.ask) -> float:
    """Seconds until a job's time limit; 0 where SLURM doesn't answer, infinite where it has none."""
    try:
        return limit_seconds(ask("squeue", "--noheader", f"--jobs={slurm}", "--format=%L").strip())
    except commands.Silent:
        return 0.0


def count_vain(events: list[Json]) -> int:
    """Attempts in a row, up to the last, that met their time limit without getting further; waiting counts for neither."""
    count = 0
    for event in events:
        if event.get("event") == "end":
            count = 0
        if event.get("event") == "left" and event["at_limit"] and event["gains"] is not None:
            count = 0 if event["gains"] else count + 1
    return count
