"""The paper's judge metrics on TOFU (arXiv 2506.20941, section 3.1): Acc_forget, Acc_recover, Acc_retain.

They read the grades that a judge gave (`bench.engines.measuring.judges.judge_rows`): per example ``truth``, ``oracle-0`` ... and
``wrong-0`` ..., the pick being the highest. The paper's judge is GPT-4o with a prompt and options that are not
published; ours is another, so its scores are never the paper's, and `describe_calibration` says what they are worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Json, Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric, mean_score
from bench.metrics.tokens import mean

Grades = Mapping[str, float]
"""The judge's number for each option."""
Value = Callable[[Grades], float]


@listed(
    "acc_forget",
    "share of forget questions where the judge does not pick the truth as closest to the answer",
    "oracle",
    "MSA paper 3.1, which says up; the judge is in the unit, a tie is the truth",
)
def acc_forget(name: str, probe: str, judge: str) -> Metric:
    """Share of the questions whose pick is not the truth, goal oracle; a tie of truth and another is the truth.

    The paper says "up". But its ideal model has 0.93 and not 1, as some truths can be guessed; a model that writes
    anything but an answer has more. So the oracle's own value is the goal: forgetting more counts as forgetting less.
    ``judge`` is its name and version, ``similarity v1``.
    """
    return _judged(name, probe, judge, truth_lost, "oracle")


@listed(
    "acc_recover",
    "share of forget questions where the judge picks what the oracle said",
    "up",
    "MSA paper 3.1; the judge is in the unit, a tie does not count",
)
def acc_recover(name: str, probe: str, judge: str) -> Metric:
    """Share of the questions whose pick is what the oracle said, goal up; a tie with truth or a wrong answer is not.

    Of several oracles each is compared with the truth and the wrong answers alone, and the shares are averaged.
    """
    return _judged(name, probe, judge, oracle_found, "up")


@listed(
    "acc_retain",
    "share of retain questions where the judge picks the truth or what the oracle said",
    "up",
    "MSA paper 3.1; the judge is in the unit, a tie with a wrong answer does not count",
)
def acc_retain(name: str, probe: str, judge: str) -> Metric:
    """Share of the questions whose pick is the truth or what an oracle said, goal up; a tie with a wrong answer is not."""
    return _judged(name, probe, judge, retained, "up")


def _judged(name: str, probe: str, judge: str, value: Value, goal: str) -> Metric:
    """The mean of ``value`` over the judged rows of ``probe``; `Absent` when they know no oracle."""

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        return grade_values(rows_of(responses, probe), value)

    return mean_metric(name, rows, goal, unit=f"judge: {judge}", needs_oracle=True)


def grade_values(rows: Mapping[str, Any], value: Value) -> dict[str, float]:
    """``value`` of each row that an oracle's answer takes part in, by id; NaN where a grade is no finite number."""
    grades = {key: row["grades"] for key, row in rows.items() if "oracle" in grades_by_kind(row.get("grades", {}))}
    if not grades:
        raise Absent("no row was judged beside an oracle's answer")
    return {key: value(row) if all(map(math.isfinite, row.values())) else math.nan for key, row in grades.items()}


def grades_by_kind(grades: Grades) -> dict[str, list[float]]:
    """The grades by kind of option: ``truth``, ``oracle``, ``wrong``."""
    found: dict[str, list[float]] = {}
    for option in sorted(grades):
        found.setdefault(option.split("-")[0], []).append(grades[option])
    return found


def truth_lost(grades: Grades) -> float:
    """1 where another option fits better than the truth."""
    return float(max(grades.values()) > grades["truth"])


def oracle_found(grades: Grades) -> float:
    """The share of oracles whose answer fits better than the truth and every wrong one."""
    by_kind = grades_by_kind(grades)
    best = max([grades["truth"], *by_kind.get("wrong", ())])
    return mean(float(grade > best) for grade in by_kind["oracle"])


def retained(grades: Grades) -> float:
    """1 where the truth or an oracle's answer fits better than every wrong one, and at all."""
    by_kind = grades_by_kind(grades)
    return float(max(grades["truth"], *by_kind["oracle"]) > max(by_kind.get("wrong", ()), default=0.0))


PUBLISHED: Json = {
    "ideal": {"acc_forget": 0.93, "acc_recover": 0.98, "acc_retain": 1.00},
    "target": {"acc_forget": 0.15, "acc_recover": 0.13, "acc_retain": 0.89},
    "judge": "GPT-4o",
    "tag": "S",
    "source": "published, secondhand: arXiv 2506.20941, TOFU; the ideal model was judged against itself",
}
"""What the paper's judge said of the two rows that frame the table."""
ACCURACIES: dict[str, tuple[str, Value]] = {
    "acc_forget": ("forget", truth_lost),
    "acc_recover": ("forget", oracle_found),
    "acc_retain": ("retain", retained),
}
"""Score -> the side whose rows it reads, and the value of a row."""

Sides = Mapping[str, Mapping[str, Any]]
"""Judged rows of one checkpoint: ``forget`` and ``retain``."""


def describe_calibration(target_rows: Sides, oracle_rows: Sides, judge: str) -> Json:
    """Scores that ``judge`` gives the target and the oracle, beside those that the paper's judge gave its own.

    Rows are `judge_rows`' for the probes ``forget`` and ``retain``. ``separates`` is whether the judge tells a model
    that knows the forget set from one that never saw it: the oracle's 95% interval lies above the target's in both
    acc_forget and acc_recover. A judge that does not must not be read.
    """
    scores = {"target": side_scores(target_rows), "oracle": side_scores(oracle_rows)}
    apart = [
        name for name in ("acc_forget", "acc_recover") if lies_above(scores["oracle"][name], scores["target"][name])
    ]
    separates = len(apart) == 2
    said = "; ".join(
        f"{name} {scores['target'][name].value:.2f} and {scores['oracle'][name].value:.2f}" for name in ACCURACIES
    )
    verdict = f"{judge} {'separates' if separates else 'does NOT separate'} target and oracle ({said})."
    return {
        "judge": judge,
        "scores": {row: {name: score.to_json() for name, score in found.items()} for row, found in scores.items()},
        "published": PUBLISHED,
        "separates": separates,
        "verdict": verdict,
    }


def side_scores(rows: Sides) -> dict[str, Score]:
    """The three accuracies of one checkpoint."""
    return {name: mean_score(grade_values(rows[side], value)) for name, (side, value) in ACCURACIES.items()}


def lies_above(one: Score, other: Score) -> bool:
    """Whether the interval of ``one`` lies wholly above that of ``other``; scores without interval never do."""
    return one.low is not None and other.high is not None and one.low > other.high
