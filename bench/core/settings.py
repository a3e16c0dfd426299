"""Presets and search boxes of a method: read from ``settings/MODULE.toml`` beside its module, written by `bench tune`.

A file has a table for each place (``<tier>-<task>``, or a tier alone), variant, or variant of a place. A table holds:

    params  what is laid over the method's defaults
    source  the paper and table, or the search that chose them
    same    the name of the table that has what isn't stated here: params and source, or the box
    box     what a search tries there: by parameter the value that it is held at, or its scale (`bench.core.boxes`):
            { log = [1e-5, 1e-3] }, { linear = [0, 2] }, { int = [5, 90] }, { log-int = [5, 90] }, { choice = [1, 5] }

A variant of a place that has no box is searched in the place's, where what the variant states is held.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.core.boxes import Box, Scale, box_faults, read_box
from bench.core.errors import UserError, raise_problems, unknown_name
from bench.core.files import read_toml, write_text

KEYS = ("params", "source", "same", "box")
"""What a table may hold, in the order in which it is written."""
HEADER = "# Presets and search boxes (bench/core/settings.py says what stands here); `python -m bench tune --write` writes it.\n"


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
    space: Mapping[str, Box]
    """Place, tier or variant of a place -> the box that is searched there."""


class FromFile:
    """A class attribute that stands in the method's settings file, read when first asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(read_settings(owner), self.name)


def settings_file(kind: type) -> Path:
    """Where the settings of a method's own class stand, or would: ``settings/MODULE.toml`` beside its module."""
    module = Path(str(sys.modules[kind.__module__].__file__))
    return module.parent / "settings" / f"{module.stem}.toml"


@functools.cache
def read_settings(kind: type) -> MethodSettings:
    """Presets and search boxes of a method's class, before those of the classes that it derives from; none without a file.

    `UserError` with all that is wrong in a file.
    """
    presets: dict[str, Preset] = {}
    space: dict[str, Box] = {}
    owners = [each for each in reversed(kind.__mro__) if getattr(sys.modules.get(each.__module__), "__file__", None)]
    for file in dict.fromkeys(map(settings_file, owners)):
        if file.is_file():
            found = read_settings_file(file, kind)
            presets = {**found.presets, **{name: each for name, each in presets.items() if name not in found.presets}}
            space |= found.space
    return MethodSettings(presets, space)


def read_settings_file(file: Path, kind: type) -> MethodSettings:
    """Presets and search boxes of one file; `UserError` with all in it that doesn't suit the fields of ``kind``."""
    try:
        tables = read_toml(file)
    except ValueError as error:
        raise UserError(f"The settings file '{file.name}' is no TOML ({error}): correct it.") from None
    problems: list[str] = []
    presets: dict[str, Preset] = {}
    space: dict[str, Box] = {}
    for name, table in tables.items():
        where = f"{file.name}, [{name}]"
        if faults := table_faults(table, where, kind):
            problems += faults
            continue
        other = tables.get(table.get("same", name))
        if not isinstance(other, dict) or table_faults(other, where, kind):
            other = {}
        stated, boxed = (table if table.keys() & keys else other for keys in ({"params", "source"}, {"box"}))
        if "params" in stated and "source" in stated:
            presets[name] = Preset(stated["params"], stated["source"])
        elif stated.keys() & {"params", "source"} or "box" not in boxed:
            problems.append(f'{where} needs "params" and "source", or in "same" the name of a table that has them.')
        if "box" in boxed:
            space[name] = read_box(boxed["box"])
    raise_problems(problems)
    return MethodSettings(presets, space)


def table_faults(table: Any, where: str, kind: type) -> list[str]:
    """Sentences about one table of a settings file: unknown keys, values of another form, what is no field of ``kind``."""
    if not isinstance(table, dict):
        return [f"{where} must be a table with {', '.join(KEYS)}, not {table!r}."]
    found = [unknown_name(f"key of {where}", key, KEYS) for key in table if key not in KEYS]
    found += [
        f"{where}: {key} must be a text, not {table[key]!r}."
        for key in ("source", "same")
        if not isinstance(table.get(key, ""), str)
    ]
    params, box = table.get("params", {}), table.get("box", {})
    if isinstance(params, dict):
        found += value_faults({name: [value] for name, value in params.items()}, f"{where}: params", kind)
    else:
        found.append(f"{where}: params must be a table, not {params!r}.")
    if "box" not in table:
        return found
    defaults = {field.name: field.default for field in fields(kind)}
    if faults := list(box_faults(box, f"{where}: box", defaults)):
        return found + faults
    tried = {name: scale.values if isinstance(scale, Scale) else [scale] for name, scale in read_box(box).items()}
    return found + value_faults(tried, f"{where}: box", kind)


def value_faults(given: Mapping[str, Sequence[Any]], where: str, kind: Any) -> list[str]:
    """Sentences about names that are no field of ``kind``, and about values of another type than the field's default."""
    defaults = {field.name: field.default for field in fields(kind)}
    found = [unknown_name(f"parameter of {where}", name, defaults) for name in given if name not in defaults]
    for name in (name for name in given if name in defaults):
        usual = type(defaults[name])
        allowed = (int, float) if usual is float else (usual,)
        found += [
            f"{where}: {name} must be of the type {usual.__name__}, not {value!r}."
            for value in given[name]
            if type(value) not in allowed
        ]
    return found


def write_preset(kind: type, place: str, params: Mapping[str, Any], source: str) -> Path:
    """Put the preset of a place into the settings file of the method's own class; the file, made if there is none.

    Everything else stays as it is written, comments too. `UserError` where the place's table is spread over the file in
    such a way that it would have to be written anew.
    """
    file = settings_file(kind)
    text = file.read_text(encoding="utf-8") if file.is_file() else HEADER
    tables = tomllib.loads(text)
    lines = (f"params = {toml_value(params)}\n", f"source = {toml_value(source)}\n")
    made = replace_preset(text, place, lines, {"params", "source", "same"} - kept_keys(tables, place))
    kept = {key: value for key, value in tables.get(place, {}).items() if key in kept_keys(tables, place)}
    wanted = {**tables, place: {"params": dict(params), "source": source, **kept}}
    if parsed_or_none(made) != wanted:
        raise UserError(
            f"The table [{place}] of {file} can't be changed where it stands: write all of it below one [{place}], then "
            f"params = {toml_value(params)} and source = {toml_value(source)}."
        )
    write_text(file, made)
    read_settings.cache_clear()
    return file


def kept_keys(tables: Mapping[str, Any], place: str) -> set[str]:
    """What a table keeps when its preset is written anew: its box, or the name of the table whose box it takes."""
    table = tables.get(place, {})
    shared = "box" not in table and "box" in tables.get(table.get("same", ""), {})
    return {"box", *(["same"] if shared else [])}


def replace_preset(text: str, place: str, lines: Sequence[str], gone: Set[str]) -> str:
    """The text of a settings file with ``lines`` for what the table of ``place`` has of the keys ``gone``."""
    kept: list[str] = []
    inside = there = False
    for statement, meaning in toml_statements(text):
        if statement.lstrip().startswith("["):
            inside = meaning == {place: {}}
            there |= inside
            kept += [statement, *(lines if inside else ())]
        elif not (inside and meaning.keys() & gone):
            kept.append(statement)
    if not there:
        kept += ["\n", f"[{toml_key(place)}]\n", *lines]
    return "".join(kept)


def toml_statements(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every header, assignment, comment and empty line of a TOML text, each with what it means alone."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line if line.endswith("\n") else f"{line}\n"
        meaning = parsed_or_none(statement)
        if meaning is not None:
            yield statement, meaning
            statement = ""


def parsed_or_none(text: str) -> dict[str, Any] | None:
    """What a TOML text means; None where it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


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
