"""A picture of all searches of one place: expected best J against the number of settings tried, a curve for each method.

Made of the records of `bench tune`; what is expected of n settings is Dodge et al. 2019 (arXiv 1909.03004).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from bench.core.errors import say_once
from bench.core.schema import OPEN, Line, Real, Whole, read_as
from bench.records.figures import (
    CODE,
    LONGEST_NAME,
    SPARSE_FROM,
    new_figure,
    plain_log_labels,
    plot_style,
    save_figure,
    short_label,
    text_width,
    title_figure,
)
from bench.records.looks import look_of
from bench.records.plain import read_plain
from bench.records.stamps import Stamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANT = "--"
"""The line of a variant."""
NAME = 0.19
"""Inches of height that a name takes."""


class SearchShape(TypedDict):
    """What the picture reads of the record of a search."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    place: Line
    method: Line
    variant: Line
    rule: Line
    budget: Whole
    seeds: list[Whole]
    expected_best: list[Real]


def draw_search_plots(source: Path, out: Path) -> list[Path]:
    """A picture ``tune-PLACE`` for each place with searches in ``source/tune``, into ``out``; returns the files."""
    searches = load_searches(source / "tune")
    paths: list[Path] = []
    with Stamps(out, *CODE) as stamps:
        for place in sorted({search["place"] for search in searches}):
            shown = [search for search in searches if search["place"] == place]
            shows = [[name_of(each), each["seeds"][0], each["expected_best"]] for each in shown]
            paths += stamps.files(f"tune-{place}", shows, partial(_draw, shown))
    return paths


def load_searches(folder: Path) -> list[SearchShape]:
    """The records of searches in a folder in which some setting worked, by name; others are left out, and counted."""
    found, others = list[SearchShape](), 0
    for file in sorted(folder.glob("[!.]*.json")):
        try:
            record: SearchShape = read_plain(file)
            read_as(SearchShape, record)
        except ValueError:
            others += 1
            continue
        if record["expected_best"]:
            found.append(record)
    if others:
        say_once(
            f"left out: {others} files in {folder} aren't searches by today's rule: run `python -m bench tune` again."
        )
    return sorted(found, key=name_of)


def name_of(search: SearchShape) -> str:
    """``npo`` or ``npo@small-retain``."""
    return f"{search['method']}@{search['variant']}" if search["variant"] else search["method"]


def _label(search: SearchShape) -> str:
    return short_label(name_of(search), LONGEST_NAME)


def _draw(searches: Sequence[SearchShape], stem: Path) -> list[Path]:
    with plot_style():
        return save_figure(draw_searches(searches), stem)


def draw_searches(searches: Sequence[SearchShape]) -> Figure:
    """The curves of one place, each with its name at its end."""
    height = max(3.6, NAME * len(searches) + 1.4)
    figure = new_figure(7.2, height, layout=None)
    names = max(text_width(figure, _label(search), 8) for search in searches)
    figure.set_figwidth(5.6 + names)
    axes = figure.subplots()
    right = 1 - (names + 0.5) / figure.get_figwidth()
    figure.subplots_adjust(left=0.75 / figure.get_figwidth(), right=right, top=1 - 0.55 / height, bottom=0.5 / height)
    for search in searches:
        curve, look = search["expected_best"], look_of(name_of(search))
        line = VARIANT if search["variant"] else "-"
        axes.plot(range(1, len(curve) + 1), curve, line, color=look.colour, linewidth=1.3)
        axes.plot([len(curve)], curve[-1:], look.marker, color=look.colour, markersize=4, clip_on=False)
    most = max(len(search["expected_best"]) for search in searches)
    axes.set_xscale("log", base=2)
    ticks = [2**i for i in range(most.bit_length())]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlim(1, most)
    values = [value for search in searches for value in search["expected_best"]]
    if min(values) > 0:
        axes.set_yscale("log")
        plain_log_labels(axes.yaxis, sparse=max(values) / min(values) > SPARSE_FROM)
    axes.set_xlabel("settings tried")
    axes.set_ylabel("expected best J (lower is better)")
    _name_ends(axes, searches, figure.get_figheight() * axes.get_position().height)
    seed = ", ".join(sorted({str(search["seeds"][0]) for search in searches}))
    place = short_label(searches[0]["place"])
    title_figure(figure, f"{place}: what a search of so many settings finds", f"tuning seed {seed}")
    return figure


def _name_ends(axes: Axes, searches: Sequence[SearchShape], inches: float) -> None:
    """Write each curve's name beside its end, moved up or down so that none covers another; ``inches``: the axes' height."""
    ends = [(len(search["expected_best"]), search["expected_best"][-1]) for search in searches]
    heights = [float(axes.transAxes.inverted().transform(axes.transData.transform(end))[1]) for end in ends]
    places = spread(heights, NAME * 0.9 / inches)
    for search, end, place in zip(searches, ends, places, strict=True):
        colour = look_of(name_of(search)).ink
        axes.annotate(
            _label(search),
            end,
            (1.06, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved apart until neighbours are ``gap`` apart, those that touch around their common middle, in [0, 1].

    Where there isn't room for so many the gap is smaller.
    """
    gap = min(gap, 1 / max(1, len(heights) - 1))
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _lowest(groups[-1], heights, gap) < _lowest(groups[-2], heights, gap) + gap * len(
            groups[-2]
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    places = list(heights)
    for group in groups:
        for k, i in enumerate(group):
            places[i] = _lowest(group, heights, gap) + k * gap
    return places


def _lowest(group: Sequence[int], heights: Sequence[float], gap: float) -> float:
    """Where the lowest of a group stands that is ``gap`` apart and has the middle of its heights, within [0, 1]."""
    length = (len(group) - 1) * gap
    middle = sum(heights[i] for i in group) / len(group)
    return min(max(middle - length / 2, 0.0), 1 - length)
