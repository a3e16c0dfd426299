"""Stable rank and relative norm of an update: by hand, and against the whole singular value decomposition."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import Unmet, UserError
from bench.engines.arithmetic.updates import describe_update, largest_singular_value
from tests.tiny import llama, saved, tokenizer
from tests.weights import folder

NAME = "model.layers.{}.mlp.up_proj.weight"


def test_by_hand(tmp_path: Path) -> None:
    """Block 0: |D|^2 = 3^2 + 4^2 over |W|^2 = 10^2, stable rank 25 / 16. Block 2: rank 1, |D|^2 = 4 over |W|^2 = 4.

    Together sqrt(29 / 104), and the mean of 25 / 16 and 1. The embedding has moved too, and is no part of a block.
    """
    before = {NAME.format(0): torch.diag(torch.tensor([10.0, 0, 0])), NAME.format(2): torch.ones(2, 2)}
    after = {NAME.format(0): torch.diag(torch.tensor([13.0, 4, 0])), NAME.format(2): torch.full((2, 2), 2.0)}
    one = folder(tmp_path / "one", before | {"embed.weight": torch.ones(2, 2)})
    two = folder(tmp_path / "two", after | {"embed.weight": torch.zeros(2, 2)})
    found = describe_update(one, two)
    assert found["blocks"] == [[0.5, 1.5625], [1.0, 1.0]]
    assert found["relative_norm"] == pytest.approx(math.sqrt(29 / 104), abs=1e-6)
    assert found["stable_rank"] == 1.28125


def test_what_has_not_moved_has_no_rank(tmp_path: Path) -> None:
    model = saved(llama(), tokenizer(), tmp_path / "model")
    found = describe_update(model, model)
    assert found == {"relative_norm": 0.0, "stable_rank": None, "blocks": [[0.0, None], [0.0, None]]}
    zero = folder(tmp_path / "zero", {NAME.format(0): torch.zeros(2, 2)})
    eye = folder(tmp_path / "eye", {NAME.format(0): torch.eye(2)})
    assert describe_update(zero, eye) == {"relative_norm": None, "stable_rank": 2.0, "blocks": [[None, 2.0]]}


def test_each_expert_counts_for_itself(tmp_path: Path) -> None:
    """Three experts: one moves in one direction, one in two, one not at all: the mean of 1 and 2."""
    name = "model.layers.0.mlp.experts.gate_up_proj"
    start, end = torch.ones(3, 2, 4), torch.ones(3, 2, 4)
    end[0, 0] += 1
    end[1, 0, 0] += 1
    end[1, 1, 1] += 1
    found = describe_update(folder(tmp_path / "a", {name: start}), folder(tmp_path / "b", {name: end}))
    assert found["stable_rank"] == 1.5 and found["relative_norm"] == pytest.approx(math.sqrt(6 / 24))


def test_a_bfloat16_model_is_compared_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(40, 30).bfloat16()
    moved = weight.float() + 1e-6 * torch.eye(40, 30)
    found = describe_update(
        folder(tmp_path / "a", {NAME.format(0): weight}), folder(tmp_path / "b", {NAME.format(0): moved})
    )
    change = moved - weight.float()
    assert found["relative_norm"] == pytest.approx(float(change.norm() / weight.float().norm()), rel=1e-5)
    assert found["stable_rank"] == pytest.approx(
        float(change.norm() / torch.linalg.matrix_norm(change, 2)) ** 2, rel=1e-3
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5), st.integers(0, 1000), st.floats(0, 1))
def test_the_largest_singular_value_is_that_of_the_whole_decomposition(
    rows: int, columns: int, rank: int, seed: int, noise: float
) -> None:
    torch.manual_seed(seed)
    matrix = torch.randn(rows, rank) @ torch.randn(rank, columns) + noise * torch.randn(rows, columns)
    matrix /= matrix.norm()
    wanted = float(torch.linalg.matrix_norm(matrix.double(), 2))
    assert largest_singular_value(matrix) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_no_finite_numbers_are_refused(number: float, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {NAME.format(0): torch.ones(2, 2)})
    two = folder(tmp_path / "two", {NAME.format(0): torch.full((2, 2), number)})
    for pair in ((one, two), (two, one)):
        with pytest.raises(Unmet, match="no finite numbers"):
            describe_update(*pair)


def test_models_of_other_shapes_are_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {NAME.format(0): torch.ones(2, 2)})
    two = folder(tmp_path / "two", {NAME.format(0): torch.ones(2, 3)})
    with pytest.raises(UserError, match="shape"):
        describe_update(one, two)
