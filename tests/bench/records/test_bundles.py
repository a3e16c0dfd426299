"""Bundles: published records together in one file, each as it was, and whatever is wrong with one is named."""

from __future__ import annotations

import json
import lzma
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.record import Record
from bench.records import files, publish
from bench.records.bundles import put_records, read_bundle, read_published, write_bundle
from tests.factories import record, study


def bundled(root: Path) -> tuple[list[Record], Path]:
    """Some records of one task, and their bundle."""
    records = sorted(study(methods=("target", "retrain", "npo")), key=lambda one: one.name)
    [path] = put_records(records, root)
    return records, path


def test_records_come_back_as_they_were_whatever_their_order(tmp_path: Path) -> None:
    records, path = bundled(tmp_path)
    assert path == tmp_path / "lab/tofu/lab.jsonl.xz"
    assert [one.to_json() for one in read_bundle(path)] == [json.loads(json.dumps(one.to_json())) for one in records]
    content = path.read_bytes()
    assert write_bundle(reversed(records), path).read_bytes() == content
    assert len(content) < sum(len(files.record_text(one)) for one in records) / 10


def test_bundles_and_files_of_their_own_are_loaded_alike(tmp_path: Path) -> None:
    records, _ = bundled(tmp_path / "together")
    for one in records:
        files.write_record(one, tmp_path / "apart")
    together, apart = files.load_records(tmp_path / "together"), files.load_records(tmp_path / "apart")
    assert together == apart and len(together.records) == len(records) and not together.broken
    assert files.load_records(tmp_path / "together", "npo-").records == [r for r in records if r.spec.method == "npo"]


def test_a_record_is_put_in_the_place_of_the_same_run_and_beside_the_others(tmp_path: Path) -> None:
    records, path = bundled(tmp_path)
    slower = replace(records[0], cost={"seconds": {"method": 99.0}})
    elsewhere = record("npo", 0, task="restor")
    assert put_records([slower, elsewhere], tmp_path) == [tmp_path / "lab/restor/lab.jsonl.xz", path]
    assert files.load_records(tmp_path).records == sorted([slower, elsewhere, *records[1:]], key=lambda one: one.name)


def test_what_several_put_at_once_is_all_there(tmp_path: Path) -> None:
    records = [record("npo", seed) for seed in range(12)]
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        list(pool.map(put_records, [[one] for one in records], [tmp_path] * len(records)))
    assert {one.name for one in files.load_records(tmp_path).records} == {one.name for one in records}


def test_a_record_that_stands_twice_counts_once_and_is_said(tmp_path: Path) -> None:
    records, _ = bundled(tmp_path)
    files.write_record(records[0], tmp_path)
    loaded = files.load_records(tmp_path)
    assert loaded.records == records
    said = f"left out: {records[0].name}: it stands in its folder's bundle too: delete one of them."
    assert [broken.left_out for broken in loaded.broken] == [said]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("cut", "it is cut short"),
        ("plain", "it is damaged, or not packed by xz"),
        ("line", "record 2: it is no JSON"),
        ("schema", "record 1: schema 99 where"),
        ("twice", "record 2: lab/tofu/lab/.* stands in it twice"),
        ("moved", "it holds the record that belongs at lab/tofu/lab/"),
    ],
)
def test_a_damaged_bundle_is_named_and_nothing_is_published_over_it(what: str, reason: str, tmp_path: Path) -> None:
    records, path = bundled(tmp_path)
    lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif what == "plain":
        path.write_bytes(b"".join(lines))
    elif what == "moved":
        path = path.rename(tmp_path / "lab/tofu/other.jsonl.xz")
    else:
        lines[1] = {"line": b"{\n", "twice": lines[0]}.get(what, lines[1])
        lines[0] = lines[0].replace(b'"schema":', b'"schema":99,"x":') if what == "schema" else lines[0]
        path.write_bytes(lzma.compress(b"".join(lines)))
    with pytest.raises(ValueError, match=reason):
        read_published(path, tmp_path, read_bundle)
    loaded = files.load_records(tmp_path)
    assert loaded.records == [] and [broken.path for broken in loaded.broken] == [f"lab/tofu/{path.name}"]
    if what != "moved":
        before = path.read_bytes()
        good = replace(records[0], lineage={"responses": "a"}, provenance={"dirty": False})
        with pytest.raises(
            UserError, match=rf"lab/tofu/lab\.jsonl\.xz: {reason}.*: delete it and publish its records again"
        ):
            publish.write_published([good], tmp_path, lambda _: {})
        assert path.read_bytes() == before
