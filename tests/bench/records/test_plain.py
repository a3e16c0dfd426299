"""Files that are damaged, endless, or larger than they say are refused in a sentence, and none of them is waited for."""

from __future__ import annotations

import gzip
import json
import os
import resource
import socket
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.records import plain
from bench.records.files import load_records, read_responses, write_record
from bench.records.plain import DEEPEST, MOST_UNPACKED, list_json, parse_plain, read_bounded, unpack
from tests.factories import record


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": {"b": [NaN]}}', r"^a\.b\.0: nan is no finite number"),
        (b'{"a": 1e400}', "^a: inf is no finite number"),
        (b'{"a": 1' + b"0" * 400 + b"}", "^a: a number beyond 1e"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "^it has a number of thousands of digits$"),
        (b'{"a": [1, 2.5, {"b": [0.5, Infinity]}]}', r"^a\.2\.b\.1: inf is no finite number"),
        (b"[0.5, 1" + b"0" * 400 + b", 1]", "^1: a number beyond 1e"),
        (b"[0.5, NaN, 1]", "^1: nan is no finite number"),
        (b"1e999", "^it: inf is no finite number"),
        (b"{\n\n", r"^it is no JSON \(line 3\)$"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" * 3000 + b"]" * 3000, "too deep"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "too deep"),
        (b"\xff\xfe\x00", "^it is no text in UTF-8$"),
        (b"", "^it is empty$"),
        (b" \n", "^it is empty$"),
        (bytes(100), r"^it is no JSON \(line 1\)$"),
    ],
)
def test_what_no_reader_could_use_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        parse_plain(content)
    assert "\n" not in str(error.value)


def test_only_regular_files_are_opened_and_read_no_further_than_the_bound(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "large.json").write_bytes(bytes(1001))
    (tmp_path / "just.json").write_bytes(bytes(1000))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door.json"))
    assert read_bounded(tmp_path / "just.json", 1000) == bytes(1000)
    for name in ("fifo", "zero", "loop", "gone", "folder", "large", "door"):
        with pytest.raises(ValueError, match="."):
            read_bounded(tmp_path / f"{name}.json", 1000)
    write_record(record("npo", 0), tmp_path)
    loaded = load_records(tmp_path)
    assert len(loaded.records) == 1
    assert {file.path for file in loaded.broken} == {path.name for path in tmp_path.glob("*.json")}


def test_a_name_that_is_no_text_is_named_all_the_same(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\x1b[31m.json")).write_text("{}")
    [broken] = load_records(tmp_path).broken
    assert broken.path.encode() and broken.path.isprintable()


def test_sound_lists_and_objects_are_read_as_they_are() -> None:
    told = {"a": [1, -2.5, True, None, "x", [], {}, [10**149, 1e149]], "b": "NaN", "c": -1e150}
    assert parse_plain(json.dumps(told).encode()) == told
    assert parse_plain(b"\xef\xbb\xbf3") == 3


def test_what_unpacks_to_more_than_the_bound_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """256 MB that state 256 MB, 4 bytes, or less than the bound."""
    one = gzip.compress(bytes(1 << 20))
    assert unpack(one) == bytes(1 << 20)
    with pytest.raises(ValueError, match="states that it unpacks to 1048577 bytes, and at most 1048576 are unpacked"):
        unpack(gzip.compress(bytes((1 << 20) + 1)), 1 << 20)
    bomb = gzip.compress(bytes(1 << 28))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="states that it unpacks to 268435456 bytes"):
        unpack(bomb)
    for stated in (4, 1 << 20, 8 << 20):
        with pytest.raises(ValueError, match=f"^it unpacks to more than the {stated} bytes that it states$"):
            unpack(bomb[:-4] + stated.to_bytes(4, "little"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10
    (tmp_path / "key.json.gz").write_bytes(one[:-20])
    with pytest.raises(UserError, match="no readable responses"):
        read_responses(tmp_path / "key.json.gz")


def test_responses_of_a_wreck_may_be_packed_to_any_part_of_their_size(tmp_path: Path) -> None:
    """Millions of equal numbers are what a collapsed model gives; more than the bound in all is refused unread."""
    ones = b"[1" + b",1" * (4 << 20) + b"]"
    packed = gzip.compress(ones)
    assert unpack(packed) == ones
    with pytest.raises(ValueError, match="states that it unpacks to"):
        unpack(packed, most=len(ones) - 1)
    (tmp_path / "key.json.gz").write_bytes(packed[:-4] + (MOST_UNPACKED + 1).to_bytes(4, "little"))
    with pytest.raises(UserError, match=r"no readable responses .*: delete it and run again\.$"):
        read_responses(tmp_path / "key.json.gz")


@pytest.mark.parametrize(
    "spoilt",
    [
        '"cost": {"seconds": Infinity}',
        '"cost": {"seconds": -Infinity}',
        '"cost": {"seconds": 1' + "0" * 400 + "}",
        '"seconds": NaN',
    ],
)
def test_responses_hold_no_number_that_is_none(spoilt: str, tmp_path: Path) -> None:
    file = tmp_path / "key.json.gz"
    file.write_bytes(gzip.compress(f'{{"checkpoint": "a", "rows": {{}}, {spoilt}}}'.encode()))
    with pytest.raises(UserError, match=r"^key.json.gz holds no readable responses \(.*seconds.*: delete it and run"):
        read_responses(file)


@pytest.mark.parametrize("place", [0, 3, 15, -9, -5, -1])
def test_a_flipped_bit_of_a_packed_file_is_seen(place: int) -> None:
    packed = bytearray(gzip.compress(b'{"checkpoint": "a", "rows": {}}' * 9, mtime=0))
    packed[place] ^= 1
    if place == 3:
        packed[3] |= 0xE0  # flags that nobody knows
    with pytest.raises(ValueError, match="."):
        unpack(bytes(packed))


def test_links_lead_to_no_more_than_some_folders_and_to_none_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is a stranger's may link to a whole disk."""
    root = tmp_path / "deep" / "out"
    root.mkdir(parents=True)
    for number in range(5):
        (tmp_path / "other" / f"{number}").mkdir(parents=True)
        (tmp_path / "other" / f"{number}" / "a.json").touch()
    (root / "b.json").touch()
    for name, to in (("above", tmp_path), ("root", Path("/")), ("round", root)):
        (root / name).symlink_to(to)
    assert list_json(root) == ([root / "b.json"], [])
    (root / "other").symlink_to(tmp_path / "other")
    assert [len(found) for found in list_json(root)] == [6, 0]
    monkeypatch.setattr(plain, "MOST_FOLDERS", 3)
    files, closed = list_json(root)
    assert len(files) == 3 and [str(reason) for _, reason in closed] == ["behind links at most 3 folders are read"] * 3
