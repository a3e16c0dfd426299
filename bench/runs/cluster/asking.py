"""What is asked of SLURM for each job: time, memory and GPUs by the plan's own estimates, and the user's flags over them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from bench.core.errors import UserError
from bench.core.machine import Machine, format_duration
from bench.core.profile import profile_file, read_profile
from bench.core.record import Record, RunSpec
from bench.core.types import Json
from bench.records.files import read_record
from bench.runs.cluster.submission import job_key
from bench.runs.estimate import Estimate, estimate, model_shape, round_seconds
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import build_setting, task_of_spec
from bench.runs.store import Store

TIME_FACTOR, LEAST_MINUTES, UNKNOWN_MINUTES = 3, 15, 60
"""The time limit is so many times the estimate, and no less than the second; the third is of a job without an estimate."""
MEMORY_FACTOR, LEAST_MEMORY = 1.5, 4e9
"""The same of memory, in bytes."""
HOST_COPIES = 2
"""On GPUs: copies of what one holds that the job's own memory has room for, while a checkpoint is read or written."""
WARNING_SECONDS = 120
"""How long before its time limit a job is told to stop, unless ``signal`` says otherwise."""
MOST_WARNING = 65_535
"""The longest warning that sbatch takes."""
WARNING = "USR2"
"""The signal for that. USR2 is submitit's own, as NCCL may catch USR1; it goes to the job's step, where Python runs."""
OURS = (
    "array",
    "chdir",
    "dependency",
    "error",
    "input",
    "job-name",
    "nodes",
    "ntasks",
    "ntasks-per-node",
    "open-mode",
    "output",
)
"""Flags that the harness sets itself."""
HINDERING = (
    "help",
    "no-requeue",
    "parsable",
    "requeue",
    "test-only",
    "uid",
    "usage",
    "version",
    "wait",
    "wrap",
)
"""Flags with which sbatch submits nothing, or another thing, or a job that can't go on after it was stopped."""
TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", re.ASCII)
"""A time limit as sbatch takes it."""
ENDLESS = ("infinite", "unlimited")


@dataclass(frozen=True)
class Flags:
    """Flags of sbatch for all jobs of a command, by their long names, without the dashes."""

    given: Mapping[str, str]
    warning: int = WARNING_SECONDS

    @classmethod
    def of(cls, texts: Iterable[str]) -> Flags:
        """The flags of the user's profile, and over them those of the command line (``key=value``)."""
        profile = read_profile("slurm")
        given = check_flags_of(profile, f"{profile_file()}, [slurm] ") if profile else {}
        given |= check_flags_of(dict(map(split_flag, texts)), "--slurm ")
        return cls(
            {key: value for key, value in given.items() if key != "signal" and value != "false"},
            int(given.get("signal", WARNING_SECONDS)),
        )

    def values(self) -> dict[str, str | bool]:
        """As submitit takes them: a flag without a value is ``true``."""
        return {key: True if value == "true" else value for key, value in self.given.items()}


def check_flags_of(flags: Mapping[str, str], where: str) -> dict[str, str]:
    """Flags by sbatch's own names; `UserError` for one that can't be, with the place ``where`` it stands."""
    found = {}
    for said, value in flags.items():
        key = said.strip("- ").replace("_", "-")
        this = f"{where}{said}={value}"
        if not re.fullmatch(r"[a-z][a-z0-9-]+", key):
            raise UserError(f"{this}: '{said}' is no long flag of sbatch; write such as partition or mem-per-cpu.")
        if not value.strip():
            raise UserError(
                f"{this}: it says nothing; write a value, or leave it out (true is a flag without a value)."
            )
        if "\n" in value:
            raise UserError(f"{where}{said}: its value has more than one line; write one.")
        if key in OURS:
            raise UserError(f"{this}: the harness sets {key} itself; leave it out.")
        if key in HINDERING:
            raise UserError(f"{this}: with it no job would be submitted that can be stopped and go on; leave it out.")
        if key == "signal":
            value = str(read_warning(value, where))
        if key == "time":
            asked_seconds(value, where)
        found[key] = value
    return found


def split_flag(text: str) -> tuple[str, str]:
    """Key and value of ``--slurm``."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip("- ")):
        raise UserError(
            f"--slurm {text}: write key=value, a long flag of sbatch, such as --slurm partition=gpu, and for one without a "
            "value --slurm exclusive=true."
        )
    return key.strip(), value.strip()


def read_warning(text: str, where: str) -> int:
    """Seconds of ``signal``: a number, or sbatch's own form with the one signal that jobs listen to."""
    found = re.fullmatch(rf"(?:(?:SIG)?{WARNING}@)?(\d{{1,5}})", text)
    if not found or not 1 <= int(found[1]) <= MOST_WARNING:
        raise UserError(
            f"{where}signal={text}: write the seconds of warning before the time limit, 1 to {MOST_WARNING}, such as signal=300."
        )
    return int(found[1])


@dataclass(frozen=True)
class Ask:
    """What one job is given."""

    minutes: int
    memory: int
    """Bytes of the node's memory."""
    cpus: int
    gpus: int

    def flags(self) -> dict[str, str | bool]:
        """The same as flags of sbatch."""
        found: dict[str, str | bool] = {"time": str(self.minutes), "mem": f"{math.ceil(self.memory / 2**20)}M"}
        found |= {"cpus-per-task": str(self.cpus)}
        return found | ({"gpus-per-node": str(self.gpus)} if self.gpus else {})


def ask_for(jobs: Sequence[Job], machine: Machine) -> Ask:
    """What each of some jobs is given: as much as the one that needs most, since an array has one limit."""
    seconds = [job.estimate.get("seconds") for job in jobs]
    minutes = [
        UNKNOWN_MINUTES if one is None else max(LEAST_MINUTES, math.ceil(TIME_FACTOR * one / 60)) for one in seconds
    ]
    held = max((job.estimate.get("memory", 0) for job in jobs), default=0) * machine.world
    held *= HOST_COPIES if machine.device != "cpu" else 1
    return Ask(
        max(minutes),
        int(max(LEAST_MEMORY, MEMORY_FACTOR * held)),
        machine.threads * machine.world,
        0 if machine.device == "cpu" else machine.world,
    )


def limit_seconds(text: str) -> float:
    """A time limit as SLURM says it (``90``: minutes, ``1:30:00``, ``1-12``) in seconds; infinite where it is none."""
    if not TIME.fullmatch(text):
        return float("inf")
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86_400 * int(days or 0) + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))


def asked_seconds(text: str, where: str = "--slurm ") -> float:
    """A time limit as somebody asks for it, in seconds; 0 is none, as sbatch has it, and what is no time a `UserError`."""
    if text.lower() not in ENDLESS and not TIME.fullmatch(text):
        raise UserError(
            f"{where}time={text}: write minutes (90), hours, minutes and seconds (1:30:00), days and hours (1-12), or unlimited."
        )
    return limit_seconds(text) or float("inf")


INSTEAD = {
    "mem": ("mem-per-cpu", "mem-per-gpu"),
    "gpus-per-node": ("gpus", "gpus-per-task", "gres"),
    "cpus-per-task": ("cpus-per-gpu",),
}
"""Flag -> others that say the same in other words, with which sbatch doesn't take it."""


def flags_for(jobs: Sequence[Job], machine: Machine) -> dict[str, str | bool]:
    """Flags of sbatch for some jobs; the user's win."""
    given = Flags.of(machine.slurm).values()
    asked = ask_for(jobs, machine).flags()
    return {key: value for key, value in asked.items() if not given.keys() & {*INSTEAD.get(key, ())}} | given


def with_estimates(jobs: Sequence[Job], config: WorkerConfig) -> list[Job]:
    """The jobs, with time and memory where nobody has said what they are expected to take."""
    places: dict[str, list[RunSpec]] = {}
    for job in jobs:
        if not job.estimate:
            places.setdefault(place_of(job.spec), []).append(job.spec)
    store = Store(config.machine.store)
    takes = {place: estimate_specs(specs, config, store) for place, specs in places.items()}
    return [
        job if job.estimate else replace(job, estimate=estimate_job(job, takes[place_of(job.spec)])) for job in jobs
    ]


def place_of(spec: RunSpec) -> str:
    """What the stages of a run depend on, but for its seed."""
    return json.dumps([spec.task, dict(spec.task_params), spec.tier, spec.model], sort_keys=True)


def estimate_specs(specs: Sequence[RunSpec], config: WorkerConfig, store: Store) -> Estimate:
    """What runs of one place take."""
    spec, paths = specs[0], config.paths
    outline = task_of_spec(spec).outline(build_setting(spec, paths))
    shape = None
    if spec.tier != "lab":
        shape, parameters = model_shape(paths.model, spec.model)
        outline = replace(outline, parameters=parameters)
    given = [*(["target"] if paths.target else []), *(f"oracle-{i}" for i in range(len(paths.oracles)))]
    return estimate(specs, outline, spec.compute, config.machine, store, given, shape)


def estimate_job(job: Job, takes: Estimate) -> Json:
    """What a job takes: of a stage with the history, which whichever comes first has to train."""
    seconds = (
        takes.stages.get(job.stage, 0.0) + takes.stages.get("history", 0.0)
        if job.is_shared
        else takes.runs[job.spec.key]
    )
    return {"seconds": round_seconds(seconds), "memory": takes.memory}


def stages_there(jobs: Sequence[Job], machine: Machine) -> list[Job]:
    """The stages whose checkpoint the store has, as far as finished records of their scenario say which one that is.

    A job for it would wait in the queue to do nothing. Where this is wrong a run builds the stage itself.
    """
    shared = {job_key(job): job for job in jobs if job.is_shared}
    if not shared:
        return []
    given = {hash for entry in Store(machine.store).index() for hash in entry["gives"]}
    folders = {(machine.out / Record(job.spec, "done").name).parent for job in shared.values()}
    there: dict[str, Job] = {}
    for file in (file for folder in folders for file in folder.glob("[!.]*.json")):
        with suppress(UserError, OSError):
            record = read_record(file)
            oracles = enumerate(record.lineage.get("oracles", []))
            made = {"target": record.lineage.get("target"), **{f"oracle-{i}": oracle for i, oracle in oracles}}
            for stage in (stage for stage, hash in made.items() if hash in given):
                job = shared.get(job_key(Job(record.spec, stage)))
                if job is not None and engines_of(job.spec) == engines_of(record.spec):
                    there[job_key(job)] = job
    return list(there.values())


def engines_of(spec: RunSpec) -> list[int | None]:
    """The versions that a run's stages depend on."""
    return [spec.versions.get(name) for name in ("training", spec.task)]


def split_arrays(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs that are submitted together: the shared stages, and everything else."""
    parts = [[job for job in jobs if job.is_shared], [job for job in jobs if not job.is_shared]]
    return [part for part in parts if part]


def describe_asked(jobs: Sequence[Job], machine: Machine) -> Iterator[str]:
    """A line for each array: what every job of it asks for, and by which estimate."""
    for part in split_arrays(jobs):
        flags = flags_for(part, machine)
        what = "stages" if part[0].is_shared else "runs"
        longest = max(part, key=lambda job: job.estimate.get("seconds", 0.0))
        expected = format_duration(longest.estimate.get("seconds", 0.0))
        words = " ".join(as_words(flags))
        yield f"{what}, an array of {len(part)}: each asks {words} ({longest.name} is expected to take {expected})"
    yield (
        f"asked of SLURM: {TIME_FACTOR} times the longest estimate and at least {LEAST_MINUTES} min, {MEMORY_FACTOR} times the "
        f"memory and at least {LEAST_MEMORY / 1e9:.0f} GB; --slurm key=value sets anything else"
    )


def as_words(flags: Mapping[str, str | bool]) -> list[str]:
    """Flags as words of a command line."""
    return [f"--{key}" if value is True else f"--{key}={value}" for key, value in flags.items()]
