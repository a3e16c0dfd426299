"""Pictures that needn't be drawn again: beside them stands what they were drawn from, and by which code."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bench.core.files import write_text
from bench.core.hashing import hash_file, hash_json
from bench.core.schema import STRICT, read_as
from bench.records.plain import read_plain

FILE = ".stamps.json"
Suffix = Literal[".png", ".svg"]
SUFFIXES: tuple[Suffix, ...] = (".png", ".svg")


@dataclass(frozen=True)
class Stamp:
    """Of one picture."""

    __pydantic_config__ = STRICT
    of: str
    """Hash of what it shows and of the code that drew it."""
    files: dict[Suffix, str]
    """Ending -> sha256 of the file; none where there was nothing to draw."""


class Stamps:
    """The stamps of a folder of pictures, a context manager; damaged ones are those of no picture."""

    def __init__(self, folder: Path, *code: Path) -> None:
        """``code``: the modules that draw, whose every change makes the pictures anew."""
        self.folder = folder
        self.code = [*map(hash_file, code), version("matplotlib")]
        self.old: dict[str, Stamp] = {}
        self.new: dict[str, Stamp] = {}

    def __enter__(self) -> Self:
        """Read what is there."""
        self.old = _read(self.folder)
        for name, stamp in self.old.items():  # of pictures there that nobody may ask for now
            if not stamp.files or any(_file(self.folder / name, suffix).is_file() for suffix in stamp.files):
                self.new[name] = stamp
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Keep the stamps, where some are new and nothing went wrong."""
        if kind is None and self.new != self.old:
            told = {name: asdict(stamp) for name, stamp in sorted(self.new.items())}
            write_text(self.folder / FILE, json.dumps(told, indent=1) + "\n")

    def files(self, name: str, shows: Any, draw: Callable[[Path], list[Path]]) -> list[Path]:
        """The files of the picture ``name``: those there if they show ``shows``, else what ``draw`` makes of its stem."""
        stem, of = self.folder / name, hash_json([self.code, shows])
        known = self.old.get(name)
        wanted = endings(self.folder)
        for suffix in set(SUFFIXES) - set(wanted):
            _file(stem, suffix).unlink(missing_ok=True)
        if known and known.of == of and all(_is(stem, *file) for file in known.files.items()):
            self.new[name] = known
            return [_file(stem, suffix) for suffix in SUFFIXES if suffix in known.files]
        made = draw(stem)
        self.new[name] = Stamp(of, {suffix: hash_file(f) for suffix in SUFFIXES if (f := _file(stem, suffix)) in made})
        return made


def endings(folder: Path) -> tuple[Suffix, ...]:
    """The kinds of pictures that are written into a folder: SVG alone in a published one, which stands beside responses.

    A repository keeps what a browser shows; what is one's own has PNG too, for slides and for trackers.
    """
    return (".svg",) if (folder.parent / "responses").is_dir() else SUFFIXES


def remove_stale(folder: Path, written: Collection[Path], own: bool = True) -> list[Path]:
    """Remove the pictures of a folder that are not ``written`` any more; returns them.

    In a published folder all that are no longer drawn, elsewhere those that were drawn there and are as they were left; so
    too where it is not the records' ``own`` folder of pictures, and holds what somebody else may have put there.
    """
    if own and endings(folder) != SUFFIXES:
        stale = [path for path in sorted(folder.glob("[!.]*")) if path.suffix in SUFFIXES and path not in written]
    else:
        drawn = [(folder / name, file) for name, stamp in _read(folder).items() for file in stamp.files.items()]
        stale = [path for stem, file in drawn if _is(stem, *file) and (path := _file(stem, file[0])) not in written]
    for path in stale:
        path.unlink()
    return stale


def _read(folder: Path) -> dict[str, Stamp]:
    """The stamps of a folder; none where they are damaged."""
    try:
        return read_as(dict[str, Stamp], read_plain(folder / FILE))
    except ValueError:
        return {}


def _file(stem: Path, suffix: Suffix) -> Path:
    return stem.with_name(stem.name + suffix)


def _is(stem: Path, suffix: Suffix, sha: str) -> bool:
    file = _file(stem, suffix)
    return file.is_file() and hash_file(file) == sha
