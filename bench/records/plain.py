"""Reading JSON of a results folder, which may be damaged or a stranger's: whole and bounded, or a ValueError that says why not.

Regular files alone are opened, and no more of them is read or unpacked than a bound; no number is infinite, no member
stands twice in an object, and nothing is nested deeper than what is read later can follow.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import without_repetitions
from bench.core.files import read_small
from bench.core.schema import MOST

MOST_BYTES = 16 << 20
"""Of a record: a thousand times what records take."""
MOST_STUDY = 256 << 20
"""Bytes of a study, which has hundreds of records in it."""
MOST_UNPACKED = 128 << 20
"""Bytes of responses, unpacked: two hundred times the largest published ones, as those of a whole benchmark are larger."""
DEEPEST = 40
"""Levels of objects and lists in one another."""
CHUNK = 1 << 20
ROOM = float(MOST)


def read_plain(path: Path, most: int = MOST_BYTES) -> Any:
    """What a JSON file says; ValueError where it is no regular file, larger than ``most`` bytes, or no sound JSON."""
    return parse_plain(read_bounded(path, most))


def parse_plain(content: bytes | bytearray, measured: bool = False) -> Any:
    """What the bytes of a JSON file say; ValueError names the first member that no reader could use.

    What is ``measured`` may be any float, and minus infinity: the log-prob of what is impossible.
    """
    try:
        text = content.decode("utf-8-sig")
        del content  # the numbers take their room
        data = json.loads(text, object_pairs_hook=without_repetitions)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON (line {error.lineno})" if text.strip() else "it is empty") from None
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):
            raise ValueError("it has a number of thousands of digits") from None
        raise
    if not (isinstance(data, dict | list) and is_sound(data, DEEPEST)):
        _check(data, "", DEEPEST, measured)
    return data


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a regular file; ValueError where it is something else, or larger than ``most`` bytes."""
    try:
        return read_small(path, most)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None


def unpack(content: bytes, most: int = MOST_UNPACKED) -> bytearray:
    """What gzip packed; ValueError where that is damaged, or more than it states itself or than ``most`` bytes.

    No more is unpacked than the file states at its end, and nothing where that is too much.
    """
    stated = int.from_bytes(content[-4:], "little")
    if stated > most:
        raise ValueError(f"it states that it unpacks to {stated} bytes, and at most {most} are unpacked")
    whole, size = bytearray(stated), 0
    machine = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        while not machine.eof:
            part = machine.decompress(content, CHUNK)
            content = machine.unconsumed_tail
            if not part and not machine.eof:
                raise ValueError("it is cut short")
            if size + len(part) > stated:
                raise ValueError(f"it unpacks to more than the {stated} bytes that it states")
            whole[size : size + len(part)] = part
            size += len(part)
    except zlib.error:
        raise ValueError("it is damaged, or not packed by gzip") from None
    if machine.unused_data:
        raise ValueError("something stands behind its end")
    return whole


def is_sound(value: dict[str, Any] | list[Any], deepest: int) -> bool:
    """Whether `_check` finds nothing, told fast; where it isn't sure it says no."""
    if not deepest:
        return False
    if type(value) is list:
        try:
            return sum(map(abs, value)) <= ROOM
        except (TypeError, OverflowError):  # not all are numbers, or some is no float
            pass
    members: Iterable[Any] = value.values() if isinstance(value, dict) else value
    for each in members:
        kind = type(each)
        if kind is dict or kind is list:
            if not is_sound(each, deepest - 1):
                return False
        elif (kind is float or kind is int) and not -ROOM <= each <= ROOM:
            return False
    return True


def _check(value: Any, at: str, deepest: int, measured: bool) -> None:
    """ValueError where a number is none, or too large to reckon with, or the nesting is deeper than ``deepest``."""
    kind = type(value)
    if kind is dict or kind is list:
        if not deepest:
            raise ValueError(f"{at[1:61]}...: it is nested too deep")
        for name, each in value.items() if kind is dict else enumerate(value):
            if type(each) is not str:
                _check(each, f"{at}.{name}", deepest - 1, measured)
    elif kind is float and measured and value < math.inf:
        return
    elif kind is float and not math.isfinite(value):
        raise ValueError(f"{at[1:] or 'it'}: {value} is no finite number")
    elif (kind is float or kind is int) and not -MOST <= value <= MOST:
        raise ValueError(f"{at[1:] or 'it'}: a number beyond {MOST:.0e}")
