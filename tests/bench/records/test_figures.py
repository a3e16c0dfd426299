"""Texts and labels of pictures: cut where there is no room, and read at a glance."""

from __future__ import annotations

import pytest

from bench.records.figures import (
    fit_text,
    from_near_log,
    label_steps,
    legend_entries,
    name_legend,
    near_log,
    new_figure,
    plain_number,
    plot_style,
    short_label,
    text_width,
)


def test_a_text_is_cut_where_there_is_no_room_for_it() -> None:
    figure = new_figure(4, 3)
    long = "a title of many words " * 20
    cut = fit_text(figure, long, 3.0, 10)
    assert cut.endswith("…") and long.startswith(cut.rstrip("…")) and 2.5 < text_width(figure, cut, 10) <= 3.0
    assert fit_text(figure, "short", 3.0, 10) == "short" and fit_text(figure, "", 1.0, 10) == ""
    assert short_label("a$b\nc", 40) == r"a\$b c" and short_label("begin" + "x" * 50 + "end!", 10) == "begin…end!"


def test_labels_of_steps_leave_each_other_room() -> None:
    with plot_style():
        axes = new_figure(4, 3).subplots()
        axes.set_xscale("symlog", linthresh=0.02, linscale=0.9)
        axes.set_xlim(-0.01, 1.2)
        label_steps(axes.xaxis, 0.02, 4.6)
        wide = [label.get_text() for label in axes.get_xticklabels()]
        label_steps(axes.xaxis, 0.02, 1.5)
        narrow = [label.get_text() for label in axes.get_xticklabels()]
    assert wide == ["0", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert narrow == ["0", "0.02", "1"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.001, "0.001"), (200.0, "200"), (1e-6, "10⁻⁶"), (2e-8, "2·10⁻⁸"), (1e7, "10⁷"), (0.0, "0"), (9e149, "9·10¹⁴⁹")],
)
def test_numbers_on_a_logarithmic_axis_are_plain(value: float, said: str) -> None:
    assert plain_number(value) == said


@pytest.mark.parametrize(("value", "place"), [(0.0, 0.0), (0.01, 0.5), (0.02, 1.0), (0.2, 2.0), (-2.0, -3.0)])
def test_a_scale_is_linear_near_nothing_and_logarithmic_beyond(value: float, place: float) -> None:
    """Of near = .02: .01 is half of it, .2 a decade beyond it, -2 two."""
    assert near_log(value, 0.02) == pytest.approx(place) and from_near_log(place, 0.02) == pytest.approx(value)


def test_a_legend_explains_each_label_once_as_the_first_panel_shows_it() -> None:
    figure = new_figure(4, 3)
    first, second = figure.subplots(1, 2)
    [line] = first.plot([0, 1], [0, 1], label="one")
    second.plot([0, 1], [0, 1], label="one")
    second.plot([0, 1], [0, 1], label="two")
    found = legend_entries([first, second])
    assert list(found) == ["one", "two"] and found["one"] is line
    assert name_legend(figure, [first, second]) > text_width(figure, "one", 8)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert name_legend(new_figure(4, 3), []) == 0.0
