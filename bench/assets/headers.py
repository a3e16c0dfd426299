"""The safetensors format: what a file's header says of its tensors. Loads no torch."""

from __future__ import annotations

import json
import math
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
    damaged = UserError(f"{where} has a damaged safetensors header: copy it again.")
    try:
        described: dict[str, Any] = json.loads(header)
        entries: dict[str, TensorEntry] = {}
        spans: list[tuple[int, int, str]] = []
        for text in (described.pop("__metadata__", None) or {}).values():
            check_type(text, str)
        for name, about in described.items():
            begin, end = about["data_offsets"]
            for number in (begin, end, *about["shape"]):
                check_type(number, int)
            check_type(about["dtype"], str)
            if not (name + about["dtype"]).isprintable():
                raise damaged
            spans.append((begin, end, name))
            entries[name] = TensorEntry(path.name, about["dtype"], tuple(about["shape"]), 8 + length + begin)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    last = 0
    for begin, end, name in sorted(spans):
        known = entries[name].dtype in SIZES
        if (
            begin != last
            or end < begin
            or min(entries[name].shape, default=0) < 0
            or (known and entries[name].bytes != end - begin)
        ):
            raise damaged
        last = end
    if 8 + length + last != size:
        raise UserError(
            f"{where} is {'truncated' if 8 + length + last > size else 'damaged'}: {size} bytes, "
            f"and its header speaks of {8 + length + last}; copy it again."
        )
    return header, entries


def check_type(value: object, kind: type) -> None:
    """`TypeError` for a value of another type; a bool is no number."""
    if type(value) is not kind:
        raise TypeError(value)
