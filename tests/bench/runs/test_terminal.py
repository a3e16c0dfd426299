"""What the terminal says below a table."""

from __future__ import annotations

from dataclasses import replace

from bench.core.types import BROKEN_DOWN
from bench.records.tables import build_sections
from bench.runs.terminal import describe_wreck
from tests.factories import study


def test_a_row_whose_model_broke_down_is_named_with_its_seeds() -> None:
    records = [
        replace(r, scores={}, absent={"forget_accuracy": BROKEN_DOWN}) if r.spec.method == "ga" and r.spec.seed else r
        for r in study(("ga", "npo"))
    ]
    [section] = build_sections(records)
    said = {row.name: describe_wreck(row) for row in section.rows}
    assert said.pop("ga") == f"ga on seeds 1, 2: {BROKEN_DOWN}"
    assert said and not any(said.values())
