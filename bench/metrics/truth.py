"""TOFU's truth ratio, forget quality and model utility (Maini et al. 2024, arXiv 2401.06121, section 2.2)."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal
from warnings import catch_warnings, filterwarnings

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import check_finite, rounded_score, rows_of
from bench.metrics.catalogue import listed
from bench.metrics.scores import finite_values, mean_score
from bench.metrics.tokens import harmonic_mean, mean, mean_logp, texts

LEAST = sys.float_info.min
"""The smallest p-value that is told apart from none."""
MOST_LOG = 700.0
"""An example's r is shown up to e to this, the largest that a float holds."""
Right = Literal["paraphrase", "answer"]
"""Role of the right answer: TOFU takes the paraphrase, and the plain answer for real authors and world facts."""


@listed(
    "forget_truth_ratio",
    "mean of min(r, 1/r), r the wrong answers' probability over the right one's: near 1, it does not know",
    "oracle",
    "TOFU, geometric form, in log space",
)
@listed("*_Truth_Ratio", "mean of max(0, 1 - r)", "up", "TOFU, geometric form, in log space")
def truth_ratio(
    name: str,
    probe: str,
    *,
    form: Literal["forget", "utility", "share"] = "forget",
    right: Right = "paraphrase",
    goal: str | float,
) -> Metric:
    """Mean over rows of min(r, 1/r) (``forget``), max(0, 1 - r) (``utility``) or 1/(1 + r) (``share``: p / (p + p_wrong)),
    r the `log_ratios`' exponential.

    The value of an example is r itself, as in the field's logs. No 1e-10 in r's denominator as in the peer: with it, a
    model that finds nothing probable (every loss at 80) gets r = 0 and so the best utility there is; without it r is 1,
    and the utility 0.
    """
    of_log: dict[str, Callable[[float], float]] = {
        "forget": lambda log_r: math.exp(-abs(log_r)),
        "utility": lambda log_r: -math.expm1(log_r) if log_r < 0 else 0.0,
        "share": lambda log_r: 1 / (1 + math.exp(min(log_r, MOST_LOG))),
    }
    shape = of_log[form]

    def compute(responses: Responses, oracles: object) -> Score:
        return mean_score({key: shape(log_r) for key, log_r in log_ratios(responses, probe, right).items()})

    def ratios(responses: Responses, oracles: object) -> dict[str, float]:
        return {key: math.exp(min(log_r, MOST_LOG)) for key, log_r in log_ratios(responses, probe, right).items()}

    return Metric(name, compute, goal, examples=ratios)


def log_ratios(responses: Responses, probe: str, right: str) -> dict[str, float]:
    """Log r by example id: r = exp(-mean of the wrong answers' mean losses) / exp(-mean loss of the right answer).

    The geometric form of TOFU's ``aggregate_eval_stat.py``, not the arithmetic one of its ``utils.py``; kept as a
    logarithm, so that no loss is too large. Rows that lack a wrong or a right answer with tokens are left out.
    """
    found: dict[str, float] = {}
    for key, row in rows_of(responses, probe).items():
        good, wrong = texts(row, right), texts(row, "wrong")
        if good and wrong:
            found[key] = mean(map(mean_logp, wrong)) - mean(map(mean_logp, good))
    if not found:
        raise Absent(f"no row of the probe '{probe}' has both the role '{right}' and the role 'wrong'")
    finite_values(found)  # of an infinite loss every form makes a number, and some the best one
    return found


@listed(
    "forget_quality", "log10 of the p-value of the KS test of r against the oracle's, mean over oracles", "0", "TOFU"
)
def forget_quality(name: str, probe: str, *, right: Right = "paraphrase") -> Metric:
    """log10 of the p-value of the two-sided Kolmogorov-Smirnov test of r against the oracle's, mean over the oracles, goal 0.

    0 when the two samples can't be told apart, far below where the oracle's answers can be told from the model's; TOFU's
    own column is the p-value, whose means are those of its largest. A p-value below what a float holds counts as the
    least one. Tested on log r, which leaves the p-value as it is (monotone). `Absent` when an oracle was asked other
    questions: TOFU's own
    logs have different numbers of rows, and nothing there checks it. p-values of other sample sizes don't compare.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        ours = log_ratios(responses, probe, right)
        p_values = [ks_p_value(ours, log_ratios(oracle, probe, right), probe) for oracle in oracles]
        values = [math.log10(max(p, LEAST)) for p in p_values]
        if not values:
            raise Absent("there is no oracle to compare with")
        return Score(rounded_score(mean(values)), len(ours))

    return Metric(name, compute, 0.0, version=2, needs_oracle=True)


def ks_p_value(ours: dict[str, float], theirs: dict[str, float], probe: str) -> float:
    """Scipy's two-sided two-sample test; `Absent` unless both are about the same examples."""
    from scipy.stats import ks_2samp

    if odd := len(ours.keys() ^ theirs.keys()):
        raise Absent(f"an oracle was asked other questions in '{probe}': {odd} example ids are on one side only")
    with catch_warnings():
        # Of two samples of one size that differ least, the exact p is 1, which rounding takes above it.
        filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        found = ks_2samp(finite_values(ours), finite_values(theirs))
    return 1.0 if round(found.statistic * len(ours)) <= 1 else float(found.pvalue)


@listed("model_utility", "harmonic mean of probability, ROUGE and truth ratio on what must stay", "up", "TOFU")
def model_utility(name: str, parts: Sequence[Metric]) -> Metric:
    """Harmonic mean of the scores of ``parts``, goal up; one zero makes it 0 (TOFU, section 2.2.2).

    TOFU's nine parts: probability (normalised for real authors and world facts), ROUGE and truth ratio on retain, real
    authors and world facts. A part that is absent makes the whole absent. The size is the smallest part's.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        scores = [score_part(part, responses, oracles) for part in parts]
        value = harmonic_mean(score.value for score in scores)
        return Score(rounded_score(value), min(score.n for score in scores))

    return Metric(name, compute, "up", needs_oracle=any(part.needs_oracle for part in parts))


def score_part(part: Metric, responses: Responses, oracles: Sequence[Responses]) -> Score:
    """The score of ``part``, whose absence is reported under its name; so is one that is no finite number."""
    try:
        return check_finite(part.compute(responses, oracles))
    except Absent as reason:
        raise Absent(f"'{part.name}' is absent: {reason}") from reason
