from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from bench.cli.picking import Wanted
from bench.cli.show import PARTS, record_json, show_record
from bench.core.record import Record
from bench.records import files
from bench.records.files import responses_path, write_responses
from bench.records.markdown import format_number
from bench.runs.responses import load_responses
from bench.runs.store import Store
from tests.factories import study
from tests.processes import Place, bench, without_torch


def test_show_prints_scores_beside_target_and_oracle(finished: Place) -> None:
    text = show_record(Wanted("msa"), finished.out, finished.store, 2)
    record, target = (Record.from_json(finished.records()[name]) for name in ("msa", "target"))
    lines = text.splitlines()
    assert lines[0] == f"{record.name}  (done)"
    assert lines[1] == "muse-books (lab): msa, seed 0, model lab"
    [step] = [line for line in lines if line.startswith("step msa: ")]
    assert all(f"'{name}': {value!r}" in step for name, value in record.spec.steps[0].params.items())
    assert "'width': 16" in text and "lineage:" not in text and "cost:" not in text
    probes = ("forget_verbatim", "retain_verbatim", "forget_said", "retain_said", "world_said")
    assert [line for line in lines if line.startswith("what was")] == [f"what was answered, {p}:" for p in probes]
    [head] = [line for line in lines if line.startswith("scores ")]
    for name, score in record.scores.items():
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert line.split()[1] == format_number(score.value)
        values = record.facts["oracle_values"].get(name, [])
        for who, value in (("target", target.scores[name].value), ("oracle", sum(values) / len(values))):
            assert line[head.index(who) :].split()[0] == format_number(value), (name, who)


def test_lineage_and_cost_come_when_they_are_asked_for(finished: Place) -> None:
    record = Record.from_json(finished.records()["msa"])
    lines = show_record(Wanted("msa"), finished.out, finished.store, 0, PARTS).splitlines()
    assert f"  target: {record.lineage['target']}" in lines and f"  estimate: {record.cost['estimate']}" in lines
    assert "provenance:" in lines and not any(line.startswith(("more:", "what was")) for line in lines)


def test_examples_are_the_models_own_words_beside_the_targets_and_the_oracles(finished: Place) -> None:
    store = Store(finished.store)
    record, target = (Record.from_json(finished.records()[name]) for name in ("msa", "target"))
    keys = [target.lineage["responses"], record.lineage["oracle_responses"][0], record.lineage["responses"]]
    rows = [load_responses(store, key).rows["forget_said"] for key in keys]
    text = show_record(Wanted("msa"), finished.out, finished.store, 1)
    name = next(iter(rows[2]))
    said = [row[name]["text"] for row in rows]
    asked = rows[2][name]
    assert f"  {name}\n    asked:    {asked['prompt']}\n    truth:    {asked['reference']}\n" in text
    for who, words in zip(("target", "oracle", "msa"), said, strict=True):
        mark = "=" if words == asked["reference"] else "≠"
        assert f"    {who + ':':7} {mark} {words}" in text
    assert list(rows[2])[1] not in text, "one example of each probe was asked for"


def test_the_oracles_own_row_has_no_oracle_beside_it(finished: Place) -> None:
    text = show_record(Wanted("retrain"), finished.out, finished.store, 1)
    assert "    target:" in text and "    oracle:" not in text


def test_as_data_it_is_the_record_and_more(finished: Place) -> None:
    told = record_json(Wanted("msa"), finished.out, finished.store, 1)
    assert told["record"] == finished.records()["msa"] and json.dumps(told)
    [answers] = [example["answers"] for example in told["answers"]["forget_said"].values()]
    assert [*answers] == ["target", "oracle", "msa"] and {*answers["msa"]} == {"text", "right"}


def test_absent_scores_have_their_reason(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    data = place.records()["msa"]
    data["absent"] = {"forget_quality": "there are no wrong answers"}
    place.files()["msa"].write_text(json.dumps(data))
    text = show_record(Wanted("msa"), place.out, place.store, 0)
    assert "absent: forget_quality: there are no wrong answers" in text


def test_texts_that_are_gone_are_said_to_be_gone(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    shutil.rmtree(place.store)
    assert "the responses are no longer in the store" in show_record(Wanted("msa"), place.out, place.store, 3)
    record = Record.from_json(place.records()["msa"])
    kept = load_responses(Store(finished.store), record.lineage["responses"]).publishable()
    write_responses(kept, responses_path(place.out, record.lineage["responses"]))
    text = show_record(Wanted("msa"), place.out, place.store, 3)
    assert "published responses hold numbers only" in text and " words, " in text


@pytest.mark.parametrize(("status", "reason"), [("failed", "Traceback:\n  ValueError: no"), ("skipped", "no moon")])
def test_an_unfinished_run_shows_its_reason_and_no_examples(status: str, reason: str, tmp_path: Path) -> None:
    [made] = study(methods=("npo",), seeds=(0,))
    record = dataclasses.replace(made, status=status, reason=reason, scores={}, lineage={}, cost={}, provenance={})
    files.write_record(record, tmp_path)
    text = show_record(Wanted("npo"), tmp_path, tmp_path / "store", 3)
    assert f"({status})" in text and "\n".join(f"  {line}" for line in reason.splitlines()) in text
    assert "example" not in text


def test_the_command_loads_no_torch(finished: Place, tmp_path: Path) -> None:
    words = ["show", "msa", "--from", str(finished.out), "--store", str(finished.store), "--examples", "1"]
    done = bench(words, tmp_path, [without_torch(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert done.stdout == show_record(Wanted("msa"), finished.out, finished.store, 1) + "\n"
