"""A model in parts: two processes train it as one does, and go on where they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.core.errors import UserError
from bench.engines.training.trainer import StepData, resumable_checkpoint
from tests import ranks


@pytest.fixture(scope="module")
def folder(two_processes: Path) -> Path:
    """The folder that two processes have left of every case of `tests.ranks.everything`."""
    return two_processes


@pytest.fixture(scope="module")
def each(folder: Path) -> Any:
    """The facts that each of the two processes saw."""
    return json.loads((folder / "facts.json").read_text())


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
