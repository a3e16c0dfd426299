"""Membership AUC and PrivLeak on rows worked by hand and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics.membership import auc, min_k, min_k_plus_plus, privleak


def text(logp: list[float], eos: bool = False) -> dict[str, Any]:
    return {"logp": logp, "hit": [0] * len(logp), "eos": eos}


def sides(member: list[list[float]], other: list[list[float]], checkpoint: str = "m") -> Responses:
    rows = {
        name: {f"{name}{i}": {"answer": [text(logp)]} for i, logp in enumerate(side)}
        for name, side in (("member", member), ("other", other))
    }
    return Responses(checkpoint, rows)


def with_auc(value: float, checkpoint: str = "m") -> Responses:
    """Ten members of loss 1; ``value`` of the ten others have loss 2, the rest 0."""
    high = round(10 * value)
    return sides([[-1.0]] * 10, [[-2.0]] * high + [[0.0]] * (10 - high), checkpoint)


def test_min_k_by_hand() -> None:
    # five tokens, int(0.4 * 5) = 2 lowest: -(-5 - 4) / 2
    assert min_k(text([-1.0, -5.0, -2.0, -4.0, -3.0])) == 4.5
    # the last token is the eos: four are left, int(0.4 * 4) = 1
    assert min_k(text([-1.0, -5.0, -2.0, -4.0, -9.0], eos=True)) == 5.0
    # int(0.4 * 2) = 0, but at least one
    assert min_k(text([-1.0, -5.0])) == 5.0
    assert min_k(text([-1.0], eos=True)) is None


def test_loss_keeps_the_eos_and_min_k_drops_it() -> None:
    rows = {
        "member": {"a": {"answer": [text([-1.0, -9.0], eos=True)]}},
        "other": {"b": {"answer": [text([-2.0, -2.0], eos=True)]}},
    }
    found = Responses("m", rows)
    # losses 5 against 2: the member looks unseen; without the eos 1 against 2: it looks seen
    assert auc("x", "loss", "member", "other").compute(found, []).value == 0.0
    assert auc("x", "min_k", "member", "other").compute(found, []).value == 1.0


def test_auc_of_one_means_that_forget_is_far_more_likely() -> None:
    found = sides([[-0.1], [-0.2]], [[-3.0], [-4.0]])
    score = auc("mia_loss", "loss", "member", "other").compute(found, [])
    assert (score.value, score.n) == (1.0, 4)


def test_equals_sklearn() -> None:
    rng = np.random.default_rng(5)
    logps = [(-rng.gamma(2.0, size=rng.integers(1, 12))).tolist() for _ in range(60)]
    found = sides(logps[:35], logps[35:])
    labels = [0] * 35 + [1] * 25
    losses = [-float(np.mean(logp)) for logp in logps]
    lowest = [-float(np.mean(np.sort(logp)[: max(1, int(0.4 * len(logp)))])) for logp in logps]
    for attack, scores in (("loss", losses), ("min_k", lowest)):
        metric = auc("x", attack, "member", "other")  # type: ignore[arg-type]
        assert metric.compute(found, []).value == pytest.approx(roc_auc_score(labels, scores), rel=1e-11)


def test_rows_without_tokens_are_left_out() -> None:
    found = sides([[-1.0], []], [[-2.0], [], []])
    score = auc("x", "min_k", "member", "other").compute(found, [])
    # the peer keeps the empty ones with score 0: members 1, 0 against 2, 0, 0 win (1 + 0 + 0) + (1 + 1/2 + 1/2) of 6
    assert (score.value, score.n) == (1.0, 2)
    with pytest.raises(Absent, match="'other'"):
        auc("x", "loss", "member", "other").compute(sides([[-1.0]], [[]]), [])


def test_privleak_by_hand() -> None:
    metric = privleak("privleak", "member", "other")
    oracles = [with_auc(0.4, "o0"), with_auc(0.6, "o1")]  # their mean is 0.5
    # ((1 - 1) - (1 - 0.5)) / (1 - 0.5) = -1: the target
    assert metric.compute(with_auc(1.0), oracles).value == pytest.approx(-100.0)
    # ((1 - 0.2) - 0.5) / 0.5 = 0.6: over-unlearned
    score = metric.compute(with_auc(0.2), oracles)
    assert score.value == pytest.approx(60.0)
    assert score.unit == "%" and score.low is not None and score.high is not None
    assert score.low < score.value < score.high
    # ((1 - 0.5) - 0.5) / 0.5 = 0: as the oracles
    assert metric.compute(with_auc(0.5), oracles).value == pytest.approx(0.0, abs=1e-9)


def test_privleak_without_a_sound_reference_is_absent() -> None:
    metric = privleak("privleak", "member", "other")
    assert metric.needs_oracle
    with pytest.raises(Absent, match="AUC is 1"):
        metric.compute(with_auc(0.5), [with_auc(1.0)])
    with pytest.raises(Absent, match="no oracle"):
        metric.compute(with_auc(0.5), [])


@pytest.mark.parametrize("broken", [{"mu": [0.0, 0.0, float("nan")]}, {"sigma": [float("inf"), 1.0, 1.0]}])
def test_one_broken_token_spoils_its_text_wherever_it_stands(broken: dict[str, list[float]]) -> None:
    """Sorted, it may stand beyond the lowest 40%, which look sound."""
    row = {**text([-1.0, -5.0, -2.0]), "mu": [0.0] * 3, "sigma": [1.0] * 3}
    assert min_k_plus_plus(row) == 5.0
    assert np.isnan(min_k_plus_plus({**row, **broken}))
