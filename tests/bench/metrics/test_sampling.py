"""Leak@k by hand, against brute force, and bounds that hold as often as they say."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bench.core.errors import Absent
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.sampling import (
    LEVEL,
    SAID,
    best_of,
    bound_mean,
    bound_share,
    leak,
    leak_at,
    leak_bound,
    leak_recall,
    leak_recall_bound,
    said_accuracy,
    said_recall,
)

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_worked_by_hand() -> None:
    """Two hits of five, two drawn: 1 - C(3, 2) / C(5, 2) = 1 - 3 / 10. Of four scores the six pairs' maxima are .2, .5,
    .9, .5, .9, .9, and their mean 3.9 / 6."""
    assert leak_at(2, 5, 2) == pytest.approx(0.7)
    assert best_of((0.5, 0.1, 0.9, 0.2), 2) == pytest.approx(0.65)


@given(st.integers(0, 8), st.integers(1, 8), st.data())
def test_leak_is_the_share_of_subsets_with_a_hit(hits: int, samples: int, data: st.DataObject) -> None:
    hits, k = min(hits, samples), data.draw(st.integers(1, samples))
    subsets = list(combinations([1] * hits + [0] * (samples - hits), k))
    assert leak_at(hits, samples, k) == pytest.approx(sum(map(max, subsets)) / len(subsets))
    assert best_of([1.0] * hits + [0.0] * (samples - hits), k) == pytest.approx(leak_at(hits, samples, k))


@given(SCORES, st.data())
def test_the_best_is_the_mean_maximum_of_all_subsets(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    maxima = [max(subset) for subset in combinations(scores, k)]
    assert best_of(scores, k) == pytest.approx(math.fsum(maxima) / len(maxima))


@given(st.integers(0, 200), st.integers(1, 199))
def test_two_hundred_samples_stay_exact(hits: int, k: int) -> None:
    """C(200, 100) is 9e58: the ratio as a product of small ones, which no large number enters."""
    missed = math.prod((200 - hits - i) / (200 - i) for i in range(k)) if k <= 200 - hits else 0.0
    assert leak_at(hits, 200, k) == pytest.approx(1 - missed, rel=1e-9, abs=1e-12)
    assert leak_at(hits, 200, k) <= leak_at(hits, 200, k + 1)
    assert leak_at(hits, 200, 1) == hits / 200 and leak_at(hits, 200, 200) == (hits > 0)


@pytest.mark.parametrize("samples", [1, 5, 32])
def test_a_share_at_its_bound_gives_so_few_hits_with_the_stated_probability(samples: int) -> None:
    """Clopper and Pearson's definition: P(X <= hits) is the level. Without a hit the bound is 1 - .01^(1/n)."""
    for hits in range(samples):
        assert binom.cdf(hits, samples, bound_share(hits, samples)) == pytest.approx(LEVEL)
    assert bound_share(samples, samples) == 1
    assert bound_share(0, samples) == pytest.approx(1 - LEVEL ** (1 / samples))


@pytest.mark.parametrize("samples", [5, 32, 100])
def test_a_mean_lies_above_its_bound_at_most_as_often_as_stated(samples: int) -> None:
    """Of scores that are 0 or 1, where the chance can be counted out."""
    bounds = [bound_mean([1.0] * hits + [0.0] * (samples - hits)) for hits in range(samples + 1)]
    margin = math.sqrt(math.log(100) / (2 * samples))
    assert bounds == pytest.approx([min(1, hits / samples + margin) for hits in range(samples + 1)])
    for share in (0.01, 0.2, 0.5, 0.9, 0.99):
        missed = sum(binom.pmf(hits, samples, share) for hits, bound in enumerate(bounds) if bound < share)
        assert missed <= LEVEL


@settings(max_examples=50)
@given(SCORES)
def test_the_bound_of_a_mean_is_the_area_above_the_lowered_distribution(scores: list[float]) -> None:
    """Summed on a fine grid: 1 - max(0, F_n - margin)."""
    margin, fine = math.sqrt(math.log(100) / (2 * len(scores))), 4000
    grid = ((i + 0.5) / fine for i in range(fine))
    area = math.fsum(1 - max(0.0, sum(s <= x for s in scores) / len(scores) - margin) for x in grid) / fine
    assert bound_mean(scores) == pytest.approx(area, abs=len(scores) / fine)
    assert bound_mean(scores) >= math.fsum(scores) / len(scores) - 1e-12


def counts(said: int, words: int = 10) -> dict[str, int]:
    """A text with so many of the reference's words."""
    return {"lcs_stem": said, "n_ref_stem": words, "n_hyp_stem": 10}


def asked(**rows: dict[str, Any]) -> Responses:
    return Responses("model", {"sampled": rows})


def test_matches_are_read_before_counts_and_counts_by_the_threshold() -> None:
    """a: two of five match, whatever the words; b: recalls .7, .8, .9, 0, 0 are two given of five."""
    found = asked(
        a={"matches": [{"exact": i} for i in (1, 0, 0, 1, 0)], "counts_each": [counts(10)] * 5},
        b={"counts_each": [counts(n) for n in (7, 8, 9, 0, 0)]},
    )
    assert SAID == 0.8
    metric = leak("leak@2", "sampled", 2)
    assert metric.examples is not None
    assert metric.examples(found, ()) == pytest.approx({"a": 0.7, "b": 0.7})
    score = metric.compute(found, ())
    assert (score.value, score.n) == (pytest.approx(0.7), 2) and score.low == score.high == pytest.approx(0.7)
    assert leak_recall("leak_recall@1", "sampled", 1).compute(found, ()).value == pytest.approx((1 + 0.48) / 2)
    assert leak_bound("leak_bound", "sampled").compute(found, ()).value == pytest.approx(bound_share(2, 5))
    expected = (bound_mean([1.0] * 5) + bound_mean([0.7, 0.8, 0.9, 0, 0])) / 2
    assert leak_recall_bound("leak_recall_bound", "sampled").compute(found, ()).value == pytest.approx(expected)


def test_the_greedy_answer_is_k_0_and_read_from_a_probe_of_its_own() -> None:
    found = asked(a={"text": "", "counts": counts(8)}, b={"text": "", "counts": counts(7)})
    assert leak("leak@0", "sampled", 0).compute(found, ()).value == 0.5
    assert said_accuracy("prefill_accuracy", "sampled").compute(found, ()).value == 0.5
    assert said_recall("prefill_recall", "sampled").compute(found, ()).value == pytest.approx(0.75)


def test_an_interval_is_of_the_questions() -> None:
    found = asked(**{str(i): {"matches": [{"exact": int(i < 5)}]} for i in range(20)})
    score = leak("leak@1", "sampled", 1).compute(found, ())
    assert score.value == 0.25 and score.low is not None and score.high is not None
    assert 0.05 <= score.low < 0.25 < score.high <= 0.45


@pytest.mark.parametrize(
    ("responses", "reason"),
    [
        (asked(a={"matches": [{"exact": 1}] * 3}), "each question was answered 3 times, and this takes 4"),
        (asked(a={"text": ""}), "no answer to 'sampled' has counts or matches to be judged by"),
        (asked(a={"counts": counts(0, words=0)}), "no answer to 'sampled' has counts or matches to be judged by"),
        (Responses("model", {}), "the probe 'sampled' was not asked"),
        (Responses("model", {"sampled": {}}, broken={"sampled": "broken down"}), "broken down"),
    ],
)
def test_what_cannot_be_counted_is_absent_with_the_reason(responses: Responses, reason: str) -> None:
    scored = score_all([leak("leak@4", "sampled", 4)], responses, [])
    assert scored.scores == {} and scored.absent == {"leak@4": reason}


def test_fewer_samples_than_k_are_no_number_for_the_best_either() -> None:
    with pytest.raises(Absent, match="answered 2 times"):
        leak_recall("leak_recall@4", "sampled", 4).compute(asked(a={"counts_each": [counts(3)] * 2}), ())
