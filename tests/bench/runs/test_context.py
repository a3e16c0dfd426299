"""The context of a run: what makes two requests the same node, who owns it, and that it is computed once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.core.contracts import Recipe, Stream
from bench.core.errors import Busy
from bench.core.types import Checkpoint, Json
from bench.engines.coding import Texts
from bench.engines.loaders import open_checkpoint
from bench.engines.training.losses import NextToken
from bench.engines.training.trainer import train
from bench.runs.context import Work
from bench.runs.store import Store
from tests.tiny import bits, llama, qa, saved, tokenizer

ROWS = tuple(qa(i, f"w{i} ?", f"w{i + 1} w{i + 2}") for i in range(6))
STREAMS = (Stream(ROWS, 4, NextToken()),)
RECIPE = Recipe(2, 1e-2)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return saved(llama(seed=3), tokenizer(), tmp_path_factory.mktemp("start"), "start")


def context(folder: Path, seed: int = 0, **options: Any) -> Work:
    """What one process has: a store of its own over the same folder."""
    return Work(Store(folder), seed=seed, provenance={"commit": "abc"}, **options)


def counted(said: str = "made") -> tuple[list[Path], Callable[[Path], Json]]:
    """A build that writes one file, and the folders that it was called with."""
    calls: list[Path] = []

    def make(folder: Path) -> Json:
        calls.append(folder)
        (folder / "file").write_text(said)
        return {"said": said}

    return calls, make


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(str(Path(checkpoint.path) / "model.safetensors"))
    return found


def test_the_same_fields_are_the_same_node_whatever_its_label(tmp_path: Path) -> None:
    calls, make = counted()
    one, other = context(tmp_path), context(tmp_path, seed=5)
    first = one.node({"kind": "test", "of": [1, 2]}, make, "a node")
    second = other.node({"of": [1, 2], "kind": "test"}, make, "under another label")
    assert len(calls) == 1 and first.key == second.key and first.path == second.path
    assert second.info["label"] == "a node" and second.info["meta"]["said"] == "made"
    assert second.info["provenance"] == {"commit": "abc"}
    assert one.built == {first.key} and other.built == set(), "only the builder has built it"
    assert list(one.nodes) == list(other.nodes) == [first.key], "both have used it"


def test_another_owner_has_another_node_and_both_are_collected(tmp_path: Path) -> None:
    """A method that asks for the oracle's training gets a node of its own, and the run's cost counts both."""
    calls, make = counted()
    work = context(tmp_path)
    own = work.on_behalf_of("method")
    nodes = [each.node({"kind": "test"}, make, "a node") for each in (work, own, work.on_behalf_of("measure"))]
    assert len({node.key for node in nodes}) == len(calls) == 3
    assert [node.info["fields"]["owner"] for node in nodes] == ["task", "method", "measure"]
    assert set(work.nodes) == set(own.nodes) == work.built == {node.key for node in nodes}


def test_a_cached_folder_keeps_its_files_and_is_no_node_of_another_kind(tmp_path: Path) -> None:
    calls, make = counted("a table")
    one = context(tmp_path).cached({"of": "rows"}, make, "table")
    again = context(tmp_path).cached({"of": "rows"}, make, "table")
    assert one == again and (again / "file").read_text() == "a table"
    assert context(tmp_path).node({"of": "rows"}, make, "table").path != one and len(calls) == 2


def test_progress_is_reported_while_a_node_is_built_and_not_when_it_is_found(tmp_path: Path) -> None:
    events: list[Any] = []
    for _ in range(2):
        context(tmp_path, report=events.append).node({"kind": "test"}, counted()[1], "a node")
    assert [(event["stage"], event["status"]) for event in events] == [("a node", "start"), ("a node", "done")]
    assert events[1]["seconds"] >= 0


def test_who_may_not_wait_is_told_that_the_node_is_being_built(tmp_path: Path) -> None:
    calls, make = counted()
    work = context(tmp_path, wait=False)
    key = work.node({"kind": "test"}, make, "a node").key
    shutil.rmtree(Store(tmp_path).path(key))
    lease = tmp_path / "leases" / f"{key}.json"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 1, "nonce": "x"}))
    with pytest.raises(Busy):
        context(tmp_path, wait=False).node({"kind": "test"}, make, "a node")
    lease.unlink()
    assert context(tmp_path, wait=False).node({"kind": "test"}, make, "a node").key == key and len(calls) == 2


def test_training_is_the_trainers_and_done_once(start: Checkpoint, tmp_path: Path) -> None:
    """Bit for bit what the training loop makes of the same model, rows and seed."""
    work = context(tmp_path / "store", seed=7)
    made = work.train(start, STREAMS, RECIPE, "tuned")
    by_hand = open_checkpoint(start).model.train()
    done = train(
        by_hand, Texts(tokenizer()), STREAMS, RECIPE, seed=7, out=tmp_path / "out", scratch=tmp_path / "scratch"
    )
    assert bits(open_checkpoint(made).model) == bits(open_checkpoint(replace(start, path=str(tmp_path / "out"))).model)
    [node] = work.nodes.values()
    meta = node.info["meta"]
    assert meta["tokens"] == done.tokens > 0 and meta["steps"] == 2 and meta["checkpoint"] == made.hash
    assert meta["parameters"] == sum(weight.numel() for weight in by_hand.parameters())
    assert made.label == "tuned" and made.dtype == "float32" and made.path == str(node.path)
    again = context(tmp_path / "store", seed=7)
    assert again.train(start, STREAMS, RECIPE, "tuned") == made and again.built == set()


@pytest.mark.parametrize(
    ("seed", "streams", "recipe", "options"),
    [
        (1, STREAMS, RECIPE, {}),
        (0, (Stream(ROWS[:5], 4, NextToken()),), RECIPE, {}),
        (0, (Stream(ROWS, 3, NextToken()),), RECIPE, {}),
        (0, STREAMS, Recipe(2, 2e-2), {}),
        (0, STREAMS, RECIPE, {"save_every": 1}),
        (0, STREAMS, RECIPE, {"checkpointing": True}),
    ],
    ids=["seed", "rows", "batch", "learning rate", "states", "checkpointing"],
)
def test_what_changes_the_weights_is_another_node_and_what_does_not_is_none(
    seed: int, streams: Any, recipe: Recipe, options: dict[str, Any], start: Checkpoint, tmp_path: Path
) -> None:
    """Resumable states, and activations that are computed again, change no number."""
    one = context(tmp_path).train(start, STREAMS, RECIPE, "tuned")
    other = context(tmp_path, seed=seed, **options)
    made = other.train(start, streams, recipe, "tuned")
    assert (made.hash == one.hash) == bool(options)
    assert (other.built == set()) == bool(options)


def test_snapshots_lie_in_the_node_of_their_training(start: Checkpoint, tmp_path: Path) -> None:
    node = context(tmp_path).train_node(start, STREAMS, RECIPE, "history", snapshots=(1, 2))
    kept = node.info["meta"]["snapshots"]
    assert list(kept) == ["1", "2"] and kept["2"]["checkpoint"] == node.info["meta"]["checkpoint"]
    assert 0 < kept["1"]["tokens"] < kept["2"]["tokens"] == node.info["meta"]["tokens"]
    assert {path.name for path in node.path.glob("step-*")} >= {"step-000001"}


def test_a_sum_of_checkpoints_by_hand(start: Checkpoint, tmp_path: Path) -> None:
    """theta_D + 1.5 * (theta_1 - theta_0), entry by entry; its terms are in its fields."""
    work = context(tmp_path / "store")
    tuned = work.train(start, STREAMS, RECIPE, "tuned")
    other = saved(llama(seed=4), tokenizer(), tmp_path / "target", "target")
    made = work.combine([(1.0, other), (1.5, tuned), (-1.5, start)], "unlearned")
    for name, tensor in weights(made).items():
        expected = weights(other)[name] + 1.5 * (weights(tuned)[name] - weights(start)[name])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-5)
    node = next(node for node in work.nodes.values() if node.info["label"] == "unlearned")
    assert node.info["fields"]["terms"] == [[1.0, other.hash], [1.5, tuned.hash], [-1.5, start.hash]]
    assert made.label == "unlearned" and node.info["meta"]["checkpoint"] == made.hash


def test_a_cast_rounds_the_weights_and_says_so(start: Checkpoint, tmp_path: Path) -> None:
    made = context(tmp_path).cast(start, "bfloat16")
    assert made.dtype == "bfloat16" and made.label == "start in bfloat16"
    for name, tensor in weights(made).items():
        assert torch.equal(tensor, weights(start)[name].bfloat16())
