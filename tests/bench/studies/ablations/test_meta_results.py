"""Scores judged from made-up models: orientation, comparisons, which rows count, and the page."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.types import Json
from bench.records.figures import plot_style
from bench.studies.ablations.meta_results import draw, judge_scores, table, unlearned_rows

METRICS = {
    "knowledge": {"goal": "oracle", "unit": ""},
    "ignorance": {"goal": "oracle", "unit": ""},
    "style": {"goal": "oracle", "unit": ""},
    "nats": {"goal": "down", "unit": "nats/token"},
}


def scores(knowledge: float, style: float = 0.5) -> dict[str, float]:
    """Four scores: one that rises with knowledge, its complement, one that doesn't look at it, and one without an end."""
    return {"knowledge": knowledge, "ignorance": 1 - knowledge, "style": style, "nats": 3 * knowledge}


def model(pool: str, taught: str, found: Json, **more: Any) -> Json:
    return {"pool": pool, "taught": taught, "scores": found, "utility": 0.9, "left_out": "", **more}


def row(name: str, before: float, relearnt: float, rounded: float, utility: float = 0.9) -> Json:
    after = {"relearn": scores(relearnt), "quantise": scores(rounded)}
    return {"row": name, "utility": utility, "before": scores(before), **after}


def result(seed: int = 0, **more: Any) -> Json:
    """Models taught wrong answers have the style of those that know."""
    made: Json = {
        "seed": seed,
        "unmet": {},
        "absent": {},
        "forgetting": ["knowledge"],
        "metrics": METRICS,
        "models": [
            model("knows", "target", scores(1.0, 0.9)),
            model("knows", "paraphrases", scores(0.9, 0.8), lr=2e-4, steps=50),
            model("doesn't", "oracle-0", scores(0.1, 0.1)),
            model("doesn't", "wrong", scores(0.0, 0.95), lr=2e-4, steps=50),
            model("doesn't", "retain", scores(0.1, 0.2), lr=2e-4, steps=50),
        ],
        "rows": [
            row("target", 1.0, 1.0, 1.0),
            row("retrain", 0.1, 0.3, 0.1),
            row("msa", 0.2, 0.4, 0.2),
            row("npo", 0.2, 0.6, 0.4),
            row("broken", 0.0, 0.1, 0.0, utility=0.5),
            row("nothing", 0.95, 1.0, 0.95),
        ],
    }
    return made | more


def test_a_score_is_turned_to_the_side_of_those_that_know_and_style_is_found_out() -> None:
    judged = {one.name: one for one in judge_scores([result()])}
    assert [one.rises for one in judged.values()] == [True, False, True, True]
    assert all(judged[name].areas["all"] == 1.0 for name in ("knowledge", "ignorance", "nats"))
    # 4 of 6 pairs: the wrong-answer model is above both of those that know.
    assert judged["style"].areas == {
        "all": pytest.approx(4 / 6),
        "wrong answers": 0.0,
        "oracles, retain": 1.0,
    }
    assert judged["knowledge"].models == (2, 3) and list(judged)[-1] == "style"


def test_robustness_is_over_rows_that_keep_utility_and_look_unlearned() -> None:
    assert unlearned_rows(result()) == ["msa", "npo", "nothing"]
    judged = {one.name: one for one in judge_scores([result()])}
    for name in ("knowledge", "ignorance"):
        # The oracle rises by .2, msa by .2, npo by .4; nothing is above the threshold of .5.
        assert judged[name].relearning == {"OU": pytest.approx((1.0, 0.5)), "UD": pytest.approx((1.0, 2 / 3))}
        assert judged[name].rounding == {"OU": pytest.approx((1.0, 0.5)), "UD": pytest.approx((1.0, 2 / 3))}
        assert judged[name].robustness("OU") == pytest.approx(0.75)
    assert judged["style"].relearning == {"OU": (), "UD": ()}, "an AUC of 0.67 asks no more"
    assert judged["nats"].relearning["OU"] == pytest.approx((1.0, 0.5)), "R asks for no scale"
    assert judged["nats"].rounding == {"OU": (), "UD": ()} and judged["nats"].robustness("UD") is None


def test_what_is_left_out_counts_nowhere_and_is_said() -> None:
    said = "it was taught the answers and gives only 0.30 of them"
    spoilt = result(1, unmet={"quantise": "the method quantise isn't installed"}, absent={"nats": "it has no oracle"})
    spoilt["models"][1] |= {"left_out": said, "scores": scores(0.3)}
    for each in spoilt["rows"]:
        del each["quantise"]
    judged = {one.name: one for one in judge_scores([spoilt])}
    assert judged["knowledge"].models == (1, 3) and judged["knowledge"].rounding["OU"] == ()
    page = table([result(), spoilt])
    assert f"- Seed 1, paraphrases 0.0002 50: left out, as {said}." in page
    assert "- Seed 1: quantise is missing: the method quantise isn't installed." in page
    assert "- Seed 1: some model has no nats: it has no oracle." in page
    assert "| knows | paraphrases | 0.0002 | 50 | 1 of 2 |" in page


def test_the_page_has_every_score_and_the_models_behind_it() -> None:
    page = table([result()])
    assert (
        "| knowledge | higher | 1.000 | 1.000 | 1.000 | 0.750 (2) | 0.750 (2) | 0.750 | 0.833 (2) | 0.833 (2) | 0.833 |"
        in page
    )
    assert "| nats | higher | 1.000 | 1.000 | 1.000 | 0.750 (2) | — | — | 0.833 (2) | — | — |" in page
    assert "| msa | 0.900 | 1 of 1 | 0.200 | 0.400 | 0.200 |" in page
    assert "| target | 0.900 |  | 1.000 | 1.000 | 1.000 |" in page
    assert "| broken | 0.500 | 0 of 1 |" in page


@pytest.mark.parametrize("results", [[result()], [result(0), result(1)]], ids=["one seed", "two"])
def test_the_picture_has_a_line_for_each_score(results: list[Json]) -> None:
    for each in results[1:]:
        for found in each["rows"]:
            del found["quantise"]
    with plot_style():
        figure = draw(results)
    faithful, relearnt, rounded = figure.axes
    assert {label.get_text() for label in faithful.get_yticklabels()} == set(METRICS)
    assert relearnt.get_xlabel().startswith("R:") and rounded.get_xlabel().startswith("Q:")


def test_the_picture_says_what_was_not_measured() -> None:
    lacking = result()
    for found in lacking["rows"]:
        del found["quantise"]
    with plot_style():
        figure = draw([lacking])
    assert [text.get_text() for text in figure.axes[2].texts] == ["not measured"]
    assert not figure.axes[1].texts
