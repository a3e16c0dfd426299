"""Forgetting against keeping: where the rows stand, their way there, and the target beyond the edge."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from bench.core.record import Record
from bench.records.forget_keep import draw_forget_keep, draw_overview, has_forget_keep
from bench.records.tables import Section, build_sections
from tests.factories import record

PRIMARY = {"forgetting": "forget_accuracy", "kept": "retain_accuracy"}
PLACES = {"target": (1.0, 1.0), "retrain": (0.1, 1.0), "npo": (0.3, 0.8)}


def made(places: dict[str, tuple[float, float]], facts: dict[str, object] | None = None) -> list[Record]:
    """Two seeds of each, whose forget scores lie .1 apart, as the oracles' do."""
    found = []
    for method, (forget, kept) in places.items():
        for seed in (0, 1):
            one = record(method, seed, {"forget_accuracy": forget + seed / 10, "retain_accuracy": kept})
            found.append(dataclasses.replace(one, facts={**one.facts, "primary": PRIMARY, **(facts or {})}))
    return found


def section_of(records: list[Record]) -> Section:
    (section,) = build_sections(records)
    return section


def marks(figure: Figure) -> set[tuple[float, float]]:
    drawn = figure.axes[0].collections
    return {(round(float(x), 6), round(float(y), 6)) for each in drawn for x, y in np.asarray(each.get_offsets())}


def test_rows_stand_as_far_from_the_oracle_as_they_are() -> None:
    """npo: .3 - .1 forgotten and .8 - 1 kept; the target, .9 from it, is an arrow at the edge."""
    figure = draw_forget_keep(section_of(made(PLACES)))
    assert marks(figure) == {(0.0, 0.0), (0.2, -0.2)}
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["target, 0.9"]
    assert 0.2 < axes.get_xlim()[1] < 0.9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "within 0.02 of the oracle's",
        "retrain (oracle)",
        "npo",
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "accuracy, forget set\nminus the oracle's",
        "accuracy, retain set\nminus the oracle's",
    )


def test_a_target_among_the_methods_is_a_mark() -> None:
    figure = draw_forget_keep(section_of(made({**PLACES, "ga": (1.05, 1.0)})))
    assert (0.9, 0.0) in marks(figure) and not [text for text in figure.axes[0].texts if text.get_text()]


def test_a_traced_method_shows_its_way_as_the_mean_over_seeds() -> None:
    way = [
        {"share": share, "scores": {"forget_accuracy": 1 - share, "retain_accuracy": 1 - share / 2}}
        for share in (0, 1.5)
    ]
    traced = [
        dataclasses.replace(one, facts={**one.facts, "trace": way}) if one.spec.method == "npo" else one
        for one in made(PLACES)
    ]
    lines = [np.asarray(line.get_xydata()) for line in draw_forget_keep(section_of(traced)).axes[0].lines]
    ways = [line.tolist() for line in lines if len(line) == 3]
    # of seeds .9 0, .2 -.2, -.6 -.75 and .8 0, .2 -.2, -.7 -.75
    assert ways == [[pytest.approx(point) for point in ((0.85, 0.0), (0.2, -0.2), (-0.65, -0.75))]]


def test_there_is_none_without_an_oracle_or_a_method() -> None:
    assert not has_forget_keep(section_of(made({"target": (1.0, 1.0), "npo": (0.3, 0.8)})))
    assert not has_forget_keep(section_of(made({"target": (1.0, 1.0), "retrain": (0.1, 1.0)})))
    assert has_forget_keep(section_of(made(PLACES)))


def test_crowded_rows_are_told_apart_on_a_logarithmic_scale_with_labels_to_read() -> None:
    places = {**PLACES, **{f"m{i}": (0.1 + 0.002 * i, 1 - 0.003 * i) for i in range(8)}, "before": (0.1, 0.0)}
    axes = draw_forget_keep(section_of(made(places))).axes[0]
    assert axes.get_yscale() == "symlog"
    said = [label.get_text() for label in axes.get_yticklabels()]
    assert {"0", "−0.02", "−0.1", "−1"} <= set(said)


def test_the_overview_has_a_panel_for_each_section() -> None:
    elsewhere = [dataclasses.replace(one, spec=dataclasses.replace(one.spec, task="restor")) for one in made(PLACES)]
    sections = build_sections([*made(PLACES), *elsewhere])
    figure = draw_overview(sections)
    assert [axes.get_title().splitlines()[1] for axes in figure.axes] == ["2 seeds"] * 2


def test_of_many_ways_the_overview_shows_those_of_the_rows_that_are_compared() -> None:
    """Thirteen methods with a way, of which two stand in a contrast; twelve have room."""
    way = [{"share": 0, "scores": {"forget_accuracy": 1.0, "retain_accuracy": 1.0}}]
    others = [f"m{i}" for i in range(11)]
    found = []
    for seed in range(5):
        for method in ("target", "retrain", "msa", "npo", *others):
            scores = {"forget_accuracy": 0.1, "retain_accuracy": 1 - 0.01 * len(method) - 0.001 * seed}
            one = record(method, seed, scores)
            facts = {**one.facts, "primary": PRIMARY, **({"trace": way} if method not in ("target", "retrain") else {})}
            found.append(dataclasses.replace(one, facts=facts))

    def ways(records: list[Record]) -> int:
        axes = draw_overview([section_of(records)]).axes[0]
        return sum(len(np.asarray(line.get_xydata())) > 1 and line.get_alpha() == 0.8 for line in axes.lines)

    assert ways(found) == 2
    assert ways([one for one in found if one.spec.method != others[0]]) == 12
