"""Rows that are read have the shapes that their names tell."""

from __future__ import annotations

import pytest

from bench.core.types import Responses

SCORED = {"logp": [-1.0], "hit": [1], "eos": True}
SOUND = {
    "answer": [SCORED, SCORED | {"mu": [0.5], "sigma": [1], "zlib": 9}],
    "classes": [-0.5, -1],
    "oracle-0": [],
    "acc": 1,
    "text": "x",
    "texts": ["x"],
    "counts": {"lcs": 1},
    "matches": [{"exact": 0}],
    "counts_each": [{"lcs": 1}],
    "grades": {"truth": 0.5},
    "a task's own": {"deep": [None]},
}


def read_rows(row: object) -> Responses:
    return Responses.from_json({"checkpoint": "c", "rows": {"forget": {"row-1": row}}})


def test_rows_of_the_known_shapes_are_read() -> None:
    assert read_rows(SOUND).rows["forget"]["row-1"] == SOUND
    assert read_rows({"grades": [{"accepted-0": 1.0}], "accepts": 0.5})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("answer", 5),
        ("answer", SCORED),
        ("wrong", [SCORED | {"hit": []}]),
        ("answer", [SCORED | {"logp": ["a"]}]),
        ("answer", [SCORED | {"mu": None}]),
        ("answer", [{name: value for name, value in SCORED.items() if name != "eos"}]),
        ("classes", "abc"),
        ("oracle-1", 0.5),
        ("loss", None),
        ("text", 5),
        ("texts", "abc"),
        ("counts", {"lcs": "1"}),
        ("matches", {"exact": 1}),
        ("counts_each", {"lcs": 1}),
        ("grades", {"truth": None}),
        ("grades", [1.0]),
    ],
)
def test_a_row_of_another_kind_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^rows\.forget\.row-1\.{name} is not "):
        read_rows(SOUND | {name: value})
