"""Records and responses survive the disk exactly, and what is broken on it is named and left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.types import Responses
from bench.records import files
from bench.records.leaderboard import render_leaderboard
from tests.factories import record, study
from tests.shell import heeding_modes

LIGHT = ("records.files", "records.tables", "records.leaderboard", "records.plots", "records.publish")
HEAVY = ("torch", "transformers", "wandb", "matplotlib", "numpy", "scipy")


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    one = record("msa", 1)
    path = files.write_record(one, tmp_path)
    assert path == tmp_path / "lab" / "tofu" / "lab" / f"msa-{one.spec.key}.json"
    assert files.read_record(path) == one
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def _turned(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in reversed(list(fields))}


def test_equal_records_make_equal_bytes_whatever_the_order_of_their_fields(tmp_path: Path) -> None:
    one = record("msa", 1)
    turned = dataclasses.replace(one, facts=_turned(one.facts), cost=_turned(one.cost))
    text = files.write_record(one, tmp_path / "a").read_text()
    assert files.write_record(turned, tmp_path / "b").read_text() == text
    assert text.startswith('{\n "absent": {},\n "cost": {\n  "seconds"')


def test_load_sorts_by_name_and_finds_nothing_in_no_folder(tmp_path: Path) -> None:
    some = study(methods=("npo", "target", "msa"))
    for one in some:
        files.write_record(one, tmp_path)
    loaded = files.load_records(tmp_path)
    assert loaded.records == sorted(some, key=lambda one: one.name)
    assert loaded.broken == []
    assert files.load_records(tmp_path / "none") == files.LoadedRecords([], [])


def _without(path: Path, *names: str) -> str:
    data = json.loads(path.read_text())
    for name in names:
        del data[name]
    return json.dumps(data)


def _with(path: Path, **fields: object) -> str:
    return json.dumps(json.loads(path.read_text()) | fields)


def test_whatever_is_broken_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    good = files.write_record(record("npo", 0), tmp_path)
    whole = good.read_text()
    spoiled = json.loads(whole)["spec"] | {"seed": 7}
    broken: dict[str, str | bytes] = {
        "half.json": whole[: len(whole) // 2],
        "empty.json": "",
        "list.json": "[1, 2]",
        "binary.json": b"\xff\xfe\x00",
        "schema.json": _with(good, schema=99),
        "key.json": _with(good, spec=spoiled),
        "lacking.json": _without(good, "scores"),
        "status.json": _with(good, status="fine"),
        "nan.json": whole.replace('"value": 0.', '"value": NaN, "x": 0.'),
        "word.json": _with(good, floors={"kl_forget": "small"}),
        "copy of it.json": whole,
        "lab/tofu/stray.json": "{}",
    }
    for name, content in broken.items():
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "responses").mkdir()
    (tmp_path / "responses" / "not-a-record.json").write_text("{}")

    loaded = files.load_records(tmp_path)
    assert [one.name for one in loaded.records] == [record("npo", 0).name]
    reasons = {file.path: file.reason for file in loaded.broken}
    assert sorted(reasons) == sorted([*broken, "folder.json"])
    assert all(reasons.values())
    assert str(tmp_path) not in "".join(reasons.values())
    assert reasons["lacking.json"] == "scores: it is missing"
    assert reasons["folder.json"] == "it is no file"
    lines = {file.path: file.left_out for file in loaded.broken}
    assert lines["folder.json"] == "left out: folder.json: it is no file: delete it and run again."
    assert lines.pop("copy of it.json").endswith(f"belongs at {record('npo', 0).name}: move it there, or delete it.")
    assert all(line.endswith("delete it and run again.") and "Expecting" not in line for line in lines.values())
    assert reasons["copy of it.json"] == f"it is the record that belongs at {record('npo', 0).name}"
    for name, content in broken.items():
        assert (tmp_path / name).read_bytes() == (content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("level", range(5))
def test_what_may_not_be_read_is_named_and_not_to_be_deleted(level: int, tmp_path: Path) -> None:
    """A record, any folder above it, and the folder of all records: the others are read."""
    good = files.write_record(record("npo", 0), tmp_path / "out")
    other = files.write_record(dataclasses.replace(record("npo", 0), label="x"), tmp_path / "other")
    place = (good, *good.parents)[level]
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        with heeding_modes():
            loaded, others = (files.load_records(tmp_path / name) for name in ("out", "other"))
            if not level:
                with pytest.raises(UserError, match=r"\(permission is denied\): allow it and run again\.$"):
                    files.read_record(good)
                with pytest.raises(UserError, match=r"\(permission is denied\): allow it, then run again\.$"):
                    files.write_record(record("npo", 0), tmp_path / "out")
    finally:
        place.chmod(mode)
    name = place.relative_to(tmp_path / "out").as_posix()
    assert loaded.records == [] and len(others.records) == 1 and other.is_file()
    assert [file.left_out for file in loaded.broken] == [
        f"left out: {name}: permission is denied: allow it and run again."
    ]
    assert f"`{name}`: permission is denied" in render_leaderboard([], loaded.broken)


@pytest.mark.parametrize("name", ["lab", "lab/tofu", "lab/tofu/lab"])
@pytest.mark.parametrize("inside", [True, False])
def test_records_behind_links_to_folders_are_read_once(name: str, inside: bool, tmp_path: Path) -> None:
    """Be they links out of the folder, into it or round in circles, and many of them to one another."""
    root = tmp_path / "out"
    some = study(methods=("npo", "target"))
    for one in some:
        files.write_record(one, root)
    expected = files.load_records(root)
    away = root / "a" if inside else tmp_path / "away"
    (root / name).rename(away)
    (root / name).symlink_to(away)
    (away / "round").symlink_to(root)
    for number in range(12):
        (root / f"x{number}").mkdir()
        for other in range(12):
            (root / f"x{number}" / f"y{other}").symlink_to(root / f"x{other}")
    assert files.load_records(root) == expected and len(expected.records) == len(some)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    """A disk that is away: without its records a page would say less than it did, in silence."""
    files.write_record(record("npo", 0), tmp_path)
    (tmp_path / "real").symlink_to("/mnt/away")
    (tmp_path / "lab" / "round").symlink_to("round")
    (tmp_path / "lab" / ".#npo").symlink_to("me@host.1234")  # an editor's
    (tmp_path / "wandb").symlink_to("/mnt/away")
    loaded = files.load_records(tmp_path)
    assert [file.path for file in loaded.broken] == ["lab/round", "real"] and len(loaded.records) == 1
    assert loaded.broken[1].left_out.endswith(
        "real: it is a link to nothing that can be reached: mend or delete it and run again."
    )


def test_write_replaces_a_record_and_refuses_to_replace_anything_else(tmp_path: Path) -> None:
    path = files.write_record(record("npo", 0, status="failed", scores={}), tmp_path)
    files.write_record(record("npo", 0), tmp_path)
    assert files.read_record(path).status == "done"
    path.write_text('{"schema": 1, "spec"')
    with pytest.raises(UserError, match="move or delete it"):
        files.write_record(record("npo", 0), tmp_path)
    assert path.read_text() == '{"schema": 1, "spec"'
    with pytest.raises(UserError, match=r"is not a readable record \([^\n]+\): delete it and run again\.$"):
        files.read_record(path)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")
    with pytest.raises(TypeError):
        files.write_bytes(path, "new")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


ODD = [0.1 + 0.2, -1 / 3, 5e-324, 1.7976931348623157e308, -0.0, float("-inf")]


def test_responses_keep_every_bit_and_their_order_and_make_the_same_bytes(tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {
        "forget": {"z": {"answer": [{"logp": ODD, "hit": [1, 0] * 3, "eos": True}]}, "a": {"text": "é"}}
    }
    responses = Responses("abc", rows, 1.5)
    path = files.write_responses(responses, tmp_path / "one.json.gz")
    back = files.read_responses(path)
    assert back == responses
    assert list(back.rows["forget"]) == ["z", "a"]
    assert [value.hex() for value in back.rows["forget"]["z"]["answer"][0]["logp"]] == [value.hex() for value in ODD]
    assert files.write_responses(back, tmp_path / "other name.gz").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"plain", b"\x1f\x8b\x08\x00half"])
def test_broken_responses_are_the_users_to_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.json.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"key\.json\.gz holds no readable responses"):
        files.read_responses(path)
    with pytest.raises(UserError, match="no responses in absent"):
        files.read_responses(tmp_path / "absent.json.gz")


def test_reading_records_loads_nothing_heavy() -> None:
    code = (
        f"import sys, {', '.join(f'bench.{name}' for name in LIGHT)}; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_leaderboard_is_made_without_torch(tmp_path: Path) -> None:
    for one in study(methods=("target", "retrain", "npo")):
        files.write_record(one, tmp_path)
    code = (
        "import sys, pathlib, bench.records.leaderboard as l, bench.records.files as r, bench.records.plots as p;"
        f"d = r.load_records(pathlib.Path({str(tmp_path)!r})); l.render_leaderboard(d.records, d.broken);"
        f"p.draw_plots(d.records[:3], pathlib.Path({str(tmp_path)!r}) / 'plots');"
        "print([m for m in ('torch', 'transformers', 'wandb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_token_host_or_home_folder_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "not-to-be-seen")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="machine-of-mine"))
    said = "401 for not-to-be-seen from machine-of-mine, see /home/somebody/.netrc and https://me:pass@host/x"
    one = record("npo", 0, status="failed", reason=said)
    text = files.write_record(dataclasses.replace(one, absent={"acc": said}), tmp_path).read_text()
    for secret in ("not-to-be-seen", "machine-of-mine", "/home/somebody", "me:pass"):
        assert secret not in text
    assert "401 for" in text


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The record of npo on tofu can't be kept \(floors\.acc: .*"):
        files.write_record(dataclasses.replace(record(), floors={"acc": "low"}), tmp_path)
    assert list(tmp_path.iterdir()) == []
