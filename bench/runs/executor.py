"""Running jobs in local worker processes that share nothing but the store.

A worker is ``python -m bench exec --worker``: it reads one job a line and answers with events, one JSON object a line.
A job whose node is being built elsewhere answers ``busy`` and is tried again later, so no core waits for another.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from bisect import insort
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, ClassVar

from bench.core import distributed, registry
from bench.core.compute import WHOLE_STEP
from bench.core.errors import Busy, UserError
from bench.core.imports import same_modules
from bench.core.machine import Machine
from bench.core.provenance import get_provenance, say_when
from bench.core.record import Record, RunSpec
from bench.core.scrub import hide_secrets, scrub
from bench.core.trouble import KEPT, MEMORY, NEED_LESS, explain_trouble, lacks_memory
from bench.core.types import Json
from bench.records.files import read_record, write_record
from bench.runs.folder import StoreFolder
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.leases import Patience, at_work, release_dead, start_heart
from bench.runs.plan import with_versions
from bench.runs.store import Store

if TYPE_CHECKING:
    from bench.runs.context import Work

RETRY_SECONDS = 0.25
"""How long a job rests that is busy elsewhere; doubled each time, up to `MOST_SECONDS`."""
MOST_SECONDS = 4.0
POLL_SECONDS = 0.2
"""How long the command waits for a result before it looks for Ctrl-C."""
SAVE_EVERY = 25
"""Steps between the resumable states of a real model's training."""


@dataclass
class Place:
    """A job's place in the line of a pool."""

    number: int
    job: Job
    tries: int = 0
    """How often it was found to be busy elsewhere."""
    until: float = 0.0
    """By the monotonic clock, when it is tried again."""

    def rest(self) -> None:
        """Rest longer each time, so as not to take the builder's core."""
        self.until = time.monotonic() + min(MOST_SECONDS, RETRY_SECONDS * 2**self.tries)
        self.tries += 1


class Pool:
    """Runs jobs on the machine's number of processes, always the first in order that nobody is seen to be busy with."""

    outlives: ClassVar[bool] = False

    def __init__(self, config: WorkerConfig, report: Callable[[Json], None]) -> None:
        self.config, self.report = config, report
        self.line: list[Place] = []
        self.lock = threading.Lock()
        self.ended: SimpleQueue[Result | BaseException] = SimpleQueue()
        """Results in the order in which jobs end, or an error of ours, which ends the pool."""
        self.processes: list[subprocess.Popen[str]] = []
        self.keepers: list[threading.Thread] = []
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
        self.line = [Place(number, job) for number, job in enumerate(jobs)]
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
        """End every worker now, and give back what it held."""
        self.stopped = True
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # closing flushes what a dead worker never read
                        pipe.close()
        for keeper in self.keepers:
            keeper.join(1.0)
        with suppress(OSError, UserError):  # the next command to build there does it as well
            release_dead(StoreFolder(self.config.machine.store), {process.pid for process in self.processes})

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
        while not self.stopped:
            place = self.next_place()
            if place is None:
                if self.all_done():
                    break
                time.sleep(RETRY_SECONDS)
                continue
            job = place.job
            try:
                if process is None or process.poll() is not None:
                    process = self.start(number)
            except OSError as error:  # no process or no memory for one: this job fails, the next one may not
                answer = self.record_failure(job, explain_trouble(error, self.config.machine.places()))
            else:
                answer = self.ask(process, job)
                if answer["status"] == "died":
                    answer = self.record_failure(job, describe_death(process.wait(), number))
            with self.lock:
                self.running -= 1
                if answer["status"] == "busy":
                    place.rest()
                    insort(self.line, place, key=lambda each: each.number)
                    self.tell_waiting(job, answer)
                else:
                    self.ended.put(Result(job, answer["status"], answer.get("message", "")))

    def tell_waiting(self, job: Job, answer: Json) -> None:
        """Say who a job waits for, once it has waited for some time: one line a node, ever more seldom."""
        if waited := self.patience.ask(answer["node"]):
            told = {"done": 0, "total": None, "status": "note", "seconds": waited}
            message = f"waited {waited:.0f} s: {answer['message']}."
            self.report({"job": job.name, "stage": answer["stage"], "message": message} | told)

    def next_place(self) -> Place | None:
        """The first in line that isn't resting, if there is one."""
        with self.lock:
            now = time.monotonic()
            k = next((k for k, place in enumerate(self.line) if place.until <= now), None)
            if k is None:
                return None
            self.running += 1
            return self.line.pop(k)

    def all_done(self) -> bool:
        """Whether nothing is left or under way."""
        with self.lock:
            return not self.line and not self.running

    def start(self, number: int) -> subprocess.Popen[str]:
        """A new worker; it ends itself when its standard input closes, even if this process is killed."""
        machine = self.config.machine
        environment = os.environ | worker_environment(machine.threads)
        if ":" in machine.device:  # the worker sees this GPU alone
            environment["CUDA_VISIBLE_DEVICES"] = machine.device.split(":")[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", "exec", "--worker", json.dumps(self.config.to_json())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        self.processes.append(process)
        assert process.stderr is not None
        log = self.config.logs / f"worker-{number}.log"
        keeper = threading.Thread(target=keep_log, args=(process.stderr, log, self.config.folders()), daemon=True)
        keeper.start()
        self.keepers.append(keeper)
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

    def record_failure(self, job: Job, message: str) -> Json:
        """The end of a job that no worker could write down, and its record."""
        if not job.stage and not self.stopped:
            message = write_failed(job.spec, message, self.config.machine)
        return {"status": "failed", "message": message}


def worker_environment(threads: int) -> dict[str, str]:
    """Variables that a process which does jobs starts with, on this machine and on a cluster's nodes."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    } | same_modules()


def describe_death(code: int, number: int) -> str:
    """A sentence about a worker process that ended by itself, with the remedy."""
    cause = (
        "killed by the system or by somebody; the system does so when memory has run out"
        if code == -9
        else "it broke off"
    )
    remedy = f"{NEED_LESS}, or " if code in (-9, -6, -11, -7) else ""
    return f"the worker process ended with code {code} ({cause}): {remedy}see logs/worker-{number}.log"


def keep_log(lines: IO[str], file: Path, folders: Sequence[str]) -> None:
    """Append what a worker says to its log, without secrets and this machine's folders, until it ends.

    Where the log can't be written its lines are lost and nothing else.
    """
    log: IO[str] | None = None
    with lines:
        for line in lines:
            with suppress(OSError):
                if log is None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    log = file.open("a", encoding="utf-8", errors="replace")
                log.write(scrub(line, folders))
                log.flush()
    if log is not None:
        with suppress(OSError):
            log.close()


def in_step(
    jobs: Sequence[Job],
    config: WorkerConfig,
    report: Callable[[Json], None],
    ended: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Do jobs in this process, one after another: under torchrun every process is at the same one."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    results: list[Result] = []
    for job in jobs:
        answer = Worker(config, with_times(job, report)).do(job, wait=True)
        results.append(Result(job, answer["status"], answer.get("message", "")))
        ended(results[-1])
    return results


def with_times(job: Job, report: Callable[[Json], None]) -> Callable[[Json], None]:
    """``report`` for a worker's events, which say nothing of the job and of the time since the stage began."""
    began: dict[str, float] = {}

    def tell(event: Json) -> None:
        if event["status"] == "row":
            report({"job": job.name, "of": list(job.identity), **event})
            return
        since = began.setdefault(event["stage"], time.monotonic())
        told = {"job": job.name, "done": 0, "total": None, "message": "", "seconds": time.monotonic() - since}
        report(told | event)

    return tell


def serve_jobs(config: WorkerConfig) -> None:
    """Be a worker: read jobs from standard input, answer on standard output, which nothing else may write to."""
    start_heart()  # before torch takes its share of the memory
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
        gc.collect()
        gc.freeze()  # each training makes a collection, which needn't look at what earlier jobs loaded


class Worker:
    """Does jobs one after another, over one store."""

    def __init__(self, config: WorkerConfig, report: Callable[[Json], None]) -> None:
        self.machine, self.paths, self.report, self.plugins = config.machine, config.paths, report, config.plugins
        self.store, self.out, self.folders = Store(self.machine.store, self.tell), self.machine.out, config.folders()

    def do(self, job: Job, wait: bool = False) -> Json:
        """Do one job; returns its status and, of a failure, the whole error.

        What the machine refuses (a full disk, no memory) is a sentence; its traceback goes to the log alone.
        """
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
        except Exception as error:  # the edge that records a failed run, with the whole error
            whole = traceback.format_exc()
            message = explain_trouble(error, self.machine.places())
            if message or job.stage:  # no record will hold it
                with suppress(OSError):
                    print(whole, file=sys.stderr, flush=True)
            message = message or (f"{whole.rstrip()} ({MEMORY})" if lacks_memory() else whole)
        if distributed.is_first():
            message = self.record_failure(job, message)
        return {"status": "failed", "message": message}

    def tell(self, message: str) -> None:
        """Pass on what the store has to say to the user."""
        self.report({"stage": "store", "status": "note", "message": message})

    def record_failure(self, job: Job, message: str) -> str:
        """Write a run's failed record, without secrets and the folders of this machine; a stage has none.

        Returns the message, with what kept the record from being written.
        """
        if job.stage:
            return hide_secrets(message)
        return write_failed(job.spec, message, self.machine, self.folders)

    def run(self, job: Job, wait: bool) -> str:
        """Build the job's stage, or make and write its record."""
        from bench.runs.runner import build_stage, execute
        from bench.runs.validate import validate_setting, write_row

        if torch := sys.modules.get("torch"):
            torch.set_num_threads(self.machine.threads)
        else:  # it may not be needed, and takes seconds to load; then it reads this
            os.environ["OMP_NUM_THREADS"] = str(self.machine.threads)
        for file in self.plugins:
            registry.use_file(Path(file))
        check_code(job.spec)
        spec, work = job.spec, self.work(job.spec, wait)
        if job.stage == "validate":
            row = validate_setting(spec, self.paths, work)
            write_row(self.out, spec, row, self.tell)
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
            trace=self.machine.trace,
            wait=wait,
            report=self.report,
            live=self.machine.is_watched,
        )

    def resources(self) -> Json:
        """Means that save memory or time and change no number but for rounding, for the provenance."""
        several = {"processes": distributed.world()} if distributed.world() > 1 else {}
        return several | ({"gradient_checkpointing": True} if self.machine.checkpointing else {})


def check_code(spec: RunSpec) -> None:
    """`UserError` where this process has loaded other code of a plug-in than that which the run was asked for with."""
    asked = {name: code for name, code in spec.hashes.items() if name.startswith(registry.CODE)}
    if not asked:
        return
    now = with_versions(spec).hashes
    if changed := [name.removeprefix(registry.CODE) for name, code in asked.items() if now.get(name) != code]:
        raise UserError(f"The code of {changed[0]} has changed since this was asked for: run the same command again.")


def write_failed(spec: RunSpec, reason: str, machine: Machine, folders: Sequence[str] = ()) -> str:
    """A failed run's record; a file in its place that is no record stays, and so does an earlier finished run's.

    Returns the reason for the terminal; where the record can't be written either, it says so.
    """
    told = scrub(reason, folders)
    failed, said = Record(spec, "failed", told, provenance={"finished": say_when()}), hide_secrets(reason)
    try:
        place = machine.out / failed.name
        if not place.exists() or read_record(place).status != "done":
            write_record(failed, machine.out)
    except UserError:
        pass
    except OSError as error:
        why = hide_secrets(explain_trouble(error, machine.places()))
        return said if KEPT in said else f"{said.rstrip()} (and its record can't be written: {why})"
    return said
