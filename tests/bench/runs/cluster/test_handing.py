"""Handing over and attaching, with SLURM's answers made up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Step
from bench.runs.cluster import asking, commands, handing, slurm
from bench.runs.cluster.commands import Silent, State
from bench.runs.cluster.handing import holding_signals, is_under_way, one_at_a_time
from bench.runs.cluster.slurm import Slurm, explain_loss
from bench.runs.cluster.submission import Submission, Task, read_submissions
from bench.runs.executors import JobsGoOn, follow
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.launch import carry_out
from bench.runs.plan import with_versions
from bench.runs.setting import Paths
from tests.processes import Place

SPEC = RunSpec("tofu", {}, "lab", "lab", (Step("ga", {}),), 0)
TAKES = {"seconds": 1.0, "memory": 100}
STAGE, RUN, OTHER = Job(SPEC, "target", TAKES), Job(SPEC, "", TAKES), Job(replace(SPEC, seed=1), "", TAKES)


@dataclass
class Faked:
    """A SLURM that takes everything."""

    out: Path
    states: dict[tuple[str, int], State] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    """What happens while it is handed an array."""

    def executor(self, *flags: str) -> Slurm:
        machine = Machine(self.out, self.out / "store", executor="slurm", slurm=flags)
        return Slurm(WorkerConfig.of(machine, Paths()), lambda event: self.said.append(event["message"]))

    def submit(self, *jobs: Job, flags: tuple[str, ...] = ()) -> Slurm:
        executor = self.executor(*flags)
        executor.submit(jobs)
        return executor

    def take(self, submission: Submission, array: Any, after: Any) -> str:
        number = str(10 + len(self.submitted))
        self.submitted.append(array.name.rpartition("-")[2])
        for index in range(len(array.jobs)):
            self.states[array.name, index] = State(f"{number}_{index}", "PENDING")
        self.during()
        return number

    def tasks(self) -> list[Task]:
        return [task for submission in read_submissions(self.out) for task in submission.tasks()]


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faked:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    there = Faked(tmp_path / "out")
    monkeypatch.setattr(slurm, "check_cluster", lambda machine: None)
    monkeypatch.setattr(slurm, "check_flags", lambda flags: None)
    monkeypatch.setattr(slurm, "submit_array", there.take)
    monkeypatch.setattr(commands, "find_states", lambda names: there.states)
    monkeypatch.setattr(commands, "find_node_names", lambda: ["n1", "gpu-017"])
    monkeypatch.setattr(commands, "cancel_jobs", there.cancelled.extend)
    return there


@pytest.mark.parametrize(
    ("stage", "run", "submitted"),
    [
        ("live", "live", []),
        ("done", "live", []),
        ("live", "gone", ["runs"]),
        ("done", "gone", ["runs"]),
        ("gone", "gone", ["stages", "runs"]),
        ("gone", "live", []),
        ("failed", "failed", ["stages", "runs"]),
    ],
)
def test_the_same_command_attaches_to_what_lives_and_submits_the_rest(
    stage: str, run: str, submitted: list[str], faked: Faked
) -> None:
    faked.submit(STAGE, RUN)
    for task in faked.tasks():
        what = stage if task.job.is_shared else run
        if what != "live":
            faked.states.pop(task.id)
        if what in ("done", "failed"):
            task.say({"event": "begin", "slurm": "10", "node": "n1"})
            task.say({"event": "end", "status": what})
    faked.submitted.clear()
    again = faked.submit(STAGE, RUN)
    assert faked.submitted == submitted and faked.cancelled == []
    assert len(again.watched) + len(again.ready) == 2, "every job gets its result"


def test_what_is_done_and_asked_again_is_handed_over_anew(faked: Faked) -> None:
    """The same run with another seed beside it; the live one is attached to, also where it isn't the last of its key."""
    faked.submit(RUN)
    faked.submit(RUN, OTHER)
    assert faked.submitted == ["runs", "runs"] and len(faked.tasks()) == 2


def test_jobs_that_their_command_could_not_hand_over_whole_are_cancelled_and_handed_over_anew(faked: Faked) -> None:
    faked.submit(STAGE, RUN)
    [stage, run] = faked.tasks()
    run.mark.unlink()
    again = faked.submit(STAGE, RUN)
    assert faked.cancelled == ["11_0"] and faked.submitted == ["stages", "runs", "runs"]
    assert [each.task.id == stage.id for each in again.watched] == [True, False]


def test_two_at_once_hand_over_once(faked: Faked) -> None:
    faked.during = lambda: time.sleep(0.3)
    both = [threading.Thread(target=faked.submit, args=(STAGE, RUN)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert faked.submitted == ["stages", "runs"]
    assert any("2 jobs were there already" in said for said in faked.said)


def test_who_stands_still_while_it_hands_over_is_passed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "SOON_SECONDS", 0.05)
    monkeypatch.setattr(handing, "LOCK_SECONDS", 0.1)
    said: list[str] = []
    assert not is_under_way(tmp_path)
    with one_at_a_time(tmp_path, said.append):
        assert is_under_way(tmp_path) and said == []
        with one_at_a_time(tmp_path, said.append):
            assert "another command hands over jobs" in said[0]
    assert not is_under_way(tmp_path)


def test_flags_that_live_jobs_do_not_get_are_said(faked: Faked) -> None:
    faked.submit(RUN, flags=("time=5",))
    faked.submit(RUN, flags=("time=5",))
    assert not any("keep what they were handed over with" in said for said in faked.said)
    faked.submit(RUN, flags=("time=50",))
    assert "1 of them keep what they were handed over with, such as --time=5 " in faked.said[-1]


def test_where_slurm_does_not_say_what_it_has_nothing_is_handed_over(
    faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(names: object) -> None:
        raise Silent("timed out")

    monkeypatch.setattr(commands, "find_states", silent)
    with pytest.raises(UserError, match="nothing was handed over; try again later"):
        faked.submit(RUN)
    assert faked.submitted == []


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C interrupts, also where these tests were started in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_until_everything_is_handed_over(faked: Faked, heeded: None) -> None:
    def interrupt() -> None:
        if len(faked.submitted) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    faked.during = interrupt
    with pytest.raises(JobsGoOn):
        follow(faked.executor(), [STAGE, RUN])
    assert faked.submitted == ["stages", "runs"] and all(task.was_handed_over for task in faked.tasks())


def test_an_interruption_before_does_not_say_that_jobs_go_on(faked: Faked, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(machine: Machine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "check_cluster", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        follow(faked.executor(), [RUN])
    assert stop.type is KeyboardInterrupt


def test_programs_that_are_started_meanwhile_are_not_interrupted_either() -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('still here')"
    with holding_signals():
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "still here\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_damaged_submission_is_named_with_the_remedy(faked: Faked) -> None:
    faked.submit(RUN)
    [task] = faked.tasks()
    (task.submission.folder / "submission.json").write_text("[]")
    faked.submit(RUN)
    assert (
        "submission.json is damaged" in faked.said[-2]
        and f"--name=msa-bench-{task.array.name[10:18]}-" in faked.said[-2]
    )
    assert len(faked.tasks()) == 1


def test_a_job_that_died_before_it_began_says_where_to_look(faked: Faked) -> None:
    executor = faked.submit(RUN, OTHER)
    first, second = faked.tasks()
    first.logs.mkdir()
    (first.logs / "10_0_0_log.err").write_text(
        "/opt/python: No such file or directory\nsrun: error: n1: task 0: Exited\n\n"
    )
    told = explain_loss(first, State("10_0", "FAILED", "NonZeroExitCode", "n1"))
    assert told.startswith(
        "it ended as FAILED before its work began (SLURM's job 10_0); the same command submits it again;"
    )
    assert told.endswith("logs/10_0_0_log.err: srun: error: n1: task 0: Exited") and "see cluster/" in told
    assert "it left no log in cluster/" in explain_loss(second, State("10_1", "FAILED"))
    faked.states = {first.id: State("10_0", "FAILED", "NonZeroExitCode", "n1"), second.id: State("10_1", "PENDING")}
    executor.watched[0].missed = -1000.0
    (first.logs / "10_0_0_log.err").write_text("401 for correct horse battery\nsrun: error: n1: task 0: Exited\n")
    [result] = executor.poll()
    assert result.status == "failed" and "n1: task 0" in result.message
    assert "error: …: task 0" in first.events()[-1]["message"], "what is kept names no node"
    [record] = faked.out.glob("lab/tofu/lab/*.json")
    reason = json.loads(record.read_text())["reason"]
    assert reason.endswith("srun: error: …: task 0: Exited") and "n1" not in reason


def test_stages_that_the_store_has_already_are_not_handed_over(
    faked: Faked, finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage is there when a record of its scenario names a checkpoint of the store; of another version or seed it is not."""
    place = finished.copy(tmp_path / "place")
    base = Record.from_json(place.records()["msa"]).spec
    spec = with_versions(replace(base, steps=(Step("before", {}),)))
    monkeypatch.setattr(Faked, "executor", lambda self: Slurm(config, lambda event: self.said.append(event["message"])))
    config = WorkerConfig.of(Machine(place.out, place.store, executor="slurm"), Paths())
    jobs = [Job(spec, stage, TAKES) for stage in ("target", "oracle-0", "oracle-1", "")]
    for versions, seed, new in (
        (spec.versions, 0, 0),
        (spec.versions, 1, 3),
        ({**spec.versions, "training": spec.versions["training"] + 1}, 0, 3),
    ):
        asked = [replace(job, spec=replace(spec, versions=versions, seed=seed)) for job in jobs]
        assert len(asking.stages_there(asked, config.machine)) == 3 - new
    faked.submit(*jobs)
    assert faked.submitted == ["runs"] and faked.said == [
        "handed over 0 stages and 1 runs (SLURM's 10)",
    ]
    assert next(faked.executor().foresee(jobs)).startswith("runs, an array of 1"), "the plan says the same"
    for file in (place.store / "nodes").glob("*/*/node.json"):
        if json.loads(file.read_text())["label"].startswith("oracle"):
            shutil.rmtree(file.parent)
    assert [job.stage for job in asking.stages_there(jobs, config.machine)] == ["target"]


def test_what_no_cluster_takes_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = Machine(tmp_path / "out", tmp_path / "store", executor="slurm")
    with pytest.raises(UserError, match="there is no sbatch on the PATH"):
        carry_out([RUN], WorkerConfig.of(machine, Paths()))
    assert list(tmp_path.iterdir()) == []
