"""The executor against a real SLURM (`tests.cluster`): a controller and two nodes on this machine.

Jobs of commands are fresh processes; those that are handed over from the tests' own process have their libraries loaded
(`tests.warm`), so that a test waits for SLURM and not for imports.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Step
from bench.runs import leases
from bench.runs.cluster import commands
from bench.runs.cluster.slurm import Slurm
from bench.runs.cluster.submission import read_submissions
from bench.runs.executor import Worker
from bench.runs.executors import follow
from bench.runs.jobs import Job, Result, WorkerConfig
from bench.runs.plan import with_versions
from bench.runs.setting import Paths
from tests.cluster import Cluster, need_slurm, running, wait_for
from tests.paths import OFFLINE, ROOT
from tests.processes import Place, bench, plug_in, result_of, start, tiny_run, warm_python

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.slow(200)]

SLOW = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench.api import Method, Recipe, Stream
from bench.engines.training.losses import NextToken
from bench.runs import leases

leases.STALE_SECONDS = 15.0  # a node that has died is taken over sooner


@dataclass(frozen=True)
class Paused(NextToken):
    steps: int = 0

    def __call__(self, model, batch):
        file = Path(os.environ.get("PAUSES", "none")) / str(self.steps)
        time.sleep(float(file.read_text()) if file.exists() else 0)
        return super().__call__(model, batch)


@dataclass(frozen=True)
class Slow(Method):
    steps: int = 60
    summary = "a training run that takes as long as a file says"

    def unlearn(self, request, ctx):
        return ctx.train(request.target, [Stream(request.forget, 4, Paused(self.steps))], Recipe(self.steps, 1e-3), "slow")
"""
"""A method whose steps take as many seconds as a file says, which changes nothing that is computed."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, running(folder / "cluster") as there:
        plugged = folder / "plugged"
        plugged.mkdir()
        plug_in(plugged, SLOW, {"slow": "Slow"}, "slow_method")
        patch.syspath_prepend(str(plugged))
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (OFFLINE, plugged, ROOT))))
        patch.setenv("PAUSES", str(folder / "pauses"))
        (folder / "pauses").mkdir()
        patch.setenv("SLURM_CONF", there.environment["SLURM_CONF"])
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(leases, "STALE_SECONDS", leases.STALE_SECONDS)  # put back what the plug-in sets here as well
        patch.setattr(sys, "executable", str(warm_python()))  # of the jobs that are handed over from this process
        yield there


@pytest.fixture(scope="module")
def place(cluster: Cluster, finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Stages and measurements of a finished run, which every job finds."""
    return finished.copy(tmp_path_factory.mktemp("spread"))


class Command:
    """One submission in this process, and what it says."""

    def __init__(self, place: Place, *flags: str, jobs: int | None = None) -> None:
        machine = Machine(place.out, place.store, executor="slurm", jobs=jobs, slurm=("time=10", "mem=1000M", *flags))
        self.said: list[Any] = []
        self.executor = Slurm(WorkerConfig.of(machine, Paths()), self.said.append)
        self.results: list[Result] = []

    def submit(self, *specs: RunSpec) -> None:
        self.spec = specs[0]
        self.executor.submit([Job(spec) for spec in specs])

    def look(self) -> bool:
        """Look once; whether anything has ended by now."""
        self.results += self.executor.poll()
        return bool(self.results)

    def saw(self, words: str) -> bool:
        """Whether a job said that, after another look."""
        self.results += self.executor.poll()
        return any(words in str(event) for event in self.said)

    def end(self) -> list[str]:
        """The statuses of all jobs, when they have ended."""
        wait_for(lambda: self.look() and not self.executor.watched, "the jobs", 420)
        return [result.status for result in self.results]


def pause(spec: RunSpec, seconds: float) -> None:
    """Set the seconds of each step of a run of ``slow``, also of one that is under way."""
    place = Path(os.environ["PAUSES"]) / str(spec.steps[0].params["steps"])
    place.with_suffix(".new").write_text(str(seconds))
    place.with_suffix(".new").replace(place)


@pytest.fixture(scope="module", autouse=True)
def limited(cluster: Cluster, finished: Place, place: Place) -> Iterator[Command]:
    """A job that will meet its time limit while the other tests go on: SLURM counts it in minutes."""
    spec = slow(finished, 200)
    pause(spec, 0.5)
    command = Command(place, "nodelist=n1", "time=2", "signal=30")
    command.submit(spec)
    yield command
    command.executor.cancel()


def slow(finished: Place, steps: int, seed: int = 0) -> RunSpec:
    """A run of the method ``slow``; other steps make it another run."""
    base = Record.from_json(finished.records()["msa"]).spec
    return with_versions(replace(base, steps=(Step("slow", {"steps": steps}),), kinds=("logprob",), seed=seed))


def local_result(place: Place, spec: RunSpec, tmp_path: Path) -> Any:
    """What the run gives in this process, without interruption."""
    own = Place(tmp_path / "local")
    shutil.copytree(place.store, own.store)
    node = own.store / "nodes"
    assert node.exists()
    trained = [file for file in node.glob("*/*/node.json") if '"label": "slow"' in file.read_text()]
    for file in trained:
        shutil.rmtree(file.parent)
    worker = Worker(WorkerConfig.of(Machine(own.out, own.store), Paths()), lambda event: None)
    assert worker.do(Job(spec)) == {"status": "done"}
    return result_of(own.records()["slow"])


def record_of(place: Place, spec: RunSpec) -> Any:
    """The record of a run as JSON."""
    return json.loads((place.out / Record(spec, "done").name).read_text())


def restarts(command: Command) -> int:
    """How often a job of a command began anew."""
    return sum("start 2" in str(event) or "start 3" in str(event) for event in command.said)


def test_a_command_fans_out_is_left_and_attached_to_while_the_controller_restarts(
    cluster: Cluster, finished: Place, tmp_path: Path
) -> None:
    """Both nodes work; Ctrl-C leaves the jobs; the same command attaches; the scores are a local run's to the bit.

    The oracles and what MSA made of them have gone, so that they are made again.
    """
    place = finished.copy(tmp_path)
    for method, file in place.files().items():
        if method != "target":
            file.unlink()
    for file in (place.store / "nodes").glob("*/*/node.json"):
        if json.loads(file.read_text())["label"] not in ("history", "target"):
            shutil.rmtree(file.parent)
    words = tiny_run("msa")[: -len(("--jobs", "1"))]
    words += [*place.words, "--executor", "slurm", "--slurm", "time=10", "--slurm", "mem=1000M"]
    first = start(words, tmp_path)
    wait_for(lambda: list((place.out / "cluster").glob("*/*stages-1.jsonl")), "a stage to begin", 120)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=60)[0]
    assert first.returncode == 130 and "The jobs go on: `python -m bench status --out" in said, said
    shown = bench(["status", "--out", str(place.out)], tmp_path)
    assert shown.returncode == 0 and "running" in shown.stdout and "queued" in shown.stdout, shown.stdout + shown.stderr
    second = start(words, tmp_path)
    cluster.stop_controller()
    time.sleep(3)
    cluster.start_controller()
    said = second.communicate(timeout=420)[0]
    assert second.returncode == 0, said
    assert "nothing new to hand over" in said and "were there already" in said, said
    assert len(list(read_submissions(place.out))) == 1
    [submission] = read_submissions(place.out)
    nodes = {event["node"] for task in submission.tasks() for event in task.events() if event.get("event") == "begin"}
    assert nodes == {"n1", "n2"}
    assert result_of(place.records()["msa"]) == result_of(finished.records()["msa"])
    shown = bench(["status", "--out", str(place.out)], tmp_path)
    assert shown.returncode == 0 and "done" in shown.stdout and "failed" not in shown.stdout, (
        shown.stdout + shown.stderr
    )


def test_a_cancelled_job_has_failed_and_the_same_command_goes_on(
    cluster: Cluster, finished: Place, place: Place, tmp_path: Path
) -> None:
    spec = slow(finished, 31)
    pause(spec, 1)
    command = Command(place)
    command.submit(spec)
    wait_for(lambda: command.saw("'stage': 'slow'"), "training to begin", 120)
    cluster.ask("scancel", f"--name={command.executor.watched[0].task.array.name}")
    assert command.end() == ["failed"]
    assert "it was cancelled" in command.results[0].message
    assert record_of(place, spec)["status"] == "failed"
    pause(spec, 0)
    again = Command(place)
    again.submit(spec)
    assert again.end() == ["done"]
    assert result_of(record_of(place, spec)) == local_result(place, spec, tmp_path)
    made = record_of(place, spec)["lineage"]["result_node"]
    assert not (place.store / "leases" / f"{made}.json").exists(), "the lease was given back"


def test_a_preempted_job_is_requeued_and_ends_with_the_same_scores(
    cluster: Cluster, finished: Place, place: Place, tmp_path: Path
) -> None:
    spec = slow(finished, 32)
    pause(spec, 0.5)
    command = Command(place, "nodelist=n2")
    command.submit(spec)
    wait_for(lambda: command.saw("'status': 'progress'"), "training to get on", 120)
    cluster.ask(
        "sbatch", "-p", "urgent", "-w", "n2", "--mem=7900", "-t", "1", "--output=/dev/null", "--wrap", "sleep 2"
    )
    wait_for(lambda: command.saw("preempted; it goes on"), "preemption", 60)
    pause(spec, 0)
    assert command.end() == ["done"]
    assert restarts(command) == 1
    record = record_of(place, spec)
    assert result_of(record) == local_result(place, spec, tmp_path)
    assert was_resumed(place, record)


def was_resumed(place: Place, record: Any) -> bool:
    """Whether the run's own training went on from a state that was written before."""
    file = place.store / "nodes" / record["lineage"]["result_node"][:2] / record["lineage"]["result_node"] / "node.json"
    return bool(json.loads(file.read_text())["meta"]["resumed"])


def test_a_job_meets_its_time_limit_and_goes_on(place: Place, limited: Command, tmp_path: Path) -> None:
    wait_for(lambda: limited.saw("stopped before its time limit") or limited.results, "the warning", 240)
    spec = limited.spec
    pause(spec, 0)
    assert limited.end() == ["done"] and restarts(limited) >= 1
    record = record_of(place, spec)
    assert was_resumed(place, record)
    assert result_of(record) == local_result(place, spec, tmp_path)


def test_a_node_that_dies_is_taken_over_and_a_drained_one_gets_nothing(
    cluster: Cluster, finished: Place, place: Place, tmp_path: Path
) -> None:
    spec = slow(finished, 34)
    pause(spec, 1)
    command = Command(place, "nodelist=n2")
    command.submit(spec)
    wait_for(lambda: command.saw("'stage': 'slow'"), "training to begin", 120)
    cluster.ask("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    other = Command(place, "nodelist=n1")
    other.submit(slow(finished, 35))
    time.sleep(2)
    [state] = commands.find_states([other.executor.watched[0].task.array.name]).values()
    assert state.is_waiting
    cluster.kill_node("n2")
    wait_for(lambda: "down" in cluster.node_states()["n2"], "SLURM to miss the node", 120)
    pause(spec, 0)
    cluster.ask("scontrol", "update", "NodeName=n1", "State=RESUME")
    cluster.start_node("n2")
    assert command.end() == ["done"] and other.end() == ["done"]
    assert result_of(record_of(place, spec)) == local_result(place, spec, tmp_path)


def test_what_slurm_refuses_is_one_sentence_and_nothing_is_submitted(
    cluster: Cluster, place: Place, finished: Place
) -> None:
    for flag, words in {
        "partition=nowhere": "knows no partition nowhere: name one of urgent, work",
        "mem=900G": "No node has what a job asks for (900G of memory, 1 CPUs)",
        "time=5-0": "A time of 5-0 a job is more than the partition allows (01:00:00)",
        "colour=red": "colour",
    }.items():
        before = len(list(read_submissions(place.out)))
        with pytest.raises(UserError) as refused:
            follow(Command(place, flag).executor, [Job(slow(finished, 36))])
        assert words in str(refused.value) and "\n" not in str(refused.value), refused.value
        assert len(list(read_submissions(place.out))) == before
    assert commands.find_states(["nobody"]) == {}
