"""Values as JSON and back, for what processes of one command tell each other: a message can say something and run nothing.

Beside what JSON has, it knows tuples, sets, paths, dictionaries with other keys than texts, the dataclasses of `bench`
and the errors of `bench.core.errors`; anything else is no message.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core import errors

MARK = "~"
"""The key of what JSON has no word for; its value says which."""
OWN = "bench."
"""Modules whose dataclasses are made again, where they are loaded already."""
ERRORS: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (errors.UserError, errors.Absent, errors.Unmet, RuntimeError, FloatingPointError)
}
"""Errors that come out as they went in, with their texts; of any other the text alone."""


def write_message(value: Any) -> bytes:
    """A value as bytes; `TypeError` for what is no message."""
    return json.dumps(pack(value)).encode()


def read_message(data: bytes) -> Any:
    """The value of `write_message`; `ValueError` for bytes that are none."""
    return unpack(json.loads(data))


def pack(value: Any) -> Any:
    """A value in JSON's own kinds."""
    match value:
        case None | bool() | str():
            return value
        case int() | float():
            return value + 0  # a number of a class of its own, such as numpy's, becomes a plain one
        case list():
            return [pack(each) for each in value]
        case tuple():
            return {MARK: "tuple", "of": [pack(each) for each in value]}
        case set() | frozenset():
            return {MARK: type(value).__name__, "of": [pack(each) for each in sorted(value)]}
        case Path():
            return {MARK: "path", "of": str(value)}
        case Mapping():
            if MARK not in value and all(type(key) is str for key in value):
                return {key: pack(each) for key, each in value.items()}
            return {MARK: "dict", "of": [[pack(key), pack(each)] for key, each in value.items()]}
        case errors.Busy():
            return {MARK: "busy", "of": pack(vars(value))}
        case Exception():
            return pack_error(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith(OWN):
        kind = type(value)
        fields = {field.name: pack(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return {MARK: "data", "kind": f"{kind.__module__}:{kind.__qualname__}", "of": fields}
    raise TypeError(f"{type(value).__name__} is no message between processes")


def pack_error(error: Exception) -> dict[str, Any]:
    """An error by its name and its texts; one that nobody here knows is a `RuntimeError` with its name before its text."""
    if type(error).__name__ in ERRORS and all(isinstance(part, str) for part in error.args):
        given = error.problems if isinstance(error, errors.UserError) else error.args
        return {MARK: "error", "kind": type(error).__name__, "of": list(given)}
    return {MARK: "error", "kind": "RuntimeError", "of": [f"{type(error).__name__}: {error}"]}


def unpack(value: Any) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(each) for each in value]
    if not isinstance(value, dict):
        return value
    if MARK not in value:
        return {key: unpack(each) for key, each in value.items()}
    held = unpack(value["of"])
    match value[MARK]:
        case "tuple":
            return tuple(held)
        case "set":
            return set(held)
        case "frozenset":
            return frozenset(held)
        case "path":
            return Path(held)
        case "dict":
            return dict(held)
        case "busy":
            return errors.Busy(**held)
        case "error":
            return ERRORS[value["kind"]](*held)
        case "data":
            return dataclass_named(value["kind"])(**held)
    raise ValueError(f"a message of the kind {value[MARK]!r}")


def dataclass_named(kind: str) -> type:
    """A dataclass of ours by its module, which is loaded already, and its name; `ValueError` for anything else."""
    module, _, name = kind.partition(":")
    found = getattr(sys.modules.get(module), name, None) if module.startswith(OWN) else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module):
        raise ValueError(f"a message with a {kind!r}")
    return found
