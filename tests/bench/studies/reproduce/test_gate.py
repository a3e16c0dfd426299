"""Tolerances worked by hand, and what the gate says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench.studies.reproduce.gate import (
    Cells,
    MeasuredCell,
    departures,
    half_digit,
    judge_calibration,
    signed_distance,
    tolerance,
)
from bench.studies.reproduce.published import PUBLISHED_TABLES
from bench.studies.reproduce.recipe import ORACLE, TARGET, RecipeColumn, RecipeRow
from bench.studies.reproduce.recipes import RECIPES_BY_NAME
from bench.studies.reproduce.run import measure_cell
from tests.factories import record

T1, T2, T7 = (PUBLISHED_TABLES[key] for key in ("T1", "T2", "T7"))
TOFU_COLUMNS = RECIPES_BY_NAME["t1-tofu01"].columns

FRAME = (RecipeRow("Final (target)", TARGET), RecipeRow("Ideal", ORACLE), RecipeRow("NPO", "npo"))


def found(**values: float) -> Cells:
    """Everything of T1 as published, but for what is given as ``target_Acc_forget=...``."""
    cells = {}
    for arm, name in ((FRAME[0], "target"), (FRAME[1], "oracle")):
        for column, text in zip(TOFU_COLUMNS, T1.row(arm.published).values, strict=True):
            value = values.get(f"{name}_{column.published.replace(' ', '_')}", float(text))
            cells[arm.published, column.published] = MeasuredCell(value, 40, value, value)
    return cells


@pytest.mark.parametrize(
    ("text", "half"), [("0.15", 0.005), (".4", 0.05), ("-100.0", 0.05), ("2", 0.5), ("1.9e-3", 5e-5)]
)
def test_half_of_the_last_digit(text: str, half: float) -> None:
    assert half_digit(text) == pytest.approx(half)


def test_tolerances_by_hand() -> None:
    """.15 of 40: .005 + 1.96 sqrt(.15 x .85 / 40) = .1157; 1.00 of 40: .005 + one question of 40, .025."""
    share = RecipeColumn("Acc", "acc")
    assert tolerance(share, "0.15", 40) == pytest.approx(0.005 + 1.96 * math.sqrt(0.15 * 0.85 / 40))
    assert tolerance(share, "1.00", 40) == pytest.approx(0.03)
    percent = RecipeColumn("RESTOR accuracy (%)", "restor_accuracy", scale=100)
    assert tolerance(percent, "44.31", 1051) == pytest.approx(0.005 + 196 * math.sqrt(0.4431 * 0.5569 / 1051))
    area = RecipeColumn("AUC", "mia_min_k", kind="area")
    assert tolerance(area, ".50", 200) == pytest.approx(0.005 + 1.96 * 0.05), "of 100 forget and 100 holdout texts"
    assert tolerance(RecipeColumn("MU", "model_utility", kind="index"), "0.48", 9) == pytest.approx(0.025)


def test_privleaks_tolerance_is_that_of_the_auc_behind_it() -> None:
    """100 ((1 - AUC) / .55 - 1), the oracle's AUC .45. At -100 the AUC is 1: one text of 100, .01 / .55. At -50 it is
    1 - .275 = .725: 1.96 sqrt(.725 x .275 / 100) / .55."""
    leak = RecipeColumn("P", "privleak", kind="percent of the oracle", oracle_area=0.45)
    assert tolerance(leak, "-100.0", 200) == pytest.approx(0.05 + 100 * 0.01 / 0.55)
    at_half = 1.96 * math.sqrt(0.725 * 0.275 / 100)
    assert tolerance(leak, "-50", 200) == pytest.approx(0.5 + 100 * at_half / 0.55)


def test_p_values_are_compared_by_their_powers_of_ten() -> None:
    column = RecipeColumn("FQ", "forget_quality", kind="p-value")
    assert signed_distance(column, "1.66e-21", 3.91e-22) == pytest.approx(-0.628, abs=1e-3)
    assert tolerance(column, "1.66e-21", 400) == 1.0
    made = [record("npo", seed, {"forget_quality": value}) for seed, value in enumerate((-20.0, -22.0))]
    cell = measure_cell(RecipeRow("NPO", "npo"), column, made)
    assert cell is not None and (cell.value, cell.low, cell.high) == pytest.approx((1e-21, 1e-22, 1e-20), rel=1e-9)


def test_passed_when_target_and_oracle_are_within() -> None:
    verdict = judge_calibration(T1, TOFU_COLUMNS, FRAME, found(target_Acc_forget=0.26))
    assert verdict.outcome == "passed" and "target Acc_forget 0.260 vs 0.15, tolerance 0.116" in verdict.checks


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target_Acc_forget": 0.4}, "target Acc_forget 0.400 vs 0.15"),
        ({"oracle_Model_utility": 0.60}, "oracle Model utility 0.600 vs 0.54"),
    ],
)
def test_failed_with_the_cell_that_is_off(values: dict[str, float], said: str) -> None:
    verdict = judge_calibration(T1, TOFU_COLUMNS, FRAME, found(**values))
    assert verdict.outcome == "failed" and verdict.reasons == (said,)


def test_a_row_of_which_nothing_was_measured_fails() -> None:
    cells = {place: cell for place, cell in found().items() if place[0] != "Ideal"}
    verdict = judge_calibration(T1, TOFU_COLUMNS, FRAME, cells)
    assert verdict.outcome == "failed" and "nothing of oracle" in verdict.reasons[0]


def test_a_published_number_that_was_not_measured_fails() -> None:
    cells = {place: cell for place, cell in found().items() if place != ("Ideal", "Acc_recover")}
    verdict = judge_calibration(T1, TOFU_COLUMNS, FRAME, cells)
    assert verdict.outcome == "failed"
    assert verdict.reasons == ("oracle Acc_recover wasn't measured, and 0.98 was published",)
    unmapped = tuple(replace(c, score="") if c.published == "Acc_recover" else c for c in TOFU_COLUMNS)
    assert judge_calibration(T1, unmapped, FRAME, cells).outcome == "passed", "a column that we don't measure at all"


def test_what_the_oracle_scores_against_itself_is_not_asked_for() -> None:
    books = RECIPES_BY_NAME["ou-muse"]
    (panel,) = books.panels
    cells = {
        (row, column.published): MeasuredCell(float(text), 200, 0, 0)
        for row in ("Finetuned", "Retain")
        for column, text in zip(books.columns, panel.table.row(row).values, strict=True)
    }
    del cells["Retain", "PrivLeak"]
    assert judge_calibration(panel.table, books.columns, panel.arms, cells).outcome == "passed"
    del cells["Finetuned", "PrivLeak"]
    assert judge_calibration(panel.table, books.columns, panel.arms, cells).outcome == "failed"


@pytest.mark.parametrize(
    ("labels", "frame", "said"),
    [
        (["tofu subset: 20 authors"], [], "the data here are 'tofu subset: 20 authors', not 'tofu forget01'"),
        (["tofu forget01", "tofu forget10"], [], "the data here are 'tofu forget10', not 'tofu forget01'"),
        (["tofu forget01"], ["tofu.recipe=official"], "`--set tofu.recipe=official` changed the task"),
    ],
)
def test_something_else_than_what_was_published_cannot_pass(labels: list[str], frame: list[str], said: str) -> None:
    other = departures(("tofu forget01",), labels, frame)
    verdict = judge_calibration(T1, TOFU_COLUMNS, FRAME, found(), other)
    assert verdict.outcome == "can't be passed" and len(other) == 1 and said in verdict.reasons[0]
    assert departures(("tofu forget01",), ["tofu forget01"], []) == []


def test_another_judge_is_said_whatever_the_outcome() -> None:
    assert judge_calibration(T1, TOFU_COLUMNS, FRAME, found()).caveat == "with another judge"
    assert judge_calibration(T1, TOFU_COLUMNS, FRAME, found(target_Acc_forget=0.9)).caveat == "with another judge"
    unjudged = RECIPES_BY_NAME["ou-muse"]
    assert judge_calibration(unjudged.panels[0].table, unjudged.columns, unjudged.panels[0].arms, {}).caveat == ""


def test_methods_have_no_say() -> None:
    cells = {**found(), ("NPO", "Acc_forget"): MeasuredCell(0.0, 40, 0.0, 0.0)}
    assert judge_calibration(T1, TOFU_COLUMNS, FRAME, cells).outcome == "passed"


def test_without_published_frame_it_cannot_be_passed() -> None:
    frame = (RecipeRow("Target", TARGET), RecipeRow("Ideal", ORACLE))
    for table in (T2, T7):  # no such rows; rows without numbers
        verdict = judge_calibration(table, TOFU_COLUMNS, frame, found())
        assert verdict.outcome == "can't be passed" and "target and oracle" in verdict.reasons[0]
