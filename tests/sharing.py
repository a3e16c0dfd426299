"""What the workers of one test run share: the tests, and a folder, in which a thing is made by the first that asks."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED, OWNER = "MSA_BENCH_TEST_RUN", "MSA_BENCH_TEST_RUN_OWNER"
"""Environment variables: the folder of this test run, and the process that made it, with which everything in it ends."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, before any worker starts."""
    if not hasattr(config, "workerinput"):
        os.environ[SHARED] = tempfile.mkdtemp(prefix="test-run-")
        os.environ[OWNER] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the workers end together; who shares what is made once has one worker."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (group := shares_with(item)):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: -seconds_of(item))


def shares_with(item: pytest.Item) -> str:
    """The name of those that a test shares a costly fixture with: its module's, or what torchrun has left."""
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    if "two_processes" in fixtures:
        return "torchrun"
    own = item.nodeid.partition("::")[0]
    is_shared = any(found[-1].scope == "module" and found[-1].baseid == own for found in fixtures.values())
    return own.replace("/", ".") if is_shared else ""


def seconds_of(item: pytest.Item) -> float:
    """Roughly what a test takes, as its mark ``slow`` says; most take none to speak of."""
    mark = item.get_closest_marker("slow")
    return 0 if mark is None else mark.args[0] if mark.args else 10


def owner() -> int:
    """The number of the process that everything shared ends with."""
    return int(os.environ[OWNER])


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of that name, which the first worker that asks fills by ``make`` while the others wait."""
    folder = Path(os.environ[SHARED]) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
