"""Messages between a command and its workers: a job, its result, and the configuration of a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.core import registry
from bench.core.machine import Machine
from bench.core.record import RunSpec
from bench.core.types import Json
from bench.runs.setting import Paths


@dataclass(frozen=True)
class Job:
    """One thing for a worker to do: build a stage of a scenario, or make a run's record."""

    spec: RunSpec
    stage: str = ""
    """``target``, ``oracle-0`` ...; ``validate`` for a setting of a search; empty for the run itself."""
    estimate: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The job's name in progress lines; ``target`` is a stage and a method."""
        what = f"stage-{self.stage}" if self.is_shared else self.stage or self.spec.method
        return f"{what} {self.spec.repetition}"

    @property
    def identity(self) -> tuple[str, str]:
        """What no other job of a command has: the key of its run, and the stage."""
        return self.spec.key, self.stage

    @property
    def is_shared(self) -> bool:
        """Whether it builds a stage that several runs share."""
        return self.stage not in ("", "validate")

    def to_json(self) -> Json:
        """Plain JSON, a line for a worker."""
        return {"spec": self.spec.to_json(), "stage": self.stage, "estimate": self.estimate}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(RunSpec.from_json(data["spec"]), data["stage"], data["estimate"])


@dataclass(frozen=True)
class Result:
    """How a job ended."""

    job: Job
    status: str
    """``done``, ``skipped`` or ``failed``."""
    message: str = ""
    """The whole error of a failed job."""

    @property
    def reason(self) -> str:
        """The last line of the error."""
        return self.message.strip().splitlines()[-1] if self.message else "no reason"


@dataclass(frozen=True)
class WorkerConfig:
    """Where every worker of a command works."""

    machine: Machine
    paths: Paths = field(default_factory=Paths)
    logs: Path = Path("logs")
    """Folder of the workers' logs."""
    plugins: tuple[str, ...] = ()
    """Python files of the user's with methods, tasks and metrics."""

    @classmethod
    def of(cls, machine: Machine, paths: Paths) -> Self:
        """The configuration with the logs beside the records."""
        return cls(machine, paths, machine.out / "logs", tuple(map(str, registry.FILES)))

    def folders(self) -> list[str]:
        """Absolute folders of this machine that no log and no record may name."""
        places = [*map(str, self.machine.places().values()), *self.paths.folders()]
        return [str(Path(place).absolute()) for place in places]

    def to_json(self) -> Json:
        """Plain JSON, an argument of the worker."""
        return {
            "machine": self.machine.to_json(),
            "paths": self.paths.to_json(),
            "logs": str(self.logs),
            "plugins": list(self.plugins),
        }

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The inverse of `to_json`."""
        machine, paths = Machine.from_json(data["machine"]), Paths.from_json(data["paths"])
        return cls(machine, paths, Path(data["logs"]), tuple(data.get("plugins", ())))
