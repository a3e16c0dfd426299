"""Forgetting against keeping, both beside the oracle: a picture for each section, and all of them in one overview.

Across: the forget score minus the mean of the seed's oracles; up: what is kept, minus theirs. So the oracle is at 0, 0, and
forgetting more than it lies as far off as forgetting less. A line is the way from the target along a method's own dial, where
its run was traced (``--trace``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from bench.core.record import Record
from bench.records.contrasts import build_contrasts
from bench.records.figures import (
    FLOOR_COLOUR,
    LONGEST_NAME,
    TIERS,
    draw_means,
    draw_seeds,
    fit_text,
    from_near_log,
    label_steps,
    legend_entries,
    name_legend,
    near_log,
    new_figure,
    short_label,
    text_width,
    title_figure,
)
from bench.records.fronts import NEAR, FrontPoint, front_of
from bench.records.looks import Look, looks_of
from bench.records.names import score_name
from bench.records.strips import section_title, tell_seeds, title_of, title_section
from bench.records.tables import TARGET, Section, TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CROWDED = 0.25
"""Where half of the rows lie within this share of an axis' reach, what is beyond `NEAR` stands on a logarithmic scale."""
PANEL = 2.75, 2.5
"""Inches of a panel of the overview, across and up."""
PANELS_ACROSS = 3
NAMES_A_PANEL = 15
"""Names of the legend that an empty place of the overview holds."""
NAME = 0.17
"""Inches of height that a name in the legend takes."""
MOST_WAYS = 12
"""Ways to results that a panel of the overview can hold; of more only those of the rows that the contrasts compare."""
SINGLE = 4.6
"""Inches of the panel of one section, across."""


@dataclass(frozen=True)
class Place:
    """Where a row stands, by seed, with the oracles at 0, 0."""

    forget: Mapping[int, float]
    kept: Mapping[int, float]

    @property
    def mean(self) -> tuple[float, float]:
        """The means over the seeds, which both have."""
        return fmean(self.forget.values()), fmean(self.kept.values())


def scores_of(section: Section) -> tuple[str, str]:
    """The scores of forgetting and of keeping that a section is shown by: its primary ones, else its first; or empty."""
    forget, kept = section.primary.get("forgetting"), section.primary.get("kept")
    return forget or next(iter(section.forgetting), ""), kept or next(iter(section.utility), "")


def places_of(section: Section) -> list[tuple[TableRow, Place]]:
    """The rows that have both scores beside an oracle of the seed."""
    found = []
    for row in section.rows:
        forget, kept = (_beside_oracle(section, row, name) for name in scores_of(section))
        if seeds := sorted(forget.keys() & kept.keys()):
            found.append((row, Place({s: forget[s] for s in seeds}, {s: kept[s] for s in seeds})))
    return found


def _beside_oracle(section: Section, row: TableRow, name: str) -> dict[int, float]:
    by_seed = row.cells[name].by_seed if name in row.cells else {}
    return {s: value - oracle for s, value in by_seed.items() if (oracle := section.oracle_mean(name, s)) is not None}


def has_forget_keep(section: Section) -> bool:
    """Whether there is a method to be shown."""
    return any(row.is_method for row, _ in places_of(section))


def draw_forget_keep(section: Section) -> Figure:
    """The picture of one section that has some."""
    height = max(4.2, 0.19 * len(section.rows) + 1.3)
    figure = new_figure(SINGLE + 2.6, height)
    axes = figure.subplots()
    _draw_places(axes, section, (SINGLE, height - 1.4))
    forget, kept = scores_of(section)
    axes.set_xlabel(f"{short_label(score_name(forget), LONGEST_NAME)}\nminus the oracle's")
    axes.set_ylabel(f"{short_label(score_name(kept), LONGEST_NAME)}\nminus the oracle's")
    beside = name_legend(figure, [axes], beside=True)
    title_section(figure, section, "Forgetting and keeping", beside)
    return figure


def draw_overview(sections: Sequence[Section]) -> Figure:
    """A panel for each section, without single seeds; the names in the empty places of the grid where they fit, else beside."""
    across = min(PANELS_ACROSS, len(sections))
    down = -(-len(sections) // across)
    names = {title_of(row) for section in sections for row, _ in places_of(section)}
    figure = new_figure(PANEL[0] * across + 0.5, PANEL[1] * down + 1.0)
    panels = [axes for line in figure.subplots(down, across, squeeze=False).tolist() for axes in line]
    panels, spare = panels[: len(sections)], panels[len(sections) :]
    for axes, section in zip(panels, sections, strict=True):
        axes.tick_params(labelsize=7)
        _draw_places(axes, section, (PANEL[0] - 0.6, PANEL[1] - 0.8), bare=True)
        title = fit_text(figure, section_title(section), PANEL[0] - 0.5, 8.5)
        axes.set_title(f"{title}\n{tell_seeds(section)}", fontsize=8.5)
    figure.supxlabel("forget score minus the oracle's", fontsize=9)
    figure.supylabel("kept knowledge minus the oracle's", fontsize=9)
    widest = max(text_width(figure, name, 7.5) for name in names) + 0.6
    for axes in spare:
        axes.set_axis_off()
    beside = 0.0
    if len(names) < len(spare) * NAMES_A_PANEL and widest < PANEL[0]:
        found = legend_entries(panels)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.12, 1.12), "ncols": len(spare)}
        legend = spare[0].legend(list(found.values()), list(found), **place, frameon=False, fontsize=7.5)
        legend.set_in_layout(False)
    else:
        height = max(figure.get_figheight(), NAME * len(names) + 0.6)
        figure.set_size_inches(figure.get_figwidth() + widest + 0.2, height)
        beside = name_legend(figure, panels, beside=True)
    tiers = dict.fromkeys(TIERS.get(section.tier, f"{short_label(section.tier)} tier") for section in sections)
    title_figure(
        figure, "Forgetting and keeping on every task, beside the oracles' mean (at 0, 0)", "; ".join(tiers), beside
    )
    return figure


def _draw_places(axes: Axes, section: Section, inches: tuple[float, float], bare: bool = False) -> None:
    """Every row's mean as a mark with its way there, and faint seeds unless ``bare``."""
    from matplotlib.ticker import MaxNLocator

    places, style = places_of(section), looks_of((row.name, row.method) for row in section.rows)
    others = [place for row, place in places if row.method != TARGET]
    far = next((place.mean[0] for row, place in places if row.method == TARGET), 0.0)
    for axis, size, means, seeds, beyond in (
        (axes.xaxis, inches[0], [p.mean[0] for p in others], [v for p in others for v in p.forget.values()], far),
        (axes.yaxis, inches[1], [p.mean[1] for p in others], [v for p in others for v in p.kept.values()], 0.0),
    ):
        _set_reach(axis, means, [] if bare else seeds, beyond, size)
    for axis in (axes.xaxis, axes.yaxis) if bare else ():
        if axis.get_scale() == "linear":
            axis.set_major_locator(MaxNLocator(4))
    axes.axvspan(-NEAR, NEAR, color=FLOOR_COLOUR, linewidth=0, zorder=0, label=f"within {NEAR} of the oracle's")
    axes.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
    ways = {row.name: list(mean_front(fronts_of(section, row)).values()) for row, _ in places}
    if bare and sum(map(bool, ways.values())) > MOST_WAYS:
        compared = {name for contrast in build_contrasts(section).fixed for name in (contrast.one, contrast.other)}
        ways = {name: way if name in compared else [] for name, way in ways.items()}
    inside = list[tuple[Place, Look]]()
    for row, place in places:
        look, way = style[row.name], ways[row.name]
        axes.plot([x for x, _ in way], [y for _, y in way], color=look.colour, linewidth=1.2, alpha=0.8, zorder=2)
        if row.method == TARGET and not _is_inside(axes, place.mean):
            _point_beyond(axes, place.mean, look)
            continue
        inside.append((place, look))
        line = "-" if way else ""
        axes.plot([], [], color=look.colour, marker=look.marker, linestyle=line, linewidth=1.2, label=title_of(row))
    if not bare:
        draw_seeds(
            axes, [(place.forget[seed], place.kept[seed], look) for place, look in inside for seed in place.forget]
        )
    draw_means(axes, [(*place.mean, look) for place, look in inside], 0.7 if bare else 1.0)


def _set_reach(axis: Axis, means: Sequence[float], seeds: Sequence[float], beyond: float, inches: float) -> None:
    """The scale on which the means can be told apart, and limits that hold them and the seeds.

    What lies ``beyond`` all of them stays outside, so that it doesn't press the others together.
    """
    sizes = [abs(mean) for mean in means]
    crowded = max(sizes) > 5 * NEAR and median(sizes) < CROWDED * max(sizes)
    least = 0.25 * NEAR if crowded else 0.5 * NEAR
    values = [-least, least, *means, *seeds]
    if crowded:
        scale = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
        scale("symlog", linthresh=NEAR, linscale=0.9)  # of 0.9 matplotlib makes the 1 of `near_log`
        low, high, edge = (near_log(value, NEAR) for value in (min(values), max(values), beyond))
    else:
        low, high, edge = min(values), max(values), beyond
    room = 0.1 * (high - low)
    low, high = (
        max(low - room, (low + edge) / 2) if edge < low else low - room,
        min(high + room, (high + edge) / 2) if edge > high else high + room,
    )
    if crowded:
        low, high = from_near_log(low, NEAR), from_near_log(high, NEAR)
    axis.axes.set(**{"xlim" if axis is axis.axes.xaxis else "ylim": (low, high)})
    if crowded:
        label_steps(axis, NEAR, inches)


def _is_inside(axes: Axes, point: tuple[float, float]) -> bool:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return left <= point[0] <= right and bottom <= point[1] <= top


def _point_beyond(axes: Axes, point: tuple[float, float], look: Look) -> None:
    """An arrow at the edge toward a point beyond it, with where that is."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inside = min(max(point[0], left), right), min(max(point[1], bottom), top)
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(inside))
    to_right = x >= 0.5
    arrow = {"arrowstyle": "-|>", "color": look.colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center", "zorder": 2.5}
    axes.annotate(
        f"target, {point[0]:.2g}".replace("-", "\N{MINUS SIGN}"),
        (x, y),
        (-20 if to_right else 20, 0),
        ha="right" if to_right else "left",
        fontsize=7,
        color=look.ink,
        arrowprops=arrow,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        **place,
    )


def fronts_of(section: Section, row: TableRow) -> list[list[FrontPoint]]:
    """Each seed's way to a method's result, its scores taken from the oracles'."""
    return [front for record in row.records if row.is_method and (front := _front(section, record))]


def mean_front(fronts: Sequence[Sequence[FrontPoint]]) -> dict[float, tuple[float, float]]:
    """Per share of the way the mean place over the seeds, (forget, kept), of the shares that all of them have."""
    by_share: dict[float, list[FrontPoint]] = {}
    for point in (point for front in fronts for point in front):
        by_share.setdefault(round(point.share, 6), []).append(point)
    return {
        share: (fmean(p.forget for p in points), fmean(p.kept for p in points))
        for share, points in sorted(by_share.items())
        if len(points) == len(fronts)
    }


def _front(section: Section, record: Record) -> list[FrontPoint]:
    """A record's front, its scores taken from the oracles'."""
    forget, kept = (section.oracle_mean(name, record.spec.seed) for name in scores_of(section))
    if forget is None or kept is None:
        return []
    return [replace(p, forget=p.forget - forget, kept=p.kept - kept) for p in front_of(section, record)]
