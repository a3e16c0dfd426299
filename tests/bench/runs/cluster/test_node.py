from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core import stopping
from bench.core.machine import Machine
from bench.core.record import RunSpec
from bench.core.stopping import Stopped
from bench.runs.cluster import commands, node
from bench.runs.cluster.node import Attempt, Diary, count_vain, seconds_left
from bench.runs.cluster.submission import Array, Submission, Task
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths

SPEC = RunSpec("tofu", {}, "lab", "lab", (), 0)


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_asked", "")
    monkeypatch.setattr(stopping, "_listening", False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    config = WorkerConfig.of(Machine(tmp_path, tmp_path / "store", executor="slurm"), Paths())
    made = Submission(tmp_path / "cluster" / "a", config, (Array("name", (Job(SPEC),)),), 60)
    made.write()
    return made.tasks()[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What SLURM is asked; it takes everything."""
    heard: list[tuple[str, ...]] = []

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        heard.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(commands, "call", call)
    return heard


def left(at_limit: bool, gains: bool | None) -> dict[str, Any]:
    return {"event": "left", "at_limit": at_limit, "gains": gains}


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ([], 0),
        ([left(True, False)], 1),
        ([left(True, False), left(True, False)], 2),
        ([left(True, False), left(True, True), left(True, False)], 1),
        ([left(True, False), left(False, False), left(True, False)], 2),
        ([left(True, False), left(True, None), left(True, False)], 2),
        ([left(True, False), {"event": "end"}, left(True, False)], 1),
    ],
    ids=["none", "one", "two", "gain between", "preempted between", "waited between", "begun anew"],
)
def test_attempts_in_vain_are_counted_in_a_row(events: list[Any], count: int) -> None:
    assert count_vain(events) == count


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0:59\n", 59), ("1-02:03:04\n", 93784), ("UNLIMITED\n", float("inf")), ("INVALID", float("inf"))],
)
def test_what_is_left_of_a_time_limit(said: str, seconds: float) -> None:
    assert seconds_left("7", lambda *command: said) == seconds


def test_a_job_at_its_limit_goes_back_into_the_queue_until_it_was_in_vain_twice(
    task: Task, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "seconds_left", lambda slurm: 30.0)
    stopping.ask_to_stop("SIGUSR2")
    assert Attempt(task).leave(True) == "requeued"
    assert Attempt(task).leave(False) == "requeued"
    assert asked == [("scontrol", "requeue", "7")] * 2
    assert Attempt(task).leave(False) == "failed" and len(asked) == 2
    [*_, end] = task.events()
    assert end["event"] == "end" and "met its time limit 2 times without getting further" in end["message"]
    [record] = task.submission.config.machine.out.glob("lab/tofu/lab/*.json")
    assert "give each job more, with --slurm time=MINUTES" in record.read_text()


def test_a_node_that_was_built_is_a_gain(task: Task, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "seconds_left", lambda slurm: 30.0)
    stopping.ask_to_stop("SIGUSR2")
    attempt = Attempt(task)
    task.say({"stage": "target", "status": "done"})
    attempt.leave(False)
    assert [event["gains"] for event in task.events() if event.get("event") == "left"] == [True]


@pytest.mark.parametrize(
    ("known", "status", "requeued"),
    [
        ("JobState=RUNNING PreemptTime=2026-11-29T11:38:05", "requeued", True),
        ("JobState=CANCELLED PreemptTime=None", "ended", False),
        ("JobState=COMPLETING PreemptTime=2026-11-29T11:38:05", "ended", False),
    ],
)
def test_after_sigterm_a_preempted_job_alone_is_requeued(
    task: Task, asked: list[Any], monkeypatch: pytest.MonkeyPatch, known: str, status: str, requeued: bool
) -> None:
    monkeypatch.setattr(node, "describe", lambda slurm: known)
    stopping.ask_to_stop("SIGTERM")
    assert Attempt(task).leave(True) == status and bool(asked) == requeued
    assert not any(event.get("event") == "end" for event in task.events())


def test_a_diary_heeds_a_request_after_a_node_and_not_within_a_training(task: Task) -> None:
    diary, event = Diary(task), {"stage": "target", "seconds": 0.0}
    stopping.listen()
    diary.tell({**event, "status": "progress", "done": 1})
    stopping.ask_to_stop("SIGUSR2")
    diary.tell({**event, "status": "start"})
    diary.tell({**event, "status": "progress", "done": 2})
    with pytest.raises(Stopped):
        diary.tell({**event, "status": "done"})
    assert [said["status"] for said in task.events()] == ["progress", "start", "done"], "progress is told now and then"


def test_a_job_with_several_gpus_starts_torchrun_on_its_own_command(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(task.submission.config.machine, world=2)
    several = replace(
        task, submission=replace(task.submission, config=replace(task.submission.config, machine=machine))
    )
    started: list[list[str]] = []

    class Ended:
        def __init__(self, command: list[str], preexec_fn: Any) -> None:
            started.append(command)

        def wait(self) -> int:
            task.say({"event": "end", "status": "done"})
            return 0

    monkeypatch.setattr(subprocess, "Popen", Ended)
    assert Attempt(several).in_processes()["status"] == "done"
    [command] = started
    where = command.index("--task")
    assert command[1:where] == [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "bench",
        "exec",
    ]
    assert node.find_task(command[where + 1], command[where + 2], int(command[where + 3])) == task


def test_a_torchrun_that_breaks_off_is_a_failed_record_without_the_nodes_name(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "n1")
    Attempt(task).fail("srun: error: n1: task 0: Killed")
    [record] = task.submission.config.machine.out.glob("lab/tofu/lab/*.json")
    assert json.loads(record.read_text())["reason"] == "srun: error: …: task 0: Killed"


def test_what_a_job_says_at_its_end_has_no_secret_and_no_place(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct horse battery")
    store = task.submission.config.machine.store
    message = f"{store}/x: 401 for correct horse battery in {Path.home()}/secret"
    monkeypatch.setattr(node, "do_task", lambda task: {"status": "failed", "message": message})
    monkeypatch.setattr(node.signal, "signal", lambda number, handler: None)
    Diary(task).tell({"stage": "store", "status": "note", "seconds": 0.0, "message": message})
    node.run_on_node(str(task.submission.folder), "name", 0)
    said = [event["message"] for event in task.events() if "401" in event.get("message", "")]
    assert said == ["…/x: 401 for … in …/secret"] * 2
