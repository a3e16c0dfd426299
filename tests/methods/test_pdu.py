"""PDU: the loss worked by hand, its dual variable, and what an interruption leaves of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.conformance import TinyScenario, tiny_place
from bench.core.contracts import Recipe, Stream
from bench.engines.coding import Texts
from bench.engines.loaders import open_checkpoint
from bench.engines.training.losses import NextToken
from bench.engines.training.readings import mean_loss
from bench.engines.training.trainer import Trained, last_checkpoint, train
from bench.runs.method_context import Ledger, MethodContext
from methods.pdu import PDU, FlatLogits
from tests.fixed_logits import THREE, Fixed, batch_of, slope_of
from tests.tiny import bits, llama, qa, tokenizer

FORGET = tuple(qa(i, f"w{i} w{i % 4} ?", f"w{i + 3} w{i}") for i in range(8))
RETAIN = tuple(qa(20 + i, f"w{i} w{i % 5} ?", f"w{i + 9}") for i in range(8))


def test_three_tokens_by_hand() -> None:
    """Logits 2, 0, -1: the largest is 2, the mean 1/3, (5/3)^2 = 2.777778, whichever token is the true one."""
    assert FlatLogits()(THREE, batch_of(0, 2)).tolist() == pytest.approx([2.777778] * 2, abs=1e-6)


def test_the_gradient_by_hand() -> None:
    """2 (max - mean) = 10/3 times (1 - 1/3) at the largest, -1/3 elsewhere; 0 where the logits are flat."""
    slope, _ = slope_of(FlatLogits(), [2.0, 0.0, -1.0], label=0)
    assert slope.tolist() == pytest.approx([20 / 9, -10 / 9, -10 / 9], abs=1e-5)
    flat, _ = slope_of(FlatLogits(), [1.0, 1.0, 1.0], label=0)
    assert flat.tolist() == [0.0] * 3
    assert FlatLogits()(Fixed([1.0, 1.0, 1.0]), batch_of(1)).tolist() == [0.0]


def run(folder: Path, method: PDU, steps: int = 6, scratch: Path | None = None, **options: Any) -> tuple[Any, Trained]:
    """The weights that the method's losses give from a fixed start, and the account with its dual variable."""
    model = llama(seed=7).train()
    streams = (
        Stream(FORGET, 4, method.loss(), method.forget_weight),
        Stream(RETAIN, 4, NextToken(), method.retain_weight, method.limit()),
    )
    folders = {"out": folder / "out", "scratch": scratch or folder / "scratch"}
    done = train(model, Texts(tokenizer()), streams, Recipe(steps, 1e-2), seed=0, **folders, **options)
    return bits(model), done


class Killed(Exception):
    pass


def killed_at(step: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return report


@pytest.mark.parametrize("micro", [None, 3])
def test_an_interrupted_run_ends_in_the_same_weights_and_the_same_dual_variable(
    tmp_path: Path, micro: int | None
) -> None:
    """Killed in step 5 with states every 2 steps, the dual variable moving from step 2 on."""
    method = PDU(retain_weight=2.0, most=0.5, rate=1.0, after=1)
    whole, account = run(tmp_path / "whole", method, micro=micro)
    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        run(tmp_path / "killed", method, scratch=scratch, save_every=2, micro=micro, report=killed_at(5))
    assert Path(last_checkpoint(scratch) or "").name == "checkpoint-4"
    resumed, again = run(tmp_path / "on", method, scratch=scratch, save_every=2, micro=micro)
    assert again.resumed and resumed == whole
    assert again.weights == account.weights and account.weights[1] != 2.0


def test_the_dual_variable_follows_the_retain_loss(tmp_path: Path) -> None:
    """Two steps at a rate of learning too small to matter: 2 + .5 (R - most) each after the first, R the start's own loss."""
    model = llama(seed=7).train()
    rows, coder = RETAIN[:4], Texts(tokenizer())
    batch = coder.collate([coder.encode(row.payload) for row in rows])
    with torch.no_grad():
        loss = float(NextToken()(model, batch).mean())
    streams = (
        Stream(FORGET[:4], 4, FlatLogits()),
        Stream(rows, 4, NextToken(), 2.0, PDU(most=1.0, rate=0.5, after=1).limit()),
    )
    folders = {"out": tmp_path / "out", "scratch": tmp_path / "scratch"}
    done = train(model, coder, streams, Recipe(3, 1e-9), seed=0, **folders)
    assert done.weights == pytest.approx((1.0, 2.0 + 2 * 0.5 * (loss - 1.0)), abs=1e-4)


def test_the_dual_variable_stays_at_zero_where_the_bound_is_met(tmp_path: Path) -> None:
    _, done = run(tmp_path, PDU(retain_weight=1.0, most=100.0, rate=5.0, after=0), steps=2)
    assert done.weights == (1.0, 0.0)


def test_without_a_rate_it_is_a_constant_weight(tmp_path: Path) -> None:
    held, account = run(tmp_path / "held", PDU(retain_weight=2.0, rate=0.0, after=0))
    model = llama(seed=7).train()
    streams = (Stream(FORGET, 4, FlatLogits()), Stream(RETAIN, 4, NextToken(), 2.0))
    folders = {"out": tmp_path / "out", "scratch": tmp_path / "scratch"}
    train(model, Texts(tokenizer()), streams, Recipe(6, 1e-2), seed=0, **folders)
    assert account.weights == (1.0, 2.0) and held == bits(model)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("pdu"))


def test_the_targets_own_retain_loss_is_noted(place: TinyScenario) -> None:
    """As many retain rows as there are forget rows: 6 questions of 12, and both passages."""
    ledger = Ledger(set(), set())
    PDU(steps=1, after=0).unlearn(place.request, MethodContext(place.work("noted"), ledger))
    bounds = [mean_loss(open_checkpoint(place.request.target), [row]) for row in place.request.retain]
    assert min(bounds) < ledger.notes["target_retain_loss"] < max(bounds)


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert PDU().problems() == []
    assert PDU(retain_weight=0.0, after=-1).problems() == [
        "pdu.after must be at least 0, not -1.",
        "pdu.retain_weight must be above 0: without retain rows there is nothing to bound.",
    ]
