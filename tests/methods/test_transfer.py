"""Checkpoint activation transfer: its loss worked out apart, its weights' ramps, and what it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import Unmet
from bench.core.types import Checkpoint
from bench.engines.coding import collate_texts
from bench.engines.hidden import reading_states
from bench.engines.loaders import checkpoint_at, open_checkpoint
from bench.engines.templates import encode
from bench.engines.training.losses import KeepDistribution
from bench.engines.training.readings import MAPS
from bench.runs.method_context import Ledger, MethodContext
from methods.transfer import MatchPast, Transfer
from tests.tiny import llama, qa, tokenizer

ROWS = [encode(tokenizer(), row.payload) for row in (qa(0, "w1 ?", "w2"), qa(1, "w3 w4 ?", "w5 w6 w7"))]


def states_of(model: Any, block: int) -> list[torch.Tensor]:
    """Of each row the block's states where its answer's tokens are predicted, without padding."""
    found = []
    for row in ROWS:
        with torch.no_grad(), reading_states(model, [block]) as states:
            model(input_ids=torch.tensor([[*row.prompt, *row.answer]]))
        found.append(states[block][0, len(row.prompt) - 1 : row.length - 1])
    return found


def maps_in(folder: Path, weight: torch.Tensor, bias: torch.Tensor) -> Checkpoint:
    """The same map for both blocks."""
    tensors = {
        f"{block}.{name}": each.clone() for block in (0, 1) for name, each in (("weight", weight), ("bias", bias))
    }
    save_file(tensors, folder / MAPS)
    return checkpoint_at(folder, "maps")


def test_the_loss_is_the_mean_over_blocks_of_the_squared_distance_from_the_mapped_past(tmp_path: Path) -> None:
    model, past = llama(seed=3), llama(seed=4)
    rng = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(16, 16, generator=rng), torch.randn(16, generator=rng)
    loss = MatchPast(maps_in(tmp_path, weight, bias), (0, 1))
    expected = torch.zeros(2)
    for block in (0, 1):
        pairs = zip(states_of(past, block), states_of(model, block), strict=True)
        expected += torch.stack([(h @ weight.T + bias - ours).square().mean() for h, ours in pairs]) / 2
    each = loss(model, replace(collate_texts(ROWS), beside=past))
    assert each.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    each.sum().backward()
    assert all(parameter.grad is None for parameter in past.parameters())


def test_a_past_that_maps_to_the_present_leaves_nothing_to_do(tmp_path: Path) -> None:
    """The identity and the model itself: loss and gradient are 0."""
    model = llama(seed=3)
    loss = MatchPast(maps_in(tmp_path, torch.eye(16), torch.zeros(16)), (0, 1))
    each = loss(model, replace(collate_texts(ROWS), beside=llama(seed=3)))
    each.sum().backward()
    assert each.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-6 for p in model.parameters())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("transfer"))


class Handed(Exception):
    """What was to be trained."""


class Listener(MethodContext):
    def train(self, start: Checkpoint, streams: Any, recipe: Any, label: str) -> Checkpoint:
        raise Handed(start, streams, recipe)


def test_the_weights_are_ramped_and_the_past_lies_beside_the_forget_rows(place: TinyScenario) -> None:
    assert place.request.history is not None
    with pytest.raises(Handed) as handed:
        Transfer().unlearn(place.request, Listener(place.work("handed"), Ledger(set(), set())))
    _, streams, _ = handed.value.args
    past = place.request.history.last.checkpoint
    assert [(each.weight, each.last_weight) for each in streams] == [(5.0, 3.75)] * 2 + [(0.0, 5.0)] * 2
    assert [each.beside for each in streams] == [past, past, None, None]
    assert all(isinstance(each.loss, KeepDistribution) for each in streams[2:])


def test_the_past_is_in_the_ledger_and_the_maps_quality_in_the_record(place: TinyScenario) -> None:
    assert place.request.history is not None
    last = place.request.history.last.checkpoint.hash
    ledger = Ledger({row.id for row in place.request.retain}, {last})
    method = Transfer(steps=1, batch=1, text_batch=1)
    for _ in ("built", "found"):
        ledger.retain_seen.clear()
        method.unlearn(place.request, MethodContext(place.work("ledger"), ledger))
        assert len(ledger.retain_seen) == 14, "the maps are fitted on all of them, however few steps there are"
    assert ledger.past_used == {last}
    left = ledger.notes["variance_left_by_maps"]
    assert set(left) == {"0", "1"} and all(0 <= each < 1 for each in left.values())


def test_the_states_come_nearer_to_the_mapped_past(place: TinyScenario) -> None:
    assert place.request.history is not None
    with pytest.raises(Handed) as handed:
        Transfer(steps=20).unlearn(place.request, Listener(place.work("nearer"), Ledger(set(), set())))
    loss = handed.value.args[1][0].loss
    ctx = MethodContext(place.work("nearer"), Ledger(set(), set()))
    result = Transfer(steps=20, lr=1e-2, batch=6).unlearn(place.request, ctx)
    past = open_checkpoint(place.request.history.last.checkpoint).model
    rows = [encode(tokenizer(), row.payload) for row in place.request.forget]
    before, after = (
        loss(open_checkpoint(each).model, replace(collate_texts(rows), beside=past)).mean().item()
        for each in (place.request.target, result)
    )
    assert after < 0.8 * before


def test_it_needs_a_past(place: TinyScenario) -> None:
    with pytest.raises(Unmet, match="before the forget set was seen"):
        Transfer().unlearn(
            replace(place.request, history=None), MethodContext(place.work("none"), Ledger(set(), set()))
        )


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert Transfer().problems() == []
    assert Transfer().holds_target() and Transfer().holds_beside() == 1
    assert Transfer(blocks=0, penalty=0.0).problems() == [
        "transfer.blocks must be at least 1, not 0.",
        "transfer.penalty must be above 0, not 0.0.",
    ]
