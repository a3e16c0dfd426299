"""A model in parts: two processes, and four, train it as one does, and go on where they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from bench.core.errors import UserError
from bench.engines.training.sharding import SHARDS
from bench.engines.training.trainer import StepData, resumable_checkpoint
from tests import ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(two_processes: Path) -> Path:
    """The folder that two processes have left of every case of `tests.ranks.everything`."""
    return two_processes


@pytest.fixture(scope="module")
def each(folder: Path) -> Any:
    """The facts that each of the two processes saw."""
    return json.loads((folder / "facts.json").read_text())


@pytest.fixture(scope="module")
def of_four(four_processes: Path) -> Any:
    """The facts that each of four processes saw."""
    return json.loads((four_processes / "facts.json").read_text())


def losses(curve: Any) -> list[float]:
    return [point["loss"] for point in curve]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def assert_close(a: Path, b: Path, most: float) -> None:
    one, two = weights(a), weights(b)
    assert sorted(one) == sorted(two), "tied weights stand in a file once"
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=most, rtol=0)


def test_two_processes_train_as_one_does(folder: Path, each: Any, tmp_path: Path) -> None:
    """Rows that don't divide by two, micro-batches in which a process has none, NPO's reference, clipped gradients."""
    parts = [part for item in StepData(ranks.STREAMS, 6, 0, 2 * 2) for part in item]
    assert len(parts) == 6 * 2 * 2 and {len(part.rows) for part in parts} == {1, 2, 3}
    alone = ranks.trained(tmp_path)
    for facts in each:
        assert losses(facts["curve"]) == pytest.approx(losses(alone.curve), abs=1e-5)
        assert facts["tokens"] == alone.tokens
    assert_close(tmp_path / "out", folder / "whole" / "out", 1e-5)
    names = [{file.name for file in (place / "out").iterdir()} for place in (tmp_path, folder / "whole")]
    assert names[0] == names[1]
    config = "out/config.json"
    assert (tmp_path / config).read_text() == (folder / "whole" / config).read_text()


def test_the_weights_are_in_parts_while_they_are_trained(each: Any) -> None:
    """Each holds about half of every weight: 7360 together, whole nowhere."""
    assert all(facts["weights"]["parts"] for facts in each)
    assert [facts["weights"]["whole"] for facts in each] == [7360, 7360]
    assert sum(facts["weights"]["here"] for facts in each) == 7360
    assert all(3000 < facts["weights"]["here"] < 4400 for facts in each)


def test_an_interrupted_run_goes_on_where_it_was(folder: Path, each: Any) -> None:
    """Killed in step 5 with a state every 2 steps; the snapshot of step 2 is from before, and the end is the same."""
    assert [facts["resumed"] for facts in each] == [[5, 6], [5, 6]]
    assert_close(folder / "whole" / "out", folder / "resumed" / "out", 1e-6)
    assert_close(folder / "resumed" / "out", folder / "resumed" / "out" / "step-000006", 0.0)
    with pytest.raises(AssertionError):
        assert_close(folder / "resumed" / "out", folder / "resumed" / "out" / "step-000002", 1e-6)


def test_one_process_does_not_go_on_from_the_state_of_two(folder: Path) -> None:
    with pytest.raises(UserError, match=r"interrupted while several processes .* start it as before, or delete"):
        resumable_checkpoint(folder / "resumed" / "scratch")


def test_the_loss_that_ends_training_is_that_of_all_rows(each: Any, tmp_path: Path) -> None:
    """Half of the 5 passages have half of the loss, so that either process alone would stop at once."""
    steps = ranks.until(tmp_path)
    assert 1 < steps < 8
    assert [facts["until"] for facts in each] == [steps, steps]


def test_autocast_keeps_float32_weights_in_parts(folder: Path, each: Any, tmp_path: Path) -> None:
    """The same arithmetic as in one process: bfloat16 rounds differently from float32, but alike in both."""
    alone = ranks.trained(tmp_path, autocast=True, checkpointing=True)
    assert losses(each[0]["autocast"]) == pytest.approx(losses(alone.curve), abs=2e-3)
    assert losses(each[0]["autocast"]) != pytest.approx(losses(each[0]["curve"]), abs=1e-5)
    assert {tensor.dtype for tensor in weights(folder / "autocast" / "out").values()} == {torch.float32}


# Adapters


def test_adapters_are_trained_as_in_one_process(
    folder: Path, four_processes: Path, each: Any, of_four: Any, tmp_path: Path
) -> None:
    """What is written is the whole model with them merged, whatever the number of processes: no file of theirs beside it."""
    alone = ranks.adapted(tmp_path)
    for facts in (*each, *of_four):
        assert losses(facts["adapted"]) == pytest.approx(losses(alone.curve), abs=1e-5)
    start, one = weights(tmp_path / "start"), weights(tmp_path / "out")
    moved = {name for name in one if not torch.equal(one[name], start[name])}
    assert moved == {name for name in one if "_proj" in name} and len(moved) == 14, "every linear layer but the head"
    for place in (folder, four_processes):
        assert_close(tmp_path / "out", place / "adapted" / "out", 1e-6)
        unmoved = weights(place / "adapted" / "out")
        assert all(torch.equal(unmoved[name], start[name]) for name in unmoved.keys() - moved)
        names = [{file.name for file in (at / "out").iterdir()} for at in (tmp_path, place / "adapted")]
        assert names[0] == names[1]
        assert (place / "adapted/out/config.json").read_text() == (tmp_path / "out/config.json").read_text()


def test_interrupted_adapters_go_on_where_they_were(folder: Path, each: Any) -> None:
    assert [facts["went on"] for facts in each] == [[5, 6], [5, 6]]
    assert_close(folder / "adapted" / "out", folder / "adapted again" / "out", 1e-6)


def test_four_processes_go_on_where_two_were_killed(folder: Path, four_processes: Path, of_four: Any) -> None:
    """Of the weights and of adapters; the half run of either ends as the whole one does."""
    assert all(facts["went on"] == [[5, 6], [5, 6]] for facts in of_four)
    for half, whole in (("half trained", "whole"), ("half adapted", "adapted")):
        assert_close(folder / whole / "out", four_processes / half / "out", 1e-5)


def test_a_resumable_state_of_adapters_holds_nothing_else(folder: Path) -> None:
    """Neither the frozen weights nor the head, which is the embedding once more."""
    state = FileSystemReader(folder / "half adapted" / "scratch" / "checkpoint-4" / SHARDS).read_metadata()
    weights = [name for name in state.state_dict_metadata if name.startswith("weights.")]
    assert len(weights) == 2 * 14 and all(".lora_" in name for name in weights)


# Memory


def test_the_memory_of_a_process_falls_with_their_number(each: Any, of_four: Any) -> None:
    """Weights, gradients and two moments are four times the weights in one process: of four each has a quarter.

    Beside its part a process has some blocks whole (a tenth of the weights each): one that is computed with, its gradient, and
    what is on the way to the others.
    """
    two, four = ([facts["grown"]["written"] for facts in found] for found in (each, of_four))
    assert max(two) < 0.75 * 4 * ranks.LARGE and max(four) < 0.5 * 4 * ranks.LARGE
    assert max(four) < 0.75 * min(two)
    for facts in (*each, *of_four):
        assert facts["grown"]["written"] < facts["grown"]["trained"] + 0.1 * ranks.LARGE, (
            "the way out gathers a tensor at a time"
        )


# Measuring


def test_generated_rows_are_shared_out_and_come_back_in_order(each: Any, of_four: Any, tmp_path: Path) -> None:
    """Eleven rows, seven drawn twice, and one row for all; the texts are those of one process."""
    alone = json.loads(json.dumps(ranks.said(tmp_path)))
    assert [len(rows) for rows in alone.values()] == [11, 7, 1]
    assert each[0]["said"] == alone == of_four[0]["said"]
