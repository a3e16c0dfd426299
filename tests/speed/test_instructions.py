"""What the comparison of instruction sets says of weights and scores that are chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.factories import record
from tests.speed.instructions import ROWS, Made, distance, is_equal, render

PRIMARY = {"kept": "retain_accuracy"}


def made(shift: float, seeds: int) -> Made:
    """Scores of .9 and the seed's tenth, and two tensors of norm 5 together, moved by ``shift`` where a row is unlearned."""
    records, weights = {}, {}
    for row in ROWS:
        moved = shift if row in ("msa", "npo") else 0.0
        weights[row] = {"a": torch.tensor([3.0 + 5 * moved]), "b": torch.tensor([0.0, 4.0])}
        for seed in range(seeds):
            one = record(row, seed, {"retain_accuracy": 0.5 + seed / 10 + moved})
            records[row, seed] = replace(one, facts={**one.facts, "primary": PRIMARY})
    return Made(records, weights)


def test_weights_are_compared_to_the_bit_and_by_their_distance() -> None:
    one, other = made(0.0, 1).weights["msa"], made(0.25, 1).weights["msa"]
    assert is_equal(one, dict(one)) and not is_equal(one, other) and not is_equal(one, {"a": one["a"]})
    assert distance(one, one) == 0 and distance(one, other) == pytest.approx(0.25)


def test_the_tables_hold_differences_against_the_spread_over_seeds() -> None:
    weights, scores = render({"avx512": made(0.0, 3), "avx2": made(0.25, 1)}).split("\n\n")[1:]
    assert "| target | avx2 | yes | 0.0e+00 |" in weights and "| msa | avx2 | no | 2.5e-01 |" in weights
    assert "| msa | retain_accuracy | 0.500 | 0.250 | 0.100 |" in scores
    assert "| retrain | retain_accuracy | 0.500 | 0 | 0.100 |" in scores
