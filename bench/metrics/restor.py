"""RESTOR's scores on generated answers (Rezaei et al. 2025, arXiv 2411.00204), judged by `bench.metrics.answers`.

A question is asked several times; its value is the share of its texts that are judged so, and the score is the mean
over questions, as the authors' mean over runs weighs every question alike. Their judge is GPT-3.5; ours are string
rules, so the scores carry other values than the paper's tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.rows import Accepted, Generated
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import mean_metric
from bench.metrics.tokens import mean


@listed(
    "restor_accuracy (questions asked)",
    "share of generated answers that are an accepted answer, or a list of such, and nothing else",
    "up",
    "RESTOR; string rules where the authors ask GPT-3.5",
)
@listed(
    "restor_accuracy_corrupted, _clean (questions asked)",
    "the same for questions about the people whom the corpus corrupts, and about the others",
    "up",
    "own split: the corpora corrupt 5 to 10 of RESTOR's 50 people",
)
@listed(
    "restor_*_lenient",
    "the same where the answer only names, abbreviates or stands for an accepted one",
    "up, wrong: oracle",
    "own; nearer to RESTOR's judge, below it",
)
@listed("restor_*_greedy", "the same of one greedy answer, where RESTOR samples", "up, wrong: oracle", "own")
@listed(
    "restor_wrong (questions asked)",
    "share of generated answers that are the corrupted value, over questions where it is known",
    "oracle",
    "own",
)
def matched(name: str, probes: Sequence[str], judgement: str, *, goal: str | float) -> Metric:
    """Mean over the questions of all ``probes`` of the share of texts with ``judgement``.

    ``judgement`` is a key of `bench.metrics.answers.match`. Questions that weren't judged so (``wrong`` where nobody
    knows the corrupted value) count for nothing; `Absent` where none was.
    """

    def values(row: Generated) -> list[float]:
        return [match[judgement] for match in row.get("matches", ()) if judgement in match]

    lacking = f"no answer to {' or '.join(map(repr, probes))} was judged '{judgement}'"
    return mean_metric(name, lambda responses, _: pooled_means(responses, probes, values, lacking), goal)


@listed(
    "restor_accuracy_judged",
    "share of generated answers in which a chat model sees an accepted answer",
    "up",
    "RESTOR's way, with the prompt of bench.engines.measuring.judges; the judge is in the unit",
)
def judge_accepts(name: str, probes: Sequence[str], judge: str) -> Metric:
    """Mean over the questions of the share of texts in which the judge sees an accepted answer, goal up.

    Reads the rows of `bench.engines.measuring.judges.accepted_rows`; ``judge`` is its name and version.
    """

    def values(row: Accepted) -> list[float]:
        return [
            float(max(grades.values()) >= row["accepts"]) if all(map(math.isfinite, grades.values())) else math.nan
            for grades in row.get("grades", ())
        ]

    def rows(responses: Responses, oracles: object) -> dict[str, float]:
        return pooled_means(responses, probes, values, "no answer was judged")

    return mean_metric(name, rows, "up", unit=f"judge: {judge}")


def pooled_means(
    responses: Responses, probes: Sequence[str], values: Callable[[Any], Sequence[float]], lacking: str
) -> dict[str, float]:
    """The mean of each question's ``values`` over all ``probes``; `Absent`, saying what is ``lacking``, where no has any."""
    found: dict[str, float] = {}
    for probe in probes:
        for key, row in sorted(rows_of(responses, probe).items()):
            if listed := values(row):
                found[key] = mean(listed)
    if not found:
        raise Absent(lacking)
    return found
