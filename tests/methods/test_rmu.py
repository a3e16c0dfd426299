"""RMU: its losses by hand, the control vector, the weights that it trains, and what the record says of both."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import Unmet
from bench.core.types import Checkpoint
from bench.engines.coding import collate_texts
from bench.engines.hidden import reading_states
from bench.engines.templates import encode
from bench.lab.networks import ConvNet, ImageCoder
from bench.runs.method_context import Ledger, MethodContext
from methods.rmu import RMU, KeepStates, Misdirect, draw_direction, mlp_weights
from tests.families import random_model
from tests.tiny import llama, qa, tokenizer

ROWS = [encode(tokenizer(), row.payload) for row in (qa(0, "w1 ?", "w2"), qa(1, "w3 w4 ?", "w5 w6 w7"))]


def states_of(model: Any, block: int) -> list[torch.Tensor]:
    """Of each row the block's states where its answer's tokens are predicted, one row at a time, without padding."""
    found = []
    for row in ROWS:
        with torch.no_grad(), reading_states(model, [block]) as states:
            model(input_ids=torch.tensor([[*row.prompt, *row.answer]]))
        found.append(states[block][0, len(row.prompt) - 1 : row.length - 1])
    return found


@pytest.mark.parametrize("block", [0, 1])
def test_the_loss_is_the_mean_squared_distance_from_the_control_vector(block: int) -> None:
    model = llama(seed=3)
    drawn = torch.rand(16, generator=torch.Generator().manual_seed(5))
    aim = 4.0 * drawn / drawn.norm()
    expected = [float((states - aim).square().mean()) for states in states_of(model, block)]
    loss = Misdirect(block, 4.0, 5)(model, collate_texts(ROWS))
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)


def test_as_the_control_vector_vanishes_it_is_the_mean_square_of_the_states() -> None:
    model = llama(seed=3)
    expected = [float(states.square().mean()) for states in states_of(model, 0)]
    assert Misdirect(0, 1e-9, 5)(model, collate_texts(ROWS)).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_retain_loss_is_the_distance_from_the_targets_states() -> None:
    model, target = llama(seed=3), llama(seed=4)
    pairs = zip(states_of(model, 1), states_of(target, 1), strict=True)
    batch = replace(collate_texts(ROWS), target=target)
    loss = KeepStates(1)(model, batch)
    assert loss.tolist() == pytest.approx([float((ours - theirs).square().mean()) for ours, theirs in pairs], rel=1e-5)
    loss.sum().backward()
    assert all(parameter.grad is None for parameter in target.parameters())


def test_at_the_first_step_the_retain_loss_and_its_gradient_are_zero() -> None:
    model = llama(seed=3)
    loss = KeepStates(1)(model, replace(collate_texts(ROWS), target=llama(seed=3)))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_the_control_vector_has_norm_one_and_follows_from_the_seed() -> None:
    one = draw_direction(64, 0)
    assert float(one.norm()) == pytest.approx(1.0, abs=1e-6) and bool((one >= 0).all())
    assert torch.equal(one, draw_direction(64, 0)) and not torch.equal(one, draw_direction(64, 1))


def test_a_classifier_has_no_blocks_to_read() -> None:
    coder = ImageCoder()
    batch = coder.collate([coder.encode({"pixels": [0] * 64, "answer": 3})])
    with pytest.raises(Unmet, match="decoder blocks"):
        Misdirect(0, 1.0, 0)(ConvNet(4), batch)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("Llama 3", "model.layers.{}.mlp.down_proj.weight"),
        ("GPT-2", "transformer.h.{}.mlp.c_proj.weight"),
        ("GPT-NeoX, Pythia", "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight"),
        ("OPT", "model.decoder.layers.{}.fc2.weight"),
        ("Mixtral", "model.layers.{}.mlp.experts.down_proj"),
        ("Gemma 3 with images", "model.language_model.layers.{}.mlp.down_proj.weight"),
    ],
)
def test_the_trained_weights_are_the_last_of_each_mlp(family: str, name: str) -> None:
    names = [each for each, _ in random_model(family).named_parameters()]
    assert [each for each in names if re.fullmatch(mlp_weights(0), each)] == [name.format(0)]
    assert [each for each in names if re.fullmatch(mlp_weights(1), each)] == [name.format(0), name.format(1)]


def test_they_are_of_the_block_that_is_read_and_of_the_two_before_it() -> None:
    names = [f"model.layers.{block}.mlp.down_proj.weight" for block in range(32)]
    assert [each for each in names if re.fullmatch(mlp_weights(7), each)] == names[5:8]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("rmu"))


def unlearn(place: TinyScenario, name: str, **params: Any) -> tuple[Checkpoint, dict[str, Any]]:
    ledger = Ledger(set(), set())
    result = RMU(**{"steps": 2, "lr": 1e-2} | params).unlearn(place.request, MethodContext(place.work(name), ledger))
    return result, ledger.notes["control_vector"]


def test_the_record_says_which_vector_it_was(place: TinyScenario) -> None:
    _, relative = unlearn(place, "relative", c=2.0)
    _, absolute = unlearn(place, "absolute", c=3.0, units="absolute")
    assert (relative["block"], relative["dimensions"]) == (0, 16)
    assert relative["norm"] == pytest.approx(2.0 * relative["mean_norm"]) and absolute["norm"] == 3.0
    drawn = (3.0 * draw_direction(16, 0)).numpy().tobytes()
    assert absolute["sha256"] == hashlib.sha256(drawn).hexdigest() != relative["sha256"]


def test_other_weights_stay_as_they_were(place: TinyScenario) -> None:
    before = load_file(Path(place.request.target.path) / "model.safetensors")
    for trained, expected in (("mlp", {"model.layers.0.mlp.down_proj.weight"}), ("all", None)):
        result, _ = unlearn(place, f"trained-{trained}", trained=trained)
        after = load_file(Path(result.path) / "model.safetensors")
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == expected if expected else len(moved) > 5


def test_the_states_come_nearer_to_the_control_vector(place: TinyScenario) -> None:
    from bench.engines.loaders import open_checkpoint

    result, vector = unlearn(place, "nearer", steps=20, batch=6)
    loss = Misdirect(vector["block"], vector["norm"], 0)
    rows = [encode(tokenizer(), row.payload) for row in place.request.forget]
    before, after = (
        loss(open_checkpoint(each).model, collate_texts(rows)).mean().item() for each in (place.request.target, result)
    )
    assert after < 0.8 * before


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert RMU().problems() == [] and RMU().holds_target() and not RMU(retain_loss="nll").holds_target()
    assert RMU(depth=0.0, c=-1.0, retain_loss="state").problems() == [
        "Unknown rmu.retain_loss 'state'. Did you mean 'states'? Known: kl, nll, states.",
        "rmu.depth must be above 0 and at most 1, not 0.0.",
        "rmu.c must be above 0, not -1.0.",
    ]
