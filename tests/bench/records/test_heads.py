"""Heads: the records of a folder without their numbers, and the way to each."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.picking import Wanted, pick_record
from bench.core.errors import UserError
from bench.core.record import Record
from bench.records import files
from bench.records.bundles import parse_record, put_records
from bench.records.heads import parse_head
from bench.records.tables import find_all_older
from tests.factories import record, study


@pytest.mark.parametrize("kept", ["bundle", "files"])
def test_heads_are_the_records_without_their_numbers(kept: str, tmp_path: Path) -> None:
    made = [*study(methods=("target", "retrain", "npo")), *study(("target", "msa"), task="restor")]
    if kept == "bundle":
        put_records(made, tmp_path)
    for one in made if kept == "files" else ():
        files.write_record(one, tmp_path)
    whole, loaded = files.load_records(tmp_path), files.load_heads(tmp_path)
    assert list(loaded.heads) == [one.name for one in whole.records] and loaded.broken == whole.broken == []
    assert [head.whole() for head in loaded.heads.values()] == whole.records
    for about, one in zip(loaded.records, whole.records, strict=True):
        same = ("spec", "status", "label", "lineage", "provenance")
        assert [getattr(about, part) for part in same] == [getattr(one, part) for part in same] and not about.scores
    assert find_all_older(loaded.records) == find_all_older(whole.records)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"schema": 99}', b'{"schema": 2, "spec": 3}', b"\xff", b"[" * 9000]
)
def test_what_is_no_record_is_refused_for_the_same_reason(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "lab/tofu/lab/npo-1.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    whole, loaded = files.load_records(tmp_path), files.load_heads(tmp_path)
    assert not loaded.heads and loaded.broken == whole.broken != []


def test_a_key_that_is_not_its_specs_is_no_head(tmp_path: Path) -> None:
    told = json.loads(files.record_text(record("npo", 0)))
    told["spec"]["key"] = "0" * 16
    with pytest.raises(ValueError, match="is not the hash of its spec"):
        parse_head(json.dumps(told).encode())


def spoiled(root: Path, *records: Record) -> None:
    """Write records of which a floor is no number."""
    for one in records:
        told = files.record_text(replace(one, floors={"x": 1.0}))
        files.write_record(one, root).write_text(told.replace('"x": 1.0', '"x": "much"'))


def test_unsound_numbers_are_said_of_the_record_that_is_meant_and_of_no_other(tmp_path: Path) -> None:
    sound = record("npo", 1)
    files.write_record(sound, tmp_path)
    spoiled(tmp_path, record("npo", 0))
    assert pick_record(Wanted("npo", seed=1), tmp_path).record == sound
    assert pick_record(Wanted("npo"), tmp_path).record == sound, "the next one that fits and is sound"
    with pytest.raises(UserError, match=r"not a readable record \(floors.x: .*\): delete it and run again"):
        pick_record(Wanted("npo", seed=0), tmp_path)


def test_a_bundles_unsound_record_names_the_bundle(tmp_path: Path) -> None:
    one = record("npo", 0)
    [bundle] = put_records([one], tmp_path)
    told = lzma.decompress(bundle.read_bytes()).replace(b'"floors":{}', b'"floors":{"x":"much"}')
    bundle.write_bytes(lzma.compress(told))
    with pytest.raises(UserError, match=r"floors.x: .*\): delete lab.jsonl.xz and publish its records again"):
        pick_record(Wanted("npo"), tmp_path)


def test_a_record_is_shown_without_a_target_that_is_unsound(tmp_path: Path) -> None:
    target, _, npo = (one for one in study(("target", "retrain", "npo"), (0,)))
    files.write_record(npo, tmp_path)
    spoiled(tmp_path, target)
    picked = pick_record(Wanted("npo"), tmp_path)
    assert picked.record == npo and picked.beside("target") is None


def test_a_reason_is_one_line(tmp_path: Path) -> None:
    told = json.loads(files.record_text(record("npo", 0))) | {"\x1b[31mred\nline": 1}
    with pytest.raises(ValueError, match="nothing of that name belongs there") as caught:
        parse_record(json.dumps(told).encode())
    assert str(caught.value).isprintable()
