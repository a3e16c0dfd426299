"""Tables of a data file (TOML) as the types that they are said to hold, and objects that a text names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


def named_object(text: str) -> Any:
    """The object that a text ``module:name`` names; its module is loaded only now."""
    module, _, name = text.partition(":")
    return getattr(importlib.import_module(module), name)


def as_typed(kind: Any, value: Any, where: str) -> Any:
    """``value``, as `tomllib` gives it, as ``kind``: lists become tuples, tables mappings or dataclasses.

    A ``kind`` is `Any`, a plain type, a dataclass, ``tuple[X, ...]``, ``Mapping[str, X]``, a union or a `Literal`; what is
    of a dataclass already, or a function where a `Callable` is asked for, stays as it is.
    ``where`` names the place in the messages of the `ValueError`.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return as_dataclass(kind, value, where)
    if is_dataclass(kind) and type(value) is kind:
        return value
    if origin is UnionType:
        for one in inner:
            with suppress(ValueError):
                return as_typed(one, value, where)
    elif origin is tuple and isinstance(value, list):
        return tuple(as_typed(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    elif origin is Mapping and isinstance(value, dict):
        return {name: as_typed(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    elif origin is Literal and value in inner:
        return value
    elif kind is float and type(value) is int:
        return float(value)
    elif kind is Any or type(value) is kind or (origin is Callable and callable(value)):
        return value
    raise ValueError(f"{where}: {value!r} is no {kind if inner else kind.__name__}")


def as_dataclass(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass of a table that has all its fields without a default, and no others than its fields."""
    types, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if wrong := [*(table.keys() - known.keys()), *(needed - table.keys())]:
        raise ValueError(f"{where}: unknown or missing: {', '.join(sorted(wrong))}")
    return kind(**{name: as_typed(types[name], value, f"{where}.{name}") for name, value in table.items()})
