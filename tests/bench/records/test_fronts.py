"""What is kept where a method has forgotten as the oracle has, by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from bench.records.fronts import FrontPoint, front_of, interpolate_kept, kept_at_oracle
from bench.records.tables import Section, build_sections
from tests.factories import record

PRIMARY = {"forgetting": "forget_accuracy", "kept": "retain_accuracy"}


def points(*places: tuple[float, float]) -> list[FrontPoint]:
    return [FrontPoint(i / 10, forget, kept) for i, (forget, kept) in enumerate(places)]


def test_kept_is_interpolated_where_forgetting_first_comes_within_a_fiftieth() -> None:
    # oracle at .1: the edge is at .12. From .9 to .1: (.9 - .12) / (.9 - .1) = .975 of the way from 1 to .6: .61
    assert interpolate_kept(points((0.9, 1.0), (0.1, 0.6), (0.1, 0.2)), 0.1) == pytest.approx(0.61)
    # a step over all of the band counts too: .9 to 0, (.9 - .12) / .9 = .86667 of the way from 1 to 0
    assert interpolate_kept(points((0.9, 1.0), (0.0, 0.0)), 0.1) == pytest.approx(1 - 0.78 / 0.9)
    # and from below: .05 to .15, the edge .08 at .3 of the way from .5 to .9
    assert interpolate_kept(points((0.05, 0.5), (0.15, 0.9)), 0.1) == pytest.approx(0.62)
    assert interpolate_kept(points((0.11, 0.7), (0.1, 0.2)), 0.1) == 0.7, "it begins there"
    assert interpolate_kept(points((0.9, 1.0), (0.2, 0.5), (0.3, 0.4)), 0.1) is None


def section_of(ways: Sequence[Sequence[tuple[float, float, float]]]) -> Section:
    """An oracle at .1 and a method that ends at .5, .8, whose traces on seeds 0, 1, ... are (share, forget, kept)."""

    def scores(forget: float, kept: float) -> dict[str, float]:
        return {"forget_accuracy": forget, "retain_accuracy": kept}

    def made(method: str, seed: int, at: dict[str, float], **facts: Any) -> Any:
        one = record(method, seed, at)
        return dataclasses.replace(one, facts={**one.facts, "primary": PRIMARY, **facts})

    records = []
    for seed, way in enumerate(ways):
        trace = [{"share": share, "scores": scores(forget, kept)} for share, forget, kept in way]
        records += [made("retrain", seed, scores(0.1, 1.0)), made("msa", seed, scores(0.5, 0.8), trace=trace)]
    (section,) = build_sections(records)
    return section


def test_a_front_has_the_rows_own_result_at_its_place() -> None:
    section = section_of([[(0, 1.0, 1.0), (0.5, 0.7, 0.9), (1.5, 0.1, 0.4)]])
    row = section.row("msa")
    assert row is not None
    front = front_of(section, row.records[0])
    assert [(p.share, p.forget, p.kept) for p in front] == [
        (0, 1.0, 1.0),
        (0.5, 0.7, 0.9),
        (1, 0.5, 0.8),
        (1.5, 0.1, 0.4),
    ]
    # from .5 to .1 with the edge at .12: .95 of the way from .8 to .4
    assert kept_at_oracle(section, row).kept.by_seed == pytest.approx({0: 0.42})  # type: ignore[union-attr]


def test_a_front_ends_where_a_score_is_missing() -> None:
    section = section_of([[(0, 1.0, 1.0), (1.5, 0.1, 0.4)]])
    broken = dataclasses.replace(section.row("msa").records[0])  # type: ignore[union-attr]
    broken.facts["trace"][1]["scores"].pop("retain_accuracy")
    assert [p.share for p in front_of(section, broken)] == [0, 1.0]


def test_where_it_never_comes_near_the_nearest_is_told() -> None:
    section = section_of([[(0, 1.0, 1.0), (1.5, 0.3, 0.5)], [(0, 1.0, 1.0), (1.5, 0.1, 0.4)]])
    row = section.row("msa")
    assert row is not None
    found = kept_at_oracle(section, row)
    assert found is not None and found.nearest == {0: 0.3} and set(found.kept.by_seed) == {1}  # type: ignore[union-attr]
    assert kept_at_oracle(section, section.rows[0]) is None, "the oracle has no dial"
