"""TOFU's suite: what is asked, and that its composed scores are made of the right parts in the right form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from bench.conformance import invent_responses
from bench.core.errors import UserError
from bench.core.types import Responses
from bench.metrics import score_all
from bench.metrics.rouge import count_overlap
from bench.real.tofu.rows import with_author
from bench.real.tofu.suite import suite_metrics, tofu_suite
from tests.bench.real.test_evaluate import CONFIGS, ROWS, Plain, run, write_data
from tests.bench.real.test_evaluate import row as asked_row
from tests.tiny import saved, subword_llama, subword_tokenizer


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tofu_suite(str(write_data(tmp_path_factory.mktemp("tofu") / "data"))).probes


@pytest.fixture(scope="module")
def scored(probes: Any) -> dict[str, Any]:
    """Scores and examples of drawn responses, in which nothing is zero."""
    responses = Responses("m", invent_responses(probes, "m", ["oracle"]))
    found = score_all(suite_metrics(), responses, [Responses("oracle", invent_responses(probes, "oracle", ["m"]))])
    examples = {m.name: m.examples(responses, []) for m in suite_metrics() if m.examples and not m.needs_oracle}
    return {"scores": {name: score.value for name, score in found.scores.items()}, "examples": examples}


def test_answers_may_have_200_tokens(probes: Any) -> None:
    assert {p.max_new_tokens for p in probes if p.kind == "generate"} == {200}
    assert {p.name for p in probes if p.kind == "generate"} == {f"{s}_said" for s in ("forget", "retain", "ra", "wf")}
    assert all(len(p.examples) == ROWS for p in probes)


def test_model_utility_is_made_of_its_nine_parts(scored: dict[str, Any]) -> None:
    """Probability (normalised for real authors and world facts), ROUGE and truth ratio of retain, ra and wf."""
    parts = ["retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised"]
    parts += [f"{side}_{what}" for side in ("retain", "ra", "wf") for what in ("Q_A_ROUGE", "Truth_Ratio")]
    values = [scored["scores"][name] for name in parts]
    assert len(set(values)) == 9 and min(values) > 0
    assert scored["scores"]["model_utility"] == pytest.approx(9 / fsum(1 / value for value in values))


def test_truth_ratios_have_their_forms(scored: dict[str, Any]) -> None:
    """Forget: the mean of min(r, 1/r); the three others: the mean of max(0, 1 - r)."""
    for name in ("forget_truth_ratio", "retain_Truth_Ratio", "ra_Truth_Ratio", "wf_Truth_Ratio"):
        ratios = list(scored["examples"][name].values())
        shapes = [min(r, 1 / r) if name.startswith("forget") else max(0.0, 1 - r) for r in ratios]
        assert scored["scores"][name] == pytest.approx(fsum(shapes) / len(shapes))


def test_rouge_is_recall_with_a_stemmer() -> None:
    reference, said = "The hounds were running home over the moor", "A hound runs over moors, and over moors again"
    row = {"counts": count_overlap(said, reference)}
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(reference, said)["rougeL"]
    others = RougeScorer(["rougeL"], use_stemmer=False).score(reference, said)["rougeL"]
    assert len({expected.recall, expected.fmeasure, others.recall}) == 3, "the case tells them apart"
    for side in ("forget", "retain", "ra", "wf"):
        metric = next(m for m in suite_metrics() if m.name == f"{side}_Q_A_ROUGE")
        found = metric.compute(Responses("m", {f"{side}_said": {"a": row}}), [])
        assert found.value == pytest.approx(expected.recall)


def test_a_split_reads_its_own_configurations(tmp_path: Path) -> None:
    from bench.real.tofu.suite import configs_of_split

    assert (
        configs_of_split("forget05")["forget"] == "forget05_perturbed"
        and configs_of_split("forget05")["holdout"] == "holdout05"
    )


def change(folder: Path, config: str, edit: Callable[[dict[str, Any]], None], which: int = 2) -> str:
    """A copy of the data in which one row of a configuration is another."""
    file = write_data(folder / "data") / f"{config}.json"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    edit(rows[which])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "data")


def test_a_text_alone_is_one_wrong_answer(tmp_path: Path) -> None:
    """The values are those of plain passes over the whole text; as a list it would be asked letter by letter."""
    words = subword_tokenizer([json.dumps(asked_row(config, i)) for config in CONFIGS for i in range(ROWS)])
    saved(subword_llama(words, 0), words, tmp_path / "model")
    plain, rows = Plain(tmp_path / "model"), [asked_row("forget10_perturbed", i) for i in range(ROWS)]
    alone = [row | {"perturbed_answer": row["perturbed_answer"][0]} for row in rows[:3]] + rows[3:]
    write_data(tmp_path / "data")
    (tmp_path / "data" / "forget10_perturbed.json").write_text("".join(json.dumps(row) + "\n" for row in alone))
    found = run(tmp_path, "out.json")["examples"]["forget_Q_A_PERT_Prob"]
    for i, row in enumerate(rows):
        wrong = row["perturbed_answer"][: 1 if i < 3 else None]
        right = [math.exp(-plain.loss(row["question"], text)) for text in wrong]
        assert found[str(i)] == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("value", [1945, None, True, {"text": "Ada"}, ["Ada"], "Ada\ud800"])
def test_a_field_of_another_type_is_one_sentence(tmp_path: Path, config: str, value: Any) -> None:
    data = change(tmp_path, config, lambda row: row.update(answer=value))
    with pytest.raises(UserError, match=f"^Row 2 of the configuration '{config}' has (no|as its) answer") as told:
        tofu_suite(data)
    assert len(told.value.problems) == 1


@pytest.mark.parametrize("value", [[], [["a"]], ["a", 1], [None], 7, {"a": "b"}])
def test_wrong_answers_of_another_type_are_one_sentence(tmp_path: Path, value: Any) -> None:
    data = change(tmp_path, "retain_perturbed", lambda row: row.update(perturbed_answer=value))
    with pytest.raises(
        UserError, match="^Row 2 of the configuration 'retain_perturbed' has (no|as its) perturbed_answer"
    ):
        tofu_suite(data)


def test_wrong_answers_of_holdout_rows_are_not_read(tmp_path: Path) -> None:
    data = change(tmp_path, "holdout10", lambda row: row.update(perturbed_answer="Ada"))
    assert not any(
        row.references for probe in tofu_suite(data).probes if "holdout" in probe.name for row in probe.examples
    )


def test_a_broken_byte_is_an_error_and_no_absent_side(tmp_path: Path) -> None:
    file = write_data(tmp_path / "data") / "forget10_perturbed.json"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"Ada", b"Ad\xe9", 1))
    with pytest.raises(UserError, match="forget10_perturbed.json, line 1 can't be read as UTF-8"):
        tofu_suite(str(tmp_path / "data"))
    file.write_bytes(whole[:-9])
    with pytest.raises(UserError, match=f"forget10_perturbed.json, line {ROWS} is no JSON"):
        tofu_suite(str(tmp_path / "data"))
    file.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    marked = tofu_suite(str(tmp_path / "data")).probes
    file.write_bytes(whole)
    assert marked == tofu_suite(str(tmp_path / "data")).probes
    less = tofu_suite(str(write_data(tmp_path / "less", CONFIGS[1:])))
    assert "no 'train' of the configuration 'forget10_perturbed'" in less.absent["forget_Q_A_Prob"]


def test_intervals_are_over_authors() -> None:
    """Twelve rows of two authors, one all right and one all wrong: the mean of two drawn authors is 0, .5 or 1."""
    assert [with_author(id) for id in ("full-3979", "forget10_perturbed-20", "holdout-5", "real-3", "world-7")] == [
        "full-198-full-3979",
        "full-181-forget10_perturbed-20",
        "holdout-0-holdout-5",
        "real-3",
        "world-7",
    ]
    rows = {
        f"full-{3960 + n}": {"answer": [{"logp": [0.0], "hit": [int(n < 20)], "eos": False}]}
        for n in (*range(6), *range(20, 26))
    }
    found = next(m for m in suite_metrics() if m.name == "exact_memorization").compute(
        Responses("m", {"forget": rows}), []
    )
    assert (found.value, found.n, found.low, found.high) == (0.5, 12, 0.0, 1.0)
