"""The executor ``slurm``: jobs as arrays by submitit, shared stages first, runs when those have ended in whatever way.

SLURM keeps the jobs; this process only looks. It may go away, and the same command later attaches to what is still queued
or running, takes what has ended, and submits the rest.
"""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from bench.core.errors import UserError, say_once
from bench.core.files import write_text
from bench.core.machine import Machine
from bench.core.scrub import hide_names, scrub
from bench.core.types import Json
from bench.runs.cluster import commands, log
from bench.runs.cluster.asking import (
    WARNING,
    Flags,
    as_words,
    asked_seconds,
    describe_asked,
    flags_for,
    split_arrays,
    stages_there,
    with_estimates,
)
from bench.runs.cluster.checks import check_cluster, check_flags
from bench.runs.cluster.commands import Silent, State, held_sentence
from bench.runs.cluster.handing import holding_signals, one_at_a_time
from bench.runs.cluster.node import run_on_node
from bench.runs.cluster.submission import (
    CANCELLED,
    FOLDER,
    LOGS,
    Array,
    Submission,
    Task,
    all_tasks,
    ending,
    explain_damage,
    find_damaged,
    job_key,
    latest_tasks,
    name_arrays,
    read_events,
)
from bench.runs.executor import worker_environment, write_failed
from bench.runs.executors import JobsGoOn
from bench.runs.jobs import Job, Result, WorkerConfig

LOOK_SECONDS, MOST_LOOK_SECONDS = 1.0, 15.0
"""How often a command looks at its jobs: less often, the longer nothing has happened."""
LOST_SECONDS = 10.0
"""How long a job may be missing in SLURM before it is lost: its last words may still be on their way over the network."""
SILENT_EVENT: Json = {"job": "", "stage": "", "message": "", "seconds": 0.0, "done": 0, "total": None}
"""What an event says that says nothing."""


@dataclass
class Watched:
    """A job that is being followed."""

    job: Job
    task: Task
    start: int = 0
    """The byte of its journal that is read next."""
    missed: float | None = None
    """Since when SLURM hasn't known it."""


class Slurm:
    """Hands jobs to SLURM and follows them."""

    outlives: ClassVar[bool] = True

    def __init__(self, config: WorkerConfig, report: Callable[[Json], None]) -> None:
        machine = config.machine
        self.config = replace(
            config, machine=replace(machine, out=machine.out.absolute(), store=machine.store.absolute())
        )
        self.report = report
        self.watched: list[Watched] = []
        self.ready: list[Result] = []
        self.pause, self.silent = LOOK_SECONDS, False

    def foresee(self, jobs: Sequence[Job]) -> Iterator[str]:
        """What each job would ask for, by the plan's estimates."""
        if not jobs:
            return
        there = stages_there(jobs, self.config.machine)
        jobs = with_estimates([job for job in jobs if job not in there], self.config)
        yield from describe_asked(jobs, self.config.machine)
        check_cluster(self.config.machine)
        for part in split_arrays(jobs):
            check_flags(flags_for(part, self.config.machine))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Attach to what SLURM has already, and hand it the rest."""
        if not jobs:
            return
        check_cluster(self.config.machine)
        jobs = with_estimates(jobs, self.config)
        with one_at_a_time(self.config.machine.out, self.say):
            self.attach_or_submit(jobs)

    def attach_or_submit(self, jobs: Sequence[Job]) -> None:
        """The same, while nobody else does."""
        machine = self.config.machine
        for folder in find_damaged(machine.out):
            self.say(explain_damage(folder, machine.out))
        tasks = all_tasks(machine.out, jobs)
        known = latest_tasks(tasks)
        try:
            states = commands.find_states(sorted({task.array.name for task in tasks}))
            live = {job_key(task.job): task for task in end_stuck(tasks, states)}
        except Silent as silence:
            raise UserError(
                f"--executor slurm: SLURM doesn't say which jobs it has ({silence}), so that nothing was handed over; try "
                "again later."
            ) from None
        new = [job for job in jobs if job_key(job) not in live]
        runs = [job for job in new if not job.is_shared]
        built = stages_there(new, machine) if runs else []
        stages = [
            job for job in new if job.is_shared and runs and job not in built and not is_done(known.get(job_key(job)))
        ]
        for job in jobs:
            task = live.get(job_key(job))
            if task is not None:
                self.watched.append(Watched(job, task, task.journal.stat().st_size if task.journal.exists() else 0))
            elif job.is_shared and job not in stages:
                self.ready.append(Result(job, "done"))
        for part in (stages, runs):
            if part:
                check_flags(flags_for(part, machine))
        there = [states[task.id].slurm.partition("_")[0] for task in live.values() if task.job.is_shared]
        kept = [name_flags(task) for task in live.values() if differs(task, machine)]
        try:
            with holding_signals():
                numbers = self.hand_over(stages, runs, there) if stages or runs else []
        except KeyboardInterrupt:
            raise JobsGoOn from None
        self.say(describe_submission(len(stages), len(runs), numbers, len(live)))
        if kept:
            self.say(
                f"{len(kept)} of them keep what they were handed over with, such as {kept[0]}: cancel them to change it"
            )

    def hand_over(self, stages: Sequence[Job], runs: Sequence[Job], before: Sequence[str]) -> list[str]:
        """Submit what is new, the runs to begin after the stages and after the arrays ``before``; SLURM's numbers."""
        machine, name = self.config.machine, uuid.uuid4().hex[:8]
        arrays = tuple(
            Array(array, tuple(jobs), flags_for(jobs, machine))
            for array, jobs in zip(name_arrays(name), (stages, runs), strict=True)
            if jobs
        )
        folder = machine.out / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        shortest = min(asked_seconds(str(array.flags.get("time", ""))) for array in arrays)
        warning = int(min(Flags.of(machine.slurm).warning, shortest / 2))
        submission = Submission(folder, self.config, arrays, warning)
        submission.write()
        numbers: list[str] = []
        for array in submission.arrays:
            first = [*before, *numbers] if not array.jobs[0].is_shared else []
            numbers.append(submit_array(submission, array, first))
            write_text(Task(submission, array, 0).mark, numbers[-1])
        self.watched += [Watched(task.job, task) for task in submission.tasks()]
        return numbers

    def poll(self) -> list[Result]:
        """What has ended since it was last asked; rests, the longer the less happens."""
        if self.ready:
            ready, self.ready = self.ready, []
            return ready
        try:
            states = commands.find_states(sorted({each.task.array.name for each in self.watched}))
        except Silent as silence:
            if not self.silent:
                self.say(
                    f"SLURM's controller does not answer ({silence}); its jobs go on, and this command goes on looking"
                )
            self.silent = True
            time.sleep(MOST_LOOK_SECONDS / 3)
            return []
        if self.silent:
            self.say("SLURM's controller answers again")
            self.silent = False
        heard, results = False, []
        for each in list(self.watched):
            news = self.hear(each)
            heard = heard or news
            state = states.get(each.task.id)
            if state is not None and state.is_held:
                say_once(f"{each.task.job.name}: {held_sentence(state)}")
            result = self.result_of(each, state)
            if result is not None:
                self.watched.remove(each)
                results.append(result)
        self.pause = LOOK_SECONDS if heard or results else min(MOST_LOOK_SECONDS, 1.3 * self.pause)
        if not results:
            time.sleep(self.pause)
        return results

    def hear(self, each: Watched) -> bool:
        """Pass a job's news on; whether there was any."""
        events, each.start = read_events(each.task.journal, each.start)
        for event in events:
            if "status" in event and "event" not in event:
                self.report({**SILENT_EVENT, **event})
        return bool(events)

    def result_of(self, each: Watched, state: State | None) -> Result | None:
        """How a job ended; None while it hasn't."""
        end = ending(each.task.events())
        if state is not None and state.is_live and not (end and state.word == "COMPLETING"):
            each.missed = None
            return None
        if end is not None:
            return Result(each.job, end["status"], end.get("message", ""))
        each.missed = each.missed or time.monotonic()
        if time.monotonic() - each.missed < LOST_SECONDS:
            return None
        message = explain_loss(each.task, state)
        said = scrub(hide_names(message, node_names(each.task, state)), self.config.folders())
        if not each.job.stage:
            write_failed(each.job.spec, said, self.config.machine, self.config.folders())
        with suppress(OSError):  # its journal may be damaged
            each.task.say({"event": "end", "status": "failed", "message": said})
        return Result(each.job, "failed", message)

    def cancel(self) -> None:
        """End whatever is queued or running."""
        commands.cancel(sorted({each.task.array.name for each in self.watched}))

    def say(self, text: str) -> None:
        """Show a remark."""
        self.report({**SILENT_EVENT, "job": "slurm", "status": "note", "message": text})


def is_live(task: Task, states: Mapping[tuple[str, int], State]) -> bool:
    """Whether SLURM has a job, waiting or under way."""
    state = states.get(task.id)
    return state is not None and state.is_live and not (state.word == "COMPLETING" and ending(task.events()))


def end_stuck(tasks: Sequence[Task], states: Mapping[tuple[str, int], State]) -> list[Task]:
    """The live ones of some jobs; those that can't begin, as their command ended while it handed them over, are cancelled."""
    live = [task for task in tasks if is_live(task, states)]
    stuck = [task for task in live if not task.number]
    commands.cancel_jobs([states[task.id].slurm for task in stuck])
    return [task for task in live if task not in stuck]


def differs(task: Task, machine: Machine) -> bool:
    """Whether a job was handed over with other flags of the user's, or for another machine, than it would be now."""
    given, was = Flags.of(machine.slurm).values(), task.submission.config.machine
    return (machine.device, machine.world) != (was.device, was.world) or any(
        task.array.flags.get(key) != value for key, value in given.items()
    )


def name_flags(task: Task) -> str:
    """What a job asks for."""
    return " ".join(as_words(task.array.flags))


def node_names(task: Task, state: State | None) -> set[str]:
    """Names of the cluster's nodes, and of those that a job was on."""
    begun = {event.get("node", "") for event in task.events() if event.get("event") == "begin"}
    return {*begun, state.node if state else "", *commands.find_node_names()} - {""}


def is_done(task: Task | None) -> bool:
    """Whether a job was done when it was last submitted."""
    return task is not None and (ending(task.events()) or {}).get("status") == "done"


def describe_submission(stages: int, runs: int, numbers: Sequence[str], live: int) -> str:
    """What was handed over and what was there, for people."""
    new = (
        f"handed over {stages} stages and {runs} runs (SLURM's {', '.join(numbers)})"
        if numbers
        else "nothing new to hand over"
    )
    return new + (f"; {live} jobs were there already" if live else "")


def submit_array(submission: Submission, array: Array, after: Sequence[str]) -> str:
    """Submit jobs by submitit, to begin when the jobs ``after`` have ended in whatever way; SLURM's number for them."""
    import submitit
    from submitit.core.utils import FailedSubmissionError

    machine = submission.config.machine
    further = {"job-name": array.name, "requeue": True, "signal": f"{WARNING}@{submission.warning}", **array.flags}
    if after:
        further["dependency"] = f"afterany:{':'.join(after)}"
    hidden = shlex.join([sys.executable, "-m", log.__name__, str(submission.folder)])
    executor = submitit.SlurmExecutor(submission.folder / LOGS, python=hidden)
    executor.update_parameters(
        additional_parameters={key.replace("-", "_"): value for key, value in further.items()},  # as submitit has them
        array_parallelism=machine.jobs or len(array.jobs),
        setup=[f"export {name}={shlex.quote(value)}" for name, value in worker_environment(machine.threads).items()],
        srun_args=[f"--cpus-per-task={array.flags['cpus-per-task']}"] if "cpus-per-task" in array.flags else [],
    )
    try:
        with executor.batch():
            handed: list[Any] = [
                executor.submit(run_on_node, str(submission.folder), array.name, index)
                for index in range(len(array.jobs))
            ]
    except FailedSubmissionError as error:
        raise UserError(
            f"SLURM did not take the jobs ({commands.read_refusal(str(error))}): mend that, and run the same command again; "
            "what was handed over before goes on."
        ) from None
    return str(handed[0].job_id).partition("_")[0]


WHY = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "it met its time limit before it could stop: give more with --slurm time=MINUTES",
    "OUT_OF_MEMORY": "it used more memory than it asked for: give more with --slurm mem=...",
    "NODE_FAIL": "its node failed",
}


def explain_loss(task: Task, state: State | None) -> str:
    """Why a job has gone without a word, as far as SLURM knows."""
    if state is None:
        state = commands.find_ended([task.array.name]).get(task.id)
    why = explain_end(task, state)
    number = state.slurm if state else task.number or task.array.name
    found, logs = task.log(), f"{FOLDER}/{task.submission.folder.name}/{LOGS}"
    where = f"see {logs}/{found.name}" if found else f"it left no log in {logs}: see `scontrol show job {number}`"
    said = task.last_line()
    return f"{why} (SLURM's job {number}); the same command submits it again; {where}" + (f": {said}" if said else "")


def explain_end(task: Task, state: State | None) -> str:
    """The same in a few words."""
    word = state.word.partition(" ")[0] if state else ""
    course = [event["event"] for event in task.events() if event.get("event") in ("begin", CANCELLED)]
    if not word and course[-1:] == [CANCELLED]:
        word = "CANCELLED"
    if not word or word in WHY:
        return WHY.get(word, "SLURM no longer knows it")
    begun = "begin" in course
    return f"it ended as {word}" + ("" if begun else " before its work began")
