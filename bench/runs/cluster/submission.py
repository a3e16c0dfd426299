"""What a command has handed to a cluster, as files under ``OUT/cluster``: its jobs, and what each of them says.

A submission is a folder with ``submission.json`` (arrays of jobs, written before anything is submitted) and a journal a job
(``ARRAY-INDEX.jsonl``, one event a line, written where the job runs). SLURM knows an array by its name, so that whoever
reads the files later can ask for it, whatever became of the process that submitted it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.core.files import write_text
from bench.core.hashing import hash_json
from bench.core.types import Json
from bench.runs.jobs import Job, WorkerConfig

FOLDER, FILE = "cluster", "submission.json"


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
        content = json.loads((folder / FILE).read_text())
        arrays = tuple(map(Array.from_json, content["arrays"]))
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
    def journal(self) -> Path:
        """Its events, a line each."""
        return self.submission.folder / f"{self.array.name}-{self.index}.jsonl"

    @property
    def logs(self) -> Path:
        """The folder with what it prints."""
        return self.submission.folder / "logs"

    def log(self) -> Path | None:
        """The newest file with its errors, which whatever computes writes to; None before it has begun."""
        attempts = [event["slurm"] for event in self.events() if event.get("event") == "begin"]
        found = [file for slurm in attempts[-1:] for file in self.logs.glob(f"{slurm}_*log.err")]
        return max(found, key=lambda file: file.stat().st_mtime, default=None)

    def events(self) -> list[Json]:
        """All that it has said."""
        return list(read_events(self.journal)[0])

    def say(self, event: Json) -> None:
        """Add an event to its journal."""
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with self.journal.open("a") as file:
            file.write(json.dumps({"at": round(time.time(), 1), **event}) + "\n")


def read_events(journal: Path, start: int = 0) -> tuple[list[Json], int]:
    """Whole lines of a journal from a byte on, and the byte where the next one begins; damaged lines are passed over."""
    try:
        with journal.open("rb") as file:
            file.seek(start)
            text = file.read()
    except OSError:
        return [], start
    whole = text.rpartition(b"\n")[0]
    events: list[Json] = []
    for line in whole.splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events, start + (len(whole) + 1 if whole else 0)


def job_key(job: Job) -> str:
    """A name for what a job does: two of the same name need not both be done."""
    if not job.is_shared:
        return hash_json([job.stage, job.spec.key])[:16]
    said = job.spec.to_json()
    scenario = {name: said[name] for name in ("task", "task_params", "tier", "model", "seed", "compute", "hashes")}
    return hash_json([job.stage, scenario])[:16]


def read_submissions(out: Path) -> Iterator[Submission]:
    """Every submission below ``out``, oldest first; what can't be read is none."""
    for folder in sorted((out / FOLDER).glob("*")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield Submission.read(folder)


def latest_tasks(out: Path, jobs: Sequence[Job] | None = None) -> dict[str, Task]:
    """The last task for everything that was submitted, or for these jobs."""
    wanted = None if jobs is None else set(map(job_key, jobs))
    found = {job_key(task.job): task for submission in read_submissions(out) for task in submission.tasks()}
    return {key: task for key, task in found.items() if wanted is None or key in wanted}


def ending(events: Sequence[Json]) -> Json | None:
    """How a job ended; None while it has not, or has begun anew."""
    last = next((event for event in reversed(events) if event.get("event") in ("begin", "end")), None)
    return last if last is not None and last["event"] == "end" else None
