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
    """Slow tests first, so that the workers end together; those that look at what torchrun left on one worker."""
    for item in items:
        if "two_processes" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("torchrun"))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
