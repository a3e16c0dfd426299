from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engines.training.influence import influence_ratio
from bench.studies.ablations.sgd_influence import (
    FORMS,
    MOST_PARAMETERS,
    SgdInfluenceOptions,
    descend,
    make_setup,
    nearness_to_difference,
    next_token_logits,
    plan_steps,
    projection,
    run,
    sgd_influence,
    squared_gradients,
    untrained_weights,
)
from tests.sgd_influence import TINY


def quadratic(theta: Tensor, rows: Sequence[int]) -> Tensor:
    """Row 0 is (theta - 3)^2 / 2, the retain row 1 is theta^2: curvatures 1 and 2."""
    all_rows = torch.stack([(theta - 3).square().sum() / 2, theta.square().sum()])
    return all_rows[list(rows)]


def start() -> Tensor:
    return torch.tensor([2.0], dtype=torch.float64)


def test_descend_by_hand() -> None:
    """lr 0.2, |S| = 2, so 0.1 a row. With row 0: 2 - 0.1 (-1 + 4) = 1.7, then 1.7 - 0.1 (-1.3 + 3.4) = 1.49.

    Without: 2 - 0.4 = 1.6, then 1.6 - 0.32 = 1.28. A step of row 0 alone (|S| = 1) moves only the first one.
    """
    steps = [[0, 1], [0, 1]]
    assert descend(quadratic, start(), steps, 0.2).item() == pytest.approx(1.49)
    assert descend(quadratic, start(), steps, 0.2, {0: 0.0}).item() == pytest.approx(1.28)
    assert descend(quadratic, start(), [*steps, [0]], 0.2, {0: 0.0}).item() == pytest.approx(1.28)
    assert descend(quadratic, start(), [[0]], 0.2, {0: 0.5}).item() == pytest.approx(2.1)  # 2 + 0.2 x 0.5


def test_influence_by_hand() -> None:
    """Gradients of row 0 along the target's path: -1 at 2 and -1.3 at 1.7, so u_1 = -0.1.

    Whole Hessian 3: u_2 = (1 - 0.3) (-0.1) - 0.13 = -0.20. Retain Hessian 2: 0.8 (-0.1) - 0.13 = -0.21, which is the true
    difference 1.28 - 1.49. Identity: -0.23.
    """
    values = {
        curvature: sgd_influence(quadratic, start(), [[0, 1], [0, 1]], 0.2, frozenset({0}), curvature).item()
        for curvature in (1.0, 0.0, None)
    }
    assert values == pytest.approx({1.0: -0.20, 0.0: -0.21, None: -0.23})


@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
def test_own_curvature_is_exact_on_quadratics_at_any_share(share: float) -> None:
    steps, forget = [[0, 1], [1], [0], [0, 1], [1, 0]], frozenset({0})
    moved = sgd_influence(quadratic, start(), steps, 0.2, forget, 1 - share)
    true = descend(quadratic, start(), steps, 0.2, {0: 1 - share}) - descend(quadratic, start(), steps, 0.2)
    assert share * moved.item() == pytest.approx(true.item())


def test_whole_hessian_is_exact_where_the_forget_loss_is_linear_or_seen_once() -> None:
    def linear(theta: Tensor, rows: Sequence[int]) -> Tensor:
        return torch.stack([5 * theta.sum(), theta.square().sum()])[list(rows)]

    for losses, steps in ((linear, [[0, 1], [0, 1], [1]]), (quadratic, [[1], [0, 1], [1], [1]])):
        true = descend(losses, start(), steps, 0.2, {0: 0.0}) - descend(losses, start(), steps, 0.2)
        assert sgd_influence(losses, start(), steps, 0.2, frozenset({0})).item() == pytest.approx(true.item())


def test_influence_is_the_derivative_of_the_small_models_end_point() -> None:
    """Central differences in the forget rows' weight at 1."""
    setup = make_setup(0, TINY)
    losses, forget = setup.author.losses, frozenset(setup.forget)
    theta, steps = untrained_weights(setup.author.shape, 0), plan_steps(len(setup.author.ids), 12, 8, "steps")
    u = sgd_influence(losses, theta, steps, 0.1, forget)
    ends = [descend(losses, theta, steps, 0.1, dict.fromkeys(forget, 1 + sign * 1e-4)) for sign in (-1, 1)]
    slope = (ends[0] - ends[1]) / 2e-4
    assert torch.allclose(u, slope, rtol=1e-4, atol=1e-6 * float(slope.abs().max()))
    for other in (0.0, None):  # the test can tell the right Hessian from the others
        wrong = sgd_influence(losses, theta, steps, 0.1, forget, other)
        assert float((wrong - slope).norm() / slope.norm()) > 1e-3


def test_identity_sums_forget_gradients_along_the_targets_path() -> None:
    setup = make_setup(0, TINY)
    losses, forget = setup.author.losses, frozenset(setup.forget)
    theta, steps = untrained_weights(setup.author.shape, 0), plan_steps(len(setup.author.ids), 5, 8, "steps")
    total = torch.zeros_like(theta)
    for t, step in enumerate(steps):
        here = descend(losses, theta, steps[:t], 0.1).requires_grad_()
        rows = [row for row in step if row in forget]
        total += 0.1 / len(step) * torch.autograd.grad(losses(here, rows).sum(), here)[0] if rows else 0
    assert torch.allclose(sgd_influence(losses, theta, steps, 0.1, forget, None), total)


def test_squared_gradients_and_weights_by_hand() -> None:
    """At 2 the gradients are -1 and 4: F_f = 1, F_r = 16, weight 2/17. Both: (1 + 16) / 2."""
    assert squared_gradients(quadratic, start(), [0, 1]).item() == pytest.approx(8.5)
    weights = influence_ratio(torch.tensor([1.0, 3.0, 0.0, 0.0]), torch.tensor([16.0, 0.0, 5.0, 0.0]))
    assert weights.tolist() == pytest.approx([2 / 17, 2, 0, 1])


def test_nearness_and_projection_by_hand() -> None:
    """(3, 4) against (3, 0): cosine 9/15, error 4/3, ratio 5/3; the best multiple of (3, 4) is 9/25."""
    d, estimate = torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])
    assert nearness_to_difference(estimate, d) == pytest.approx(
        {"cosine": 0.6, "relative_error": 4 / 3, "norm_ratio": 5 / 3}
    )
    assert nearness_to_difference(0 * d, d) == {"cosine": None, "relative_error": 1.0, "norm_ratio": 0.0}
    assert projection(estimate, d) == pytest.approx(9 / 25)
    assert projection(0 * d, d) == 0


def test_model_is_causal_and_within_its_size() -> None:
    shape = make_setup(0, SgdInfluenceOptions()).author.shape
    theta = untrained_weights(shape, 3)
    assert theta.shape == (shape.parameters(),) and shape.parameters() <= MOST_PARAMETERS
    assert torch.equal(theta, untrained_weights(shape, 3)) and not torch.equal(theta, untrained_weights(shape, 4))
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 4]])
    short = next_token_logits(theta, shape, ids[:, :2])
    assert short.shape == (2, shape.vocabulary) and torch.allclose(short[0], short[1])
    assert not torch.allclose(*next_token_logits(theta, shape, ids))


def test_earlier_positions_matter_through_every_layer() -> None:
    """Two blocks: what the last position sees of position 1 may pass position 2, never the other way round."""
    shape = make_setup(0, TINY).author.shape
    theta = untrained_weights(shape, 0)
    hidden = next_token_logits(theta, shape, torch.tensor([[1, 2, 3]]))
    changed = next_token_logits(theta, shape, torch.tensor([[1, 4, 3]]))
    assert not torch.allclose(hidden, changed)


def test_rows_are_the_worlds_questions_and_forget_is_its_first_authors() -> None:
    setup = make_setup(1, TINY)
    assert len(setup.forget) == 2 * 2 * len(FORMS) and len(setup.retain) == 4 * 2 * len(FORMS)
    assert not set(setup.forget) & set(setup.retain)
    names = {tuple(row[-6:-4]) for row in setup.author.ids[list(setup.forget)].tolist()}
    others = {tuple(row[-6:-4]) for row in setup.author.ids[list(setup.retain)].tolist()}
    assert not names & others


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return [run(seed, TINY) for seed in (0, 1)]


def test_run_is_plain_json_and_repeats(results: list[dict[str, Any]]) -> None:
    random.seed(9)
    torch.manual_seed(9)
    again = run(0, TINY)
    assert json.loads(json.dumps(again, allow_nan=False)) == again

    def settled(result: dict[str, Any]) -> dict[str, Any]:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in result["estimates"]]
        return {k: v for k, v in result.items() if "seconds" not in k} | {"estimates": rows}

    assert settled(again) == settled(results[0]) != settled(results[1])


def test_rows_agree_with_each_other(results: list[dict[str, Any]]) -> None:
    for result in results:
        rows = {row["name"]: row for row in result["estimates"]}
        assert rows["nothing removed"]["relative_error"] == 1
        assert rows["nothing removed"]["forget_accuracy"] == result["models"]["target"]["forget"]
        full = next(entry for entry in result["removals"] if entry["share"] == 1)["estimates"]
        assert all(full[name]["cosine"] == rows[name]["cosine"] for name in full)
        for name in ("MSA", "weighted MSA"):
            one, natural, best = (rows[f"{name}, alpha {how}"] for how in ("1", "projected", "least squares"))
            assert one["cosine"] == pytest.approx(natural["cosine"])
            assert best["kind"] == "upper bound"
            assert best["relative_error"] <= min(one["relative_error"], natural["relative_error"])


def test_small_removal_is_first_order() -> None:
    result = run(0, SgdInfluenceOptions(**{**TINY.__dict__, "removals": (0.001,)}))
    assert [entry["share"] for entry in result["removals"]] == [0.001, 1.0]
    scores = result["removals"][0]["estimates"]
    assert scores["SGD-influence"]["relative_error"] < 0.01 < scores["MSA, alpha 1"]["relative_error"]
