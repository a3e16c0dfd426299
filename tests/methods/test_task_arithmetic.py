"""Task arithmetic: the weighted step by hand, its limit, and how few retain rows the weights see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.contracts import Term
from bench.core.registry import said_params
from bench.core.types import Checkpoint
from bench.engines.arithmetic.sums import transform
from bench.engines.loaders import checkpoint_at
from bench.runs.method_context import Ledger, MethodContext
from methods.task_arithmetic import TaskArithmetic

MOVED: dict[str, Any] = {"steps": 4, "lr": 5e-3}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("task-arithmetic"))


def weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(checkpoint.path) / "model.safetensors"))


class Kept(MethodContext):
    """A method's context that keeps what was trained and what the weights were."""

    tuned: Checkpoint
    found: Checkpoint

    def train(self, *args: Any, **named: Any) -> Checkpoint:
        self.tuned = super().train(*args, **named)
        return self.tuned

    def influence(self, *args: Any, **named: Any) -> Checkpoint:
        self.found = super().influence(*args, **named)
        return self.found


@pytest.mark.parametrize("kind", ["fisher", "gradient"])
def test_the_step_is_weighted_entry_by_entry(place: TinyScenario, kind: str) -> None:
    """theta_D - alpha w (theta_F - theta_D), in float64 from the files, with the weights estimated at theta_D."""
    ledger = Ledger({row.id for row in place.request.retain}, set())
    ctx = Kept(place.work(kind), ledger)
    made = weights(TaskArithmetic(alpha=0.75, weights=kind, **MOVED).unlearn(place.request, ctx))
    target, tuned, found = weights(place.request.target), weights(ctx.tuned), weights(ctx.found)
    assert found["model.norm.weight"].std() > 0.01, "they do differ"
    for name, tensor in target.items():
        start, w = tensor.double(), found[name].double()
        wanted = start - 0.75 * w * (tuned[name].double() - start)
        torch.testing.assert_close(made[name].double(), wanted, rtol=1e-6, atol=1e-6)
    assert len(ledger.retain_seen) == len(place.request.forget)
    assert set(ledger.notes["influence"]) == {"bytes", "mean", "quantiles"}


def test_weights_of_one_give_the_plain_step(place: TinyScenario) -> None:
    """(1 + alpha) theta_D - alpha theta_F, to the bit; so the plain step is the limit of the weighted one."""
    ctx = Kept(place.work("ones"), Ledger(set(), set()))
    plain = TaskArithmetic(alpha=0.75, **MOVED).unlearn(place.request, ctx)
    folder = place.root / "ones" / "weights"
    transform([place.request.target], folder, lambda _, tensors: torch.ones_like(tensors[0]))
    terms = [Term(1.0, place.request.target, weighted=0.75), Term(0.0, ctx.tuned, weighted=-0.75)]
    assert ctx.combine(terms, "ones", checkpoint_at(folder, "ones")).hash == plain.hash


def test_the_plain_step_reads_no_retain_row(place: TinyScenario) -> None:
    ledger = Ledger({row.id for row in place.request.retain}, set())
    TaskArithmetic(**MOVED).unlearn(replace(place.request, retain=()), MethodContext(place.work("plain"), ledger))
    assert ledger.retain_seen == set()


def test_runs_without_weights_keep_their_key() -> None:
    assert "weights" not in said_params(TaskArithmetic, vars(TaskArithmetic()))
    assert said_params(TaskArithmetic, vars(TaskArithmetic(weights="fisher")))["weights"] == "fisher"


def test_the_estimate_counts_the_weights() -> None:
    """60 steps of 32 rows; weights add a pass over 100 forget rows and as many retain rows."""
    assert TaskArithmetic().rows(100, 400) == 1920
    assert TaskArithmetic(weights="fisher").rows(100, 400) == 1920 + 200


def test_unknown_weights_are_refused_in_a_sentence() -> None:
    assert TaskArithmetic(weights="fischer").problems() == [
        "Unknown value of task-arithmetic.weights 'fischer'. Did you mean 'fisher'? Known: fisher, gradient, uniform."
    ]
