"""Reading JSON of a results folder, which may be damaged or a stranger's: whole and bounded, or a ValueError that says why not.

Regular files alone are opened, and no more of them is read or unpacked than a bound; no number is infinite, no member
stands twice in an object, and nothing is nested deeper than what is read later can follow.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import without_repetitions
from bench.core.files import read_small
from bench.core.schema import MOST

MOST_BYTES = 16 << 20
"""Of a record: a thousand times what records take."""
MOST_STUDY = 256 << 20
"""Bytes of a study, which has hundreds of records in it."""
MOST_UNPACKED = 1 << 30
"""Bytes of responses, unpacked: hundreds of times those of a published checkpoint."""
DEEPEST = 40
"""Levels of objects and lists in one another."""
CHUNK = 1 << 20


def read_plain(path: Path, most: int = MOST_BYTES) -> Any:
    """What a JSON file says; ValueError where it is no regular file, larger than ``most`` bytes, or no sound JSON."""
    return parse_plain(read_bounded(path, most))


def parse_plain(content: bytes) -> Any:
    """What the bytes of a JSON file say; ValueError names the first member that no reader could use."""
    try:
        data = json.loads(content, object_pairs_hook=without_repetitions)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    _check(data, "", DEEPEST)
    return data


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a regular file; ValueError where it is something else, or larger than ``most`` bytes."""
    try:
        return read_small(path, most)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None


def unpack(content: bytes, most: int = MOST_UNPACKED) -> bytes:
    """What gzip packed; ValueError where that is damaged, or more than ``most`` bytes, of which no more are unpacked."""
    parts, size = [], 0
    machine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        while not machine.eof:
            # The size that a gzip file states of itself is neither trusted nor read.
            part = machine.decompress(content, CHUNK)
            content = machine.unconsumed_tail
            if not part and not machine.eof:
                raise ValueError("it is cut short")
            parts.append(part)
            size += len(part)
            if size > most:
                raise ValueError(f"it unpacks to more than {most >> 20} MB")
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if machine.unused_data:
        raise ValueError("something stands behind its end")
    return b"".join(parts)


def _check(value: Any, at: str, deepest: int) -> None:
    """ValueError where a number is none, or too large to reckon with, or the nesting is deeper than ``deepest``."""
    kind = type(value)
    if kind is dict or kind is list:
        if not deepest:
            raise ValueError(f"{at[1:61]}...: it is nested too deep")
        for name, each in value.items() if kind is dict else enumerate(value):
            if type(each) is not str:
                _check(each, f"{at}.{name}", deepest - 1)
    elif kind is float and not math.isfinite(value):
        raise ValueError(f"{at[1:] or 'it'}: {value} is no finite number")
    elif (kind is float or kind is int) and not -MOST <= value <= MOST:
        raise ValueError(f"{at[1:] or 'it'}: a number beyond {MOST:.0e}")
