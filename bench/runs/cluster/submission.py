"""What a command has handed to a cluster, as files under ``OUT/cluster``: its jobs, and what each of them says.

A submission is a folder with ``submission.json`` (arrays of jobs, written before anything is submitted) and a journal a job
(``ARRAY-INDEX.jsonl``, one event a line, written where the job runs). ``ARRAY.number`` says that an array was handed over
whole, and holds SLURM's number for it. SLURM knows an array by its name, so that whoever
reads the files later can ask for it, whatever became of the process that submitted it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from typing_extensions import TypedDict

from bench.core.files import read_end, read_small, write_text
from bench.core.hashing import hash_json
from bench.core.schema import STRICT, Key, Whole, read_as
from bench.core.scrub import hide_secrets
from bench.core.types import Json
from bench.runs.cluster.commands import last_line
from bench.runs.folder import is_file
from bench.runs.jobs import Job, WorkerConfig

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file raises."""

FOLDER, FILE, MOST_BYTES = "cluster", "submission.json", 500_000_000
MOST_JOURNAL, MOST_LOG = 250_000_000, 100_000
"""Bytes of a journal, and of a log's end, that are read."""
MOST = 1e15
"""Beyond it a number is no time and no amount."""
LOGS = "logs"
ARRAYS = ("stages", "runs")
"""The arrays of a submission."""
CANCELLED = "cancelled"
"""The event of a job that `bench status --cancel` ended, as SLURM soon forgets it."""
ENDS = ("done", "skipped", "failed")
FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("event", "status", "stage", "job", "message", "slurm", "node"), str),
    **dict.fromkeys(("at", "seconds", "done"), (int, float)),
    "total": (int, float, type(None)),
    "gains": (bool, type(None)),
    "further": (bool, type(None)),
    "at_limit": bool,
}
"""What an event's fields hold, where it has them."""
NEEDED = {"begin": ("slurm",), "end": ("status",), "left": ("at_limit", "gains"), "stopped": ("further",)}
"""What the events of an attempt's course have."""


class ArrayShape(TypedDict):
    """An array of jobs as it is written down."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    name: Key
    jobs: list[dict[str, Any]]
    flags: dict[str, str | bool]


class SubmissionShape(TypedDict):
    """The file of a submission."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    config: dict[str, Any]
    arrays: list[ArrayShape]
    warning: Whole


@dataclass(frozen=True)
class Array:
    """Jobs that are submitted together."""

    name: str
    """As SLURM shows it; nobody else's has it."""
    jobs: tuple[Job, ...]
    flags: Json = field(default_factory=dict)
    """What was asked for each of them."""

    def to_json(self) -> Json:
        """Plain JSON."""
        return {"name": self.name, "jobs": [job.to_json() for job in self.jobs], "flags": self.flags}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(data["name"], tuple(map(Job.from_json, data["jobs"])), data["flags"])


@dataclass(frozen=True)
class Submission:
    """What one command has submitted."""

    folder: Path
    config: WorkerConfig
    arrays: tuple[Array, ...]
    warning: int
    """Seconds before the time limit at which a job is told to stop."""

    def write(self) -> None:
        """Write it down; its folder is made."""
        content = {
            "config": self.config.to_json(),
            "arrays": [array.to_json() for array in self.arrays],
            "warning": self.warning,
        }
        write_text(self.folder / FILE, json.dumps(content, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The submission of a folder."""
        content = read_as(SubmissionShape, json.loads(read_small(folder / FILE, MOST_BYTES)))
        arrays = tuple(Array.from_json({**array}) for array in content["arrays"])
        return cls(folder, WorkerConfig.from_json(content["config"]), arrays, content["warning"])

    def tasks(self) -> list[Task]:
        """Every job of it."""
        return [Task(self, array, index) for array in self.arrays for index in range(len(array.jobs))]


@dataclass(frozen=True)
class Task:
    """One job of a submission."""

    submission: Submission
    array: Array
    index: int

    @property
    def job(self) -> Job:
        """What is to be done."""
        return self.array.jobs[self.index]

    @property
    def id(self) -> tuple[str, int]:
        """How SLURM knows it: the array's name and its number there."""
        return self.array.name, self.index

    @property
    def mark(self) -> Path:
        """The file with SLURM's number for its array, which is there when the whole of that was handed over."""
        return self.submission.folder / f"{self.array.name}.number"

    @property
    def number(self) -> str:
        """SLURM's number for it; empty where it was not handed over."""
        begun = [event["slurm"] for event in self.events() if event.get("event") == "begin"]
        if begun:
            return str(begun[-1])
        try:
            number = read_small(self.mark, 100).decode().strip()
        except (OSError, ValueError):
            return ""
        return f"{number}_{self.index}" if len(self.array.jobs) > 1 else number

    @property
    def journal(self) -> Path:
        """Its events, a line each."""
        return self.submission.folder / f"{self.array.name}-{self.index}.jsonl"

    @property
    def logs(self) -> Path:
        """The folder with what it prints."""
        return self.submission.folder / LOGS

    def log(self) -> Path | None:
        """The newest file with its errors, which whatever computes writes to, or SLURM itself; None where there is none."""
        number, ages = self.number, {}
        if re.fullmatch(r"\w+", number):
            with suppress(OSError):
                for file in filter(is_file, self.logs.glob(f"{number}_*log.err")):
                    ages[file] = file.lstat().st_mtime
        return max(ages, key=lambda file: ages[file], default=None)

    def last_line(self) -> str:
        """The last line of its log that says something, without secrets; empty where there is none."""
        log = self.log()
        try:
            return hide_secrets(last_line(read_end(log, MOST_LOG).decode(errors="replace"))) if log else ""
        except (OSError, ValueError):
            return ""

    @property
    def was_handed_over(self) -> bool:
        """Whether SLURM has, or had, its whole array."""
        return self.mark.exists() or any(self.submission.folder.glob(f"{self.array.name}-*.jsonl"))

    def events(self) -> list[Json]:
        """All that it has said."""
        return list(read_events(self.journal)[0])

    def say(self, event: Json) -> None:
        """Add an event to its journal, on a line of its own also where a node died within the last one."""
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"at": round(time.time(), 1), **event}).encode() + b"\n"
        with self.journal.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)


def read_events(journal: Path, start: int = 0) -> tuple[list[Json], int]:
    """Whole lines of a journal from a byte on, and the byte where the next one begins; damaged lines are passed over."""
    lines, start = read_lines(journal, start)
    return [event for line in lines if (event := read_event(line)) is not None], start


def is_damaged(journal: Path) -> bool:
    """Whether a journal has lines that are passed over, or is no file that is read."""
    if not is_file(journal) or journal.lstat().st_size > MOST_JOURNAL:
        return os.path.lexists(journal)
    return any(read_event(line) is None for line in read_lines(journal)[0])


def read_lines(journal: Path, start: int = 0) -> tuple[list[bytes], int]:
    """Whole lines of a file from a byte on, and the byte where the next one begins."""
    if not is_file(journal):
        return [], start
    try:
        text = read_small(journal, MOST_JOURNAL, start)
    except (OSError, ValueError):
        return [], start
    whole = text.rpartition(b"\n")[0]
    return [line for line in whole.split(b"\n") if line.strip()], start + (len(whole) + 1 if whole else 0)


def read_event(line: bytes) -> Json | None:
    """The event of a journal's line; None where it is none that a job writes."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    kinds = [FIELDS.get(name, object) for name in event]
    if not all(
        isinstance(value, kind) and not (isinstance(value, bool) and kind == (int, float))
        for value, kind in zip(event.values(), kinds, strict=True)
    ):
        return None
    numbers = [value for value in event.values() if isinstance(value, int | float)]
    if not all(-MOST <= value <= MOST for value in numbers) or not event.keys() >= {
        *NEEDED.get(event.get("event", ""), ())
    }:
        return None
    return event if event.get("event") != "end" or event["status"] in ENDS else None


def job_key(job: Job) -> str:
    """A name for what a job does: two of the same name need not both be done."""
    if not job.is_shared:
        return hash_json([job.stage, job.spec.key])[:16]
    said = job.spec.to_json()
    scenario = {name: said[name] for name in ("task", "task_params", "tier", "model", "seed", "compute", "hashes")}
    return hash_json([job.stage, scenario])[:16]


def read_submissions(out: Path) -> Iterator[Submission]:
    """Every submission below ``out``, oldest first; what can't be read is none (`find_damaged`)."""
    for folder in list_folders(out):
        with suppress(*UNREADABLE):
            yield Submission.read(folder)


def find_damaged(out: Path) -> list[Path]:
    """Submissions below ``out`` that can't be read."""
    found = []
    for folder in list_folders(out):
        try:
            Submission.read(folder)
        except UNREADABLE:
            found.append(folder)
    return found


def list_folders(out: Path) -> list[Path]:
    """The folders of all submissions below ``out``, oldest first."""
    return [folder for folder in sorted((out / FOLDER).glob("*")) if os.path.lexists(folder / FILE)]


def name_arrays(ending: str) -> list[str]:
    """How SLURM knows the arrays of the submission whose folder ends so."""
    return [f"msa-bench-{ending}-{part}" for part in ARRAYS]


def explain_damage(folder: Path, out: Path) -> str:
    """A sentence about a submission that can't be read, with the remedy."""
    names = ",".join(name_arrays(folder.name.rpartition("-")[2]))
    return (
        f"{(folder / FILE).relative_to(out)} is damaged, so that nobody knows its jobs: `bench status --cancel` or `scancel "
        f"--name={names}` ends them, and the same `bench run` goes on from what they had finished."
    )


def all_tasks(out: Path, jobs: Sequence[Job] | None = None) -> list[Task]:
    """Everything that was ever submitted below ``out``, or what does these jobs, in its order."""
    wanted = None if jobs is None else set(map(job_key, jobs))
    tasks = [task for submission in read_submissions(out) for task in submission.tasks()]
    return [task for task in tasks if wanted is None or job_key(task.job) in wanted]


def latest_tasks(tasks: Sequence[Task]) -> dict[str, Task]:
    """By what it does, the last of some tasks, which are in the order of their submission."""
    return {job_key(task.job): task for task in tasks}


def ending(events: Sequence[Json]) -> Json | None:
    """How a job ended; None while it has not, or has begun anew."""
    last = next((event for event in reversed(events) if event.get("event") in ("begin", "end")), None)
    return last if last is not None and last["event"] == "end" else None
