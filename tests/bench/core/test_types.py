"""Histories: which checkpoint is the last before exposure."""

from __future__ import annotations

import math

import pytest

from bench.core.types import Checkpoint, History, Moment, Responses, finite_json


def test_the_last_checkpoint_of_a_history_is_the_last_before_exposure() -> None:
    moments = [Moment(Checkpoint(f"p{i}", f"h{i}"), i, None, "s", exposed=i > 1) for i in range(4)]
    history = History(tuple(moments))
    assert history.last is moments[1] and history.before == tuple(moments[:2])


def test_what_is_no_finite_number_is_null() -> None:
    """JSON knows no NaN; everything else stays as it is."""
    rows = {"curve": [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}], "n": 3, "x": (1.5, True, "NaN")}
    expected = {"curve": [{"step": 1, "loss": None}, {"step": 2, "loss": None}], "n": 3, "x": [1.5, True, "NaN"]}
    assert finite_json(rows) == expected


@pytest.mark.parametrize("change", [{"broken": {"forget": 5}}, {"cost": {"logprob": "long"}}])
def test_what_stands_beside_the_rows_has_its_kinds_too(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="holds something else than"):
        Responses.from_json({"checkpoint": "c", "rows": {}, **change})
