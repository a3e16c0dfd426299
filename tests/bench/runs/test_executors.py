from __future__ import annotations

from typing import Any, ClassVar

import pytest

from bench.core.machine import Machine
from bench.core.record import RunSpec
from bench.core.typed_toml import named_object
from bench.runs.executors import EXECUTORS, executor_problems, follow
from bench.runs.jobs import Job, Result

JOBS = [Job(RunSpec("tofu", {}, "lab", "lab", (), seed)) for seed in range(3)]


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_has_the_whole_interface(name: str) -> None:
    kind = named_object(EXECUTORS[name])
    assert all(callable(getattr(kind, part)) for part in ("foresee", "submit", "poll", "cancel"))
    assert isinstance(kind.outlives, bool)


class Fake:
    """Ends a job a look; breaks off at the second where it is told to."""

    outlives: ClassVar[bool] = False

    def __init__(self, breaks: bool = False) -> None:
        self.breaks, self.cancelled = breaks, False
        self.left: list[Job] = []

    def foresee(self, jobs: Any) -> Any:
        return ()

    def submit(self, jobs: Any) -> None:
        self.left = list(jobs)

    def poll(self) -> list[Result]:
        if self.breaks and len(self.left) == 2:
            raise KeyboardInterrupt
        return [Result(self.left.pop(0), "done")]

    def cancel(self) -> None:
        self.cancelled = True


class Outliving(Fake):
    outlives: ClassVar[bool] = True


@pytest.mark.parametrize(("kind", "cancels"), [(Fake, True), (Outliving, False)])
def test_jobs_that_outlive_their_command_are_left_alone(kind: type[Fake], cancels: bool) -> None:
    whole, broken = kind(), kind(breaks=True)
    assert [result.job for result in follow(whole, JOBS)] == JOBS and whole.cancelled == cancels
    with pytest.raises(KeyboardInterrupt):
        follow(broken, JOBS)
    assert broken.cancelled == cancels


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"executor": "slrum"}, "Unknown executor 'slrum'. Did you mean 'slurm'? Known: local, slurm."),
        ({"slurm": ("time=3",)}, "--slurm time=3: it belongs to --executor slurm"),
        ({"world": 2}, "--gpus-per-job 2: it belongs to --executor slurm"),
        ({"executor": "slurm", "device": "cuda:1"}, "--device cuda:1: on a cluster"),
        ({"executor": "slurm", "world": 0}, "--gpus-per-job 0: it is at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(fields: dict[str, Any], words: str) -> None:
    [told] = executor_problems(Machine(**fields))
    assert words in told


def test_a_cluster_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    [told] = executor_problems(Machine(executor="slurm", world=1))
    assert "the jobs start torchrun themselves" in told


def test_what_is_usual_has_no_problems() -> None:
    assert executor_problems(Machine()) == []
    assert executor_problems(Machine(executor="slurm", device="cuda", world=8, slurm=("time=3",))) == []
