from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from bench.cli.show import find_record, show_record
from bench.core.errors import UserError
from bench.core.record import Record
from bench.records import files
from bench.records.files import responses_path, write_responses
from bench.runs.responses import load_responses
from bench.runs.store import Store
from tests.factories import study
from tests.processes import Place, bench, without_torch


def test_show_prints_spec_scores_lineage_cost_and_what_was_said(finished: Place) -> None:
    text = show_record("msa", finished.out, finished.store, 2)
    record = Record.from_json(finished.records()["msa"])
    lines = text.splitlines()
    assert lines[0] == f"{record.name}  (done)"
    assert lines[1] == "muse-books (lab): msa, seed 0, model lab"
    [step] = [line for line in lines if line.startswith("step msa: ")]
    assert all(f"'{name}': {value!r}" in step for name, value in record.spec.steps[0].params.items())
    assert "'width': 16" in text
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    probes = ("forget_verbatim", "retain_verbatim", "forget_said", "retain_said", "world_said")
    said = [f"what the model said, {probe}:" for probe in probes]
    assert titles == ["scores:", "lineage:", "cost:", "provenance:", *said]
    for name, score in record.scores.items():
        [line] = [line for line in lines if line.split()[:1] == [name]]
        assert f"{score.value:.4g}" in line and f"n={score.n}" in line and "goal" in line
        assert ("[" in line) is (score.low is not None) and (score.low is None or f"[{score.low:.4g}, " in line)
    assert f"  target: {record.lineage['target']}" in lines
    assert f"  estimate: {record.cost['estimate']}" in lines


def test_examples_are_the_models_own_words(finished: Place) -> None:
    record = Record.from_json(finished.records()["msa"])
    rows = load_responses(Store(finished.store), record.lineage["responses"]).rows["forget_said"]
    text = show_record("msa", finished.out, finished.store, 1)
    name, row = next(iter(rows.items()))
    assert (
        f"  {name}\n    asked:     {row['prompt']}\n    reference: {row['reference']}\n    said:      {row['text']}"
        in text
    )
    assert list(rows)[1] not in text, "one example of each probe was asked for"


def test_absent_scores_have_their_reason(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    data = place.records()["msa"]
    data["absent"] = {"forget_quality": "there are no wrong answers"}
    place.files()["msa"].write_text(json.dumps(data))
    text = show_record("msa", place.out, place.store, 0)
    assert "forget_quality                 absent: there are no wrong answers" in text


def test_a_record_is_found_by_file_key_or_part_of_its_name(finished: Place) -> None:
    file = finished.files()["msa"]
    record = Record.from_json(finished.records()["msa"])
    for name in (str(file), record.spec.key, record.spec.key[:10], "msa-", record.name):
        assert find_record(name, finished.out) == record


def test_several_fits_are_a_sentence(finished: Place) -> None:
    with pytest.raises(UserError) as told:
        find_record("lab", finished.out)
    [sentence] = told.value.problems
    assert sentence.startswith("'lab' fits 3 records: ") and sentence.endswith("Name one.")
    assert all(f"{record['spec']['key']} (seed 0)" in sentence for record in finished.records().values())


def test_very_many_fits_are_cut(tmp_path: Path) -> None:
    for record in study(methods=("msa", "npo", "target")):
        files.write_record(record, tmp_path)
    with pytest.raises(UserError, match=r"'tofu' fits 9 records: .* \.\.\.\. Name one\."):
        find_record("tofu", tmp_path)


def test_no_fit_and_no_folder_are_sentences(finished: Place, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 'npo' in its name: `python -m bench ls runs` lists them"):
        find_record("npo", finished.out)
    with pytest.raises(UserError, match="There is no folder '.*none'"):
        find_record("msa", tmp_path / "none")


def test_a_broken_record_is_named_as_broken(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    place.files()["msa"].write_text("{")
    for name in ("msa", str(place.files()["msa"])):
        with pytest.raises(
            UserError, match=r"^\S*msa-\S*\.json is not a readable record \(.+\): delete it and run again\.$"
        ):
            find_record(name, place.out)


def test_texts_that_are_gone_are_said_to_be_gone(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    shutil.rmtree(place.store)
    assert "the responses are no longer in the store" in show_record("msa", place.out, place.store, 3)
    record = Record.from_json(place.records()["msa"])
    kept = load_responses(Store(finished.store), record.lineage["responses"]).publishable()
    write_responses(kept, responses_path(place.out, record.lineage["responses"]))
    assert "published responses hold numbers only" in show_record("msa", place.out, place.store, 3)


@pytest.mark.parametrize(("status", "reason"), [("failed", "Traceback:\n  ValueError: no"), ("skipped", "no moon")])
def test_an_unfinished_run_shows_its_reason_and_no_examples(status: str, reason: str, tmp_path: Path) -> None:
    [made] = study(methods=("npo",), seeds=(0,))
    record = dataclasses.replace(made, status=status, reason=reason, scores={}, lineage={}, cost={}, provenance={})
    files.write_record(record, tmp_path)
    text = show_record("npo", tmp_path, tmp_path / "store", 3)
    assert f"({status})" in text and "\n".join(f"  {line}" for line in reason.splitlines()) in text
    assert "example" not in text


def test_the_command_loads_no_torch(finished: Place, tmp_path: Path) -> None:
    words = ["show", "msa", "--from", str(finished.out), "--store", str(finished.store), "--examples", "1"]
    done = bench(words, tmp_path, [without_torch(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert done.stdout == show_record("msa", finished.out, finished.store, 1) + "\n"
