"""What every picture is made with: its look, panels, titles, axes and files."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.core import texts
from bench.core.errors import UserError
from bench.core.files import write_bytes
from bench.core.texts import one_line
from bench.records.looks import Look
from bench.records.stamps import endings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CODE = (
    *(file for file in sorted(Path(__file__).parent.glob("[!.]*")) if file.suffix in (".py", ".toml")),
    Path(texts.__file__),
)
"""What decides what a picture says and how it looks: all that makes tables and pictures of records."""
TIERS = {"lab": "lab tier: not the benchmark itself", "real": "real tier"}
FLOOR_COLOUR = "#E6E6E6"
LONGEST_NAME = 40
"""Characters of the name of a row or an axis."""
LABEL = 300
"""Characters of another text of a record."""
Point = tuple[float, float, Look]
"""Where a mark stands, and whose it is."""
DPI = 150
LOG_FROM = 30
"""Ratio of largest to smallest value above which an axis is logarithmic."""
SPARSE_FROM = 1000
"""Ratio above which only powers of ten have labels, as others would touch."""
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
APART = 0.34, 0.19
"""Inches between the middles of two labels, across and up."""
TAG, LONG = re.compile(r"<[^>]*>"), re.compile(r"(\.\d\d)\d+")
"""A tag of an SVG, and a number with more digits than anybody sees."""
NAMED, INDENT = re.compile(r' id="[\w.]+_\d+"'), re.compile(r"\n +")
"""The name of a group, which nothing refers to, and what stands before a line of an SVG."""


@contextmanager
def plot_style() -> Iterator[None]:
    """The look of every picture; equal data give an equal SVG. `UserError` without matplotlib."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise UserError("Plots need matplotlib: `pip install matplotlib`, then run the command again.") from None
    # Without a fixed salt the ids inside an SVG are random. Text as text is half the bytes, and can be searched.
    # Each of them names its fonts: two, and not matplotlib's twelve, are a tenth of the bytes less.
    svg = {"svg.hashsalt": "msa-bench", "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans", "Verdana"]}
    with rc_context({**svg, "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of so many inches, which can measure texts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)  # without it each text that is measured draws a picture of its own
    return figure


def title_figure(figure: Figure, what: str, below: str, beside: float = 0.0) -> None:
    """Two lines above everything: what it shows and of what, cut where there is no room for more, and the rest.

    ``beside``: inches that a legend takes at the right.
    """
    width = figure.get_figwidth()
    lines = [fit_text(figure, line, width - beside - 0.3, 10) for line in (what, below)]
    figure.suptitle("\n".join(lines), fontsize=10, x=(width - beside) / width / 2)


def fit_text(figure: Figure, text: str, inches: float, size: float) -> str:
    """The text, or as much of its beginning as is no wider, and an ellipsis."""
    most = len(text)
    while (
        most
        and text_width(figure, shown := text if most == len(text) else text[:most].rstrip(" \\") + "…", size) > inches
    ):
        most = min(most - 1, int(most * inches / text_width(figure, shown, size)) + 1)
    return shown if most else ""


def text_width(figure: Figure, text: str, size: float) -> float:
    """The width of a line of text, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    return float(renderer.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / figure.dpi)


def short_label(text: str, most: int = LABEL) -> str:
    """A record's text in a picture: no formula, one line, and of more than ``most`` characters the beginning and the end."""
    line = one_line(text)
    if len(line) > most:
        line = f"{line[: most // 2].rstrip()}…{line[len(line) - (most - 1) // 2 :].lstrip()}"
    return line.replace("$", r"\$")


def name_legend(figure: Figure, panels: Sequence[Axes], beside: bool = False) -> float:
    """One legend for what is not named at its place, below the panels or ``beside`` them; the inches that it takes across."""
    found = legend_entries(panels)
    if not found:
        return 0.0
    width = max(text_width(figure, label, 8) for label in found) + 0.7
    columns = 1 if beside else max(1, min(len(found), int(figure.get_figwidth() / width)))
    where = "outside right upper" if beside else "outside lower center"
    figure.legend(list(found.values()), list(found), loc=where, ncols=columns, frameon=False, fontsize=8)
    return width


def legend_entries(panels: Sequence[Axes]) -> dict[str, Any]:
    """What the panels have to explain, each label once, as the first panel shows it."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return found


def log_axis(axis: Axis, values: Sequence[float]) -> None:
    """A logarithmic axis where positive values span more than a linear one can show, with labels in plain numbers."""
    if min(values) > 0 and max(values) / min(values) > LOG_FROM and max(values) > 1:
        axis.axes.set(**{"xscale" if axis is axis.axes.xaxis else "yscale": "log"})
        plain_log_labels(axis, sparse=max(values) / min(values) > SPARSE_FROM)


def plain_log_labels(axis: Axis, sparse: bool = False) -> None:
    """Labels 0.1, 0.2, 0.5, 1 on a logarithmic axis; ``sparse``: of powers of ten alone."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0,) if sparse else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """``0.001``, ``200``; a power of ten beyond what can be counted at a glance: ``10⁻⁶``."""
    if value <= 0 or 1e-3 <= value < 1e6:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = f"{value / 10.0**power:g}"
    return f"{'' if factor == '1' else factor + '·'}10{str(power).translate(RAISED)}"


def label_steps(axis: Axis, near: float, inches: float) -> None:
    """Labels 0, ``near``, 0.1, 0.5 ..., as many as there is room for, on an axis linear up to ``near`` and logarithmic beyond."""
    low, high = axis.get_view_interval()
    ends = [near_log(end, near) for end in (low, high)]
    apart = APART[axis is axis.axes.yaxis] * (ends[1] - ends[0]) / inches
    powers = range(math.floor(math.log10(near)), 10)
    wanted = [0.0, near, *(m * 10.0**power for m in (1, 5, 2) for power in powers if m * 10.0**power > near)]
    chosen: list[float] = []
    for step in wanted:
        for value in {step, -step}:
            if low <= value <= high and all(abs(near_log(value, near) - near_log(c, near)) >= apart for c in chosen):
                chosen.append(value)
    axis.set_ticks(sorted(chosen), [f"{value:g}".replace("-", "\N{MINUS SIGN}") for value in sorted(chosen)])
    axis.set_ticks([], minor=True)


def near_log(value: float, near: float) -> float:
    """Where a value stands on a scale that is linear up to ``near``, which is 1, and logarithmic beyond, 1 more a decade."""
    size = abs(value) / near
    return math.copysign(size if size <= 1 else 1 + math.log10(size), value)


def from_near_log(place: float, near: float) -> float:
    """The value that stands there (`near_log`)."""
    size = abs(place)
    return math.copysign(near * (size if size <= 1 else 10 ** min(size - 1, 300)), place)


def draw_seeds(axes: Axes, points: Iterable[Point], *, clip_on: bool = True) -> None:
    """Single seeds, small and faint."""
    _draw_marks(axes, points, lambda _: 13, alpha=0.45, linewidths=0, zorder=2, clip_on=clip_on)


def draw_means(axes: Axes, points: Iterable[Point], scale: float = 1.0, *, clip_on: bool = True) -> None:
    """Means over seeds, large."""
    look: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.8, "zorder": 3, "clip_on": clip_on}
    _draw_marks(axes, points, lambda mark: scale * (130 if mark == "*" else 55), **look)


def _draw_marks(axes: Axes, points: Iterable[Point], size: Callable[[str], float], **properties: Any) -> None:
    """All points with the same mark at once, which takes a fraction of the time that one after another does."""
    by_mark: dict[str, list[tuple[float, float, str]]] = {}
    for x, y, its in points:
        by_mark.setdefault(its.marker, []).append((x, y, its.colour))
    for mark, marks in by_mark.items():
        x_values, y_values, colours = zip(*marks, strict=True)
        axes.scatter(x_values, y_values, s=size(mark), c=colours, marker=mark, **properties)


def lay_out(figure: Figure) -> None:
    """Give everything in a figure its place, once; each drawing would do so again, and cost as much."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def shorten_svg(text: str) -> str:
    """The same picture in fewer bytes: places in hundredths of a point, not millionths; no indentation, no names of groups.

    What stands between the tags, such as a label's digits, stays.
    """
    short = TAG.sub(lambda tag: LONG.sub(r"\1", NAMED.sub("", tag[0])), text)
    return INDENT.sub("\n", short)


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
            drawn = io.StringIO()
            FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})
            made.write(shorten_svg(drawn.getvalue()).encode())
        paths.append(stem.with_name(stem.name + suffix))
        write_bytes(paths[-1], made.getvalue())
    return paths
