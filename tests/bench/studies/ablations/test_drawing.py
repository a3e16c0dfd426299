"""Pictures of ablations: which lines at which places, on made-up findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from matplotlib.figure import Figure

from bench.studies.ablations.base import Ablation, Finding, Study
from bench.studies.ablations.drawing import (
    draw_framing,
    draw_lines,
    draw_series,
    new_figure,
    series_styles,
)
from tests.factories import finding, place

ABLATION = Ablation("made", "Does it matter?", "It does.", lambda where: [], x="steps", x_label="steps")
SCORE = "retain_accuracy"


def found(value: float, seed: int = 0, **at: Any) -> Finding:
    return finding(at, seed, {SCORE: value})


def study(*findings: Finding, seeds: tuple[int, ...] = (0, 1)) -> Study:
    return Study("made", place(), seeds, findings)


NUMBERS = study(
    found(1.0, row="target"),
    found(0.8, 0, row="oracle"),
    found(0.6, 1, row="oracle"),
    found(0.4, 0, series="msa", steps=20),
    found(0.2, 1, series="msa", steps=20),
    found(0.5, 0, series="msa", steps=10),
    found(0.9, 0, series="npo", steps=10),
)
"""MSA at 20 steps on two seeds, mean .3; at 10 on one."""


def test_a_line_is_of_means_from_left_to_right_with_the_range_as_a_band() -> None:
    axes = Figure().subplots()
    draw_series(axes, NUMBERS, ABLATION, "msa", SCORE, "red", "o")
    [line] = axes.lines
    assert line.get_xdata() == pytest.approx([10, 20]) and line.get_ydata() == pytest.approx([0.5, 0.3])
    [band] = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0.2, 0.5) and line.get_label() == "msa"


def test_texts_are_places_of_their_own_and_no_line_joins_them() -> None:
    texts = study(found(0.5, series="msa", steps="few"), found(0.7, series="msa", steps="many"))
    axes = Figure().subplots()
    draw_series(axes, texts, ABLATION, "msa", SCORE, "red", "o")
    [line] = axes.lines
    assert line.get_xdata() == pytest.approx([0, 1]) and line.get_linewidth() == 0


def test_target_and_oracle_lie_across_at_their_means() -> None:
    axes = Figure().subplots()
    draw_framing(axes, NUMBERS, SCORE)
    assert [(line.get_label(), line.get_ydata()[0]) for line in axes.lines] == [
        ("target", 1.0),
        ("oracle", pytest.approx(0.7)),
    ]
    assert [(patch.get_y(), patch.get_height()) for patch in axes.patches] == [
        (1.0, 0.0),
        (0.6, pytest.approx(0.2)),
    ]
    bare = Figure().subplots()
    draw_framing(bare, study(*NUMBERS.points), SCORE)
    assert not bare.lines, "nothing is drawn where there is none"


def test_series_differ_in_colour_and_keep_their_order() -> None:
    styles = series_styles(NUMBERS, ABLATION)
    assert list(styles) == ["msa", "npo"] and len(set(styles.values())) == 2


@pytest.mark.parametrize(
    ("count", "panels"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (1, 4)), (5, (2, 3)), (7, (2, 4)), (9, (3, 3))]
)
def test_panels_stand_three_or_four_in_a_row_with_the_fewest_empty_places(count: int, panels: tuple[int, int]) -> None:
    figure, axes = new_figure(NUMBERS, ABLATION, count)
    assert len(axes) == count and all(each.axison for each in axes)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == panels
    assert sum(not each.axison for each in figure.axes) == panels[0] * panels[1] - count


def test_the_title_says_the_tier_and_how_many_seeds() -> None:
    title = new_figure(NUMBERS, ABLATION, 1)[0].get_suptitle()
    assert title == "made: tofu (lab tier: not the benchmark itself), 2 seeds, mean and range\nDoes it matter?"
    real = replace(NUMBERS, place=replace(place(), tier="real"), seeds=(3,))
    assert "tofu (real tier), 1 seed, ranks" in new_figure(real, ABLATION, 1, "ranks")[0].get_suptitle()


def test_a_whole_picture_has_one_legend_and_labelled_axes() -> None:
    figure = draw_lines(NUMBERS, replace(ABLATION, log_x=True))
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_xscale()) == ("steps", "log") and axes.get_title() == "accuracy, retain set ↑"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["target", "oracle", "msa", "npo"]
    texts = study(found(0.5, series="", steps="few"), found(0.7, series="", steps="many"))
    figure = draw_lines(texts, ABLATION)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["few", "many"]
    assert not figure.legends, "a single line without a name needs none"
