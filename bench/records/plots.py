"""Pictures of the sections, PNG and SVG, drawn from the same tables as the leaderboard; the tier stands in each.

``forgetting-utility``   every forgetting score against every utility score, seeds faint, means named
``distance-to-oracle``   KL to the oracle per method, counted in noise floors
``membership``           AUC of the membership attacks per method, beside target and oracle
``front``                what is kept against what is forgotten along each method's own dial (``--trace``)
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError
from bench.core.files import write_bytes
from bench.core.record import Record
from bench.core.texts import one_line
from bench.records.fronts import NEAR, FrontPoint, front_of
from bench.records.leaderboard import seed_list
from bench.records.stamps import Stamps, endings
from bench.records.tables import ATTACKS, ORACLE, TARGET, Section, TableRow, build_sections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis
    from matplotlib.figure import Figure

TIERS = {"lab": "lab tier: not the benchmark itself", "real": "real tier"}
KL = ("kl_forget_floors", "kl_retain_floors", "kl_world_floors", "kl_test_floors")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#882255", "#332288", "#117733")
"""Okabe and Ito's colours that read on white, a brown, and three of Tol's; methods take them in the order of their names."""
MARKERS = ("o", "D", "^", "v", "P", "X", "p")
"""With the colours, so that a picture works in grey as well."""
FRAMING = {TARGET: ("#444444", "s"), ORACLE: ("#000000", "*")}
FLOOR_COLOUR = "#E6E6E6"
PANELS_ACROSS = 3
"""Membership attacks side by side."""
CHARACTER = 0.085
"""Inches of a character of the title, on average, with some room."""
MOST_ROWS = 30
"""Of a picture: more names than that can't be read, and take long to place."""
LABEL = 300
"""Characters of a text of a record."""
DPI = 150
LOG_FROM = 30
"""Ratio of largest to smallest value above which an axis is logarithmic."""
SPARSE_FROM = 1000
"""Ratio above which only powers of ten have labels, as others would touch."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels; plain numbers, as thousands of them are compared."""
Style = dict[str, tuple[str, str]]
"""Colour and marker by method."""


def draw_plots(records: Sequence[Record], out: Path) -> list[Path]:
    """Every picture that the records can make, into ``out``; returns the files. Equal records, equal SVG.

    What is there already, drawn by this code from the same numbers, stays as it is (`bench.records.stamps`).
    """
    sections = [_first_rows(section) for section in build_sections(records) if section.rows]
    style = method_style({row.method for section in sections for row in section.rows})
    pictures: dict[str, Callable[[Section, Style], Figure | None]] = {
        "forgetting-utility": draw_forgetting_against_utility,
        "distance-to-oracle": draw_distance_to_oracle,
        "membership": draw_membership,
        "front": draw_front,
    }
    paths: list[Path] = []
    with Stamps(out, Path(__file__)) as stamps:
        for section in sections:
            shows = _shows(section, style)
            for name, picture in pictures.items():
                paths += stamps.files(f"{section.slug}-{name}", shows, partial(_draw, picture, section, style))
    return paths


def _first_rows(section: Section) -> Section:
    """The section with as many rows as a picture holds, and a title that says so where it had more."""
    if len(section.rows) <= MOST_ROWS:
        return section
    label = f"{section.label}, the first {MOST_ROWS} of {len(section.rows)} rows"
    return replace(section, label=label, rows=section.rows[:MOST_ROWS])


def _draw(picture: Callable[[Section, Style], Figure | None], section: Section, style: Style, stem: Path) -> list[Path]:
    with plot_style():
        figure = picture(section, style)
        return save_figure(figure, stem) if figure else []


def _shows(section: Section, style: Style) -> list[Any]:
    """All that the pictures of a section are made of, as JSON."""
    rows = [
        [
            _title(row),
            style[row.method],
            row.seeds,
            {name: cell.by_seed for name, cell in row.cells.items()},
            [astuple(point) for front in _fronts(section, row) for point in front],
        ]
        for row in section.rows
    ]
    noise = {name: noise.sd for name, noise in section.noise.items()}
    goals = [[column.name, column.goal] for column in section.columns]
    return [section.title, section.tier, section.forgetting, section.utility, goals, rows, noise]


@contextmanager
def plot_style() -> Iterator[None]:
    """The look of every picture; equal data give an equal SVG. `UserError` without matplotlib."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise UserError("Plots need matplotlib: `pip install matplotlib`, then run the command again.") from None
    # Without a fixed salt the ids inside an SVG are random. Text as text is half the bytes, and can be searched.
    svg = {"svg.hashsalt": "msa-bench", "svg.fonttype": "none"}
    with rc_context({**svg, "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        yield


def draw_forgetting_against_utility(section: Section, style: Style) -> Figure | None:
    """A panel for each pair of a forgetting score (across) and a utility score (up); None without such scores."""
    across = [name for name in section.forgetting if _has(section, name)]
    up = [name for name in section.utility if _has(section, name)]
    if not across or not up:
        return None
    figure, panels = lay_out_panels(section, "forgetting against utility", len(up), len(across), 4.6, 3.7)
    pairs = [(panels[i][j], x, y) for i, y in enumerate(up) for j, x in enumerate(across)]
    for axes, x, y in pairs:
        _scatter(axes, section, style, x, y)
    for i, y in enumerate(up):
        panels[i][0].set_ylabel(f"{short_label(y)} ({_goal(section, y)})")
    name_legend(figure, panels[0])
    lay_out(figure)  # names are placed by what they cover, so nothing may move after this
    for axes, x, y in pairs:
        _name_points(figure, axes, section, style, x, y)
    return figure


def draw_distance_to_oracle(section: Section, style: Style) -> Figure | None:
    """KL to the oracle on forget, retain and other rows, in units of the KL between two oracles."""
    names = [name for name in KL if _has(section, name)]
    if not names:
        return None
    figure, panels = lay_out_panels(section, "distance to the oracle", 1, len(names), 3.4, _height(section))
    for axes, name in zip(panels[0], names, strict=True):
        _strip(axes, section, style, name)
        axes.axvline(1, color="#000000", linewidth=1, linestyle="--", label="noise floor (two oracles)", zorder=1)
        axes.set_xlabel(f"KL(oracle || model), {name.removeprefix('kl_').removesuffix('_floors')}\nin noise floors")
    name_legend(figure, panels[0])
    return figure


def draw_membership(section: Section, style: Style) -> Figure | None:
    """AUC of each membership attack; what counts is the distance to the oracle's, whatever that is."""
    names = [name for name in ATTACKS if _has(section, name)]
    if not names:
        return None
    columns = min(PANELS_ACROSS, len(names))
    rows = -(-len(names) // columns)
    figure, grid = lay_out_panels(section, "membership inference", rows, columns, 3.6, _height(section))
    panels = [axes for line in grid for axes in line]
    for axes, name in zip(panels, names, strict=False):
        _strip(axes, section, style, name)
        if axes.get_xscale() != "linear":  # of a stranger's areas beyond 1
            axes.set_xscale("linear")
        axes.set(xlim=(-0.04, 1.04), xlabel=f"AUC, {name}")
        _oracle_band(section, name, axes, upright=True)
        for method, line in ((TARGET, ":"), (ORACLE, "-")):
            if (row := section.row(method)) and name in row.cells:
                axes.axvline(row.cells[name].mean, color=style[method][0], linestyle=line, label=_title(row), zorder=1)
    for axes in panels[len(names) :]:
        axes.remove()
    name_legend(figure, panels[: len(names)])
    return figure


def draw_front(section: Section, style: Style) -> Figure | None:
    """What is kept (up) against the forget score minus the oracle's (across), a line a method; None without a trace."""
    fronts = {row.name: found for row in section.rows if (found := _fronts(section, row))}
    if not fronts:
        return None
    figure, [[axes]] = lay_out_panels(section, "along each method's own dial", 1, 1, 6.4, 4.6)
    for row in section.rows:
        colour, marker = style[row.method]
        if row.name in fronts:
            _draw_front(axes, fronts[row.name], colour, marker)
            axes.plot([], [], color=colour, marker=marker, linewidth=1.6, label=_title(row))
        elif not row.is_method and (place := _beside_oracle(section, row)):
            axes.scatter(*place, s=130, c=colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=4)
            axes.plot([], [], color=colour, marker=marker, linestyle="", label=_title(row))
    axes.axvspan(-NEAR, NEAR, color=FLOOR_COLOUR, linewidth=0, zorder=0, label=f"within {NEAR} of the oracle")
    axes.set_xlabel(f"{short_label(section.primary['forgetting'])} minus the oracle's")
    axes.set_ylabel(short_label(section.primary["kept"]))
    axes.margins(0.06, 0.08)
    name_legend(figure, [axes])
    return figure


def _fronts(section: Section, row: TableRow) -> list[list[FrontPoint]]:
    """Each seed's front, its forget scores taken from the oracle's."""
    found = []
    for record in row.records if row.is_method else ():
        oracle = section.oracle_mean(section.primary.get("forgetting", ""), record.spec.seed)
        if oracle is not None and (points := front_of(section, record)):
            found.append([replace(point, forget=point.forget - oracle) for point in points])
    return found


def _draw_front(axes: Axes, fronts: Sequence[Sequence[FrontPoint]], colour: str, marker: str) -> None:
    """A light line for each seed and a strong one for the mean over seeds, a large mark at the chosen setting."""
    for front in fronts:
        axes.plot([p.forget for p in front], [p.kept for p in front], color=colour, linewidth=0.7, alpha=0.3, zorder=2)
    by_share: dict[float, list[FrontPoint]] = {}
    for point in (point for front in fronts for point in front):
        by_share.setdefault(round(point.share, 6), []).append(point)
    means = {
        share: (fmean(p.forget for p in points), fmean(p.kept for p in points))
        for share, points in sorted(by_share.items())
        if len(points) == len(fronts)
    }
    axes.plot([x for x, _ in means.values()], [y for _, y in means.values()], color=colour, linewidth=1.6, zorder=3)
    if 1.0 in means:
        _mean_point(axes, *means[1.0], colour, marker)


def _beside_oracle(section: Section, row: TableRow) -> tuple[float, float] | None:
    """The mean place of target or oracle in the picture of fronts; None where a score of it is missing."""
    forget, kept = (row.cells.get(section.primary[role]) for role in ("forgetting", "kept"))
    if forget is None or kept is None:
        return None
    gaps = [
        value - oracle
        for seed, value in forget.by_seed.items()
        if (oracle := section.oracle_mean(section.primary["forgetting"], seed)) is not None
    ]
    return (fmean(gaps), kept.mean) if gaps else None


def _scatter(axes: Axes, section: Section, style: Style, x: str, y: str) -> None:
    """Seeds as faint points, means as large ones, the oracle's mean with the noise on both sides as bands."""
    for row in section.rows:
        if x not in row.cells or y not in row.cells:
            continue
        colour, marker = style[row.method]
        across, up = row.cells[x], row.cells[y]
        seeds = sorted(across.by_seed.keys() & up.by_seed.keys())
        _seed_points(axes, [across.by_seed[s] for s in seeds], [up.by_seed[s] for s in seeds], colour, marker)
        _mean_point(axes, across.mean, up.mean, colour, marker)
    _axis(section, x, axes.xaxis)
    axes.margins(0.12, 0.14)
    _oracle_band(section, x, axes, upright=True)
    _oracle_band(section, y, axes, upright=False)
    axes.set_xlabel(f"{short_label(x)} ({_goal(section, x)})")


def _strip(axes: Axes, section: Section, style: Style, name: str) -> None:
    """One line per row: the mean large, a bar from the smallest to the largest seed, the seeds faint below it."""
    rows = list(reversed(section.rows))
    for place, row in enumerate(rows):
        if name not in row.cells:
            continue
        cell, (colour, marker) = row.cells[name], style[row.method]
        axes.plot([cell.low, cell.high], [place, place], color=colour, linewidth=2, alpha=0.5, zorder=2)
        _seed_points(axes, list(cell.by_seed.values()), [place - 0.28] * cell.n, colour, marker)
        _mean_point(axes, cell.mean, place, colour, marker)
    axes.set_yticks(range(len(rows)), [_title(row) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.4)
    axes.grid(axis="y", color="#EEEEEE", zorder=0)
    axes.tick_params(axis="y", length=0)
    _axis(section, name, axes.xaxis)


def _seed_points(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, marker: str) -> None:
    axes.scatter(x, y, s=13, c=colour, marker=marker, alpha=0.45, linewidths=0, zorder=2)


def _mean_point(axes: Axes, x: float, y: float, colour: str, marker: str) -> None:
    size = 130 if marker == "*" else 55
    axes.scatter([x], [y], s=size, c=colour, marker=marker, edgecolors="white", linewidths=0.8, zorder=3)


def _name_points(figure: Figure, axes: Axes, section: Section, style: Style, x: str, y: str) -> None:
    """Write each row's name at the nearest place around its mean where it covers no point and no other name."""
    from matplotlib.text import Text

    pixels = figure.dpi / 72  # per point
    rows = [row for row in section.rows if x in row.cells and y in row.cells]
    centres = [axes.transData.transform((row.cells[x].mean, row.cells[y].mean)) for row in rows]
    taken = [_box(cx, cy, 9 * pixels, 9 * pixels) for cx, cy in centres]
    for row in rows:
        across, up = row.cells[x].by_seed, row.cells[y].by_seed
        seeds = [axes.transData.transform((across[seed], up[seed])) for seed in sorted(across.keys() & up.keys())]
        taken += [_box(sx, sy, 4 * pixels, 4 * pixels) for sx, sy in seeds]
    frame = axes.get_window_extent().extents
    for row, (cx, cy) in zip(rows, centres, strict=True):
        colour = darker(style[row.method][0])
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        middle: dict[str, Any] = {"ha": "center", "va": "center", "textcoords": "offset points", "xytext": (0, 0)}
        point = (row.cells[x].mean, row.cells[y].mean)
        text = axes.annotate(_title(row), point, **middle, fontsize=8, color=colour, zorder=4, arrowprops=line)
        # The size of the text alone: `get_window_extent` of an annotation would include its line.
        size = Text.get_window_extent(text)
        places = _places(size.width, size.height, pixels)
        boxes = {at: _box(cx + at[0], cy + at[1], size.width, size.height) for at in places}
        free = next((at for at in places if _covered(boxes[at], taken, frame) == 0), None)
        place = free or min(places, key=lambda at: _covered(boxes[at], taken, frame))
        text.set_position((place[0] / pixels, place[1] / pixels))
        taken.append(boxes[place])


def _places(width: float, height: float, pixels: float) -> list[tuple[float, float]]:
    """Offsets of a name's middle from its point, in pixels, the near ones first; in none the name lies on the point."""
    turns = [2 * math.pi * turn / 24 for turn in range(24)]
    rings = [(gap * pixels + width / 2, gap * pixels + height / 2) for gap in (7, 14, 24, 36, 50, 66, 84)]
    places = [(math.cos(turn) * across, math.sin(turn) * up) for across, up in rings for turn in turns]
    return sorted(places, key=lambda at: math.hypot(*at))


def _covered(box: Box, taken: Sequence[Box], frame: Sequence[float]) -> float:
    """The area of ``box``, in square pixels, on something else or outside of the frame; 0 where it is free."""
    left, bottom, right, top = frame
    outside = max(0.0, left - box[0], box[2] - right) + max(0.0, bottom - box[1], box[3] - top)
    return sum(_overlap(box, other) for other in taken) + outside * (box[3] - box[1])


def _overlap(one: Box, other: Box) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _box(x: float, y: float, width: float, height: float) -> Box:
    """The box around the middle (``x``, ``y``)."""
    return float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2)


def darker(colour: str) -> tuple[float, ...]:
    """The colour for text, which needs more contrast than a marker."""
    from matplotlib.colors import to_rgb

    return tuple(0.7 * part for part in to_rgb(colour))


def _oracle_band(section: Section, name: str, axes: Axes, upright: bool) -> None:
    """Shade where nothing can be told from an oracle: the noise around its mean; of a distance, all below the oracles' own."""
    oracle, noise = section.row(ORACLE), section.noise.get(name)
    limits = axes.get_xlim() if upright else axes.get_ylim()
    band = None
    if oracle is not None and name in oracle.cells:
        middle = oracle.cells[name].mean
        if name.startswith("kl_"):
            band = limits[0], middle
        elif noise is not None:
            band = middle - noise.sd, middle + noise.sd
    if band:
        span = axes.axvspan if upright else axes.axhspan
        span(*band, color=FLOOR_COLOUR, linewidth=0, zorder=0, label="noise")
    axes.set(**{"xlim" if upright else "ylim": limits})


def _axis(section: Section, name: str, axis: XAxis) -> None:
    """A logarithmic axis where the values span more than a linear one can show."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    values = [value for row in section.rows if name in row.cells for value in row.cells[name].by_seed.values()]
    if min(values) > 0 and max(values) / min(values) > LOG_FROM and max(values) > 1:
        axis.axes.set_xscale("log")
        wide = max(values) / min(values) > SPARSE_FROM
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def lay_out_panels(
    section: Section, title: str, rows: int, columns: int, width: float, height: float
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of so many panels, each of that size in inches, titled with the section, the tier and its seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width * columns + 0.6, height * rows + 1.1), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)  # without it each text that is measured draws a picture of its own
    panels = figure.subplots(rows, columns, squeeze=False, sharey="row")
    tier = TIERS.get(section.tier, f"{short_label(section.tier)} tier")
    lines = textwrap.wrap(f"{short_label(section.title)}: {title}", int(figure.get_figwidth() / CHARACTER))
    rows_of = {seed for row in section.rows for seed in row.seeds}
    seeds = sorted(rows_of | {record.spec.seed for record in section.attacked})
    figure.suptitle("\n".join([*lines, f"{tier}; {seed_list(seeds)}"]), fontsize=10)
    return figure, panels.tolist()


def name_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for what is not named at its place, below the panels."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def method_style(methods: set[str]) -> Style:
    """Colours and markers by method, alike in every picture of the records."""
    others = sorted(methods - FRAMING.keys())
    # The marker moves on by one more each time the colours start again, so that no two methods look the same.
    return dict(FRAMING) | {
        method: (COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)])
        for i, method in enumerate(others)
    }


def _title(row: TableRow) -> str:
    oracle = " (oracle)" if row.method == ORACLE else ""
    return (
        f"{short_label(row.name)}{oracle}{' (collapsed)' if row.collapsed else ' (diverged)' if row.diverged else ''}"
    )


def short_label(text: str) -> str:
    """A record's text in a picture: no formula, one line, and no longer than a picture is wide."""
    return one_line(text)[:LABEL].replace("$", r"\$")


def _goal(section: Section, name: str) -> str:
    goal = next(column.goal for column in section.columns if column.name == name)
    return {"up": "higher is better", "down": "lower is better", "oracle": "as the oracle"}.get(
        str(goal), f"toward {goal}"
    )


def _has(section: Section, name: str) -> bool:
    return any(name in row.cells for row in section.rows)


def _height(section: Section) -> float:
    return 0.32 * len(section.rows) + 0.6


def lay_out(figure: Figure) -> None:
    """Give everything in a figure its place, once; each drawing would do so again, and cost as much."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as SVG, and as PNG where a folder has that (`bench.records.stamps.endings`); returns the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    lay_out(figure)
    paths = []
    for suffix in endings(stem.parent):
        made = io.BytesIO()
        if suffix == ".png":
            canvas.print_png(made)
        else:
            FigureCanvasSVG(figure).print_svg(made, metadata={"Date": None})
        paths.append(stem.with_name(stem.name + suffix))
        write_bytes(paths[-1], made.getvalue())
    return paths
