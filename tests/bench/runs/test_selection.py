"""The rule that chooses hyperparameters, worked by hand."""

from __future__ import annotations

import itertools
from math import inf, log
from statistics import fmean
from typing import Any

import pytest

from bench.core import registry
from bench.core.boxes import Scale
from bench.core.settings import Preset
from bench.core.types import BROKEN_DOWN, Example, Json, Responses, Validation
from bench.runs.selection import (
    NEAR,
    Outcome,
    SeedScores,
    best_quarter,
    choose_setting,
    expected_best,
    kept_scores,
    outcome_of,
    question_score,
    row_score,
    search_box,
    side_scores,
    steps_for,
)


def scores(forget: float, utility: float = 1.0, tokens: int = 100, level: float = 0.2) -> SeedScores:
    """One kind of forget row; the target's utility is (.9 + .7) / 2 = .8."""
    return SeedScores({"qa": forget}, {"qa": level}, utility, utility, {"retain": 0.9, "world": 0.7}, tokens)


def outcome(*seeds: SeedScores, **params: Any) -> Outcome:
    return Outcome(params, seeds, len(seeds))


WRECK = Outcome({"lr": 1e30}, broken=BROKEN_DOWN)


def test_j_by_hand() -> None:
    """Questions |.1 - .3| = .2, passages |.9 - .4| = .5: .35. u = (.8 + .4) / 2 = .6 beside (1 + .9) / 2 = .95: .35 more."""
    one = SeedScores({"qa": 0.1, "text": 0.9}, {"qa": 0.3, "text": 0.4}, 0.8, 0.4, {"retain": 1.0, "world": 0.9})
    assert (one.gap, one.utility, one.target_utility, one.j) == pytest.approx((0.35, 0.6, 0.95, 0.7))


def test_forgetting_too_much_counts_as_much_as_too_little_and_more_utility_than_the_targets_is_no_merit() -> None:
    """.1 below and .1 above the level of .2 are alike; a utility of 1 is as good as the target's .8; .7 costs .1."""
    assert scores(0.1).j == pytest.approx(scores(0.3).j) == pytest.approx(0.1)
    assert scores(0.2, 1.0).j == scores(0.2, 0.8).j == 0.0
    assert scores(0.2, 0.7).j == pytest.approx(0.1)


def test_j_is_the_mean_over_seeds() -> None:
    """.1 and .3: a mean forget score of .2 would lie at the level, and hide both."""
    two = outcome(scores(0.1, tokens=10), scores(0.5, tokens=30))
    assert (two.j, two.tokens) == pytest.approx((0.2, 20))
    assert (WRECK.j, WRECK.tokens) == (inf, inf)


def test_the_smallest_j_is_chosen() -> None:
    assert choose_setting([outcome(scores(0.4)), outcome(scores(0.25)), outcome(scores(0.1))]) == 1


def test_of_those_within_a_hair_of_the_smallest_the_cheapest_is_chosen() -> None:
    """J .010, .015 and .0151: the second is within .005 of the first and cheaper; the third would be cheaper still."""
    assert NEAR == 0.005
    tried = [outcome(scores(0.2 + j, tokens=t)) for j, t in ((0.010, 300), (0.015, 200), (0.0151, 100))]
    assert choose_setting(tried) == 1
    alike = [outcome(scores(0.22, tokens=9)), outcome(scores(0.21, tokens=9)), outcome(scores(0.21, tokens=9))]
    assert choose_setting(alike[1:] + alike[:1]) == 0, "of equal tokens the smaller J, then the earlier"


def test_only_settings_of_the_last_stage_are_chosen_from() -> None:
    """On the first seed alone the first one was perfect; the two that went on are at .1 and .15."""
    tried = [outcome(scores(0.2)), outcome(scores(0.35), scores(0.35)), outcome(scores(0.3), scores(0.3))]
    assert choose_setting(tried) == 2


def test_a_broken_setting_is_never_chosen() -> None:
    assert choose_setting([WRECK, outcome(scores(1.0))]) == 1
    assert choose_setting([WRECK, WRECK]) is None
    late = Outcome({}, runs=4, broken=BROKEN_DOWN)
    assert choose_setting([late, outcome(scores(0.2))]) is None, (
        "what went on has broken; the other was not tried enough"
    )


def test_the_best_quarter_goes_on() -> None:
    """Of eight the two with the smallest J, the smallest first; ties by tokens; at least one; none that is broken."""
    tried = [outcome(scores(0.2 + j)) for j in (0.5, 0.1, 0.7, 0.3, 0.02, 0.6, 0.4, 0.2)]
    assert best_quarter(tried) == [4, 1]
    assert best_quarter(tried[:2]) == [1]
    assert best_quarter([outcome(scores(0.3, tokens=9)), outcome(scores(0.3, tokens=8))]) == [1]
    assert best_quarter([WRECK] * 7 + [outcome(scores(0.9))]) == [7], "fewer than a quarter work"
    assert best_quarter([WRECK] * 4) == []


def brute_force(values: list[float | None], n: int) -> float:
    """The mean of the smallest of n values over every way to draw them with replacement that has one."""
    draws = [[v for v in drawn if v is not None] for drawn in itertools.product(values, repeat=n)]
    return fmean(min(draw) for draw in draws if draw)


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.4], [0.3, 0.1, 0.3, 0.9], [0.2, None, 0.1, None], [0.0, 0.0, None]])
def test_the_expected_best_is_what_every_draw_gives(values: list[float | None]) -> None:
    found = expected_best(values)
    assert found == pytest.approx([brute_force(values, n) for n in range(1, len(values) + 1)])
    assert found == sorted(found, reverse=True)


def test_the_expected_best_by_hand() -> None:
    """Of .1 and .4 one draw gives .25; of two draws three in four have the .1: .1 * .75 + .4 * .25 = .175."""
    assert expected_best([0.4, 0.1]) == pytest.approx([0.25, 0.175])
    assert expected_best([None, None]) == expected_best([]) == []


def test_row_scores_by_hand() -> None:
    """Questions: all or nothing. Passages: 2 of 4. Chats: geometric mean of 1/2 and 1/8 is 1/4."""
    answer = {"hit": [1, 1, 0, 0], "logp": [log(1 / 2), log(1 / 8)]}
    assert row_score("qa", answer) == 0.0
    assert row_score("qa", {"hit": [1, 1], "logp": [-1.0, -1.0]}) == 1.0
    assert row_score("text", answer) == 0.5
    assert row_score("chat", answer) == pytest.approx(0.25)


def test_side_scores_are_means_by_template() -> None:
    """Questions 1 and 0: .5. One passage, 3 of 4 tokens: .75. A row without tokens counts for nothing."""
    hits = {"a": [1, 1], "b": [1, 0], "c": [1, 1, 1, 0], "d": []}
    templates = {"a": "qa", "b": "qa", "c": "text", "d": "qa"}
    rows = {key: {"answer": [{"logp": [-1.0] * len(hit), "hit": hit, "eos": True}]} for key, hit in hits.items()}
    held = tuple(Example(key, {"prompt": "", "answer": "", "template": kind}) for key, kind in templates.items())
    found = side_scores(Responses("m", {"validation_forget": rows}), "forget", Validation(forget=held))
    assert found == {"qa": 0.5, "text": 0.75}


def test_questions_are_the_score_of_a_side_that_has_them() -> None:
    assert question_score({"qa": 0.4, "text": 1.0}) == 0.4
    assert question_score({"text": 0.7}) == 0.7


def test_what_must_stay_is_asked_on_two_sides() -> None:
    """Retain: one of two right; world: the passage's 1 of 2 tokens."""
    hits = {"a": [1], "b": [0], "c": [1, 0]}
    rows = {key: {"answer": [{"logp": [-1.0] * len(hit), "hit": hit, "eos": True}]} for key, hit in hits.items()}
    held = {key: Example(key, {"prompt": "", "answer": "", "template": "text" if key == "c" else "qa"}) for key in hits}
    responses = Responses("m", {"validation_retain": rows, "validation_utility": rows})
    validation = Validation(retain=(held["a"], held["b"]), utility=(held["c"],))
    assert kept_scores(responses, validation) == {"retain": 0.5, "world": 0.5}


ROW: Json = {
    "params": {"lr": 1},
    "forget": {"qa": 0.1},
    "level": {"qa": 0.2},
    "target": {"retain": 0.9, "world": 0.7},
    "retain": 0.5,
    "world": 0.7,
    "tokens": 10,
    "seconds": 2.0,
}


def test_rows_become_an_outcome_and_its_record_reads_back() -> None:
    """J: .1 + (.8 - .6) = .3 and, at a forget score of .6, .4 + .2 = .6; mean .45."""
    made = outcome_of([ROW, ROW | {"forget": {"qa": 0.6}, "tokens": 30, "seconds": 4.0}])
    data = made.to_json()
    assert (data["j"], data["j_first"], data["f"], data["level"]) == pytest.approx((0.45, 0.3, 0.35, 0.2))
    assert (data["u"], data["u_target"], data["tokens"], data["seconds"]) == pytest.approx((0.6, 0.8, 20, 3.0))
    assert data["stage"] == 2 and Outcome.from_json(data) == made
    first = outcome_of([ROW])
    assert first.to_json()["stage"] == 1 and Outcome.from_json(first.to_json()) == first


def test_a_setting_that_broke_on_one_seed_is_broken() -> None:
    found = outcome_of([ROW, {"params": {"lr": 1}, "broken": BROKEN_DOWN, "seconds": 4.0}])
    assert found.to_json() == {"params": {"lr": 1}, "stage": 2, "broken": BROKEN_DOWN, "seconds": 3.0}
    assert Outcome.from_json(found.to_json()) == found


def test_a_row_of_an_earlier_rule_is_refused() -> None:
    old = {name: value for name, value in ROW.items() if name not in ("target", "tokens")} | {"fine": -1.0}
    with pytest.raises(ValueError, match="a setting's row is one of an earlier rule of selection, without J"):
        outcome_of([old])


LR = Scale("log", (1e-4, 1e-2))


class Component:
    space = {
        "lab-tofu": {"lr": LR, "steps": Scale("int", (1, 9)), "batch": 16},
        "lab": {"lr": LR},
        "lab-tofu-long": {"steps": Scale("int", (50, 90))},
    }
    presets = {
        "lab-tofu": Preset({"lr": 1.0}, "searched"),
        "small": Preset({"retain": "forget", "batch": 4}, "a budget"),
        "lab-tofu-small": Preset({"retain": "forget", "lr": 0.5, "steps": 3}, "searched for itself"),
        "long": Preset({"batch": 2}, "longer"),
        "lab-tofu-alone": Preset({"lr": 0.5}, "of this place alone"),
    }


def test_a_place_has_its_own_box_or_its_tiers() -> None:
    assert search_box(Component, "lab-tofu") == Component.space["lab-tofu"]
    assert search_box(Component, "lab-restor") == {"lr": LR}
    assert search_box(Component, "real-tofu") == {}


def test_a_variant_is_searched_in_the_box_of_the_place_with_what_it_states_held() -> None:
    """What an earlier search wrote for the variant holds nothing; what it states for this place alone does."""
    small = search_box(Component, "lab-tofu", "small")
    assert small == {"lr": LR, "steps": Scale("int", (1, 9)), "batch": 4, "retain": "forget"}
    assert search_box(Component, "lab-restor", "small") == {"lr": LR, "batch": 4, "retain": "forget"}
    assert search_box(Component, "lab-tofu", "alone") == Component.space["lab-tofu"] | {"lr": 0.5}
    assert search_box(Component, "lab-tofu", "long") == {"batch": 2, "steps": Scale("int", (50, 90))}, "its own box"


def test_steps_hold_complete_parameters() -> None:
    kind = registry.load_component("methods", "npo")
    box = search_box(kind, "lab-tofu", "small-retain")
    steps = steps_for("npo", box, 8)
    assert len(steps) == 8 and {step.params["retain"] for step in steps} == {"forget"}
    for step in steps:
        assert dict(step.params) == registry.said_params(kind, registry.default_params(kind) | dict(step.params))
        assert {"beta", "lr", "steps", "batch"} <= set(step.params)
