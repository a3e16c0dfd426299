"""How many files of the store are opened: those that are named, however many others there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.conformance import tiny_rows
from bench.core.compute import Compute
from bench.core.contracts import Outline, Recipe, Stream
from bench.core.files import read_small
from bench.core.machine import Machine
from bench.core.types import Checkpoint
from bench.engines.training.losses import descent
from bench.runs import nodes
from bench.runs import store as store_module
from bench.runs.asked import Asked
from bench.runs.context import Work
from bench.runs.estimate import estimate, known_rate, room_of
from bench.runs.plan import make_plan
from bench.runs.store import INDEX, NodeRequest, Store
from tests.tiny import llama, saved, tokenizer

FOREIGN = 60
"""Nodes of other runs."""


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[list[str]]:
    """Names of the store's own files below ``root`` that are read, in order, without leases."""
    found: list[str] = []

    def read(path: Path, most: int) -> bytes:
        found.append(path.relative_to(root).as_posix())
        return read_small(path, most)

    with monkeypatch.context() as patch:
        patch.setattr(nodes, "read_small", read)
        patch.setattr(store_module, "read_small", read)
        yield found


def foreign_nodes(store: Store, count: int = FOREIGN) -> None:
    """Small published nodes that say how long they trained."""
    for number in range(count):
        meta = {"tokens": 500, "parameters": 1000, "train_seconds": 2.0}
        asked = NodeRequest({"foreign": number}, "foreign", {"device": "cpu"})
        store.build(asked, lambda folder, meta=meta: meta)


def trained(store: Store, start: Checkpoint) -> Work:
    """One training node, in a process that knows nothing of the store yet."""
    work = Work(Store(store.root), seed=0, provenance={})
    work.train(start, [Stream(tiny_rows("forget", 0), 4, descent())], Recipe(2, 1e-3), "tuned")
    return work


def test_a_cached_node_is_opened_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, start = Store(tmp_path / "store"), saved(llama(), tokenizer(), tmp_path / "start")
    foreign_nodes(store)
    with opened(monkeypatch, store.root) as files:
        work = trained(store, start)
    [key] = work.nodes
    own = store.path(key).relative_to(store.root).as_posix() + "/node.json"
    assert work.built and files.count(INDEX) == 1, "what is built is expected to take as long as others took"
    assert set(files) == {INDEX, own}
    with opened(monkeypatch, store.root) as files:
        again = trained(store, start)
    assert not again.built and files == [own]


def test_a_plan_opens_the_index_and_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    foreign_nodes(store)
    with opened(monkeypatch, store.root) as files:
        plan = make_plan(Asked("tofu", ("msa",), seeds=(0,)), Machine(tmp_path / "out", store.root))
        room_of(plan.compute, plan.machine, plan.size, store)
    assert len(plan.todo) == 3 and set(files) == {INDEX}


def test_where_nothing_is_to_be_run_no_rate_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    foreign_nodes(store)
    with opened(monkeypatch, store.root) as files:
        estimate([], Outline(1000, 10, {}, 8, 30, 50), Compute(), Machine(tmp_path / "out", store.root), store)
    assert files == []


def test_a_store_from_before_the_index_is_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    foreign_nodes(store)
    (store.root / INDEX).unlink()
    assert known_rate(store, 1000) == 1.5e6
    with opened(monkeypatch, store.root) as files:
        assert known_rate(store, 1000) == 1.5e6
    assert files == [INDEX]
    (store.root / INDEX).unlink()
    foreign_nodes(store, FOREIGN + 1)
    assert len(store.index()) == FOREIGN + 1, "what the index lacks is read once and entered"
