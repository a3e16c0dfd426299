"""Pictures with a line for each row: its mean over seeds as a mark, their range as a bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.records.figures import (
    FLOOR_COLOUR,
    LONGEST_NAME,
    TIERS,
    draw_means,
    draw_seeds,
    log_axis,
    name_legend,
    new_figure,
    short_label,
    title_figure,
)
from bench.records.looks import Look, looks_of
from bench.records.names import score_name
from bench.records.tables import ATTACKS, ORACLE, TARGET, Section, TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KL = ("kl_forget_floors", "kl_retain_floors", "kl_world_floors", "kl_test_floors")
LEAST_WIDTH = 5.6
"""Inches of a picture, which its title takes."""
PANELS_ACROSS = 3
"""Membership attacks side by side."""


def has_distances(section: Section) -> bool:
    """Whether a score of `KL` is there."""
    return bool(_there(section, KL))


def has_attacks(section: Section) -> bool:
    """Whether a membership attack's score is there."""
    return bool(_there(section, ATTACKS))


def _there(section: Section, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if any(name in row.cells for row in section.rows)]


def draw_distance_to_oracle(section: Section) -> Figure:
    """KL to the oracle on forget, retain and other rows, in units of the KL between two oracles."""
    names = _there(section, KL)
    figure, panels = lay_out_panels(section, "Distance to the oracle", 1, len(names), 3.4, _height(section))
    for place, (axes, name) in enumerate(zip(panels[0], names, strict=True)):
        _draw_strip(axes, section, name, named=not place)
        axes.axvline(1, color="#000000", linewidth=1, linestyle="--", label="two oracles of a seed", zorder=1)
        side = score_name(name.removesuffix("_floors")).removeprefix("KL to the oracle, ")
        axes.set_xlabel(f"KL(oracle || model), {short_label(side)}\nover that between two oracles")
    name_legend(figure, panels[0])
    return figure


def draw_membership(section: Section) -> Figure:
    """AUC of each membership attack; what counts is the distance to the oracle's, whatever that is."""
    names = _there(section, ATTACKS)
    columns = min(PANELS_ACROSS, len(names))
    rows = -(-len(names) // columns)
    figure, grid = lay_out_panels(section, "Membership attacks", rows, columns, 3.6, _height(section))
    panels = [axes for line in grid for axes in line]
    style = _style(section)
    for place, (axes, name) in enumerate(zip(panels, names, strict=False)):
        beyond = any(row.cells[name].low < 0 or row.cells[name].high > 1 for row in section.rows if name in row.cells)
        _draw_strip(axes, section, name, named=place % columns == 0, clip_on=beyond)
        if axes.get_xscale() != "linear":  # of a stranger's areas beyond 1
            axes.set_xscale("linear")
        axes.set(xlim=(-0.04, 1.04), xlabel=short_label(score_name(name)))
        _shade_noise(axes, section, name)
        for method, line in ((TARGET, ":"), (ORACLE, "-")):
            if (row := section.row(method)) and name in row.cells:
                look = style[row.name]
                axes.axvline(row.cells[name].mean, color=look.colour, linestyle=line, label=title_of(row), zorder=1)
    for axes in panels[len(names) :]:
        axes.remove()
    name_legend(figure, panels[: len(names)])
    return figure


def _draw_strip(axes: Axes, section: Section, name: str, named: bool, clip_on: bool = False) -> None:
    """One line per row: the mean large, a bar from the smallest to the largest seed, the seeds faint below it.

    ``named``: whether the names stand beside it, as they do once for the panels beside each other. ``clip_on``: whether
    some of it may be outside; where nothing is, a file in which each mark would be clipped apart is larger.
    """
    rows, style = list(reversed(section.rows)), _style(section)
    there = [(place, row.cells[name], style[row.name]) for place, row in enumerate(rows) if name in row.cells]
    places, cells, looks = zip(*there, strict=True)
    colours = [look.colour for look in looks]
    axes.hlines(places, [c.low for c in cells], [c.high for c in cells], colours, linewidth=2, alpha=0.5, zorder=2)
    seeds = [(value, place - 0.28, look) for place, cell, look in there for value in cell.by_seed.values()]
    draw_seeds(axes, seeds, clip_on=clip_on)
    draw_means(axes, [(cell.mean, place, look) for place, cell, look in there], clip_on=clip_on)
    axes.hlines(range(len(rows)), 0, 1, "#EEEEEE", linewidth=0.8, transform=axes.get_yaxis_transform(), zorder=0)
    axes.set_ylim(-0.7, len(rows) - 0.4)
    if named:
        axes.set_yticks(range(len(rows)), [title_of(row) for row in rows])
        axes.tick_params(axis="y", length=0)
    axes.yaxis.set_visible(named)
    log_axis(axes.xaxis, [value for cell in cells for value in cell.by_seed.values()])


def _shade_noise(axes: Axes, section: Section, name: str) -> None:
    """Shade where nothing can be told from an oracle: the noise around its mean."""
    oracle, noise = section.row(ORACLE), section.noise.get(name)
    if oracle is not None and name in oracle.cells and noise is not None:
        middle = oracle.cells[name].mean
        axes.axvspan(middle - noise.sd, middle + noise.sd, color=FLOOR_COLOUR, linewidth=0, zorder=0, label="noise")


def _style(section: Section) -> dict[str, Look]:
    return looks_of((row.name, row.method) for row in section.rows)


def _height(section: Section) -> float:
    return 0.32 * len(section.rows) + 0.6


def lay_out_panels(
    section: Section, title: str, rows: int, columns: int, width: float, height: float
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of so many panels, each of that size in inches, titled with the section, the tier and its seeds."""
    figure = new_figure(max(width * columns + 0.6, LEAST_WIDTH), height * rows + 1.1)
    panels = figure.subplots(rows, columns, squeeze=False, sharey="row")
    title_section(figure, section, title)
    return figure, panels.tolist()


def title_section(figure: Figure, section: Section, title: str, beside: float = 0.0) -> None:
    """The two lines of a section's picture: what is shown of it; its tier and its seeds."""
    tier = TIERS.get(section.tier, f"{short_label(section.tier)} tier")
    title_figure(figure, f"{title}: {section_title(section)}", f"{tier}; {tell_seeds(section)}", beside)


def section_title(section: Section) -> str:
    """The title of a section in a picture: what it is of, without the sizes of a subset, which its page tells."""
    model = "" if section.model == section.tier else f" on {section.model}"
    setting = f", {section.setting}" if section.setting else ""
    return short_label(f"{section.label.partition(':')[0]}{model}{setting}")


def tell_seeds(section: Section) -> str:
    """How many seeds a section has."""
    seeds = {seed for row in section.rows for seed in row.seeds} | {record.spec.seed for record in section.attacked}
    return f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"


def title_of(row: TableRow) -> str:
    """The name of a row in a picture, with what has become of a wreck."""
    told = (
        " (oracle)" * (row.method == ORACLE)
        or " (collapsed)" * bool(row.collapsed)
        or " (diverged)" * bool(row.diverged)
    )
    return f"{short_label(row.name, LONGEST_NAME)}{told}"
