"""The header of a safetensors file, made by hand byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.assets.headers import TensorEntry, read_header
from bench.core.errors import UserError

TWO = {
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
    "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    "__metadata__": {"format": "pt"},
}
"""Two tensors of 8 and 6 bytes."""


def write(folder: Path, described: Any, data: int = 14) -> Path:
    header = described if isinstance(described, bytes) else json.dumps(described).encode()
    path = folder / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(data))
    return path


def test_a_tensors_place_is_behind_the_header(tmp_path: Path) -> None:
    header, entries = read_header(write(tmp_path, TWO))
    start = 8 + len(json.dumps(TWO))
    assert json.loads(header) == TWO
    assert entries == {
        "a": TensorEntry("x.safetensors", "F32", (1, 2), start),
        "b": TensorEntry("x.safetensors", "BF16", (3,), start + 8),
    }
    assert [(entry.count, entry.bytes) for entry in (entries["a"], entries["b"])] == [(2, 8), (3, 6)]


def test_the_librarys_own_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensors = {"w": torch.arange(6, dtype=torch.float32).view(2, 3), "n": torch.arange(4)}
    save_file(tensors, tmp_path / "own.safetensors")
    entries = read_header(tmp_path / "own.safetensors")[1]
    whole = (tmp_path / "own.safetensors").read_bytes()
    assert {name: (entry.dtype, entry.shape) for name, entry in entries.items()} == {
        "w": ("F32", (2, 3)),
        "n": ("I64", (4,)),
    }
    for name, entry in entries.items():
        assert whole[entry.begin : entry.begin + entry.bytes] == tensors[name].numpy().tobytes()


@pytest.mark.parametrize(("data", "said"), [(13, "truncated"), (15, "damaged")])
def test_the_tensors_fill_the_rest_of_the_file(data: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"x.safetensors is {said}: .* copy it again"):
        read_header(write(tmp_path, TWO, data))


def test_a_file_shorter_than_its_header_is_truncated(tmp_path: Path) -> None:
    for content in (b"", b"1234567", (100).to_bytes(8, "little") + b"{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=rf"no whole safetensors file \({len(content)} bytes\)"):
            read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [1, 9]},  # a gap before it
        {"data_offsets": [0, 9]},  # more bytes than its entries take, into the next one
        {"data_offsets": [8, 0]},
        {"data_offsets": [0]},
        {"shape": [-1, -2]},
        {"shape": [1.0, 2]},
        {"shape": [True, 2]},
        {"dtype": 32},
        {"dtype": "F3\n2"},
    ],
)
def test_an_odd_entry_is_a_damaged_header(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged safetensors header"):
        read_header(write(tmp_path, TWO | {"a": TWO["a"] | change}))


@pytest.mark.parametrize("header", [b"{", b"[]", b"[" * 100_000, b'{"a": 1}', b'{"__metadata__": {"a": 1}}', b"\xff{}"])
def test_what_is_no_header_is_damaged(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged safetensors header"):
        read_header(write(tmp_path, header, 0))


def entry(**changed: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]} | changed}


@pytest.mark.parametrize(
    "described",
    [
        entry(shape=[-1, -2]),
        entry(shape=[-2, -1]),
        entry(shape=[2.0, 1]),
        entry(shape=[True, 2]),
        entry(shape=["1", 2]),
        entry(shape={}),
        entry(shape=""),
        entry(shape=None),
        entry(shape=[2**64, 0]),
        entry(shape=[2**40, 2**40, 0], data_offsets=[0, 0]),
        entry(shape=[1] * 65 + [2]),
        entry(shape=[3]),
        entry(data_offsets=[0, 8, 8]),
        entry(data_offsets=[8]),
        entry(data_offsets=[8, 0]),
        entry(data_offsets=[-8, 0]),
        entry(data_offsets=[6, 14]),
        entry(data_offsets={"0": 0, "8": 8}),
        entry(data_offsets="08"),
        entry(data_offsets=[0, 8.0]),
        entry(dtype=None),
        entry(dtype=["F32"]),
        entry(dtype="F\u200b32"),
        {"a": [1]},
        {"a": None},
        {"a": {}},
        entry() | {"b": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}},
        entry() | {"b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}},
        entry() | {"b": {"dtype": "U8", "shape": [2], "data_offsets": [12, 14]}},
        entry() | {"__metadata__": []},
        entry() | {"__metadata__": 0},
        entry() | {"__metadata__": {"format": 1}},
        entry() | {"__metadata__": {"a": {"b": "c"}}},
        [],
        7,
        b"",
        b" {}",
        b"\xef\xbb\xbf{}",
        json.dumps(entry()).encode("utf-16"),
        f"{json.dumps(entry())[:-1]}, {json.dumps(entry())[1:]}".encode(),
        b'{"a": {"dtype": "F32", "shape": [2], "shape": [2], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 8]}}',
        b'{"__metadata__": ' + b'{"a":' * 50_000 + b"}" * 50_000 + b"}",
        b'{"a":' + b"[" * 100_000,
    ],
    ids=lambda described: str(described)[:60],
)
def test_a_header_that_any_reader_could_take_otherwise_is_one_sentence(described: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read_header(write(tmp_path, described, 8))
    [problem] = raised.value.problems
    assert "x.safetensors" in problem and problem.endswith("copy it again.") and "\n" not in problem


def test_empty_tensors_and_unknown_types_are_no_damage(tmp_path: Path) -> None:
    described = {
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "odd": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [4, 8]},
    }
    assert {name: entry.shape for name, entry in read_header(write(tmp_path, described, 8))[1].items()} == {
        "none": (0, 3),
        "scalar": (),
        "odd": (4,),
    }


def test_a_bad_header_is_refused_wherever_weights_are_read(tmp_path: Path) -> None:
    """Sums, merges, models and sizes all read a folder with the one reader."""
    from bench.assets.folders import read_folder
    from bench.assets.tensors import TensorFiles

    header = json.dumps(entry(shape=[-1, -2])).encode()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    for read in (lambda: read_folder(tmp_path, "m"), lambda: TensorFiles(tmp_path)):
        with pytest.raises(UserError, match="damaged"):
            read()
