"""What is asked of SLURM for each job: time, memory and GPUs by the plan's own estimates, and the user's flags over them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.errors import UserError
from bench.core.machine import Machine, format_duration
from bench.core.profile import read_profile
from bench.runs.jobs import Job

TIME_FACTOR, LEAST_MINUTES, UNKNOWN_MINUTES = 3, 15, 60
"""The time limit is so many times the estimate, and no less than the second; the third is of a job without an estimate."""
MEMORY_FACTOR, LEAST_MEMORY = 1.5, 4e9
"""The same of memory, in bytes."""
HOST_COPIES = 2
"""On GPUs: copies of what one holds that the job's own memory has room for, while a checkpoint is read or written."""
WARNING_SECONDS = 120
"""How long before its time limit a job is told to stop, unless ``signal`` says otherwise."""
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


@dataclass(frozen=True)
class Flags:
    """Flags of sbatch for all jobs of a command, by their long names, without the dashes."""

    given: Mapping[str, str]
    warning: int = WARNING_SECONDS

    @classmethod
    def of(cls, texts: Iterable[str]) -> Flags:
        """The flags of the user's profile, and over them those of the command line (``key=value``)."""
        given = read_profile("slurm") | dict(map(split_flag, texts))
        given = {key.lstrip("-").replace("_", "-"): value for key, value in given.items()}
        for key in OURS:
            if key in given:
                raise UserError(f"--slurm {key}={given[key]}: the harness sets {key} itself; leave it out.")
        return cls(
            {key: value for key, value in given.items() if key != "signal"}, read_warning(given.get("signal", ""))
        )

    def values(self) -> dict[str, str | bool]:
        """As submitit takes them: a flag without a value is ``true``."""
        return {key: True if value == "true" else value for key, value in self.given.items()}


def split_flag(text: str) -> tuple[str, str]:
    """Key and value of ``--slurm``."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip("- ")):
        raise UserError(f"--slurm {text}: write key=value, a long flag of sbatch, such as --slurm partition=gpu.")
    return key.strip(), value.strip()


def read_warning(text: str) -> int:
    """Seconds of ``signal``: a number, or sbatch's own form with the one signal that jobs listen to."""
    found = re.fullmatch(rf"(?:(?:SIG)?{WARNING}@)?(\d+)", text)
    if text and not found:
        raise UserError(
            f"--slurm signal={text}: write the seconds of warning before the time limit, such as signal=300."
        )
    return int(found[1]) if found else WARNING_SECONDS


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
    """A time limit as sbatch reads it (``90``: minutes, ``1:30:00``, ``1-12``) in seconds; infinite where it is none."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in (*parts, days or "0")):
        return float("inf")
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86_400 * int(days or 0) + sum(int(part) * unit for part, unit in zip(parts, units, strict=False))


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
