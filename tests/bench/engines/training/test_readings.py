"""What is read of checkpoints before training: worked out again, one row at a time or by another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import WORDS
from bench.core.contracts import Opened
from bench.core.errors import Unmet
from bench.engines.coding import Texts, collate_texts
from bench.engines.hidden import reading_states
from bench.engines.templates import encode
from bench.engines.training.losses import NextToken
from bench.engines.training.readings import (
    MAPS,
    block_at,
    describe_states,
    fit_maps,
    mean_loss,
    solve_ridge,
    spaced_blocks,
    sum_moments,
)
from bench.lab.model import SPECIAL, small_llama
from bench.lab.networks import ConvNet
from tests.tiny import llama, passage, qa, tokenizer

ROWS = (*(qa(i, f"w{i} w{i % 3} ?", f"w{i + 1} w{i}"[: 2 + 4 * (i % 2)]) for i in range(40)), passage(0, "w1 w2 w3"))


def opened(model: Any) -> Opened:
    return Opened(model, coder=Texts(tokenizer()))


def states_of(model: Any, block: int) -> torch.Tensor:
    """The block's states where answers are predicted, row by row."""
    found = []
    for example in ROWS:
        row = encode(tokenizer(), example.payload)
        with torch.no_grad(), reading_states(model, [block]) as states:
            model(input_ids=torch.tensor([[*row.prompt, *row.answer]]))
        found.append(states[block][0, len(row.prompt) - 1 : row.length - 1])
    return torch.cat(found)


def test_the_loss_is_the_mean_over_rows() -> None:
    model = llama(seed=2)
    each = [NextToken()(model, collate_texts([encode(tokenizer(), row.payload)])).item() for row in ROWS]
    assert mean_loss(opened(model), ROWS) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_the_mean_norm_is_over_all_places() -> None:
    model = llama(seed=2)
    found = describe_states(opened(model), ROWS, 1.0)
    assert (found["block"], found["dimensions"]) == (1, 16)
    assert found["mean_norm"] == pytest.approx(float(states_of(model, 1).norm(dim=-1).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("layers", "depth", "block"), [(32, 0.25, 7), (32, 0.4, 12), (2, 0.4, 0), (2, 1.0, 1), (4, 0.01, 0)]
)
def test_a_share_of_the_depth_is_a_block(layers: int, depth: float, block: int) -> None:
    assert block_at(deep(layers), depth) == block


@pytest.mark.parametrize(
    ("layers", "count", "blocks"), [(32, 6, [4, 9, 15, 20, 25, 31]), (2, 6, [0, 1]), (4, 2, [1, 3]), (4, 1, [3])]
)
def test_blocks_at_equal_distances(layers: int, count: int, blocks: list[int]) -> None:
    assert spaced_blocks(deep(layers), count) == blocks


def deep(layers: int) -> Any:
    return small_llama(len(SPECIAL) + len(WORDS), 8, layers, positions=64, seed=0)


def test_a_classifier_is_refused() -> None:
    with pytest.raises(Unmet, match="decoder blocks"):
        block_at(ConvNet(4), 0.4)


def test_a_map_worked_by_hand() -> None:
    """h = -1, 1 and g = 1, 5: means 0 and 3, variance of h 1, covariance 2; penalty 1: A = 2 / (1 + 1) = 1, b = 3.

    Left: g - (h + 3) = -1 and 1, their mean square 1 of g's variance 4.
    """
    h, g = torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([[1.0], [5.0]]).double()
    weight, bias, left = solve_ridge(sum_moments(h, g), 1.0)
    assert (weight.item(), bias.item(), left) == pytest.approx((1.0, 3.0, 0.25))


def test_without_a_penalty_an_affine_map_is_found_again() -> None:
    rng = torch.Generator().manual_seed(0)
    h, a, b = (torch.randn(*size, generator=rng).double() for size in ((50, 4), (4, 4), (4,)))
    weight, bias, left = solve_ridge(sum_moments(h, h @ a.T + b), 1e-12)
    assert torch.allclose(weight, a, atol=1e-8) and torch.allclose(bias, b, atol=1e-8) and abs(left) < 1e-9


def test_maps_between_two_models_minimise_the_penalised_error(tmp_path: Path) -> None:
    """Another way: least squares on the centred states with sqrt(N penalty) times the identity below them."""
    start, end = llama(seed=2), llama(seed=3)
    left = fit_maps(opened(start), opened(end), ROWS, 6, 0.01, tmp_path)
    maps = load_file(tmp_path / MAPS)
    assert set(left) == {"0", "1"}
    for block in (0, 1):
        h, g = (states_of(model, block).double() for model in (start, end))
        tall = torch.cat([h - h.mean(0), (len(h) * 0.01) ** 0.5 * torch.eye(16).double()])
        solved = torch.linalg.lstsq(tall, torch.cat([g - g.mean(0), torch.zeros(16, 16).double()])).solution
        assert torch.allclose(maps[f"{block}.weight"].double(), solved.T, atol=1e-4)
        error = (g - h @ maps[f"{block}.weight"].double().T - maps[f"{block}.bias"].double()).square().sum()
        assert left[str(block)] == pytest.approx(float(error / (g - g.mean(0)).square().sum()), abs=1e-4)


def test_a_model_maps_to_itself(tmp_path: Path) -> None:
    """Up to the penalty: nothing is left of the variance as it vanishes."""
    model = opened(llama(seed=2))
    assert max(fit_maps(model, model, ROWS, 2, 1e-9, tmp_path).values()) < 1e-3
