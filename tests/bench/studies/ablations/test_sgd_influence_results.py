"""The table and the picture of the SGD-influence experiment."""

from __future__ import annotations

from typing import Any

import pytest

from bench.studies.ablations.sgd_influence import (
    run,
)
from bench.studies.ablations.sgd_influence_results import draw, table
from tests.sgd_influence import TINY


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    return [run(seed, TINY) for seed in (0, 1)]


def test_table_and_picture_name_every_estimate_and_the_seeds(results: list[dict[str, Any]]) -> None:
    text, figure = table(results), draw(results)
    for row in results[0]["estimates"]:
        assert row["name"] in text
    assert (
        "n = 2 seeds: 0, 1" in text and "n = 2 seeds: 0, 1" in figure.get_suptitle() and "lab" in figure.get_suptitle()
    )
    figure.draw_without_rendering()
    assert len(figure.axes) == 4 and all(axes.get_xlabel() for axes in figure.axes)
    assert table(results[:1]).count("n = 1 seed: 0") == 1
