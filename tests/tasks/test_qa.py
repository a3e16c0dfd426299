"""A user's own rows, from the command line's words to scores, on a tiny model with and without a chat template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import check_task, prepare_traced
from bench.core.contracts import TaskInputs
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.core.machine import Machine
from bench.real.evaluate import EvaluationRequest, evaluate_model
from bench.runs.asked import Asked
from bench.runs.context import Work
from bench.runs.plan import make_plan
from bench.runs.runner import execute
from bench.runs.store import Store
from tasks.qa import Qa
from tests.bench.real.test_qa import rows, written
from tests.tiny import saved, subword_llama, subword_tokenizer

SIDES = ("forget", "retain", "holdout")


def data(folder: Path, sides: tuple[str, ...] = SIDES, **more: Any) -> str:
    """Files of ten rows a side."""
    return ",".join(str(written(folder, f"{side}.jsonl", rows(side, 10, **more))) for side in sides)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("models") / "chatty"
    tokenizer = subword_tokenizer([row["question"] + row["answer"] for side in SIDES for row in rows(side, 10)])
    saved(subword_llama(tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without a chat template."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    tokenizer = subword_tokenizer(["what is"])
    tokenizer.chat_template = None
    saved(subword_llama(tokenizer), tokenizer, folder)
    return folder


def asked(model: Path, data: str, *sets: str, **more: Any) -> Asked:
    few = ("qa.epochs=1", "qa.probed=2", "ga.steps=1")
    return Asked("qa", ("ga",), (*few, *sets), (0,), model=str(model), data=data, **more)


def test_it_keeps_what_a_task_owes(tmp_path: Path, model: Path) -> None:
    place = data(tmp_path, paraphrase="in other words", wrong=["no"])
    check_task(Qa, TaskInputs("real", str(model), hash_checkpoint(model), place), epochs=1, probed=3)


def test_it_runs_with_nothing_else_written(tmp_path: Path, model: Path) -> None:
    """From the plan to the record: what the rows can't give is absent, with a reason, and nothing else is."""
    plan = make_plan(asked(model, data(tmp_path, SIDES[:2])), Machine(tmp_path / "out", tmp_path / "store"))
    spec = plan.entries[-1].spec
    assert spec.method == "ga" and spec.data == "forget.jsonl,retain.jsonl" and len(spec.hashes["data"]) == 64
    record = execute(spec, plan.paths, Work(Store(tmp_path / "store"), 0, {}))
    assert record.label == "qa: forget.jsonl (10) / retain.jsonl (10), at most 2 rows of a file probed"
    membership = {name for name in record.absent if name.startswith("mia_") or name == "privleak"}
    reference = {name for name in record.absent if "PARA" in name or "PERT" in name}
    truth = {"forget_truth_ratio", "retain_Truth_Ratio", "forget_quality"}
    assert set(record.absent) == membership | reference | truth and len(membership) == 7 and len(reference) == 4
    assert all("a third file of --data" in record.absent[name] for name in membership)
    assert {"forget_Q_A_Prob", "retain_Q_A_ROUGE", "kl_forget", "kl_retain_floors", "collapsed"} <= set(record.scores)
    assert record.lineage["counts"] == {"forget": 10, "retain": 10}
    assert str(tmp_path) not in str(record.to_json())


def test_the_key_is_of_the_rows_and_not_of_where_they_lie(tmp_path: Path, model: Path) -> None:
    def key(place: str) -> str:
        return make_plan(asked(model, place), Machine(tmp_path / "out", tmp_path / "store")).entries[0].spec.key

    one, same = data(tmp_path / "a", SIDES[:2]), data(tmp_path / "b", SIDES[:2])
    assert key(one) == key(same)
    swapped = ",".join(reversed(one.split(",")))
    assert len({key(one), key(swapped), key(data(tmp_path / "c"))}) == 3


def test_methods_take_tofus_presets(tmp_path: Path, model: Path) -> None:
    plan = make_plan(asked(model, data(tmp_path)), Machine(tmp_path / "out", tmp_path / "store"))
    assert plan.entries[-1].spec.steps[0].params["lr"] == 2e-5, "ga's in the real tier; its default is the lab's 1e-4"


def test_without_a_chat_template_it_says_so_before_anything_is_trained(tmp_path: Path, base: Path) -> None:
    place = data(tmp_path, SIDES[:2])
    with pytest.raises(UserError, match="has no chat template: .* --set qa.template=base"):
        make_plan(asked(base, place), Machine(tmp_path / "out", tmp_path / "store"))
    plan = make_plan(asked(base, place, "qa.template=base"), Machine(tmp_path / "out", tmp_path / "store"))
    setting = TaskInputs("real", str(base), hash_checkpoint(base), plan.paths.data)
    forget = prepare_traced(Qa(template="base"), setting, tmp_path / "store").scenario.forget
    assert {row.payload["template"] for row in forget} == {"base"}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("", "qa needs your files: --data forget.jsonl,retain.jsonl"),
        ("hub", "qa needs your files"),
        ("nosuch.jsonl,nor.jsonl", "there is no file 'nosuch.jsonl'"),
        ("{forget}", "qa takes two or three files and not 1"),
        ("{forget},{forget}", "10 rows of forget.jsonl and forget.jsonl are on both sides"),
    ],
)
def test_wrong_files_are_a_sentence_in_the_plan(tmp_path: Path, model: Path, place: str, said: str) -> None:
    place = place.format(forget=data(tmp_path, ("forget",)))
    with pytest.raises(UserError, match=said):
        make_plan(asked(model, place), Machine(tmp_path / "out", tmp_path / "store"))


def test_without_a_model_it_has_no_lab(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="qa has no lab tier"):
        make_plan(Asked("qa", ("ga",)), Machine(tmp_path / "out", tmp_path / "store"))


def test_parameters_of_no_sense_are_refused() -> None:
    found = Qa(epochs=0, batch=0, oracles=0, probed=-1, lr=0.0, template="poem").problems()
    assert len(found) == 6 and "Unknown template of qa 'poem'" in found[-1]


def test_eval_asks_any_model_the_same(tmp_path: Path, model: Path) -> None:
    asked = EvaluationRequest("qa", str(model), data(tmp_path, SIDES[:2]), tmp_path / "out.json", limit=2)
    found = evaluate_model(asked, tmp_path / "models")
    assert set(found["examples"]["forget_Q_A_Prob"]) == {"1", "2"}, "by the row's line in its file"
    assert "a third file of --data" in found["absent"]["mia_loss"]
    assert found["provenance"]["suite"] == {
        "benchmark": "qa: forget.jsonl (10) / retain.jsonl (10)",
        "rows": {"forget": 10, "retain": 10},
    }


def test_the_suite_asks_the_probed_rows(tmp_path: Path) -> None:
    suite = Qa().suite(data(tmp_path))
    assert [len(probe.examples) for probe in suite.probes if probe.name in SIDES] == [8, 8, 8]
    with pytest.raises(UserError, match="no splits"):
        Qa().suite(data(tmp_path), "forget10")


def test_attacks_ask_the_probed_rows_in_the_chat_template(tmp_path: Path, model: Path) -> None:
    """Every one is measured and scored; without a second wording of the questions one is a skip."""
    every = replace(asked(model, data(tmp_path)), sets=("qa.epochs=1", "ga.steps=1"))
    plan = make_plan(every, Machine(tmp_path / "out", tmp_path / "store"))
    target, store = next(entry.spec for entry in plan.entries if not entry.spec.steps), Store(tmp_path / "store")
    for attack in ("prefill", "few-shot", "first-words", "context"):
        record = execute(replace(target, attack=attack, limit=2), plan.paths, Work(store, 0, {}), None)
        assert record.status == "done" and {score.n for score in record.scores.values()} == {2}, record.reason
        left = {"4 words"} if attack == "first-words" else set()
        assert {reason[-7:] for reason in record.absent.values()} == left
    record = execute(replace(target, attack="paraphrase"), plan.paths, Work(store, 0, {}), None)
    assert (record.status, record.reason) == (
        "skipped",
        "it asks the questions in other words, and this task has them in one wording alone",
    )
