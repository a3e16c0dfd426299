"""Pictures of ablations: a panel for each score, lines over the ablation's axis, target and oracle across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.records.figures import TIERS, name_legend, plain_log_labels, title_figure
from bench.records.figures import new_figure as empty_figure
from bench.records.looks import COLOURS, MARKERS, look_of, method_in
from bench.records.markdown import goal_arrow
from bench.records.names import score_name
from bench.studies.ablations.base import FRAME, Ablation, Study, lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_WIDTH = 6.4
"""Inches of a picture, which its title takes."""


def draw_lines(study: Study, ablation: Ablation) -> Figure:
    """A panel for each score: lines over the ablation's axis, seeds as a band, target and oracle across."""
    figure, panels = new_figure(study, ablation, len(study.scores))
    draw_score_panels(panels, study, ablation, series_styles(study, ablation))
    add_legend(figure, panels)
    return figure


def draw_score_panels(
    panels: Sequence[Axes], study: Study, ablation: Ablation, styles: Mapping[str, tuple[str, str]]
) -> None:
    """The first panels, one for each score: every series between target and oracle, where these don't move."""
    for axes, score in zip(panels, study.scores, strict=False):
        draw_framing(axes, study, score)
        for series, (colour, marker) in styles.items():
            draw_series(axes, study, ablation, series, score, colour, marker)
        _label_axes(axes, study, ablation, score)


def new_figure(
    study: Study, ablation: Ablation, count: int, shown: str = "mean and range"
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, three or four in a row, and a title that says what it is."""
    across = 4 if count in (4, 7, 8, 10, 11, 12) else min(3, count)  # the fewest empty places
    down = -(-count // across)
    figure = empty_figure(max(3.9 * across, LEAST_WIDTH), 3.2 * down + 1.3)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in panels[count:]:
        spare.set_axis_off()
    n, what = len(study.seeds), f"{study.name}: {study.place.task} ({TIERS[study.place.tier]})"
    title_figure(figure, f"{what}, {n} seed{'s' * (n != 1)}, {shown}", ablation.question)
    return figure, panels[:count]


def draw_framing(axes: Axes, study: Study, score: str) -> None:
    """Target and oracle of the place's own parameters as lines, the oracle's seeds as a band."""
    for row, style, colour in (("target", ":", "#666666"), ("oracle", "--", "#000000")):
        values = study.framing_values(row, score)
        if values:
            axes.axhline(fmean(values), linestyle=style, color=colour, linewidth=1.2, label=row, zorder=1)
            axes.axhspan(min(values), max(values), color=colour, alpha=0.07, linewidth=0, zorder=0)


def series_styles(study: Study, ablation: Ablation) -> dict[str, tuple[str, str]]:
    """Colour and marker of each series: shades of the method that it is of, else in order of appearance."""
    found = list(dict.fromkeys(str(finding.at.get(ablation.series, "")) for finding in study.points))
    others = [name for name in found if not method_in(name)]
    styles = {name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(others)}
    for method in filter(None, dict.fromkeys(map(method_in, found))):
        for place, name in enumerate(name for name in found if method_in(name) == method):
            own = look_of(method, place)
            styles[name] = own.colour, MARKERS[place % len(MARKERS)] if place else own.marker
    return {name: styles[name] for name in found}


def draw_series(
    axes: Axes, study: Study, ablation: Ablation, series: str, score: str, colour: str, marker: str
) -> None:
    """One line: means over seeds with their range, faint dots for the seeds."""
    rows = [line for line in lines_of(study) if line.at.get("row") not in FRAME]
    rows = [line for line in rows if str(line.at.get(ablation.series, "")) == series and line.values(score)]
    if all(isinstance(line.at[ablation.x], int | float) for line in rows):
        rows.sort(key=lambda line: float(line.at[ablation.x]))
        at: list[float] = [float(line.at[ablation.x]) for line in rows]
    else:
        names = _category_names(study, ablation)
        at = [float(names.index(str(line.at[ablation.x]))) for line in rows]
    means = [fmean(line.values(score)) for line in rows]
    numeric = not _has_text_axis(study, ablation)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.4 if numeric else 0}
    axes.plot(at, means, **look, label=series or None, zorder=3)
    low, high = [min(line.values(score)) for line in rows], [max(line.values(score)) for line in rows]
    if numeric and len(at) > 1:
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
    else:
        axes.vlines(at, low, high, color=colour, linewidth=1.2, alpha=0.6, zorder=2)


def title_score(axes: Axes, study: Study, score: str, below: str = "") -> None:
    """Title a panel with its score and where that should go."""
    axes.set_title(f"{score_name(score)} {goal_arrow(study.about(score)['goal'])}{below}", fontsize=9)


def _category_names(study: Study, ablation: Ablation) -> list[str]:
    return list(dict.fromkeys(str(finding.at[ablation.x]) for finding in study.points if ablation.x in finding.at))


def _has_text_axis(study: Study, ablation: Ablation) -> bool:
    return any(isinstance(finding.at.get(ablation.x), str) for finding in study.points)


def _label_axes(axes: Axes, study: Study, ablation: Ablation, score: str) -> None:
    title_score(axes, study, score)
    axes.set_ylabel(study.about(score)["unit"])
    axes.set_xlabel(ablation.x_label)
    if ablation.log_x:
        axes.set_xscale("log")
        plain_log_labels(axes.xaxis)
    if _has_text_axis(study, ablation):
        names = _category_names(study, ablation)
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)


def add_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, below."""
    name_legend(figure, panels)
