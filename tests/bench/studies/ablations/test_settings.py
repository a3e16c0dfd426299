"""The surface over alpha and beta: every point, and what the rule and the oracle pick, worked by hand."""

from __future__ import annotations

from bench.studies.ablations.base import Finding, Study
from bench.studies.ablations.settings import (
    SURFACE_BETAS,
    lr_points,
    oracle_pick,
    rule_pick,
    step_points,
    surface_points,
)
from tests.factories import finding, place, searched


def cell(alpha: float, beta: float, nats: float, row: tuple[float, float, float, float], seed: int = 0) -> Finding:
    scores = {"kl_forget": nats, "kl_retain": 0.0}
    return finding({"alpha": alpha, "beta": beta}, seed, scores, tried=[searched(*row)])


def test_the_picks_on_the_surface() -> None:
    """The rule: J .7, .1 + .3 and .1 + .1 on the first seed, .95 and .9 on the other. The oracle's: the smallest KL.
    Seed by seed."""
    found = [
        cell(0.5, 0.0, 0.4, (0.8, 1.0, 0, 0)),
        cell(1.0, 0.0, 2.0, (0.2, 0.7, 0, 0)),
        cell(1.0, 0.25, 1.0, (0.2, 0.9, 0, 0)),
        cell(1.0, 0.25, 0.3, (0.95, 0.9, 0, 0), seed=1),
        cell(2.0, 1.0, 0.6, (0.1, 0.1, 0, 0), seed=1),
    ]
    study = Study("alpha-beta", place(), (0, 1), (finding({"row": "target"}), *found))
    assert [tuple(rule_pick(study, seed).at.values()) for seed in (0, 1)] == [(1.0, 0.25), (2.0, 1.0)]
    assert [tuple(oracle_pick(study, seed).at.values()) for seed in (0, 1)] == [(0.5, 0.0), (1.0, 0.25)]


def test_the_surface_is_every_alpha_with_every_beta() -> None:
    where = place()
    points, own = surface_points(where), where.step("msa").params
    alphas, betas = ({point.at[name] for point in points} for name in ("alpha", "beta"))
    assert len(points) == len(alphas) * len(betas) and {0.25, 1.5, own["alpha"]} <= alphas
    assert {*SURFACE_BETAS, own["beta"]} == betas
    for point in points:
        params = point.steps[0].params
        assert (params["alpha"], params["beta"]) == (point.at["alpha"], point.at["beta"])
        assert point.choices == ({},), "nothing to choose, but a validation row"


def test_steps_and_rates_span_the_box_and_have_the_places_own() -> None:
    where = place()
    own = where.step("msa").params
    for made, name, ends in ((step_points, "steps", (40, 180)), (lr_points, "lr", (1e-4, 1e-3))):
        points = made(where)
        values = [point.at[name] for point in points]
        assert values == sorted(set(values)) and {*ends, own[name]} <= set(values) and 5 <= len(values) <= 6
        assert all(point.steps[0].params == {**own, "beta": 0.0, name: point.at[name]} for point in points)
