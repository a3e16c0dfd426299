"""A method in a distribution of its own: installed, found by its entry point, listed, checked, and run by its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

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

[tool.setuptools]
py-modules = ["shrinking"]
"""
METHOD = '''
"""Scaling the weights down, as an example."""

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, product
from bench.core.types import Checkpoint, Request


@dataclass(frozen=True)
class Shrink:
    """``(1 - share) * theta_D``."""

    share: float = 0.05
    """How much of each weight is taken away."""

    summary: ClassVar[str] = "weights scaled down"
    needs: ClassVar[frozenset[str]] = frozenset()
    version: ClassVar[int] = 1
    presets: ClassVar[dict] = {}
    space: ClassVar[dict] = {"lab": product(share=(0.01, 0.05, 0.1))}
    variants: ClassVar[tuple[str, ...]] = ()

    def rows(self, forget: int, retain: int) -> int:
        return 0

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        return ctx.combine([(1 - self.share, request.target)], "shrink")
'''
THEIR_TEST = """
from bench.core import registry
from bench.conformance import check_method

assert registry.table("methods")["shrink"] == "shrinking:Shrink"
assert registry.table("methods")["msa"] == "methods.msa:MSA", "a plug-in can't take one of our names"
check_method(registry.load("methods", "shrink"), share=0.5)
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
    command, given = [sys.executable, *arguments], environment([installed])
    return subprocess.run(command, cwd=installed.parent, env=given, capture_output=True, text=True)


def test_it_is_listed_with_its_parameters(installed: Path) -> None:
    done = python(installed, "-m", "bench", "ls", "methods")
    assert done.returncode == 0, done.stderr
    assert "shrink: weights scaled down" in done.stdout
    assert "--set shrink.share=0.05  How much of each weight is taken away." in done.stdout


def test_it_passes_the_checks_and_takes_none_of_our_names(installed: Path) -> None:
    done = python(installed, "-W", "error::UserWarning", "-c", THEIR_TEST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("checked")


def test_it_can_be_asked_for_by_name(installed: Path) -> None:
    asked = ("--methods", "shrink", "--task", "muse-books", "--set", "shrink.share=0.2", "--seeds", "0")
    done = python(installed, "-m", "bench", "plan", *asked, "--store", "store", "--out", "runs")
    assert done.returncode == 0, done.stderr
    assert "shrink" in done.stdout
