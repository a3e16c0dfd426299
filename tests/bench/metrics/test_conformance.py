"""What every metric owes: order of examples does not matter, absent instead of NaN, the ideal against oneself."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bench.conformance import declared_metric
from bench.core import registry
from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.hashing import canonical_json
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.catalogue import metric_entries, metric_factories
from bench.metrics.classes import class_kl, class_kl_floors, swallowed
from bench.metrics.collapse import collapsed
from bench.metrics.depth import erasure, linear_probe_accuracy
from bench.metrics.divergence import kl, kl_floors
from bench.metrics.judged import acc_forget, acc_recover, acc_retain
from bench.metrics.lm_eval import lm_eval_accuracy
from bench.metrics.membership import auc, privleak
from bench.metrics.options import answered, mean_loss, option_logprob, token_hits
from bench.metrics.overall import field_memorisation, field_privacy
from bench.metrics.probability import (
    accuracy,
    exact_memorization,
    extraction_strength,
    normalised_probability,
    probability,
)
from bench.metrics.restor import judge_accepts as restor_judged
from bench.metrics.restor import matched
from bench.metrics.rouge import count_overlap, rouge_l
from bench.metrics.sampling import leak, leak_bound, leak_recall, leak_recall_bound, said_accuracy, said_recall
from bench.metrics.truth import forget_quality, model_utility, truth_ratio

MADE: dict[Callable[..., Metric], Metric] = {
    probability: probability("probability", "asked", "wrong", goal="oracle"),
    accuracy: accuracy("accuracy", "asked", goal="up"),
    normalised_probability: normalised_probability("normalised", "asked"),
    exact_memorization: exact_memorization("exact_memorization", "asked"),
    extraction_strength: extraction_strength("extraction_strength", "asked"),
    rouge_l: rouge_l("rouge", "said", measure="f1", stemmer=True, goal="up"),
    truth_ratio: truth_ratio("truth_ratio", "asked", form="forget", goal="oracle"),
    forget_quality: forget_quality("forget_quality", "asked"),
    model_utility: model_utility("utility", [accuracy("a", "asked", goal="up"), normalised_probability("b", "asked")]),
    auc: auc("mia_min_k", "min_k", "asked", "other"),
    privleak: privleak("privleak", "asked", "other"),
    kl: kl("kl", "apart"),
    kl_floors: kl_floors("kl_floors", "apart"),
    collapsed: collapsed("collapsed", "said", utility=accuracy("a", "asked", goal="up"), floor=0.1),
    lm_eval_accuracy: lm_eval_accuracy("lm_eval", "choice"),
    answered: answered("answered", ["asked", "other"], "answer", goal="up"),
    option_logprob: option_logprob("option_logprob", "asked", "wrong", goal="oracle"),
    mean_loss: mean_loss("mean_loss", "asked", goal="oracle"),
    token_hits: token_hits("token_hits", "asked", goal="up"),
    matched: matched("matched", ["sampled"], "exact", goal="up"),
    restor_judged: restor_judged("restor_judged", ["accepted"], "a judge"),
    acc_forget: acc_forget("acc_forget", "graded", "coin v1"),
    acc_recover: acc_recover("acc_recover", "graded", "coin v1"),
    acc_retain: acc_retain("acc_retain", "graded", "coin v1"),
    class_kl: class_kl("class_kl", "labelled"),
    class_kl_floors: class_kl_floors("class_kl_floors", "labelled"),
    leak: leak("leak@2", "sampled", 2),
    leak_bound: leak_bound("leak_bound", "sampled"),
    leak_recall: leak_recall("leak_recall@2", "sampled", 2),
    leak_recall_bound: leak_recall_bound("leak_recall_bound", "sampled"),
    said_accuracy: said_accuracy("context_accuracy", "said"),
    said_recall: said_recall("context_recall", "said"),
    erasure: erasure("uds", "depth", "patching"),
    linear_probe_accuracy: linear_probe_accuracy("linear_probe_accuracy", "depth"),
    field_memorisation: field_memorisation("field_memorisation", [accuracy("a", "asked", goal="up")]),
    field_privacy: field_privacy("field_privacy", "asked", "other"),
    swallowed: swallowed("swallowed", "labelled", accuracy("a", "asked", goal="up"), floor=0.1),
}
METRICS = list(MADE.values())
WHOLE = (
    "accuracy",
    "answered",
    "exact_memorization",
    "extraction_strength",
    "rouge",
    "collapsed",
    "swallowed",
    "matched",
    "restor_judged",
    "token_hits",
    "leak@2",
    "leak_bound",
    "leak_recall@2",
    "leak_recall_bound",
    "context_accuracy",
    "context_recall",
)
"""They read argmax hits, counts or judgements, which are whole numbers."""
OPTIONS = ("truth", "oracle-0", "oracle-1", "wrong-0")
SENTENCE = ["a", "small", "grey", "cat", "sat", "on", "the", "old", "mat", "and", "looked", "at", "the", "rain"]


def random_text(rng: random.Random, likely: float) -> dict[str, Any]:
    logps = [-rng.expovariate(likely) for _ in range(rng.randint(1, 6))]
    text = {"logp": logps, "hit": [int(rng.random() < 0.8) for _ in logps], "eos": rng.random() < 0.5}
    return text | {"mu": [-1.0] * len(logps), "sigma": [1.0] * len(logps), "zlib": 20}


def log_probs(weights: list[float]) -> list[float]:
    return [math.log(weight / sum(weights)) for weight in weights]


def observed(seed: int, checkpoint: str, others: tuple[str, ...]) -> Responses:
    """Plausible responses to a probe of every kind, 40 examples each."""
    rng = random.Random(seed)
    ids = [f"e{i}" for i in range(40)]
    roles = {"answer": (2.0, 1), "paraphrase": (1.5, 1), "wrong": (1.0, 3)}
    rows: dict[str, dict[str, dict[str, Any]]] = {
        "asked": {key: {r: [random_text(rng, p) for _ in range(n)] for r, (p, n) in roles.items()} for key in ids},
        "other": {key: {"answer": [random_text(rng, 1.6)]} for key in ids},
        "said": {key: {"counts": count_overlap(" ".join(rng.sample(SENTENCE, 9)), " ".join(SENTENCE))} for key in ids},
        "apart": {key: {label: [rng.random(), rng.random()] for label in others} for key in ids},
        "choice": {key: {"acc": float(rng.random() < 0.7)} for key in ids},
        "accepted": {key: {"grades": [{"accepted-0": 100 * rng.random()}], "accepts": 50.0} for key in ids},
        "graded": {key: {"grades": {option: rng.random() for option in OPTIONS}} for key in ids},
        "sampled": {
            key: {
                "matches": [{"exact": int(rng.random() < 0.4), "lenient": 1} for _ in range(3)],
                "counts_each": [{"lcs_stem": rng.randrange(5), "n_ref_stem": 4, "n_hyp_stem": 6} for _ in range(3)],
            }
            for key in ids
        },
        "depth": {
            key: {
                "patching": [2 * rng.random() for _ in range(3)],
                "linear": [int(rng.random() < 0.5) for _ in range(3)],
            }
            for key in ids
        },
        "labelled": {key: {"classes": log_probs([rng.random() for _ in range(4)])} for key in ids},
    }
    return Responses(checkpoint, rows)


MODEL = observed(1, "m", ("o0", "o1"))
ORACLES = (observed(2, "h0", ("o1",)), observed(3, "h1", ("o0",)))


def shuffled(responses: Responses) -> Responses:
    rows = {}
    for probe, by_id in responses.rows.items():
        keys = list(by_id)
        random.Random(7).shuffle(keys)
        assert keys != list(by_id)
        rows[probe] = {key: by_id[key] for key in keys}
    return replace(responses, rows=rows)


def metrics_of_tasks() -> Iterator[Metric]:
    """Every metric of every registered task, in each of its tiers."""
    for name in registry.components("tasks"):
        for tier in registry.components("tasks")[name]:
            yield from registry.load_task(name, tier)().metrics()


def test_every_factory_is_checked_here_or_by_its_task() -> None:
    """`bench.conformance.check_task` looks at the metrics of every task, so that a new one is listed nowhere else."""
    described = {metric.description for metric in metrics_of_tasks()}
    asked = {made for made in metric_factories() if described & {entry.meaning for entry in vars(made)["entries"]}}
    assert asked | set(MADE) == set(metric_factories())


def test_every_metric_of_a_task_says_what_it_is() -> None:
    for metric in metrics_of_tasks():
        assert list(declared_metric(metric)) == [], metric.name
        assert metric.source, metric.name


def test_every_metric_has_a_finite_score_inside_its_interval() -> None:
    scored = score_all(METRICS, MODEL, ORACLES)
    assert scored.absent == {}
    for metric in METRICS:
        score = scored.scores[metric.name]
        assert math.isfinite(score.value) and score.n >= 30
        assert score.unit == metric.unit
        if score.low is not None and score.high is not None:
            assert score.low <= score.value <= score.high
        canonical_json(score.to_json())  # no NaN, no type that JSON does not know


def test_order_of_examples_and_of_oracles_does_not_matter() -> None:
    again = score_all(METRICS, shuffled(MODEL), [shuffled(oracle) for oracle in reversed(ORACLES)])
    assert again == score_all(METRICS, MODEL, ORACLES)


def test_texts_are_not_needed_and_json_changes_nothing() -> None:
    kept = Responses.from_json(MODEL.publishable().to_json())
    assert score_all(METRICS, kept, ORACLES) == score_all(METRICS, MODEL, ORACLES)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_absent_with_a_reason_where_there_is_nothing(metric: Metric) -> None:
    empty = {"logp": [], "hit": [], "eos": False}
    bare = {
        "asked": {"a": {"answer": [empty], "paraphrase": [empty], "wrong": [empty]}},
        "other": {"a": {"answer": [empty]}},
        "said": {"a": {}},
        "apart": {"a": {"o0": []}},
        "choice": {"a": {}},
        "accepted": {"a": {"grades": []}},
        "sampled": {"a": {"matches": []}},
        "graded": {"a": {"grades": {"truth": 1.0, "wrong-0": 0.5}}},
    }
    for rows in ({}, {name: {} for name in bare}, bare):
        with pytest.raises(Absent, match=r"\w+ \w+"):
            metric.compute(Responses("m", rows), ORACLES)


@pytest.mark.parametrize("metric", [m for m in METRICS if m.name not in WHOLE], ids=lambda metric: metric.name)
def test_broken_outputs_are_absent_not_nan(metric: Metric) -> None:
    broken = {"logp": [float("nan")], "hit": [0], "eos": False}
    rows = {
        "asked": {"a": {"answer": [broken], "paraphrase": [broken], "wrong": [broken]}},
        "other": {"a": {"answer": [broken]}},
        "apart": {"a": {"o0": [float("nan")]}},
        "choice": {"a": {"acc": float("nan")}},
        "graded": {"a": {"grades": dict.fromkeys(OPTIONS, float("nan"))}},
        "labelled": {"a": {"classes": [float("nan")] * 4}},
        "depth": {"a": {"patching": [float("nan")] * 3, "linear": [float("nan")] * 3}},
    }
    oracles = [
        Responses(
            f"h{i}",
            {**oracle.rows, **{probe: {"a": oracle.rows[probe]["e0"]} for probe in ("asked", "labelled", "depth")}},
        )
        for i, oracle in enumerate(ORACLES)
    ]
    with pytest.raises(Absent, match="no finite number"):
        metric.compute(Responses("m", rows), oracles)


def test_one_row_without_tokens_counts_for_nothing() -> None:
    empty = {"logp": [], "hit": [], "eos": False}
    rows = dict(MODEL.rows) | {"asked": {**MODEL.rows["asked"], "empty": {r: [empty] for r in ("answer", "wrong")}}}
    assert score_all(METRICS, replace(MODEL, rows=rows), ORACLES) == score_all(METRICS, MODEL, ORACLES)


def test_against_itself_the_oracle_is_ideal() -> None:
    twin = {key: dict.fromkeys(row, [0.0, 0.0]) for key, row in ORACLES[0].rows["apart"].items()}
    model = Responses("m", {**ORACLES[0].rows, "apart": twin})
    scores = score_all(METRICS, model, [ORACLES[0]]).scores
    assert scores["forget_quality"].value == 0.0
    assert scores["privleak"].value == 0.0
    assert scores["uds"].value == scores["field_privacy"].value == 1.0
    assert scores["kl"].value == 0.0
    assert scores["kl_floors"].value == 0.0


def test_metrics_that_need_an_oracle_are_absent_without_one() -> None:
    scored = score_all(METRICS, MODEL, [])
    assert set(scored.absent) == {metric.name for metric in METRICS if metric.needs_oracle}
    by_a_judge = {"acc_forget", "acc_recover", "acc_retain"}
    assert set(scored.absent) == (
        {"forget_quality", "privleak", "kl", "kl_floors", "class_kl", "class_kl_floors", "uds", "field_privacy"}
        | by_a_judge
    )


def test_the_catalogue_describes_every_family_without_torch() -> None:
    rows = list(metric_entries())
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all(row.meaning and row.goal and row.source and row.version == 1 for row in rows)
    assert {"privleak", "forget_quality", "model_utility", "collapsed", "kl_*"} <= set(names)
    heavy = (
        "import sys, bench.metrics.catalogue as c; list(c.metric_entries());"
        "print({'torch', 'scipy', 'nltk'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_metric_that_comes_to_no_finite_number_is_absent(number: float) -> None:
    """Whatever metric it is, a plug-in's too; an interval counts as well."""
    sound = Score(1.0, 2)
    for score in (replace(sound, value=number), replace(sound, low=number), replace(sound, high=number)):
        metric = Metric("own", lambda responses, oracles, score=score: score, "up")
        found = score_all([metric], Responses("c", {}), [])
        assert found.scores == {} and "no finite number" in found.absent["own"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whole", [True, False])
def test_hits_of_a_model_without_finite_log_probs_make_no_score(number: float, whole: bool) -> None:
    """The argmax of NaN is the first class or word: right by chance, on some rows or on all."""
    good = {"answer": [{"logp": [-0.1], "hit": [1], "eos": False}], "classes": [-0.1, -2.3]}
    bad = {"answer": [{"logp": [number], "hit": [1], "eos": False}], "classes": [number, number]}
    rows = {"p": {"a": bad, "b": bad if whole else good}}
    metrics = [
        accuracy("accuracy", "p", "up"),
        exact_memorization("memorised", "p"),
        extraction_strength("strength", "p"),
        token_hits("hits", "p", goal="up"),
        answered("answered", ["p"], "answer", goal="up"),
        probability("probability", "p", goal="up"),
    ]
    found = score_all(metrics, Responses("c", rows), [])
    assert found.scores == {} and found.absent.keys() == {metric.name for metric in metrics}
