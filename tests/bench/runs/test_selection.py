"""The rule that chooses hyperparameters, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest

from bench.core import registry
from bench.core.types import BROKEN_DOWN, Example, Responses, Validation
from bench.runs.selection import (
    MARGIN,
    Outcome,
    average_rows,
    choose_setting,
    mean_log_prob,
    params_at_edge,
    question_score,
    row_score,
    search_grid,
    search_record,
    side_scores,
    steps_for,
)


def outcome(forget: float, retain: float, world: float, **params: Any) -> Outcome:
    """One kind of forget row, never-trained level .2: a setting has forgotten at .3 or less."""
    return Outcome(params, {"qa": forget}, {"qa": 0.2}, retain, world)


def test_the_most_useful_of_those_that_have_forgotten() -> None:
    """Utilities (.9 + .7) / 2 = .8, (.8 + 1) / 2 = .9 and 1; the last has not forgotten: .35 > .2 + .1."""
    outcomes = [outcome(0.1, 0.9, 0.7), outcome(0.25, 0.8, 1.0), outcome(0.35, 1.0, 1.0)]
    assert MARGIN == 0.1
    assert [o.utility for o in outcomes] == pytest.approx([0.8, 0.9, 1.0])
    assert [o.excess for o in outcomes] == pytest.approx([-0.2, -0.05, 0.05])
    choice = choose_setting(outcomes)
    assert (choice.index, choice.forgotten) == (1, True)


def test_forgetting_below_the_level_is_no_merit() -> None:
    assert choose_setting([outcome(0.0, 0.5, 0.5), outcome(0.29, 0.51, 0.5)]).index == 1


def test_the_earlier_wins_a_tie() -> None:
    assert choose_setting([outcome(0.5, 1, 1), outcome(0.1, 0.8, 0.6), outcome(0.1, 0.6, 0.8)]).index == 1


def test_what_must_stay_more_probable_wins_before_that() -> None:
    """Utilities .7, .7 and .7, of which two are tied with log-probs -.3 and -.1, and one has not forgotten."""
    tied = [replace(outcome(forget, 0.8, 0.6), fine=fine) for forget, fine in ((0.1, -0.3), (0.1, -0.1), (0.9, 0.0))]
    choice = choose_setting(tied)
    assert (choice.index, choice.tied) == (1, 2)


def test_the_log_prob_of_what_must_stay_by_hand() -> None:
    """Retain: rows of -1 and (-2 - 4) / 2 = -3, mean -2; world: -4. Their mean is -3; a row without tokens is left out."""
    made = {"a": [-1.0], "b": [-2.0, -4.0], "c": [-4.0], "d": []}
    rows = {key: {"answer": [{"logp": logp, "hit": [1] * len(logp), "eos": True}]} for key, logp in made.items()}
    held = {key: Example(key, {"prompt": "", "answer": "", "template": "qa"}) for key in made}
    responses = Responses("m", {"validation_retain": rows, "validation_utility": rows})
    validation = Validation(retain=(held["a"], held["b"]), utility=(held["c"], held["d"]))
    assert mean_log_prob(responses, validation) == -3.0


def test_the_nearest_when_none_has_forgotten() -> None:
    """Excess .6, .2, .2: the first of the two nearest, however useless, and it is said that it has not forgotten."""
    choice = choose_setting([outcome(0.9, 1, 1), outcome(0.5, 0, 0), outcome(0.5, 1, 1)])
    assert (choice.index, choice.forgotten) == (1, False)


def test_the_worst_kind_of_forget_row_decides() -> None:
    """Questions .1 - .2 - .1 = -.2, passages .9 - .3 - .1 = .5: a book that can still be recited is not forgotten."""
    mixed = Outcome({}, {"qa": 0.1, "text": 0.9}, {"qa": 0.2, "text": 0.3}, 1.0, 1.0)
    assert mixed.excess == pytest.approx(0.5)


def test_exactly_the_margin_above_the_level_has_forgotten() -> None:
    """Scores are counts over rows: 40 of 100 beside a level of 30 of 100 is at most the level plus .10; 41 is not."""
    for level in range(0, 90):
        counts = [Outcome({}, {"qa": (level + above) / 100}, {"qa": level / 100}, 1.0, 1.0) for above in (10, 11)]
        assert [choose_setting([one]).forgotten for one in counts] == [True, False], f"level {level} of 100"


def settings(*values: Any, name: str = "lr") -> list[Outcome]:
    return [outcome(0.1, 0.5, 0.5, **{name: value, "fixed": 3}) for value in values]


def test_a_choice_at_the_end_of_its_values_is_flagged() -> None:
    assert params_at_edge(settings(3, 1, 2), 0) == ("lr",)
    assert params_at_edge(settings(3, 1, 2), 1) == ("lr",)
    assert params_at_edge(settings(3, 1, 2), 2) == ()
    assert params_at_edge(settings(1, 2), 0) == ("lr",), "of two values each is an end, and the best may lie beyond it"
    assert params_at_edge(settings(1), 0) == (), "a value that was not varied has no edge"
    assert params_at_edge(settings("a", "b", "c"), 0) == (), "words have no order"
    best = [outcome(0.1, 0.5, 0.5, lr=1), outcome(0.1, 0.5, 0.5, lr=2), outcome(0.1, 0.9, 0.9, lr=4)]
    assert choose_setting(best).edges == ("lr",)


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


def test_seeds_are_averaged() -> None:
    def row(forget: float, level: float, retain: float, seconds: float) -> dict[str, Any]:
        kinds = {"forget": {"qa": forget}, "level": {"qa": level}}
        scores = {"retain": retain, "world": 1.0, "fine": -seconds}
        return {"params": {"lr": 1}, **kinds, **scores, "seconds": seconds}

    made = average_rows([row(0.1, 0.2, 0.5, 2), row(0.5, 0.4, 1.0, 4)])
    assert (made.forget["qa"], made.level["qa"], made.retain, made.seconds) == pytest.approx((0.3, 0.3, 0.75, 3.0))
    assert made.fine == -3.0


class Component:
    space = {"lab-tofu": ({"lr": 1}, {"lr": 2}), "lab": ({"lr": 3},)}


def test_a_place_has_its_own_grid_or_its_tiers() -> None:
    base = {"lr": 0, "steps": 5}
    assert search_grid(Component, "lab-tofu", base) == [{"lr": 1, "steps": 5}, {"lr": 2, "steps": 5}]
    assert search_grid(Component, "lab-restor", base) == [{"lr": 3, "steps": 5}]
    assert search_grid(Component, "real-tofu", base) == []


def test_steps_hold_complete_parameters() -> None:
    for step in steps_for("npo", "lab-tofu"):
        kind = registry.load_component("methods", "npo")
        assert dict(step.params) == registry.said_params(kind, registry.default_params(kind) | dict(step.params))
        assert {"beta", "lr", "steps", "retain"} <= set(step.params)


def test_the_record_of_a_search_says_what_was_tried() -> None:
    outcomes = [outcome(0.9, 1, 1, lr=1), outcome(0.1, 0.5, 0.5, lr=2), outcome(0.1, 0.4, 0.5, lr=3)]
    made = search_record("lab-tofu", "npo", (100, 101), outcomes, {"commit": "c"})
    assert (made["chosen"], made["params"], made["forgotten"], made["edges"]) == (1, {"lr": 2}, True, [])
    assert (made["budget"], made["seeds"], len(made["settings"])) == (3, [100, 101], 3)
    assert made["settings"][0]["excess"] == pytest.approx(0.6)


WRECK = Outcome({"lr": 1e30}, {}, {}, 0.0, 0.0, broken=BROKEN_DOWN)


def test_a_broken_setting_is_never_chosen_before_one_that_works() -> None:
    """Neither before one that has forgotten nor before one that hasn't."""
    assert choose_setting([WRECK, outcome(0.1, 0, 0, lr=1.0)]).index == 1
    choice = choose_setting([WRECK, outcome(0.9, 0, 0, lr=1.0), outcome(0.8, 0, 0, lr=2.0), WRECK])
    assert (choice.index, choice.forgotten, choice.tied) == (2, False, 0)


def test_a_setting_that_broke_on_one_seed_is_broken() -> None:
    row = {"params": {}, "forget": {"qa": 0.1}, "level": {"qa": 0.2}, "retain": 1.0, "world": 1.0, "fine": -1.0}
    found = average_rows([row | {"seconds": 1.0}, {"params": {}, "broken": BROKEN_DOWN, "seconds": 3.0}])
    assert found.to_json() == {"params": {}, "broken": BROKEN_DOWN, "seconds": 2.0}


def test_a_search_in_which_nothing_works_chooses_nothing() -> None:
    made = search_record("lab-tofu", "ga", (100,), [WRECK, WRECK], {})
    assert made["chosen"] is None and made["params"] == {} and not made["forgotten"] and made["edges"] == []
    assert [setting["broken"] for setting in made["settings"]] == [BROKEN_DOWN] * 2
