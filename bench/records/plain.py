"""Reading JSON of a results folder, which may be damaged or a stranger's: whole and bounded, or a ValueError that says why not.

Regular files alone are opened, and no more of them is read or unpacked than a bound; no number is infinite, no member
stands twice in an object, and nothing is nested deeper than what is read later can follow.
"""

from __future__ import annotations

import errno
import json
import lzma
import math
import os
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import without_repetitions
from bench.core.files import read_small
from bench.core.schema import MOST
from bench.core.trouble import ELSEWHERE, REFUSALS

MOST_BYTES = 16 << 20
"""Of a record: a thousand times what records take."""
MOST_STUDY = 256 << 20
"""Bytes of a study, which has hundreds of findings in it."""
MOST_UNPACKED = 128 << 20
"""Bytes of responses, unpacked: two hundred times the largest published ones, as those of a whole benchmark are larger."""
DEEPEST = 40
"""Levels of objects and lists in one another."""
MOST_FOLDERS = 10_000
"""Folders behind links in which files are looked for."""
CHUNK = 1 << 20
ROOM = float(MOST)


class Closed(ValueError):
    """A place that can't be read as it is now, and may hold something sound; ``remedy`` says what to do first."""

    def __init__(self, number: int) -> None:
        what, remedy = REFUSALS[number]
        super().__init__(what)
        self.remedy = remedy.removesuffix(f" {ELSEWHERE}")


def why_not(error: OSError) -> ValueError:
    """Why a place can't be read; `Closed` where that is not the place's own fault."""
    if error.errno is not None and error.errno in REFUSALS:
        return Closed(error.errno)
    return ValueError(error.strerror or type(error).__name__)


def identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from all others, by whatever path it is reached."""
    about = folder.stat()
    return about.st_dev, about.st_ino


def list_json(
    root: Path, without: Collection[str] = (), endings: tuple[str, ...] = (".json",)
) -> tuple[list[Path], list[tuple[Path, ValueError]]]:
    """The files with such ``endings`` below a folder, sorted, and what can't be looked into, with the reason:
    folders, links to nothing.

    Links to folders are followed: each folder is entered by its own name, and behind links once more, `MOST_FOLDERS` in
    all, but never inside of itself. ``without``: names directly below ``root`` that are passed over.
    """
    files: list[Path] = []
    closed: list[tuple[Path, ValueError]] = []
    followed = set[tuple[int, int]]()
    left: list[tuple[Path, frozenset[tuple[int, int]], bool]] = [(root, frozenset(), False)]
    while left:
        folder, above, behind = left.pop()
        try:
            this = identity(folder)
            if this in above or (behind and this in followed):
                continue
            if behind and len(followed) == MOST_FOLDERS:
                closed.append((folder, ValueError(f"behind links at most {MOST_FOLDERS:,} folders are read")))
                continue
            if behind:
                followed.add(this)
            with os.scandir(folder) as entries:
                found = [entry for entry in entries if above or entry.name not in without]
            parents = (each for each in folder.resolve().parents if os.path.exists(each))
            above = above or frozenset(map(identity, parents))  # a link may lead to one of them
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # it has gone meanwhile
                closed.append((folder, why_not(error)))
            continue
        for entry in found:
            place, is_link = folder / entry.name, entry.is_symlink()
            if entry.name.endswith(endings):
                files.append(place)
            elif is_link and not entry.name.startswith(".") and not os.path.exists(place):
                closed.append((place, ValueError("it is a link to nothing that can be reached")))
            if os.path.isdir(place) if is_link else entry.is_dir():
                left.append((place, above | {this}, behind or is_link))
    return sorted(files), sorted(closed, key=lambda found: found[0])


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
        raise why_not(error) from None


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


def unpack_xz(content: bytes, most: int = MOST_UNPACKED) -> bytes:
    """What xz packed; ValueError where that is damaged, cut short, or more than ``most`` bytes."""
    machine = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=most)
    try:
        plain = machine.decompress(content, most + 1)
    except lzma.LZMAError:
        raise ValueError("it is damaged, or not packed by xz") from None
    if len(plain) > most:
        raise ValueError(f"it unpacks to more than {most} bytes")
    if not machine.eof:
        raise ValueError("it is cut short")
    if machine.unused_data:
        raise ValueError("something stands behind its end")
    return plain


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
