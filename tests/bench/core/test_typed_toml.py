"""Data files as types: what fits, and the message that names the place of what doesn't."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from bench.core.files import read_toml
from bench.core.typed_toml import as_typed
from tests.paths import ROOT

FILES = sorted((ROOT / "bench" / "studies").rglob("*.toml"))


@dataclass(frozen=True)
class Line:
    """One entry of a data file."""

    name: str
    share: float = 0.0
    kind: Literal["one", "two"] = "one"
    cells: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    either: str | tuple[str, ...] = ""


def test_tables_become_dataclasses_and_lists_tuples() -> None:
    found = as_typed(Mapping[str, Line], {"a": {"name": "x", "share": 1, "cells": ["b"], "either": ["c"]}}, "file")
    assert found == {"a": Line("x", 1.0, "one", ("b",), {}, ("c",))}
    assert as_typed(Callable[[str], int] | None, len, "file") is len


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"share": 1.0}, "file: unknown or missing: name"),
        ({"name": "x", "shares": 1.0}, "file: unknown or missing: shares"),
        ({"name": 3}, "file.name: 3 is no str"),
        ({"name": "x", "share": True}, "file.share: True is no float"),
        ({"name": "x", "kind": "three"}, "file.kind: 'three' is no"),
        ({"name": "x", "cells": ["a", 1]}, "file.cells[1]: 1 is no str"),
        ({"name": "x", "either": 1}, "file.either: 1 is no"),
        ("text", "file: 'text' is no Line"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(data: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        as_typed(Line, data, "file")
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_data_file_is_toml(file: Path) -> None:
    assert read_toml(file)
