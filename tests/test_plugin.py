"""A method, a task and metrics in a distribution of their own: installed, found by entry points, listed, checked, run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Place, bench, environment, tiny_run, warm_python

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "shrinking"
version = "0.1"

[project.entry-points."msa_bench.methods"]
shrink = "shrinking:Shrink"
msa = "shrinking:Shrink"

[project.entry-points."msa_bench.tasks"]
"capitals.real" = "shrinking:Capitals"

[project.entry-points."msa_bench.metrics"]
shortest = "shortest:SHORTEST"
elsewhere = "shortest:ELSEWHERE"
kl_forget = "shortest:SHORTEST"

[tool.setuptools]
py-modules = ["shrinking", "shortest"]
"""
METHOD = '''
"""Scaling the weights down, and forgetting capitals: a method and a task as examples."""

from dataclasses import dataclass

from bench.api import (
    Checkpoint,
    Context,
    Example,
    History,
    Method,
    Moment,
    Outline,
    Probe,
    Recipe,
    Request,
    Scenario,
    Stream,
    Scale,
    Task,
    TaskInputs,
    Validation,
    accuracy,
    descent,
)


@dataclass(frozen=True)
class Shrink(Method):
    """``(1 - share) * theta_D``."""

    share: float = 0.05
    """How much of each weight is taken away."""

    summary = "weights scaled down"
    space = {"lab": {"share": Scale("log", (0.01, 0.1))}}

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        return ctx.combine([(1 - self.share, request.target)], "shrink")


def rows(side, words):
    return tuple(Example(f"{side}-{w}", {"prompt": f"{w} ?", "answer": w.upper(), "template": "base"}) for w in words)


@dataclass(frozen=True)
class Capitals(Task):
    """Capitals taught to a model that the user names."""

    steps: int = 2
    """Optimiser steps of target and oracles."""

    summary = "capitals of countries; forget two"

    def metrics(self):
        return (accuracy("forget_accuracy", "forget", goal="oracle"), accuracy("retain_accuracy", "retain", goal="up"))

    def prepare(self, work, setting: TaskInputs) -> Scenario:
        forget, retain = rows("forget", ("rome", "lima")), rows("retain", ("oslo", "bern", "cairo"))
        before = setting.before

        def train(examples, label):
            return lambda: work.train(before, [Stream(examples, 2, descent())], Recipe(self.steps, 1e-3), label)

        return Scenario(
            label="capitals",
            target=train(forget + retain, "target"),
            oracles=tuple(train(retain[i:] + retain[:i], f"oracle-{i}") for i in (0, 1)),
            history=lambda: History((Moment(before, 0, 0, "released"),)),
            forget=forget,
            retain=retain,
            validation=Validation(),
            probes=(Probe("forget", "logprob", forget), Probe("retain", "logprob", retain)),
            metrics=self.metrics(),
            oracle_rows=retain,
            forgetting=("forget_accuracy",),
            utility=("retain_accuracy",),
            headline=("forget_accuracy", "retain_accuracy"),
        )

    def outline(self, setting: TaskInputs) -> Outline:
        return Outline(1000, 5.0, {"target": 2 * self.steps}, 2, 3, 5)
'''
METRIC = '''
"""The least likely forget answer, as an example."""

from dataclasses import replace

from bench.api import Metric, Score, mean_logp, row_means


def least(responses, oracles):
    values = row_means(responses, "forget_questions", "answer", mean_logp)
    return Score(min(values.values()), len(values), unit="nats/token")


SHORTEST = Metric(
    "shortest", least, "oracle", unit="nats/token", description="least mean log-prob of a forget answer", source="own"
)
ELSEWHERE = replace(SHORTEST, tasks=("tofu",))
'''
THEIR_TEST = """
import pytest
from dataclasses import replace
from bench.api import Example, Probe, Score, TaskInputs
from bench.conformance import check_method, check_metric, check_task
from bench.core import registry
from bench.metrics.catalogue import plugged_metrics

assert registry.components("methods")["shrink"] == "shrinking:Shrink"
assert registry.components("methods")["msa"] == "methods.msa:MSA", "a plug-in can't take one of our names"
assert registry.components("tasks")["capitals"] == {"real": "shrinking:Capitals"}
check_method(registry.load_component("methods", "shrink"), share=0.5)
check_task(registry.load_task("capitals", "real"), TaskInputs("real"))
probe = Probe("forget_questions", "logprob", tuple(Example(f"a{i}", {"prompt": "", "answer": "b"}) for i in range(9)))
metric = registry.load_component("metrics", "shortest")
check_metric(metric, [probe])
assert {m.name for m in plugged_metrics("tofu")} == {"shortest", "elsewhere", "kl_forget"}
assert [m.name for m in plugged_metrics("muse-books", ["kl_forget"])] == ["shortest"]

def wrong(part, **changed):
    with pytest.raises(AssertionError, match=part):
        check_metric(replace(metric, **changed), [probe])

def first(responses, oracles):
    text = next(iter(responses.rows["forget_questions"].values()))["answer"][0]
    return Score(text["logp"][0], 1, unit="nats/token")

wrong("a description of one line", description="")
wrong("its goal is 'best'", goal="best")
wrong("version is a whole number", version=0)
wrong("its score 'nats/token'", unit="bits")
wrong("in another order", compute=first)
wrong("fails .KeyError", compute=first)
wrong("without a row to read", compute=lambda responses, oracles: Score(0.0, 0, unit="nats/token"))
wrong("comes to no finite number .nan.", compute=lambda responses, oracles: Score(float("nan"), 1))
print("checked")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the plug-in was installed into by pip."""
    root = tmp_path_factory.mktemp("plugin")
    (root / "source").mkdir()
    (root / "source" / "pyproject.toml").write_text(PROJECT)
    (root / "source" / "shrinking.py").write_text(METHOD)
    (root / "source" / "shortest.py").write_text(METRIC)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["--disable-pip-version-check", "--target", str(root / "installed"), str(root / "source")]
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root / "installed"


def python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the plug-in and this checkout on its path, in a folder of its own."""
    program = str(warm_python()) if arguments[:2] == ("-m", "bench") else sys.executable
    command, given = [program, *arguments], environment([installed])
    return subprocess.run(command, cwd=installed.parent, env=given, capture_output=True, text=True)


def test_it_is_listed_with_its_parameters(installed: Path) -> None:
    done = python(installed, "-m", "bench", "ls", "methods")
    assert done.returncode == 0, done.stderr
    assert "\nshrink " in done.stdout and "weights scaled down" in done.stdout
    done = python(installed, "-m", "bench", "ls", "methods", "shrink")
    assert "--set shrink.share=0.05  How much of each weight is taken away." in done.stdout
    done = python(installed, "-m", "bench", "ls", "tasks")
    assert done.returncode == 0, done.stderr
    assert "capitals: capitals of countries; forget two\n    tiers: real\n" in done.stdout
    assert "--set capitals.steps=2  Optimiser steps of target and oracles." in done.stdout


def test_a_tier_that_a_task_lacks_is_said(installed: Path) -> None:
    done = python(installed, "-m", "bench", "plan", "--methods", "shrink", "--task", "capitals", "--out", "runs")
    assert done.returncode == 2
    assert "capitals has no lab tier yet; it has: real. Name a model with --model." in done.stdout + done.stderr


@pytest.mark.slow(15)
def test_it_passes_the_checks_and_takes_none_of_our_names(installed: Path) -> None:
    done = python(installed, "-W", "error::UserWarning", "-c", THEIR_TEST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("checked")


def test_it_can_be_asked_for_by_name(installed: Path) -> None:
    asked = ("--methods", "shrink", "--task", "muse-books", "--set", "shrink.share=0.2", "--seeds", "0")
    done = python(installed, "-m", "bench", "plan", *asked, "--store", "store", "--out", "runs")
    assert done.returncode == 0, done.stderr
    assert "shrink" in done.stdout


def test_a_metric_is_listed(installed: Path) -> None:
    done = python(installed, "-m", "bench", "ls", "metrics")
    assert done.returncode == 0, done.stderr
    line = "shortest (version 1, goal oracle): least mean log-prob of a forget answer Source: own."
    assert line in done.stdout.splitlines()


def test_a_metric_scores_runs_and_is_part_of_their_key(installed: Path, tmp_path: Path) -> None:
    """Runs of the tasks that it is for. Edited, it makes other runs; without it the keys are what they were."""
    place = Place(tmp_path)
    done = place.run("target", first=[installed])
    assert done.returncode == 0, done.stdout + done.stderr
    record = place.records()["target"]
    about = {"version": 1, "goal": "oracle", "unit": "nats/token", "needs_oracle": False}
    assert record["metrics"]["shortest"] == about and "elsewhere" not in record["metrics"]
    assert record["scores"]["shortest"]["value"] < 0
    assert record["metrics"]["kl_forget"]["goal"] == "down", "a plug-in can't take one of our names"
    assert record["spec"]["versions"]["shortest"] == 1 and "code of shortest" in record["spec"]["hashes"]
    assert {"code of kl_forget", "code of elsewhere"}.isdisjoint(record["spec"]["hashes"])

    def cached(*first: Path) -> int:
        return bench([*tiny_run("target", "plan"), *place.words], tmp_path, first).stdout.count("cached")

    def rescored() -> str:
        words = ["rescore", "--quick", "--from", str(place.out), "--store", str(place.store), "--jobs", "1"]
        done = bench(words, tmp_path, [installed])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1].partition(" unchanged")[0]

    with_it = cached(installed)
    assert with_it > cached()
    assert [rescored(), rescored()] == ["2 records computed again, 0", "0 records computed again, 2"]
    module = installed / "shortest.py"
    module.write_text(module.read_text() + "# edited\n")
    assert cached(installed) == cached()
    assert rescored() == "2 records computed again, 0", "what it computes may be another number"
