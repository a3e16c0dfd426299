"""Controls: a mixture with theta_0, random steps as long as the task vector, and a walk away that sees no forget row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.contracts import Batch, Opened, Recipe
from bench.core.errors import Unmet
from bench.core.types import Checkpoint
from bench.engines.training.losses import descent, make_streams
from bench.engines.training.references import Target
from bench.runs.context import add_adapters
from bench.runs.method_context import Ledger, MethodContext
from methods.interpolate import Interpolate
from methods.max_update import FarFromTarget, MaxUpdate
from methods.random_update import RandomUpdate
from methods.task_arithmetic import TaskArithmetic
from tests.tiny import llama, tokenizer

MOVED: dict[str, Any] = {"steps": 4, "lr": 5e-3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("controls"))


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


def context(place: TinyScenario, store: str, seed: int = 0) -> MethodContext:
    work = place.work(store)
    work.seed = seed
    return MethodContext(work, Ledger({row.id for row in place.request.retain}, set()))


# --- towards theta_0


def test_a_mixture_by_hand(place: TinyScenario) -> None:
    """(1 - .25) theta_D + .25 theta_0, in float64 from the files."""
    assert place.request.history is not None
    made = weights(Interpolate(t=0.25).unlearn(place.request, context(place, "mixture")))
    before = weights(place.request.history.last.checkpoint)
    for name, tensor in weights(place.request.target).items():
        wanted = 0.75 * tensor.double() + 0.25 * before[name].double()
        torch.testing.assert_close(made[name].double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_its_ends_are_target_and_theta_0(place: TinyScenario, t: float) -> None:
    assert place.request.history is not None
    made = weights(Interpolate(t=t).unlearn(place.request, context(place, f"end-{t}")))
    end = weights(place.request.history.last.checkpoint if t else place.request.target)
    assert all(torch.equal(tensor, made[name]) for name, tensor in end.items())


def test_it_needs_a_past(place: TinyScenario) -> None:
    with pytest.raises(Unmet, match="before the forget set was seen"):
        Interpolate().unlearn(replace(place.request, history=None), context(place, "none"))


# --- random steps


@pytest.mark.parametrize("kind", ["random", "shuffled"])
def test_a_random_step_is_as_long_as_the_task_vector_and_points_elsewhere(place: TinyScenario, kind: str) -> None:
    target = weights(place.request.target)
    made = weights(RandomUpdate(alpha=1.5, kind=kind, **MOVED).unlearn(place.request, context(place, kind)))
    own = weights(TaskArithmetic(alpha=1.5, **MOVED).unlearn(place.request, context(place, kind)))
    for name, tensor in target.items():
        step, vector = (made[name] - tensor).double().flatten(), (own[name] - tensor).double().flatten()
        assert float(step.norm()) == pytest.approx(float(vector.norm()), rel=1e-3)
        if tensor.dim() > 1:  # a norm's few weights all move alike in four steps, in any order
            assert abs(float(torch.cosine_similarity(step, vector, dim=0))) < 0.5
        if kind == "shuffled":  # task arithmetic steps the other way
            torch.testing.assert_close(step.sort().values, (-vector).sort().values, rtol=0, atol=1e-5)


def test_it_follows_from_the_seed(place: TinyScenario) -> None:
    method = RandomUpdate(**MOVED)
    made = [method.unlearn(place.request, context(place, f"seed-{i}", seed)).hash for i, seed in enumerate((0, 0, 1))]
    assert made[0] == made[1] != made[2]


def test_alpha_0_is_the_target(place: TinyScenario) -> None:
    made = weights(RandomUpdate(alpha=0.0, **MOVED).unlearn(place.request, context(place, "zero")))
    assert all(torch.equal(tensor, made[name]) for name, tensor in weights(place.request.target).items())


# --- far from the target


def squared_distance(one: Checkpoint, other: Checkpoint) -> float:
    theirs = weights(other)
    return sum(float((tensor.double() - theirs[name].double()).square().sum()) for name, tensor in weights(one).items())


def loss_of(model: Any, target: Target) -> torch.Tensor:
    batch = SimpleNamespace(target=target, answer_mask=lambda: torch.ones(3, 2, dtype=torch.bool))
    return FarFromTarget()(model, cast(Batch, batch))


def test_the_distance_by_hand() -> None:
    """One weight moved by .5 and another by -2: .25 + 4 = 4.25, for each of three rows; its gradient is -2 d a row."""
    model = llama(seed=0)
    target = Target(model)
    assert loss_of(model, target).tolist() == [0, 0, 0]
    model.requires_grad_(True)
    weight = model.model.norm.weight
    with torch.no_grad():
        weight[0] += 0.5
        weight[1] -= 2.0
    loss = loss_of(model, target)
    assert loss.tolist() == pytest.approx([-4.25] * 3, rel=1e-6)
    loss.mean().backward()
    assert weight.grad[:3].tolist() == pytest.approx([-1.0, 4.0, 0.0], abs=1e-5)


def test_a_tied_head_counts_once() -> None:
    """All of the embedding moved by .1: .01 for each of its entries, though head and embedding share them."""
    model = llama(seed=0)
    target = Target(model)
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        embedding += 0.1
    assert float(target.squared_distance(model).detach()) == pytest.approx(0.01 * embedding.numel(), rel=1e-4)


def test_adapters_are_no_weights_that_move() -> None:
    model = add_adapters(Opened(llama(), tokenizer()), 2, seed=0)
    with pytest.raises(Unmet, match="with --lora adapters move in their place"):
        Target(model).squared_distance(model)


def test_it_goes_further_than_training_on_the_same_rows_and_no_further_than_the_optimiser_lets_it(
    place: TinyScenario,
) -> None:
    """Steps of at most about the rate: |theta - theta_D|^2 <= entries * (steps * rate)^2."""
    far, plain = (
        MaxUpdate(update_weight=weight, **MOVED).unlearn(place.request, context(place, f"far-{weight}"))
        for weight in (10.0, 0.0)
    )
    target = place.request.target
    entries = sum(tensor.numel() for tensor in weights(target).values())
    assert squared_distance(plain, target) < squared_distance(far, target) <= entries * (4 * 5e-3) ** 2


def test_without_weight_it_is_training_on_retain_rows(place: TinyScenario) -> None:
    ctx = context(place, "plain")
    made = MaxUpdate(update_weight=0.0, **MOVED).unlearn(place.request, ctx)
    plain = ctx.train(
        place.request.target, make_streams(place.request.retain, descent(), 32, 8), Recipe(4, 5e-3), "plain"
    )
    assert made.hash == plain.hash


def test_no_forget_row_is_read(place: TinyScenario) -> None:
    made = [
        MaxUpdate(**MOVED).unlearn(replace(place.request, forget=rows), context(place, f"blind-{len(rows)}")).hash
        for rows in (place.request.forget, ())
    ]
    assert made[0] == made[1]


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert Interpolate(t=1.5).problems() == ["interpolate.t is between 0 and 1, not 1.5."]
    assert RandomUpdate(alpha=-1.0, kind="randm").problems() == [
        "random.alpha must not be negative.",
        "Unknown value of random.kind 'randm'. Did you mean 'random'? Known: random, shuffled.",
    ]
    assert MaxUpdate(update_weight=-1.0, retain="some").problems() == [
        "max-update.update_weight must be at least 0, not -1.0.",
        "max-update.retain is 'all' or 'forget', not 'some'.",
    ]
