from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.hashing import hash_json
from bench.core.types import Json
from bench.runs.nodes import HOLD_CHECKPOINT, hash_node, is_key, node_text, read_info, stamp_node

INFO: Json = {
    "fields": {"kind": "cached", "numbers": [1, 2.5, None]},
    "label": "a node",
    "seconds": 1.5,
    "expected_seconds": 0.0,
    "bytes": 10,
    "hash": "0" * 64,
    "provenance": {"device": "cpu"},
    "meta": {"curve": [{"step": 1, "loss": 0.1 + 0.2}]},
}


def written(root: Path, info: Json, text: str = "") -> Path:
    folder = root / hash_json(info["fields"])[:32]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node.json").write_text(text or node_text(info))
    return folder


def test_what_is_written_is_read_to_the_bit_with_or_without_a_checksum(tmp_path: Path) -> None:
    assert read_info(written(tmp_path, INFO)) == INFO
    assert read_info(written(tmp_path, INFO, json.dumps(INFO))) == INFO
    assert json.loads(node_text(INFO))["checksum"] == hash_json(INFO), "over everything else that the file says"


def test_the_checksum_is_over_what_the_file_says_and_not_over_what_it_was_given(tmp_path: Path) -> None:
    info = {**INFO, "meta": {1: (2, 3)}}
    assert read_info(written(tmp_path, info))["meta"] == {"1": [2, 3]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "another"}, "checksum"),
        ({"meta": {}}, "checksum"),
        ({"fields": {}}, "checksum"),
        ({"more": 1}, "fields of a node"),
        ({"seconds": True}, "its seconds is True"),
        ({"bytes": -1}, "its bytes is -1"),
        ({"hash": "x"}, "its hash is 'x'"),
        ({"checksum": None}, "checksum is None"),
    ],
)
def test_what_was_changed_is_named(change: Json, said: str, tmp_path: Path) -> None:
    text = json.dumps(json.loads(node_text(INFO)) | change)
    with pytest.raises(ValueError, match=said):
        read_info(written(tmp_path, INFO, text))


@pytest.mark.parametrize("kind", HOLD_CHECKPOINT)
def test_a_node_that_holds_a_checkpoint_names_it(kind: str, tmp_path: Path) -> None:
    info = {**INFO, "fields": {"kind": kind}}
    with pytest.raises(ValueError, match="names no checkpoint"):
        read_info(written(tmp_path, info))
    info["meta"] = {"checkpoint": "a" * 64}
    assert read_info(written(tmp_path, info)) == info


def test_keys_are_those_of_the_store() -> None:
    assert is_key("0" * 32) and not any(
        map(is_key, ("0" * 31, "0" * 33, "g" * 32, "../" + "0" * 29, "0" * 31 + "\n", 7))
    )


def test_files_are_hashed_by_name_and_content_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_text("y")
    before, stamps = hash_node(tmp_path), stamp_node(tmp_path)
    (tmp_path / "node.json").write_text("{}")
    assert hash_node(tmp_path) == before and stamp_node(tmp_path) != stamps
    (tmp_path / "link").symlink_to("a")
    assert hash_node(tmp_path) != before, "a link to a file is its content"
    for to in (".", "..", "nowhere"):
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to(to)
        with pytest.raises(ValueError, match="link is no file"):
            hash_node(tmp_path)
