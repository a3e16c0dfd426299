"""Scores computed again from kept responses: what differs is said part by part, and mended only when asked."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.types import Responses
from bench.records.bundles import put_records
from bench.records.files import load_records, read_record, responses_path, write_record, write_responses
from bench.runs import rescore
from bench.runs.rescore import STAMPS, Beside, Places, publish_records, rescore_command
from bench.runs.responses import RESPONSES_FILE, load_responses
from bench.runs.store import Store
from tests.factories import record
from tests.processes import Place


def rescored(place: Place, write_back: bool = False, **how: Any) -> tuple[bool, list[str]]:
    said: list[str] = []
    return rescore_command(Places(place.out, place.store), write_back, said.append, **how), said


def changed(place: Place, change: Callable[[Any], None], method: str = "msa") -> bytes:
    """The record's bytes before something in it was changed."""
    file = place.files()[method]
    before, data = file.read_bytes(), json.loads(file.read_bytes())
    change(data)
    file.write_text(json.dumps(data))
    return before


def test_what_the_store_holds_gives_every_number_again(finished: Place) -> None:
    assert rescored(finished) == (True, ["3 records computed again: all numbers the same"])


def shift_score(data: Any) -> None:
    data["scores"]["world_accuracy"]["value"] = 0.123


def shift_size(data: Any) -> None:
    data["scores"]["world_accuracy"]["n"] += 1


def shift_floor(data: Any) -> None:
    data["floors"]["kl_forget"] += 1


def drop_values(data: Any) -> None:
    del data["facts"]["oracle_values"]


def raise_version(data: Any) -> None:
    data["metrics"]["kl_forget"]["version"] += 1


def excuse_score(data: Any) -> None:
    data["absent"]["kl_forget"] = "nobody asked"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (shift_score, "world_accuracy is stored as 0.123 and is now "),
        (shift_size, "world_accuracy is stored as {'value': "),
        (shift_floor, "the noise floors are stored otherwise than they are now"),
        (drop_values, "the oracles' values are stored otherwise than they are now"),
        (raise_version, "goals and versions of the metrics are stored otherwise than they are now"),
        (excuse_score, "the absent scores are stored otherwise than they are now"),
    ],
)
def test_each_part_that_differs_is_said_and_mended_when_asked(
    change: Callable[[Any], None], sentence: str, finished: Place, tmp_path: Path
) -> None:
    place = finished.copy(tmp_path)
    original = json.loads(changed(place, change))
    harmed = place.files()["msa"].read_bytes()
    good, said = rescored(place)
    name = place.files()["msa"].relative_to(place.out).as_posix()
    assert not good and said[-1] == "3 records computed again: some numbers DIFFER"
    [line] = said[:-1]
    assert line.startswith(f"{name}: {sentence}")
    assert place.files()["msa"].read_bytes() == harmed, "nothing is written unless asked"
    assert rescored(place, write_back=True)[0] is False, "it differed when it was read"
    assert json.loads(place.files()["msa"].read_bytes()) == original
    assert rescored(place)[0] is True


def test_quick_passes_over_what_was_right_and_is_unchanged(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    (place.out / STAMPS).unlink(missing_ok=True)
    all_again = "3 records computed again, 0 unchanged since the last check: all numbers the same"
    assert rescored(place, quick=True) == (True, [all_again])
    assert rescored(place, quick=True)[1] == [
        "0 records computed again, 3 unchanged since the last check: all numbers the same"
    ]
    assert rescored(place)[1] == ["3 records computed again: all numbers the same"]
    changed(place, shift_score)
    for _ in range(2):  # what differs is computed again each time
        good, said = rescored(place, quick=True)
        assert (
            not good and said[-1] == "1 records computed again, 2 unchanged since the last check: some numbers DIFFER"
        )


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_quick_reads_what_the_store_holds(how: str, finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    rescored(place)
    assert rescored(place, quick=True)[1][0].startswith("0 records computed again, 3 unchanged")
    node = Store(place.store).find(place.records()["msa"]["lineage"]["responses"])
    assert node is not None
    if how == "gone":
        shutil.rmtree(node.path)
    else:
        file = node.path / RESPONSES_FILE
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1))
    with pytest.raises(UserError, match="The store has no responses"):
        rescored(place, quick=True)


@pytest.mark.parametrize("where", ["responses", "code", "stamps"])
def test_quick_computes_again_what_has_changed(
    where: str, finished: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["responses"]
    file = responses_path(place.out, key)
    write_responses(load_responses(Store(place.store), key).publishable(), file)
    rescored(place)
    if where == "responses":
        file.write_bytes(lzma.compress(lzma.decompress(file.read_bytes()), preset=1))
    elif where == "code":
        monkeypatch.setattr(rescore, "hash_code", lambda: "another")
    else:
        (place.out / STAMPS).write_text('{"lab": 5}')
    left = 2 if where == "responses" else 0
    assert rescored(place, quick=True)[1][0].startswith(f"{3 - left} records computed again, {left} unchanged")


def test_records_without_any_response_are_counted_and_are_no_success_alone(finished: Place, tmp_path: Path) -> None:
    """Some seeds' responses are not published: none of theirs is there, the oracles' neither."""
    place = finished.copy(tmp_path)
    changed(place, lambda data: data["lineage"].update(responses="a" * 32, oracle_responses=["b" * 32]), "target")
    left = "1 records have no responses beside them or in the store, and are not checked"
    assert rescored(place) == (True, [left, "2 records computed again: all numbers the same"])
    nowhere = Place(tmp_path / "nowhere")
    shutil.copytree(place.out, nowhere.out)
    assert rescored(nowhere) == (False, [left.replace("1", "3"), "0 records computed again: all numbers the same"])


def test_of_what_is_published_of_second_runs_and_of_attacks_their_own_responses_alone_tell(tmp_path: Path) -> None:
    one = replace(record("npo"), lineage={"responses": "own", "oracle_responses": ["o1", "o2"]})
    places = rescore.Places(tmp_path, tmp_path / "store")
    assert rescore.telling_keys(one, places) == ["own"], "in a bundle"
    write_record(one, tmp_path)
    assert rescore.telling_keys(one, places) == ["own", "o1", "o2"]
    for what in ({"order": 1}, {"attack": "leak"}):
        other = replace(one, spec=replace(one.spec, **what))
        write_record(other, tmp_path)
        assert rescore.telling_keys(other, places) == ["own"]


@pytest.mark.parametrize("alone", [True, False])
def test_numbers_are_mended_in_bundles_and_in_files_and_never_in_studies(
    alone: bool, finished: Place, tmp_path: Path
) -> None:
    place = finished.copy(tmp_path)
    original = json.loads(changed(place, shift_score))
    wrong = read_record(place.files()["msa"])
    studies = Beside({f"ablations/x.jsonl.xz: {wrong.name}": wrong})
    if not alone:
        put_records(load_records(place.out).records, place.out)
        for file in place.files().values():
            file.unlink()
    good, said = rescored(place, write_back=True, studies=studies)
    assert not good and [line.partition(" world_accuracy is stored as 0.123")[0] for line in said[:2]] == [
        f"{wrong.name}:",
        f"ablations/x.jsonl.xz: {wrong.name}:",
    ]
    assert said[2] == "what differs in studies is made again by `python -m bench ablate`"
    [mended] = [record for record in load_records(place.out).records if record.name == wrong.name]
    assert json.loads(json.dumps(mended.to_json())) == original
    assert place.files().keys() == ({"target", "retrain", "msa"} if alone else set())


def test_records_are_shared_among_processes_and_said_in_the_same_words(finished: Place, tmp_path: Path) -> None:
    """Other oracles make another group: the seed's three records are not in one process then."""
    place = finished.copy(tmp_path)
    changed(place, lambda data: data["lineage"]["oracle_responses"].reverse())
    changed(place, shift_score, "target")
    good, said = rescored(place, workers=2)
    assert not good and {line.partition(":")[0].rpartition("/")[2].partition("-")[0] for line in said[:-1]} == {
        "msa",
        "target",
    }
    assert (good, said) == rescored(place)


def test_broken_records_are_named_and_imported_ones_counted(finished: Place, tmp_path: Path) -> None:
    """A run that failed has no scores, and is passed over in silence."""
    place = finished.copy(tmp_path)
    changed(place, lambda data: data["provenance"].update(imported={"file": "their file"}), "target")
    changed(place, lambda data: data.update(status="failed"), "retrain")
    place.files()["msa"].write_text("{")
    good, said = rescored(place)
    assert not good and said[0].startswith("left out: lab/muse-books/lab/msa-")
    assert said[0].endswith(".json: it is no JSON (line 1): delete it and run again.")
    assert said[1:] == [
        "1 imported records have no responses to score again",
        "0 records computed again: all numbers the same",
        "1 files could not be read and are left out",
    ]


def test_publishing_takes_the_responses_from_the_store(finished: Place, tmp_path: Path) -> None:
    """Made by a clean commit as far as the record says; the oracles' responses are published once for all three."""
    place = finished.copy(tmp_path / "made")
    for method in ("target", "retrain", "msa"):
        changed(place, lambda data: data["provenance"].update(dirty=False), method)
    written = publish_records([], place.out, tmp_path / "results", place.store, False)
    keys = {key for each in place.records().values() for key in each["lineage"]["oracle_responses"]}
    keys |= {each["lineage"]["responses"] for each in place.records().values()}
    texts = [path for path in written if path.parent.name == "texts"]  # what each row said
    assert len(texts) == 3 and len(written) == 1 + len(keys) + len(texts) and all(path.exists() for path in written)
    assert publish_records([], place.out, tmp_path / "results", place.store, False) == []
    said: list[str] = []
    assert rescore_command(Places(tmp_path / "results", tmp_path / "no-store"), False, said.append), said
    with pytest.raises(UserError, match="responses"):
        publish_records([], place.out, tmp_path / "others", tmp_path / "no-store", False)


@pytest.mark.parametrize("what", [5, [1], [{"logp": [0.0]}], [{"logp": [0.0], "hit": [1, 1], "eos": True}]])
def test_odd_rows_in_sound_responses_are_a_sentence_with_the_file(what: Any, finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["responses"]
    kept = load_responses(Store(finished.store), key).publishable().to_json()
    probe, rows = next((p, r) for p, r in kept["rows"].items() if any("answer" in row for row in r.values()))
    first = next(iter(rows))
    rows[first] |= {"answer": what}
    file = responses_path(place.out, key)
    write_responses(Responses(**kept), file)
    with pytest.raises(UserError) as told:
        rescored(place)
    assert str(told.value) == (
        f"{file.name} holds no readable responses (rows.{probe}.{first}.answer is not a list of scored texts): delete it "
        "and run again."
    )


@pytest.mark.parametrize("change", ["counts", "rows"])
def test_rows_that_a_metric_stumbles_over_are_a_sentence_with_the_file(
    change: str, finished: Place, tmp_path: Path
) -> None:
    """Rows may have what a task likes, so that only the metrics find them odd."""
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["responses"]
    kept = load_responses(Store(finished.store), key).publishable().to_json()
    for rows in kept["rows"].values():
        for row in rows.values():
            if change == "counts" and "counts" in row:
                row["counts"] = {}
            if change == "rows":
                row |= {"of another oracle": 5}
    file = responses_path(place.out, key)
    write_responses(Responses(**kept), file)
    with pytest.raises(
        UserError, match=rf"msa-.*: its responses \({file.name}.*\) hold rows that its metrics can't read \("
    ):
        rescored(place)
