"""A method and a task in a distribution of their own: installed, found by entry points, listed, checked, run by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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

[tool.setuptools]
py-modules = ["shrinking"]
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
    Setting,
    Stream,
    Task,
    Validation,
    accuracy,
    descent,
    product,
)


@dataclass(frozen=True)
class Shrink(Method):
    """``(1 - share) * theta_D``."""

    share: float = 0.05
    """How much of each weight is taken away."""

    summary = "weights scaled down"
    space = {"lab": product(share=(0.01, 0.05, 0.1))}

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

    def prepare(self, work, setting: Setting) -> Scenario:
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

    def outline(self, setting: Setting) -> Outline:
        return Outline(1000, 5.0, {"target": 2 * self.steps}, 2, 3, 5)
'''
THEIR_TEST = """
from bench.api import Setting
from bench.conformance import check_method, check_task
from bench.core import registry

assert registry.table("methods")["shrink"] == "shrinking:Shrink"
assert registry.table("methods")["msa"] == "methods.msa:MSA", "a plug-in can't take one of our names"
assert registry.table("tasks")["capitals"] == {"real": "shrinking:Capitals"}
check_method(registry.load("methods", "shrink"), share=0.5)
check_task(registry.load_task("capitals", "real"), Setting("real"))
print("checked")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the plug-in was installed into by pip."""
    root = tmp_path_factory.mktemp("plugin")
    (root / "source").mkdir()
    (root / "source" / "pyproject.toml").write_text(PROJECT)
    (root / "source" / "shrinking.py").write_text(METHOD)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options = ["--disable-pip-version-check", "--target", str(root / "installed"), str(root / "source")]
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root / "installed"


def python(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the plug-in and this checkout on its path, in a folder of its own."""
    environment = os.environ | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=installed.parent, env=environment, capture_output=True, text=True
    )


def test_it_is_listed_with_its_parameters(installed: Path) -> None:
    done = python(installed, "-m", "bench", "ls", "methods")
    assert done.returncode == 0, done.stderr
    assert "shrink: weights scaled down" in done.stdout
    assert "--set shrink.share=0.05  How much of each weight is taken away." in done.stdout
    done = python(installed, "-m", "bench", "ls", "tasks")
    assert done.returncode == 0, done.stderr
    assert "capitals: capitals of countries; forget two\n    tiers: real\n" in done.stdout
    assert "--set capitals.steps=2  Optimiser steps of target and oracles." in done.stdout


def test_a_tier_that_a_task_lacks_is_said(installed: Path) -> None:
    done = python(installed, "-m", "bench", "plan", "--methods", "shrink", "--task", "capitals", "--out", "runs")
    assert done.returncode == 2
    assert "capitals has no lab tier yet; it has: real. Name a model with --model." in done.stdout + done.stderr


def test_it_passes_the_checks_and_takes_none_of_our_names(installed: Path) -> None:
    done = python(installed, "-W", "error::UserWarning", "-c", THEIR_TEST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("checked")


def test_it_can_be_asked_for_by_name(installed: Path) -> None:
    asked = ("--methods", "shrink", "--task", "muse-books", "--set", "shrink.share=0.2", "--seeds", "0")
    done = python(installed, "-m", "bench", "plan", *asked, "--store", "store", "--out", "runs")
    assert done.returncode == 0, done.stderr
    assert "shrink" in done.stdout
