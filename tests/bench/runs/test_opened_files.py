"""How many files of the store are opened: those that are named, however many others there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import tiny_rows
from bench.core.contracts import Recipe, Stream
from bench.core.machine import Machine
from bench.core.types import Checkpoint
from bench.engines.training.losses import descent
from bench.runs.asked import Asked
from bench.runs.context import Work
from bench.runs.estimate import known_rate, room_of
from bench.runs.plan import make_plan
from bench.runs.store import INDEX, NodeRequest, Store
from tests.tiny import llama, saved, tokenizer

FOREIGN = 60
"""Nodes of other runs."""


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[list[str]]:
    """Names of the files below ``root`` that are opened to be read as text, in order."""
    found: list[str] = []
    real = Path.read_text

    def read_text(self: Path, *args: Any, **given: Any) -> str:
        if self.is_relative_to(root):
            found.append(self.relative_to(root).as_posix())
        return real(self, *args, **given)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", read_text)
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
    assert work.built and files.count(INDEX) == 1, "what is built is expected to take as long as others took"
    [key] = work.nodes
    with opened(monkeypatch, store.root) as files:
        again = trained(store, start)
    assert not again.built and files == [store.path(key).relative_to(store.root).as_posix() + "/node.json"]


def test_a_plan_opens_the_index_and_no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    foreign_nodes(store)
    with opened(monkeypatch, store.root) as files:
        plan = make_plan(Asked("tofu", ("msa",), seeds=(0,)), Machine(tmp_path / "out", store.root))
        room_of(plan.compute, plan.machine, plan.size, store)
    assert len(plan.todo) == 3 and files == [INDEX]


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
    assert len(store.index()) == FOREIGN + 1, "the first node that is published enters all that were there before"


def test_damaged_lines_are_passed_over_and_the_last_word_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lines = ['{"key": "a", "bytes": 1, "device": "cpu"}', "{", "[]", "{}", '{"key": "a", "bytes": 2, "device": "cpu"}']
    (tmp_path / INDEX).write_text("\n".join(lines))
    assert store.index() == [{"key": "a", "bytes": 2, "device": "cpu"}]
    assert json.loads(lines[0])["bytes"] == 1
