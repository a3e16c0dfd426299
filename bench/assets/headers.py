"""The safetensors format: what a file's header says of its tensors. Loads no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import UserError

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types that are summed, with the bytes of one entry."""
COPIED = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
"""Types that are copied from the first term: positions, masks, counters."""
SIZES = FLOATS | COPIED
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    name: f"{'u' if name[0] == 'U' else ''}int{8 * size}" for name, size in COPIED.items() if name != "BOOL"
}
"""The format's names of the types -> torch's."""
MOST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
MOST_ENTRIES = 2**63 - 1
"""Of a tensor, and of each number in its shape: what the libraries count with."""
MOST_DIMENSIONS = 64
"""Of torch and numpy."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies."""

    file: str
    dtype: str
    """The format's name: ``BF16``, ``F32``, ``I64`` ..."""
    shape: tuple[int, ...]
    begin: int
    """Byte of the file that it begins at."""

    @property
    def count(self) -> int:
        """The number of the tensor's entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that it takes."""
        return self.count * SIZES[self.dtype]


def read_header(path: Path) -> tuple[bytes, dict[str, TensorEntry]]:
    """A safetensors file's header as bytes, and its tensors; they must fill the rest of the file.

    The file is 8 bytes with the header's length (little-endian), the header (JSON: name -> dtype, shape, and where its
    bytes begin and end behind the header), then the bytes.
    """
    where = f"{path.parent.name}/{path.name}"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise UserError(f"{where} is no whole safetensors file ({size} bytes): it is truncated, copy it again.")
        header = file.read(length)
    try:
        described = parse_header(header)
        entries = {name: read_entry(name, about, path.name, 8 + length) for name, about in described.items()}
        last = end_of_tensors(entries, described)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{where} has a damaged safetensors header: copy it again.") from None
    if 8 + length + last != size:
        raise UserError(
            f"{where} is {'truncated' if 8 + length + last > size else 'damaged'}: {size} bytes, "
            f"and its header speaks of {8 + length + last}; copy it again."
        )
    return header, entries


def parse_header(header: bytes) -> dict[str, Any]:
    """What a header says of each tensor; `ValueError` or `TypeError` for anything but one object of named tensors."""
    if not header.startswith(b"{"):
        raise ValueError("it begins with no object")
    described: dict[str, Any] = json.loads(header.decode(), object_pairs_hook=without_twins, parse_constant=refuse)
    metadata = described.pop("__metadata__", None)
    if metadata is not None:
        check_type(metadata, dict)
        for text in metadata.values():
            check_type(text, str)
    return described


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; `ValueError` where it has a name twice, of which each reader takes another."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def refuse(constant: str) -> None:
    """`ValueError` for NaN and Infinity, which are no JSON."""
    raise ValueError(constant)


def read_entry(name: str, about: Any, file: str, start: int) -> TensorEntry:
    """One tensor as the header describes it; ``start``: the byte of the file behind the header."""
    check_type(about, dict)
    shape, offsets, dtype = about["shape"], about["data_offsets"], about["dtype"]
    for value, kind in ((shape, list), (offsets, list), (dtype, str)):
        check_type(value, kind)
    begin, end = offsets
    for number in (begin, end, *shape):
        check_type(number, int)
    entries = 1
    for number in shape:
        entries *= number
        if number < 0 or not 0 <= entries <= MOST_ENTRIES or number > MOST_ENTRIES:
            raise ValueError(f"a shape of {shape}")
    if len(shape) > MOST_DIMENSIONS or not 0 <= begin <= end or not (name + dtype).isprintable():
        raise ValueError(name)
    entry = TensorEntry(file, dtype, tuple(shape), start + begin)
    if dtype in SIZES and entry.bytes != end - begin:
        raise ValueError(f"{end - begin} bytes of a shape {shape}")
    return entry


def end_of_tensors(entries: Mapping[str, TensorEntry], described: Mapping[str, Any]) -> int:
    """The byte behind the header that the tensors end at; `ValueError` where they overlap or leave a gap."""
    last = 0
    for begin, end in sorted(described[name]["data_offsets"] for name in entries):
        if begin != last:
            raise ValueError(f"a tensor begins at {begin} and the one before it ends at {last}")
        last = end
    return last


def check_type(value: object, kind: type) -> None:
    """`TypeError` for a value of another type; a bool is no number."""
    if type(value) is not kind:
        raise TypeError(value)
