"""The results of `bench.studies.ablations.sgd_influence` by their names, as a table and as a picture. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from bench.core.types import Json
from bench.records.figures import new_figure, plain_log_labels, title_figure
from bench.records.looks import COLOURS, MARKERS, look_of
from bench.records.markdown import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis
    from matplotlib.figure import Figure

INFLUENCE = "SGD-influence"
RETAIN_HESSIAN = "SGD-influence, retain Hessian"
IDENTITY = "identity for I - lr H"
NOISE_FLOOR = "second oracle, other data order"
MSA = "MSA, alpha 1"
BY_SHARE = (INFLUENCE, RETAIN_HESSIAN, IDENTITY, MSA, "weighted MSA, alpha 1")
"""The estimates shown against the removed share, in the order of their colours."""
COLUMNS = {
    "alpha": "alpha",
    "cosine": "cosine",
    "relative_error": "relative error",
    "norm_ratio": "norm ratio",
    "forget_accuracy": "forget accuracy",
    "retain_accuracy": "retain accuracy",
    "kl_forget": "KL forget",
    "kl_retain": "KL retain",
    "seconds": "seconds",
}
"""Field of an estimate -> its column."""
GROUPS = ("forget", "retain", "resident")
FAINT, REFERENCE = "#EEEEEE", {"color": "#444444", "linewidth": 1, "linestyle": ":", "zorder": 0}


def table(results: Sequence[Json]) -> str:
    """Markdown: the models, every estimate and the shares, means over the seeds with the lowest and highest in brackets."""
    models = [
        [name, *(mean_and_ends([result["models"][name][group] for result in results]) for group in GROUPS)]
        for name in results[0]["models"]
    ]
    estimates = []
    for name, rows in estimates_of(results).items():
        said = name if rows[0]["kind"] == "estimate" else f"*{name}* ({rows[0]['kind']})"
        cells = [mean_and_ends([row[column] for row in rows]) for column in COLUMNS]
        estimates.append([said, *cells, f"{fmean(row['bytes'] for row in rows) / 1000:.0f}"])
    parts = [
        title_text(results),
        "Accuracy (share of questions answered with the right word of the vocabulary):",
        table_of_numbers(["model", *GROUPS], models),
        "Estimates of d, and theta_D + estimate as a model (KL to the oracle in nats; kB held beside it):",
        table_of_numbers(["estimate", *COLUMNS.values(), "kB"], estimates),
    ]
    for column, said in (
        ("cosine", "Cosine by the share of the forget rows' weight that is removed:"),
        ("relative_error", "Relative error by the same share:"),
    ):
        by_share = {name: values_by_share(results, name, column) for name in BY_SHARE}
        shares = [
            [f"{share:g}", *(mean_and_ends(by_share[name][share]) for name in BY_SHARE)]
            for share in by_share[INFLUENCE]
        ]
        parts += [said, table_of_numbers(["share", *BY_SHARE], shares)]
    return "\n\n".join(parts)


table_of_numbers = partial(markdown_table, rule="---:")
"""A Markdown table whose columns but the first are aligned to the right."""


def draw(results: Sequence[Json]) -> Figure:
    """Cosine and relative error of every estimate above, against the removed share below; each seed a dot."""
    figure = new_figure(11.5, 8.6)
    (cosine, error), (by_cosine, by_error) = figure.subplots(2, 2, height_ratios=(1.25, 1))
    title_figure(figure, title_text(results), caption_text(results))
    rows = {name: rows for name, rows in estimates_of(results).items() if name != "nothing removed"}
    draw_estimates(cosine, rows, "cosine")
    draw_estimates(error, rows, "relative_error")
    error.tick_params(labelleft=False)
    cosine.set(xlabel="cosine of estimate and d (1 is exact)")
    error.set(xlabel="relative error |estimate - d| / |d| (0 is exact)", xscale="log")
    set_plain_ticks(error.xaxis, (0.3, 0.5, 1, 2, 5))
    cosine.axvline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
    error.axvline(1, **REFERENCE)
    error.text(1, len(rows) - 0.45, " removing nothing", fontsize=7.5, color="#444444", va="center")
    draw_by_share(by_cosine, results, "cosine")
    draw_by_share(by_error, results, "relative_error")
    by_error.axhline(1, **REFERENCE)
    by_cosine.set(ylabel="cosine of estimate and d")
    by_error.set(ylabel="relative error |estimate - d| / |d|", yscale="log")
    plain_log_labels(by_error.yaxis)
    for axes in (by_cosine, by_error):
        axes.set_xlabel("share of the forget rows' weight removed (1: as above)")
        axes.grid(color=FAINT, zorder=0)
    handles, labels = by_cosine.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def draw_estimates(axes: Axes, rows: Mapping[str, Sequence[Json]], column: str) -> None:
    """A line for each estimate: its seeds as dots, their mean as a bar; what looked at the oracle is hollow."""
    notes = {"upper bound": " (knows d)", "reference": " (noise floor)"}
    labels = []
    for place, (name, found) in enumerate(reversed(list(rows.items()))):
        kind, values = found[0]["kind"], [row[column] for row in found]
        colour, places = colour_of(name), [place] * len(values)
        filled = colour if kind == "estimate" else "none"
        axes.scatter(values, places, s=26, facecolors=filled, edgecolors=colour, alpha=0.8, zorder=3)
        axes.scatter([fmean(values)], [place], s=170, marker="|", c=colour, linewidths=1.6, zorder=2)
        labels.append(name + notes.get(kind, ""))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.6, len(labels) - 0.2)
    axes.grid(axis="y", color=FAINT, zorder=0)
    axes.tick_params(axis="y", length=0)


def draw_by_share(axes: Axes, results: Sequence[Json], column: str) -> None:
    """The mean over the seeds as a line for each estimate, the seeds as dots."""
    for name, marker in zip(BY_SHARE, MARKERS, strict=False):
        values = values_by_share(results, name, column)
        means, colour = [fmean(found) for found in values.values()], colour_of(name)
        axes.plot(list(values), means, color=colour, linewidth=1.4, marker=marker, markersize=4, label=name)
        for share, found in values.items():
            axes.scatter([share] * len(found), found, s=16, c=colour, alpha=0.5, linewidths=0, zorder=3)
    axes.set_xscale("log")
    set_plain_ticks(axes.xaxis, list(values))


def set_plain_ticks(axis: XAxis, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis at these values, written out."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(list(values), [f"{value:g}" for value in values])
    axis.set_minor_locator(NullLocator())


def colour_of(name: str) -> str:
    """One colour for each vector, whatever its alpha, and MSA's in the blues of the other pictures."""
    vectors = [one.partition(", alpha")[0] for one in BY_SHARE]
    vector = name.partition(", alpha")[0]
    if vector.endswith("MSA"):
        return look_of("msa" if vector == "MSA" else "msa@weighted").colour
    return COLOURS[1 + vectors.index(vector)] if vector in vectors else "#000000"


def title_text(results: Sequence[Json]) -> str:
    """The title of the picture: the measure, and its seeds."""
    seeds = ", ".join(str(result["seed"]) for result in results)
    return (
        f"SGD-influence against MSA on a transformer of {results[0]['parameters']:,} parameters, plain SGD "
        f"(lab tier: not the benchmark itself; n = {len(results)} seed{'s' * (len(results) > 1)}: {seeds})"
    )


def caption_text(results: Sequence[Json]) -> str:
    """How the picture is read."""
    target, oracle = (fmean(result["models"][name]["forget"] for result in results) for name in ("target", "oracle"))
    return (
        f"d = theta_oracle - theta_D; forget accuracy {target:.2f} in the target, {oracle:.2f} in the oracle; "
        "dots: seeds; bars and lines: their means; below, estimates times the share"
    )


def estimates_of(results: Sequence[Json]) -> dict[str, list[Json]]:
    """Each estimate's rows, one of each seed."""
    return {
        row["name"]: [result["estimates"][i] for result in results] for i, row in enumerate(results[0]["estimates"])
    }


def values_by_share(results: Sequence[Json], name: str, column: str) -> dict[float, list[float]]:
    """Removed share -> an estimate's values in that column, one of each seed."""
    return {
        row["share"]: [result["removals"][i]["estimates"][name][column] for result in results]
        for i, row in enumerate(results[0]["removals"])
    }


def mean_and_ends(values: Sequence[float | None]) -> str:
    """Mean and, of several, the lowest and the highest; a dash where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{fmean(known):.3g}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3g} to {max(known):.3g})"
