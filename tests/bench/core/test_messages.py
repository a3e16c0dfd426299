from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Node
from bench.core.errors import Absent, Busy, Unmet, UserError
from bench.core.machine import Machine
from bench.core.messages import read_message, write_message
from bench.runs.asked import Asked
from bench.runs.plan import make_plan


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "θ₀",
        [1, 0.1, 1e300, -0.0],
        (1, ("a", [2])),
        {"a": {"b": (1,)}, "~": "mark"},
        {1: "one", ("x", 2): [3]},
        frozenset({"a", "b"}),
        Path("/store/x y"),
        (Node("k", Path("/n/k"), {"meta": {"tokens": 3}}), True),
    ],
)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    again = read_message(write_message(value))
    assert again == value and type(again) is type(value)


def test_a_plan_comes_out_as_it_went_in(tmp_path: Path) -> None:
    asked = Asked(task="tofu", methods=("msa", "npo", "retrain"), seeds=(0, 1))
    plan = make_plan(asked, Machine(tmp_path / "out", tmp_path / "store"))
    assert read_message(write_message(plan)) == plan


@pytest.mark.parametrize("error", [UserError("one", "two"), Absent("no"), Unmet("need"), FloatingPointError("nan")])
def test_an_error_keeps_its_kind_and_its_words(error: Exception) -> None:
    again = read_message(write_message(error))
    assert type(again) is type(error) and str(again) == str(error)


def test_other_errors_keep_their_words() -> None:
    busy = read_message(write_message(Busy("target", "k", "pid 3")))
    assert isinstance(busy, Busy) and (busy.label, busy.key, busy.holder) == ("target", "k", "pid 3")
    again = read_message(write_message(KeyError("x")))
    assert type(again) is RuntimeError and str(again) == "KeyError: 'x'"


@pytest.mark.parametrize("value", [object(), print, {"a": b"bytes"}, type])
def test_what_is_no_message_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no message"):
        write_message(value)


@pytest.mark.parametrize(
    "kind",
    ["os:system", "subprocess:Popen", "bench.assets.git:git_output", "bench.core.record:hash_json", "bench.nowhere:X"],
)
def test_a_message_makes_nothing_but_our_dataclasses(kind: str) -> None:
    with pytest.raises(ValueError, match="a message with"):
        read_message(json.dumps({"~": "data", "kind": kind, "of": {}}).encode())


def test_a_pickle_is_no_message(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harm",))

    with pytest.raises(ValueError):
        read_message(pickle.dumps(Harm()))
    assert not (tmp_path / "harm").exists()
