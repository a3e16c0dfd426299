"""Presets and search boxes of a method: read from ``settings/MODULE.toml`` beside its module, written by `bench tune`.

A file has a table for each place (``<tier>-<task>``, or a tier alone), variant, or variant of a place. A table holds:

    params  what is laid over the method's defaults
    source  the paper and table, or the search that chose them
    same    in their place: the name of the table whose params and source are meant
    box     what a search tries there: tables of lists, each the product of its lists, the last one varying fastest
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import UserError, raise_problems, unknown_name
from bench.core.files import read_toml, write_text

KEYS = ("params", "source", "same", "box")
"""What a table may hold, in the order in which it is written."""
HEADER = "# Presets and search boxes (bench/core/settings.py says what stands here); `python -m bench tune --write` writes it.\n"

Settings = tuple[dict[str, Any], ...]
"""Parameters to try, laid over a method's defaults."""


@dataclass(frozen=True)
class Preset:
    """A named setting of a method, with where it comes from."""

    params: Mapping[str, Any]
    source: str
    """The paper and table, or the tuning record that chose it."""


@dataclass(frozen=True)
class MethodSettings:
    """Presets and search boxes of one settings file."""

    presets: Mapping[str, Preset]
    """In the order of the file."""
    space: Mapping[str, Settings]
    """Place or tier -> the settings that a search tries, in order."""


class FromFile:
    """A class attribute that stands in the method's settings file, read when first asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(read_settings(owner), self.name)


def combinations_of(**values: Sequence[Any]) -> Settings:
    """Every combination of the given values, the last one varying fastest."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values()))


def settings_file(kind: type) -> Path:
    """Where the settings of a method's class stand, or would: its own file's, else that of the class it inherits from."""
    places: list[Path] = []
    for ancestor in kind.__mro__:
        source = getattr(sys.modules.get(ancestor.__module__), "__file__", None)
        if source:
            places.append(Path(source).parent / "settings" / f"{Path(source).stem}.toml")
    return next((place for place in places if place.is_file()), places[0])


@functools.cache
def read_settings(kind: type) -> MethodSettings:
    """Presets and search boxes of a method's class; none without a file. `UserError` with all that is wrong in it."""
    file = settings_file(kind)
    if not file.is_file():
        return MethodSettings({}, {})
    try:
        tables = read_toml(file)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The settings file '{file.name}' is no TOML ({error}): correct it.") from None
    problems: list[str] = []
    presets: dict[str, Preset] = {}
    space: dict[str, Settings] = {}
    for name, table in tables.items():
        where = f"{file.name}, [{name}]"
        problems += [unknown_name(f"key of {where}", key, KEYS) for key in table if key not in KEYS]
        stated = tables.get(table.get("same", name), {})
        if "params" in stated and "source" in stated:
            presets[name] = Preset(stated["params"], stated["source"])
        elif "box" not in table:
            problems.append(f'{where} needs "params" and "source", or in "same" the name of a table that has them.')
        if "box" in table:
            space[name] = tuple(setting for box in table["box"] for setting in combinations_of(**box))
    raise_problems(problems)
    return MethodSettings(presets, space)


def write_preset(kind: type, place: str, params: Mapping[str, Any], source: str) -> Path:
    """Put the preset of a place into the method's settings file, which keeps everything else; the file."""
    file = settings_file(kind)
    tables = read_toml(file) if file.is_file() else {}
    kept = {key: value for key, value in tables.get(place, {}).items() if key == "box"}
    write_text(file, settings_text({**tables, place: {"params": dict(params), "source": source, **kept}}))
    read_settings.cache_clear()
    return file


def settings_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a settings file: its one form, so that writing a preset changes nothing else of it."""
    lines = [HEADER]
    for name, table in tables.items():
        lines.append(f"[{toml_key(name)}]")
        for key in (key for key in KEYS if key in table):
            if key == "box":
                boxes = [f"    {toml_value(box)},\n" for box in table["box"]]
                lines.append(f"box = [\n{''.join(boxes)}]")
            else:
                lines.append(f"{key} = {toml_value(table[key])}")
        lines.append("")
    return "\n".join(lines)


def toml_key(name: str) -> str:
    """A name as a key of TOML, quoted where it must be."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def toml_value(value: Any) -> str:
    """A text, number, truth value, list or table as TOML on one line."""
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{toml_key(key)} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
