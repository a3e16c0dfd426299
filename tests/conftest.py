from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.guards", "tests.shell", "tests.sharing"]

SMALL = {
    "width": 16,
    "history_passes": 0.1,
    "target_passes": 0.1,
    "authors": 20,
    "corrupted": 4,
    "newcomers": 6,
    "forget_books": 2,
    "retain_books": 3,
    "holdout_books": 3,
    "world_books": 4,
    "further_books": 4,
    "file": str(Path(__file__).with_name("answers.txt")),
    "written": "own",
}
"""Parameters that make a task small and its training quick, where it has them."""


@pytest.fixture(autouse=True, scope="session")
def quiet() -> Iterator[None]:
    """One thread, so that numbers and times don't depend on the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def settled() -> None:
    """Let no collection look at what earlier modules left: each training makes one, and would look at all of the session."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Undo `settled`: what is frozen is no referrer that Hypothesis, loaded now if no test has, would find."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def small() -> Callable[[type], dict[str, Any]]:
    """The entries of `SMALL` that a component has, and few optimiser steps for a method."""

    def pick(cls: type) -> dict[str, Any]:
        wanted = SMALL | {"steps": 3}
        return {field.name: wanted[field.name] for field in dataclasses.fields(cls) if field.name in wanted}

    return pick


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that has learnt a few questions and passages by heart, and others by half: (checkpoint, rows)."""
    from bench.core.contracts import Recipe, Stream
    from bench.engines.coding import Texts
    from bench.engines.training.losses import NextToken
    from bench.engines.training.trainer import train
    from tests.tiny import llama, passage, qa, saved, tokenizer

    rows = (
        *(qa(i, f"w{i} w{i % 3} ?", f"w{(5 * i + 7) % 20}") for i in range(10)),
        *(qa(20 + i, f"w{i} ?", f"w{i + 2} w{i + 9} w{i}") for i in range(4)),
        passage(0, "w1 w2 w3 w4 w5 w6"),
        passage(1, "w9 w8 w7 w6 w5 w1 w2"),
    )
    folder: Path = tmp_path_factory.mktemp("learned")
    model = llama(seed=1, width=32).train()
    train(
        model,
        Texts(tokenizer()),
        [Stream(rows, 16, NextToken())],
        Recipe(70, 1e-2),
        seed=0,
        out=folder / "trained",
        scratch=folder / "scratch",
    )
    return saved(model.eval(), tokenizer(), folder / "model", "learned"), rows


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs of a tiny lab in this process, over one store for the session (`tests.lab_runs.Lab`)."""
    from tests.lab_runs import Lab

    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def finished() -> Any:
    """A finished run of msa on a tiny library, with its store and records (`tests.processes.Place`): to be read only."""
    from tests.processes import Place
    from tests.sharing import made_once

    def make(folder: Path) -> None:
        done = Place(folder).run()
        assert done.returncode == 0, done.stdout + done.stderr

    return Place(made_once("finished", make))


@pytest.fixture(scope="session")
def two_processes() -> Path:
    """The folder that two processes (torchrun) have left of every case of `tests.ranks.everything`."""
    from tests.ranks import torchrun
    from tests.sharing import made_once

    def make(folder: Path) -> None:
        done = torchrun(["tests.ranks", "everything", str(folder)], folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once("two", make)


@pytest.fixture(scope="session")
def four_processes(two_processes: Path) -> Path:
    """The folder that four processes have left of `tests.ranks.four`, which go on where two were killed."""
    from tests.ranks import torchrun
    from tests.sharing import made_once

    def make(folder: Path) -> None:
        for half in two_processes.glob("half *"):
            shutil.copytree(half, folder / half.name)
        done = torchrun(["tests.ranks", "four", str(folder)], folder, processes=4)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once("four", make)
