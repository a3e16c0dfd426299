"""Choosing strengths without the oracle: every rule and its regret, worked by hand."""

from __future__ import annotations

import math

import pytest

from bench.studies.ablations.base import Finding, Study
from bench.studies.ablations.grids import scale_of
from bench.studies.ablations.regret import (
    RULES,
    STRENGTHS,
    Regret,
    by_harness,
    compute_regrets,
    has_forgotten,
    regret_points,
    regret_table,
)
from bench.studies.ablations.settings import measure_distance
from tests.factories import finding, place, searched


def strength(
    value: float, nats: float, row: tuple[float, float, float, float], method: str = "msa", seed: int = 0
) -> Finding:
    """A strength whose KL on forget plus retain answers is ``nats``, a third of it on retain ones.

    ``row``: score on forget rows (level .1), utility (target 1), loss on forget rows (theta_0's is 4), AUC.
    """
    at = {"method": method, "strength": value, "default": value == 0.75}
    scores = {"kl_forget": nats * 2 / 3, "kl_retain": nats / 3, "forget_accuracy": row[0]}
    return finding(at, seed, scores, tried=[searched(*row)], facts=SHOWN)


def oracle(accuracy: float, seed: int = 0) -> Finding:
    """What the forget score of a model that never saw the forget set is."""
    return finding({"row": "oracle"}, seed, {"forget_accuracy": accuracy}, method="retrain", facts=SHOWN)


SHOWN = {"headline": ["kl_forget"], "forgetting": ["forget_accuracy", "kl_forget"]}
GROUP = [
    strength(0.5, 3.0, (0.9, 0.95, 1.0, 0.9)),
    strength(0.75, 1.5, (0.2, 0.95, 3.0, 0.6)),
    strength(1.0, 0.9, (0.1, 0.8, 4.0, 0.55)),
    strength(1.5, 2.4, (0.0, 0.5, 6.0, 0.5)),
]
"""By rising strength. Nearest to the oracle: 1.0, .9 nats away."""


def regret_study(*findings: Finding, seeds: tuple[int, ...] = (0,)) -> Study:
    return Study("regret", place(), seeds, findings)


def chosen(found: list[Regret]) -> dict[str, tuple[float | None, float | None]]:
    """Rule -> (strength, nats)."""
    return {one.rule: (one.strength, None if one.nats is None else round(one.nats, 6)) for one in found}


def test_the_distance_from_the_oracle_is_kl_on_both_sides() -> None:
    assert measure_distance(finding({}, 0, {"kl_forget": 2.0, "kl_retain": 0.5, "kl_world": 9.0})) == 2.5
    assert measure_distance(GROUP[2]) == pytest.approx(0.9)
    assert measure_distance(finding({}, 0, {"forget_accuracy": 0.0})) == math.inf, "a wreck is near to nothing"


def test_every_rules_choice_and_regret() -> None:
    """Harness: J .85, .1 + .05, .2 and .6: .75, 1.5 - .9 = .6 nats. theta_0's loss 4 is first reached at 1.0: no
    regret. An AUC of at most .5 at 1.5: 2.4 - .9 = 1.5. The default is .75.
    """
    found = compute_regrets(regret_study(*GROUP))
    assert {(one.method, one.seed, one.best) for one in found} == {("msa", 0, 1.0)}
    assert chosen(found) == {
        "harness": (0.75, 0.6),
        "theta_0's loss": (1.0, 0.0),
        "membership": (1.5, 1.5),
        "default": (0.75, 0.6),
    }
    assert [one.rule for one in found] == [rule.name for rule in RULES]


def test_the_order_of_the_findings_does_not_matter() -> None:
    assert compute_regrets(regret_study(*GROUP[::-1])) == compute_regrets(regret_study(*GROUP))


def test_a_rule_that_is_not_reached_has_no_regret() -> None:
    """The two weakest alone, without the default: no loss reaches 4, no AUC .5. J is smaller at .6, the nearest."""
    weak = [GROUP[0], strength(0.6, 2.0, (0.5, 0.9, 3.0, 0.6))]
    found = compute_regrets(regret_study(*weak))
    assert chosen(found) == {rule.name: (None, None) for rule in RULES} | {"harness": (0.6, 0.0)}
    assert {one.best for one in found} == {0.6}


def test_methods_and_seeds_are_apart() -> None:
    other = [strength(2.0, 0.1, (0.0, 0.9, 9.0, 0.1), "npo", 1), strength(1.0, 5.0, (0.9, 0.9, 0.0, 0.9), "npo", 1)]
    found = compute_regrets(regret_study(*GROUP, *other, seeds=(0, 1)))
    assert len(found) == 2 * len(RULES)
    assert chosen([one for one in found if one.method == "npo"]) == {
        "harness": (2.0, 0.0),
        "theta_0's loss": (2.0, 0.0),
        "membership": (2.0, 0.0),
        "default": (None, None),
    }
    assert chosen([one for one in found if one.method == "msa"]) == chosen(compute_regrets(regret_study(*GROUP)))


def test_the_oracles_choice_may_be_held_to_forgetting() -> None:
    """1.0 is nearest, but still knows .4 where the oracle knows .05: of the forgotten (at most .15) 1.5 is nearest, 2.4
    nats away. The harness's .75 is nearer: 1.5 - 2.4 = -.9.
    """
    known = strength(1.0, 0.9, (0.4, 0.8, 4.0, 0.55))
    study = regret_study(oracle(0.05), GROUP[0], GROUP[1], known, GROUP[3])
    assert {one.best for one in compute_regrets(study)} == {1.0}
    held = compute_regrets(study, must_forget=True)
    assert {one.best for one in held} == {1.5}
    assert chosen(held) == {
        "harness": (0.75, -0.9),
        "theta_0's loss": (1.0, -1.5),
        "membership": (1.5, 0.0),
        "default": (0.75, -0.9),
    }
    nothing = regret_study(oracle(0.05), GROUP[0], known)
    assert compute_regrets(nothing, must_forget=True) == compute_regrets(nothing), (
        "where none has forgotten, the nearest of all"
    )


@pytest.mark.parametrize(("score", "level", "so"), [(0.8, 0.7, True), (0.1, 0.0, True), (0.81, 0.7, False)])
def test_forgotten_is_at_most_a_margin_above_the_oracle(score: float, level: float, so: bool) -> None:
    """The margin of .1; .8 is not more than .1 above .7, though floats say so."""
    one = strength(1.0, 0.9, (score, 0.8, 4.0, 0.55))
    assert has_forgotten(regret_study(oracle(level), oracle(1.0, seed=1), one), one) is so


def test_the_table_says_what_was_chosen_and_where_nothing_was() -> None:
    """Twice: beside the nearest of all, and of those that have forgotten (.2 is: the oracle knows .1)."""
    page = regret_table(regret_study(oracle(0.1), GROUP[0], strength(0.6, 2.0, (0.2, 0.9, 3.0, 0.6))))
    lines = [line for line in page.splitlines() if line.startswith("| msa |")]
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells == ["msa", "0.6", "0 [0.6] (edge)", *["— [not reached]"] * 3]
    assert len(lines) == 2


def test_seven_strengths_of_every_method_and_its_default() -> None:
    """From one end of the method's own box to the other."""
    where = place()
    points = regret_points(where)
    for method, name in STRENGTHS.items():
        mine = [point for point in points if point.at["method"] == method]
        values = [point.at["strength"] for point in mine]
        low, high = scale_of(where, method, name).values
        assert values == sorted(set(values)) and {low, high} <= set(values) and 7 <= len(values) <= 8
        [default] = [point for point in mine if point.at["default"]]
        assert default.steps == (where.step(method),), "what bench run takes"
        assert all(point.steps[0].params == {**default.steps[0].params, name: point.at["strength"]} for point in mine)


def test_a_rule_passes_over_settings_that_broke_down() -> None:
    wreck = finding({"default": True}, 0, {}, tried=({"params": {}, "broken": "why", "seconds": 1.0},))
    sound = finding({"default": True}, 0, {}, tried=(searched(0.1, 1.0, 9.0, 0.4),))
    for rule in RULES[1:]:
        assert rule.choose([wreck, sound]) == 1 and rule.choose([wreck]) is None
    assert by_harness([wreck, sound]) == 1 and by_harness([wreck]) is None
