"""Running jobs in local worker processes that share nothing but the store.

A worker is ``python -m bench exec --worker``: it reads one job a line and answers with events, one JSON object a line.
A job whose node is being built elsewhere answers ``busy`` and is tried again later, so no core waits for another.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from bench.core import distributed
from bench.core.compute import WHOLE_STEP
from bench.core.errors import Busy, UserError
from bench.core.files import write_text
from bench.core.provenance import get_provenance
from bench.core.record import Record, RunSpec
from bench.core.types import Json
from bench.records.files import read_record, write_record
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.leases import Patience, at_work
from bench.runs.store import Store

if TYPE_CHECKING:
    from bench.runs.context import Work

RETRY_SECONDS = 0.25
"""How long a worker rests when every job left is busy elsewhere; doubled each time, up to `MOST_SECONDS`."""
MOST_SECONDS = 4.0
POLL_SECONDS = 0.2
"""How long the command waits for a result before it looks for Ctrl-C."""
SAVE_EVERY = 25
"""Steps between the resumable states of a real model's training."""


class Pool:
    """Runs jobs in order on the machine's number of processes."""

    outlives: ClassVar[bool] = False

    def __init__(self, config: WorkerConfig, report: Callable[[Json], None]) -> None:
        self.config, self.report = config, report
        self.queue: deque[Job] = deque()
        self.lock = threading.Lock()
        self.ended: SimpleQueue[Result | BaseException] = SimpleQueue()
        """Results in the order in which jobs end, or an error of ours, which ends the pool."""
        self.processes: list[subprocess.Popen[str]] = []
        self.running = 0
        self.patience = Patience()
        self.stopped = False

    def foresee(self, jobs: Sequence[Job]) -> Sequence[str]:
        """Ask for nothing."""
        return ()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Start as many workers as there are jobs for."""
        if distributed.count_launched() > 1:
            raise UserError("Under torchrun there is `python -m bench run` alone: start anything else without it.")
        self.queue.extend(jobs)
        for number in range(min(self.config.machine.workers, len(jobs))):
            threading.Thread(target=self.serve, args=(number,), daemon=True).start()

    def poll(self) -> list[Result]:
        """The next result, if there is one before `POLL_SECONDS` are over."""
        try:
            ended = self.ended.get(timeout=POLL_SECONDS)
        except Empty:
            return []
        if isinstance(ended, BaseException):
            raise ended
        return [ended]

    def cancel(self) -> None:
        """End every worker now."""
        self.stopped = True
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # closing flushes what a dead worker never read
                        pipe.close()

    def serve(self, number: int) -> None:
        """A thread's whole life; an error of ours ends the pool instead of a silent thread."""
        try:
            self.feed(number)
        except BaseException as error:
            self.stopped = True
            self.ended.put(error)

    def feed(self, number: int) -> None:
        """Feed one worker until no job is left; a worker that dies is replaced and its job counts as failed."""
        process: subprocess.Popen[str] | None = None
        waiting = 0
        while not self.stopped:
            job = self.next_job()
            if job is None:
                if self.all_done():
                    break
                time.sleep(RETRY_SECONDS)
                continue
            if process is None or process.poll() is not None:
                process = self.start(number)
            answer = self.ask(process, job)
            if answer["status"] == "died":
                answer = self.record_death(job, number, process.wait())
            with self.lock:
                self.running -= 1
                if answer["status"] == "busy":
                    self.queue.append(job)
                    waiting += 1
                    self.tell_waiting(job, answer)
                else:
                    self.ended.put(Result(job, answer["status"], answer.get("message", "")))
                    waiting = 0
                rounds = waiting // (len(self.queue) + 1)
            if rounds:  # every job in line was busy: rest longer each time, so as not to take the builder's core
                time.sleep(min(MOST_SECONDS, RETRY_SECONDS * 2**rounds))

    def tell_waiting(self, job: Job, answer: Json) -> None:
        """Say who a job waits for, once it has waited for some time: one line a node, ever more seldom."""
        if waited := self.patience.ask(answer["node"]):
            told = {"done": 0, "total": None, "status": "note", "seconds": waited}
            message = f"waited {waited:.0f} s: {answer['message']}."
            self.report({"job": job.name, "stage": answer["stage"], "message": message} | told)

    def next_job(self) -> Job | None:
        """The next job in line, if there is one."""
        with self.lock:
            if not self.queue:
                return None
            self.running += 1
            return self.queue.popleft()

    def all_done(self) -> bool:
        """Whether nothing is left or under way."""
        with self.lock:
            return not self.queue and not self.running

    def start(self, number: int) -> subprocess.Popen[str]:
        """A new worker; it ends itself when its standard input closes, even if this process is killed."""
        machine, logs = self.config.machine, self.config.logs
        logs.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "OMP_NUM_THREADS": str(machine.threads),
            "MKL_NUM_THREADS": str(machine.threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        if ":" in machine.device:  # the worker sees this GPU alone
            environment["CUDA_VISIBLE_DEVICES"] = machine.device.split(":")[1]
        with (logs / f"worker-{number}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", "exec", "--worker", json.dumps(self.config.to_json())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def ask(self, process: subprocess.Popen[str], job: Job) -> Json:
        """Send a job and pass its events on until it ends."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(job.to_json()) + "\n")
            process.stdin.flush()
            tell = with_times(job, self.report)
            for answer in process.stdout:
                event: Json = json.loads(answer)
                if event.get("event") == "end":
                    return event
                tell(event)
        except (BrokenPipeError, ValueError):
            process.kill()
        return {"status": "died"}

    def record_death(self, job: Job, number: int, code: int) -> Json:
        """A dead worker's job has failed, and only this process can still write that down."""
        message = f"the worker process ended with code {code} (killed, or out of memory?); see logs/worker-{number}.log"
        if not job.stage and not self.stopped:
            write_failed(job.spec, message, self.config.machine.out)
        return {"status": "failed", "message": message}


def in_step(jobs: Sequence[Job], config: WorkerConfig, report: Callable[[Json], None]) -> list[Result]:
    """Do jobs in this process, one after another: under torchrun every process is at the same one."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    results: list[Result] = []
    for job in jobs:
        answer = Worker(config, with_times(job, report)).do(job, wait=True)
        results.append(Result(job, answer["status"], answer.get("message", "")))
    return results


def with_times(job: Job, report: Callable[[Json], None]) -> Callable[[Json], None]:
    """``report`` for a worker's events, which say nothing of the job and of the time since the stage began."""
    began: dict[str, float] = {}

    def tell(event: Json) -> None:
        since = began.setdefault(event["stage"], time.monotonic())
        told = {"job": job.name, "done": 0, "total": None, "message": "", "seconds": time.monotonic() - since}
        report(told | event)

    return tell


def serve_jobs(config: WorkerConfig) -> None:
    """Be a worker: read jobs from standard input, answer on standard output, which nothing else may write to."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to the log
    lines: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # the parent has gone, or has nothing more to ask

    threading.Thread(target=listen, daemon=True).start()
    worker = Worker(config, lambda event: print(json.dumps(event), file=answers, flush=True))
    while True:
        job = Job.from_json(json.loads(lines.get()))
        worker.report({"event": "end", **worker.do(job)})


class Worker:
    """Does jobs one after another, over one store."""

    def __init__(self, config: WorkerConfig, report: Callable[[Json], None]) -> None:
        self.machine, self.paths, self.report = config.machine, config.paths, report
        self.store, self.out = Store(self.machine.store, self.tell), self.machine.out

    def do(self, job: Job, wait: bool = False) -> Json:
        """Do one job; returns its status and, of a failure, the whole error."""
        try:
            with at_work(self.store.root):
                return {"status": distributed.call_on_all(lambda: self.run(job, wait))}
        except Busy as busy:
            return {"status": "busy", "node": busy.key, "stage": busy.label, "message": busy.holder}
        except UserError as error:
            message = str(error)
        except distributed.OutOfStep:  # the first process may be out of reach, so that whoever can writes
            self.record_failure(job, traceback.format_exc())
            raise
        except Exception:  # the edge that records a failed run, with the whole error
            message = traceback.format_exc()
        if distributed.is_first():
            self.record_failure(job, message)
        return {"status": "failed", "message": message}

    def tell(self, message: str) -> None:
        """Pass on what the store has to say to the user."""
        self.report({"stage": "store", "status": "note", "message": message})

    def record_failure(self, job: Job, message: str) -> None:
        """Write a run's failed record, without the folders of this machine; a stage has none."""
        if not job.stage:
            places = (str(self.store.root), str(self.out), *self.paths.folders())
            write_failed(job.spec, hide_paths(message, [str(Path(place).absolute()) for place in places]), self.out)

    def run(self, job: Job, wait: bool) -> str:
        """Build the job's stage, or make and write its record."""
        import torch

        from bench.runs.runner import build_stage, execute
        from bench.runs.validate import row_file, validate_setting

        torch.set_num_threads(self.machine.threads)
        spec, work = job.spec, self.work(job.spec, wait)
        if job.stage == "validate":
            row = validate_setting(spec, self.paths, work)
            write_text(row_file(self.out, spec), json.dumps(row, indent=1, allow_nan=False))
            return "done"
        if job.stage:
            build_stage(spec, self.paths, work, job.stage)
            return "done"
        place = self.out / Record(spec, "done").name
        if place.exists():
            read_record(place)  # what is no record stays where it is, and is said before the work instead of after it
        record = execute(spec, self.paths, work, job.estimate)
        if distributed.is_first():
            write_record(record, self.out)
        return record.status

    def work(self, spec: RunSpec, wait: bool) -> Work:
        """A context for the spec's seed."""
        from bench.runs.context import Work

        is_real, machine = spec.tier == "real", self.machine
        return Work(
            self.store,
            spec.seed,
            get_provenance(machine.device) | {"threads": machine.threads} | self.resources(),
            machine.device,
            spec.compute if is_real else WHOLE_STEP,
            machine.checkpointing,
            save_every=SAVE_EVERY if is_real else 0,
            wait=wait,
            report=self.report,
        )

    def resources(self) -> Json:
        """Means that save memory or time and change no number but for rounding, for the provenance."""
        several = {"processes": distributed.world()} if distributed.world() > 1 else {}
        return several | ({"gradient_checkpointing": True} if self.machine.checkpointing else {})


def write_failed(spec: RunSpec, reason: str, out: Path) -> None:
    """A failed run's record; a file in its place that is no record stays, and so does an earlier finished run's."""
    failed = Record(spec, "failed", reason)
    with suppress(UserError):
        place = out / failed.name
        if not place.exists() or read_record(place).status != "done":
            write_record(failed, out)


def hide_paths(text: str, folders: Sequence[str] = ()) -> str:
    """An error without the folders of this machine: the known ones, and of any other absolute path all but its end."""
    for folder in sorted({*folders, *sys.path, str(Path.home()), os.getcwd()}, key=len, reverse=True):
        if len(folder) > 1:
            text = text.replace(folder, "…")
    return re.sub(r"(?<![\w.…/])/(?:[\w.+@~-]+/)+", "…/", text)
