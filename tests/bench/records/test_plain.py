"""Files that are damaged, endless, or larger than they say are refused in a sentence, and none of them is waited for."""

from __future__ import annotations

import gzip
import os
import resource
import socket
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.records.files import load_records, read_responses, write_record
from bench.records.plain import DEEPEST, parse_plain, read_bounded, unpack
from tests.factories import record


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": {"b": [NaN]}}', r"^a\.b\.0: nan is no finite number"),
        (b'{"a": 1e400}', "^a: inf is no finite number"),
        (b'{"a": 1' + b"0" * 400 + b"}", "^a: a number beyond 1e"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b"[" * 3000 + b"]" * 3000, "too deep"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), "too deep"),
        (b"\xff\xfe\x00", "."),
        (b"", "."),
        (bytes(100), "."),
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


def test_what_unpacks_to_more_than_the_bound_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """5 MB that unpack to 5 GB, with a header of its own that says 4 bytes."""
    one = gzip.compress(bytes(1 << 20))
    assert unpack(one) == bytes(1 << 20)
    with pytest.raises(ValueError, match="unpacks to more than 1 MB"):
        unpack(gzip.compress(bytes((1 << 20) + 1)), 1 << 20)
    lying = bytearray(gzip.compress(bytes(1 << 28)))
    lying[-4:] = (4).to_bytes(4, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="more than 16 MB"):
        unpack(bytes(lying), 16 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    (tmp_path / "key.json.gz").write_bytes(one[:-20])
    with pytest.raises(UserError, match="no readable responses"):
        read_responses(tmp_path / "key.json.gz")


@pytest.mark.parametrize("place", [0, 3, 15, -9, -5, -1])
def test_a_flipped_bit_of_a_packed_file_is_seen(place: int) -> None:
    packed = bytearray(gzip.compress(b'{"checkpoint": "a", "rows": {}}' * 9, mtime=0))
    packed[place] ^= 1
    if place == 3:
        packed[3] |= 0xE0  # flags that nobody knows
    with pytest.raises(ValueError, match="."):
        unpack(bytes(packed))
