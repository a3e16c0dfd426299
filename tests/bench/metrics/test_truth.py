"""Truth ratio, forget quality, model utility: by hand, and on the logs that TOFU's authors published."""

from __future__ import annotations

import json
from math import exp, log, log10
from typing import Any

import pytest

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics.probability import normalised_probability, probability
from bench.metrics.rouge import rouge_l
from bench.metrics.truth import forget_quality, ks_p_value, model_utility, truth_ratio
from tests.shared_data import shared

Loss = float | list[float]


def asked(losses: dict[str, tuple[float, list[float]]], role: str = "paraphrase", checkpoint: str = "m") -> Responses:
    """One pseudo token per text: its log-prob is minus the text's mean loss."""
    rows = {key: {role: texts(right), "wrong": texts(wrong)} for key, (right, wrong) in losses.items()}
    return Responses(checkpoint, {"p": rows})


def texts(losses: Loss) -> list[dict[str, Any]]:
    each = losses if isinstance(losses, list) else [losses]
    return [{"logp": [-loss], "hit": [1], "eos": True} for loss in each]


def test_truth_ratio_takes_the_geometric_mean_of_the_wrong_answers() -> None:
    found = asked({"a": (log(2), [log(8), log(2)])})
    # right exp(-log 2) = 1/2; wrong exp(-(log 8 + log 2) / 2) = 1/4; r = 1/2 (arithmetic: (1/8 + 1/2) / 2 * 2 = 5/8)
    assert truth_ratio("x", "p", form="forget", goal="oracle").compute(found, []).value == pytest.approx(0.5)
    assert truth_ratio("x", "p", form="utility", goal="up").compute(found, []).value == pytest.approx(0.5)


def test_truth_ratio_above_one() -> None:
    found = asked({"a": (log(4), [log(2)]), "b": (log(2), [log(10)])}, "answer")
    # r = (1/2) / (1/4) = 2 -> forget 1/2, utility 0; r = (1/10) / (1/2) = 0.2 -> forget 0.2, utility 0.8
    forget = truth_ratio("x", "p", form="forget", right="answer", goal="oracle").compute(found, [])
    utility = truth_ratio("x", "p", form="utility", right="answer", goal="up").compute(found, [])
    assert (forget.value, forget.n) == (pytest.approx(0.35), 2)
    assert utility.value == pytest.approx(0.4)


@pytest.mark.parametrize("loss", [80.0, 5000.0])
def test_a_collapsed_model_does_not_score_best(loss: float) -> None:
    found = asked({"a": (loss, [loss] * 5)})
    assert truth_ratio("x", "p", form="utility", goal="up").compute(found, []).value == 0.0
    # the peer: exp(-80) / (exp(-80) + 1e-10) = 1.8e-25, so 1 - r rounds to the best score there is
    assert 1 - exp(-80.0) / (exp(-80.0) + 1e-10) == 1.0


def test_far_apart_losses_do_not_overflow() -> None:
    found = asked({"a": (9000.0, [0.1]), "b": (0.1, [9000.0])})
    assert truth_ratio("x", "p", form="forget", goal="oracle").compute(found, []).value == 0.0
    assert truth_ratio("x", "p", form="utility", goal="up").compute(found, []).value == 0.5


def test_rows_without_wrong_answers_are_left_out() -> None:
    found = asked({"a": (1.0, [2.0]), "b": (1.0, [])})
    assert truth_ratio("x", "p", form="forget", goal="oracle").compute(found, []).n == 1
    with pytest.raises(Absent, match="'wrong'"):
        truth_ratio("x", "p", form="forget", goal="oracle").compute(asked({"b": (1.0, [])}), [])


def test_forget_quality_by_hand() -> None:
    ours = asked({str(i): (0.0, [float(i)]) for i in range(3)})
    theirs = asked({str(i): (0.0, [float(i + 10)]) for i in range(3)})
    quality = forget_quality("x", "p")
    # two samples of three that don't overlap: D = 1, p = 2 / C(6, 3) = 2 / 20, log10 -1
    assert quality.compute(ours, [theirs]).value == pytest.approx(-1)
    # the second oracle is the same as ours, p = 1: the mean of -1 and 0
    assert quality.compute(ours, [theirs, ours]).value == pytest.approx(-0.5)
    assert quality.goal == 0 and quality.version == 2


@pytest.mark.parametrize("size", [3, 5, 50])
def test_samples_that_differ_least_are_the_same(size: int) -> None:
    """Each a little above the other's: the statistic is 1 / n, which any two different samples reach."""
    ours, theirs = ({str(i): i + offset for i in range(size)} for offset in (0.0, 0.5))
    assert ks_p_value(ours, theirs, "p") == ks_p_value(ours, ours, "p") == 1.0


def test_forget_quality_of_other_questions_is_absent() -> None:
    ours = asked({"a": (1.0, [2.0]), "b": (1.0, [2.0])})
    with pytest.raises(Absent, match="2 example ids"):
        forget_quality("x", "p").compute(ours, [asked({"a": (1.0, [2.0]), "c": (1.0, [2.0])})])
    with pytest.raises(Absent, match="no oracle"):
        forget_quality("x", "p").compute(ours, [])


def test_model_utility_is_the_harmonic_mean() -> None:
    nothing = Responses("m", {})
    # 3 / (1/1 + 1/0.5 + 1/0.25) = 3/7
    score = model_utility("u", [constant("a", 1.0, 9), constant("b", 0.5, 4), constant("c", 0.25, 7)])
    assert score.compute(nothing, []).value == pytest.approx(3 / 7)
    assert score.compute(nothing, []).n == 4
    assert model_utility("u", [constant("a", 1.0), constant("b", 0.0)]).compute(nothing, []).value == 0.0
    with pytest.raises(Absent, match="'gone' is absent: the probe 'p' was not asked"):
        model_utility("u", [constant("a", 1.0), probability("gone", "p", goal="up")]).compute(nothing, [])


def constant(name: str, value: float, n: int = 1) -> Metric:
    return Metric(name, lambda responses, oracles: Score(value, n), "up")


def tofu_log(name: str) -> Responses:
    """A log of TOFU's authors as responses."""
    logs = shared("data/tofu/reference_eval_logs")
    log = json.loads((logs / f"llama2-7b_{name}_wd0.01_eval_log_aggregated.json").read_text())
    parts = {"retain": "eval_log", "forget": "eval_log_forget"}
    parts |= {"ra": "eval_real_author_wo_options", "wf": "eval_real_world_wo_options"}
    rows: dict[str, dict[str, Any]] = {}
    for side, file in parts.items():
        found = log[f"{file}.json"]
        rows[side] = {
            key: {
                "answer": texts(loss),
                "paraphrase": texts(found["avg_paraphrased_loss"][key]),
                "wrong": texts(found["average_perturb_loss"][key]),
                "counts": {"lcs_stem": found["rougeL_recall"][key], "n_ref_stem": 1, "n_hyp_stem": 1},
            }
            for key, loss in found["avg_gt_loss"].items()
        }
    return Responses(name, rows)


def tofu_utility() -> Metric:
    probabilities = [probability("retain_Q_A_Prob", "retain", goal="up")]
    probabilities += [normalised_probability(f"{side}_Q_A_Prob_normalised", side) for side in ("ra", "wf")]
    # the logs hold the plain answers of ra and wf a second time as "paraphrase", scored in other batches, and the
    # figures of ../shared/data/README.md are made from those (the first pass gives 0.622625 where they say 0.622677)
    ratios = [truth_ratio(f"{s}_Truth_Ratio", s, form="utility", goal="up") for s in ("retain", "ra", "wf")]
    rouges = [
        rouge_l(f"{side}_Q_A_ROUGE", side, measure="recall", stemmer=True, goal="up") for side in ("retain", "ra", "wf")
    ]
    return model_utility("model_utility", probabilities + ratios + rouges)


@pytest.mark.parametrize(
    ("name", "expected"), [("full", 0.622677), ("retain90", 0.613745), ("retain95", 0.600577), ("retain99", 0.620744)]
)
def test_model_utility_of_tofus_own_logs(name: str, expected: float) -> None:
    assert tofu_utility().compute(tofu_log(name), []).value == pytest.approx(expected, abs=6e-7)


def test_forget_quality_of_tofus_own_logs() -> None:
    full, retain90 = tofu_log("full"), tofu_log("retain90")
    quality = forget_quality("forget_quality", "forget")
    assert quality.compute(full, [retain90]).value == pytest.approx(log10(1.834e-21), rel=1e-4)
    assert quality.compute(retain90, [retain90]).value == 0.0
    with pytest.raises(Absent, match="100 example ids"):  # 300 questions against 200
        quality.compute(full, [tofu_log("retain95")])


def test_truth_ratio_of_tofus_own_log() -> None:
    full = tofu_log("full")
    score = truth_ratio("forget_truth_ratio", "forget", form="forget", goal="oracle").compute(full, [])
    ratios = []
    for row in full.rows["forget"].values():
        wrong = sum(-text["logp"][0] for text in row["wrong"]) / len(row["wrong"])
        ratios.append(exp(-wrong) / exp(row["paraphrase"][0]["logp"][0]))
    assert score.value == pytest.approx(sum(min(r, 1 / r) for r in ratios) / 300, rel=1e-9)


@pytest.mark.parametrize(("right", "wrong"), [(1.0, float("inf")), (float("inf"), 1.0), (float("inf"), float("inf"))])
@pytest.mark.parametrize("form", ["forget", "utility", "share"])
def test_an_infinite_loss_gives_no_number(form: Any, right: float, wrong: float) -> None:
    """Of an infinite loss of the wrong answers the utility would be the best there is."""
    found = asked({"a": (log(2), [log(8)]), "b": (right, [wrong])})
    with pytest.raises(Absent, match="1 of 2 examples gave no finite number"):
        truth_ratio("x", "p", form=form, goal="up").compute(found, [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_utility_of_a_part_that_is_no_number_is_absent(value: float) -> None:
    with pytest.raises(Absent, match="'b' is absent: it comes to no finite number"):
        model_utility("u", [constant("a", 1.0), constant("b", value)]).compute(Responses("m", {}), [])
