"""What workers are given and answer: a job, its result, and the configuration of a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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
        """For people."""
        return f"{self.stage or self.spec.method} seed {self.spec.seed}"


@dataclass(frozen=True)
class Result:
    """How a job ended."""

    job: Job
    status: str
    """``done``, ``skipped`` or ``failed``."""
    message: str = ""
    """The whole error of a failed job."""


@dataclass(frozen=True)
class Surroundings:
    """What every worker of a command is told."""

    store: Path
    out: Path
    paths: Paths
    device: str
    threads: int
    logs: Path
    checkpointing: bool = False
    """Whether training computes activations again in the backward pass, to save memory."""
