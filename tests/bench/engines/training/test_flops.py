"""Counting FLOPs: a product by hand, a Llama by its shapes and by the rule of six, and a method's share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bench.conformance import WORDS
from bench.core.contracts import Node
from bench.core.sampling import evenly_spread
from bench.core.types import Checkpoint
from bench.engines.loaders import checkpoint_at
from bench.engines.training.flops import ROWS, count_flops, training_flops
from bench.engines.training.trainer import save_model
from bench.lab.model import SPECIAL
from bench.runs.context import Work
from bench.runs.facts import flops_node, method_flops
from bench.runs.store import Store
from tests.tiny import llama, passage, qa, tokenizer

WIDTH = 64
LENGTH = 5
"""Tokens of a passage: the first token and four words."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("small")
    save_model(llama(width=WIDTH), tokenizer(), folder)
    return checkpoint_at(folder, "small")


def passages(number: int = 3) -> list:  # type: ignore[type-arg]
    return [passage(i, " ".join(WORDS[i : i + LENGTH - 1])) for i in range(number)]


@pytest.mark.parametrize(("inputs_learn", "training"), [(False, 240), (True, 360)])
def test_a_linear_layer_by_hand(inputs_learn: bool, training: int) -> None:
    """(5, 3) times (3, 4): 5 * 3 * 4 products and sums; once more for the weights' gradients, and for the inputs'."""
    layer, inputs = nn.Linear(3, 4, bias=False), torch.ones(5, 3, requires_grad=inputs_learn)
    found = count_flops(lambda: layer(inputs).sum())
    assert (found.forward, found.training) == (2 * 5 * 3 * 4, training)


def test_a_llama_by_its_shapes(small: Checkpoint) -> None:
    """Per token and layer 4 w^2 for attention's matrices and 3 * 3w^2 for the others, scores and their use over all T
    places, and the head where an answer's token follows: at all places but the last."""
    vocabulary = len(SPECIAL) + len(WORDS)
    block = 4 * WIDTH**2 + 9 * WIDTH**2 + 2 * LENGTH * WIDTH
    each_row = 2 * (LENGTH * 2 * block + (LENGTH - 1) * vocabulary * WIDTH)
    found = training_flops(small, passages())
    assert found["forward_per_token"] == round(each_row / LENGTH)
    assert found["training_per_token"] == round(3 * each_row / LENGTH)


def test_the_rule_of_six(small: Checkpoint) -> None:
    """About six for each parameter and token; here attention adds as little as the last place's head takes away."""
    found = training_flops(small, passages())
    assert found["parameters"] == sum(p.numel() for p in llama(width=WIDTH).parameters())
    assert found["training_per_token"] == pytest.approx(6 * found["parameters"], rel=0.05)


def test_padding_is_computed_and_is_no_token(small: Checkpoint) -> None:
    short = passage(0, WORDS[0])
    alone = training_flops(small, [passages()[0]])
    padded = training_flops(small, [passages()[0], short])
    assert padded["training_per_token"] > 1.3 * alone["training_per_token"]


def test_passages_and_questions_are_counted_apart(small: Checkpoint) -> None:
    """As in training they pad one another nowhere: the whole is between its parts."""
    asked = [qa(i, WORDS[i], WORDS[i + 1]) for i in range(2)]
    one, other, both = (
        training_flops(small, rows)["forward_per_token"] for rows in (passages(), asked, passages() + asked)
    )
    assert min(one, other) < both < max(one, other)


def test_rows_are_taken_at_equal_distances() -> None:
    rows = passages(3 * ROWS)
    assert evenly_spread(rows, ROWS) == tuple(rows[::3]) and evenly_spread(rows[:2], ROWS) == tuple(rows[:2])


def test_the_count_is_a_node_of_shape_and_rows_alone(small: Checkpoint, tmp_path: Path) -> None:
    """Other weights of the same config find it; other rows don't."""
    work = Work(Store(tmp_path / "store"), seed=0, provenance={})
    save_model(llama(seed=1, width=WIDTH), tokenizer(), tmp_path / "other")
    first = flops_node(small, passages(), work)
    assert flops_node(checkpoint_at(tmp_path / "other", "other"), passages(), work).key == first.key
    assert flops_node(small, passages(2), work).key != first.key
    assert first.info["fields"]["owner"] == "measure"


def test_a_methods_flops_are_its_tokens_and_its_terms() -> None:
    """1,000 and 500 tokens at 60 each; four terms of 10 parameters, a product and a sum for each."""

    def node(meta: dict, **fields: object) -> Node:  # type: ignore[type-arg]
        return Node("", Path(), {"meta": meta, "fields": fields})

    own = [
        node({"tokens": 1000}, kind="train"),
        node({"tokens": 500}, kind="train"),
        node({}, kind="combine", terms=[[1.0, "a"], [-1.0, "b"], [0.5, "c"], [0.5, "d"]]),
    ]
    counted = {"forward_per_token": 20, "training_per_token": 60, "parameters": 10, "peak_bytes": 1}
    assert method_flops(own, counted) == {
        "training": 90_000,
        "arithmetic": 80,
        "forward_per_token": 20,
        "training_per_token": 60,
        "parameters": 10,
    }
