"""Who carries out the jobs of a command: an executor takes them, says what has ended, and can end them.

``local`` is a pool of processes on this machine (`bench.runs.executor.Pool`), ``slurm`` hands the same jobs to a cluster
(`bench.runs.cluster.slurm.Slurm`). Any other scheduler is a third class with these methods (docs/executors.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from bench.core import distributed
from bench.core.errors import unknown_name
from bench.core.machine import Machine
from bench.core.typed_toml import named_object
from bench.core.types import Json
from bench.runs.jobs import Job, Result, WorkerConfig


class JobsGoOn(KeyboardInterrupt):
    """An interruption of a command whose jobs go on without it."""


class Executor(Protocol):
    """Carries out jobs, each as `bench.runs.executor.Worker.do` does it, over one store."""

    outlives: ClassVar[bool]
    """Whether jobs go on when the process that submitted them has gone."""

    def foresee(self, jobs: Sequence[Job]) -> Iterable[str]:
        """What `submit` would ask for these jobs, for people; `UserError` for what it would refuse."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take the jobs, and return without waiting for them."""

    def poll(self) -> list[Result]:
        """Results of the jobs that have ended since it was last asked; may rest a moment, and passes events on."""

    def cancel(self) -> None:
        """End whatever is left, waiting or under way."""


EXECUTORS = {"local": "bench.runs.executor:Pool", "slurm": "bench.runs.cluster.slurm:Slurm"}
"""Name -> class."""
LEFT = {"slurm": "bench.runs.cluster.status:explain_live"}
"""Name -> what says which jobs for a folder of records go on without their command, where there can be such."""


def executor_problems(machine: Machine) -> list[str]:
    """Sentences about ``--executor`` and the options that belong to a cluster's."""
    if machine.executor not in EXECUTORS:
        return [unknown_name("executor", machine.executor, EXECUTORS)]
    launched = distributed.count_launched()
    if machine.executor == "local":
        if machine.slurm:
            return [f"--slurm {machine.slurm[0]}: it belongs to --executor slurm; add that, or leave it out."]
        if machine.world != launched:
            return [
                f"--gpus-per-job {machine.world}: it belongs to --executor slurm; here start one process a GPU by torchrun."
            ]
        return []
    found = []
    if launched > 1:
        found.append(f"--executor {machine.executor}: the jobs start torchrun themselves; start it without torchrun.")
    if not re.fullmatch(r"cpu|cuda", machine.device):
        found.append(
            f"--device {machine.device}: on a cluster each job takes the GPUs that it is given; say cuda or cpu."
        )
    if machine.world < 1:
        found.append(f"--gpus-per-job {machine.world}: it is at least 1.")
    return found


def open_executor(config: WorkerConfig, report: Callable[[Json], None]) -> Executor:
    """The executor that the machine names, made with its configuration and what shows an event."""
    opened: Executor = named_object(EXECUTORS[config.machine.executor])(config, report)
    return opened


def follow(
    executor: Executor, jobs: Sequence[Job], ended: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Submit jobs and wait for all of them; a job that fails doesn't stop the others. ``ended`` hears of each result."""
    results: list[Result] = []
    try:
        executor.submit(jobs)
        try:
            while len(results) < len(jobs):
                for result in executor.poll():
                    results.append(result)
                    ended(result)
        except KeyboardInterrupt:
            if executor.outlives:
                raise JobsGoOn from None
            raise
    finally:
        if not executor.outlives:
            executor.cancel()
    return results


def explain_jobs(out: Path) -> str:
    """A sentence about jobs for a folder of records that go on without a command; empty where there are none."""
    return "; ".join(filter(None, (named_object(place)(out) for place in LEFT.values())))
