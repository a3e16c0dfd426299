"""The ablation of size: what every method costs and how it scores on a ladder of widths, and what that means for
models that don't fit here.

Held fixed on the ladder: two layers, vocabulary, rows, and the training of target and oracles. The width changes, and with
it the parameters; each method's setting is searched at every width. A small real model is the held-out point: what
the ladder predicts for it stands beside what its
own records say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from bench.core.record import Record
from bench.core.types import Json
from bench.records.figures import plain_log_labels
from bench.records.files import load_records
from bench.records.looks import look_of
from bench.studies.ablations import costing, drawing
from bench.studies.ablations.base import Ablation, AblationPlace, Point, Study, framing_as_series
from bench.studies.ablations.costing import COSTED, HELD_OUT, METHODS, CostRules, RunCost
from bench.studies.ablations.grids import TUNING_SEED, small_search

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = (64, 128, 192)
STYLES = {name: (look.colour, look.marker) for name in ("target", "oracle", *METHODS) for look in [look_of(name)]}
"""Colour and marker of every series, as in the other pictures."""
RESULTS = Path("results")
"""Where the held-out model's records are read from, once, when the study is written."""


def cost_points(place: AblationPlace) -> list[Point]:
    """Every method at every width, at the best setting of the same small search there."""
    return [
        Point(
            {"series": m, "width": width}, (place.step(m),), {"width": width}, "", small_search(place, m), TUNING_SEED
        )
        for width in WIDTHS
        for m in METHODS
    ]


framing_over_width = framing_as_series("width", "width")


def gather(study: Study) -> Json:
    """The costs in the held-out model's records on TOFU, plain, with what they were measured on."""
    wanted = ("tofu", "real", "done")
    found = [
        record
        for record in (load_records(RESULTS).records if RESULTS.is_dir() else [])
        if (record.spec.task, record.spec.tier, record.status) == wanted
        and record.spec.model.lower().startswith(HELD_OUT.lower())
        and record.spec.method in ("retrain", *METHODS)
        and not record.spec.steps[-1].variant
    ]
    return {"held_out": [held_out_row(record) for record in found]}


def held_out_row(record: Record) -> Json:
    """One record's costs, with where they come from."""
    method = "oracle" if record.spec.method == "retrain" else record.spec.method
    origin = {"record": record.name, "label": record.label, "commit": record.provenance.get("commit", "")}
    machine = {name: record.provenance.get(name) for name in ("threads", "devices")}
    return {"cost": vars(costing.cost_of(method, record, costing.HELD_OUT_PARAMETERS))} | origin | machine


# --- the picture


def draw(study: Study, ablation: Ablation) -> Figure:
    """Every score over the width, then seconds, FLOPs, memory and bytes over the parameters with the held-out point."""
    costs = costing.ladder_costs(study)
    figure, panels = drawing.new_figure(study, ablation, len(study.scores) + (len(QUANTITIES) if costs else 0))
    drawing.draw_score_panels(panels, study, ablation, STYLES)
    for axes in panels[: len(study.scores)]:
        axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axes.minorticks_off()
    if costs:
        rule = costing.fit_cost_rules(costs)
        for axes, quantity in zip(panels[len(study.scores) :], QUANTITIES, strict=True):
            cost_panel(axes, quantity, costs, costing.held_out_costs(study), rule)
    drawing.add_legend(figure, panels)
    return figure


@dataclass(frozen=True)
class Quantity:
    """One panel of costs, in its label's unit."""

    field: Literal["seconds", "flops", "peak_bytes", "bytes_stored"]
    """Of `Cost` and `Prediction`."""
    title: str
    label: str
    unit: float
    each: int = 0
    """Stated for each so many trained tokens; 0: for the run."""
    reaches: bool = True
    """Whether the line doesn't depend on what a run makes, and so goes on to the held-out model."""

    def of(self, found: RunCost | costing.PredictedCost, tokens: int) -> float | None:
        """The value of a run that trained on so many tokens; None where it is for each of them and there are none."""
        value: float | None = getattr(found, self.field)
        if value is None or (self.each and not tokens):
            return None
        return value / self.unit * (self.each / tokens if self.each else 1)

    def measured(self, cost: RunCost) -> float | None:
        """The measured cost of a run, from its record."""
        return self.of(cost, cost.tokens)

    def predicted(self, cost: RunCost, rule: CostRules) -> float | None:
        """The predicted cost of such a run, by the ladder's rules."""
        return self.of(costing.predict_cost(cost, rule), cost.tokens)


QUANTITIES = (
    Quantity("seconds", "time ↓ for 1,000 trained tokens", "s", 1, each=1000),
    Quantity("flops", "FLOPs ↓ for 1,000 trained tokens", "TFLOP", 1e12, each=1000),
    Quantity("peak_bytes", "peak memory of the process ↓", "GB", 1e9),
    Quantity("bytes_stored", "bytes stored by the method ↓", "GB", 1e9, reaches=False),
)


def cost_panel(
    axes: Axes, quantity: Quantity, costs: Sequence[RunCost], real: Sequence[RunCost], rule: CostRules
) -> None:
    """Means with the seeds' range, the fitted line, and for the held-out model what was predicted and what measured."""
    for method in COSTED:
        colour, marker = STYLES[method]
        mine = [cost for cost in costs if cost.method == method]
        if not mine:
            continue
        draw_seeds_and_means(axes, quantity, mine, colour, marker)
        last = costing.HELD_OUT_PARAMETERS if quantity.reaches and real else max(cost.parameters for cost in mine)
        widest = max(mine, key=lambda cost: cost.width)
        draw_fitted_line(axes, quantity, widest, min(cost.parameters for cost in mine), last, rule, colour)
    for place, method in enumerate(method for method in COSTED if any(cost.method == method for cost in real)):
        colour, marker = STYLES[method]
        beside_point = 1.18 ** (place - 2)  # apart, so that none hides another
        mark_held_out(axes, quantity, [c for c in real if c.method == method], beside_point, rule, colour, marker)
    axes.set(xscale="log", yscale="log", ylabel=quantity.label)
    axes.set_xlabel("parameters" + (f" ({HELD_OUT}'s marks side by side)" if real else ""))
    low, high = axes.get_ylim()
    few = high / low < 100  # so that its powers of ten alone would be few ticks
    plain_log_labels(axes.yaxis, sparse=not few)
    plain_log_labels(axes.xaxis, sparse=True)
    axes.set_title(
        quantity.title + ("" if quantity.reaches else "\n(lines: as many checkpoints as at the largest width)"),
        fontsize=9,
    )


def draw_seeds_and_means(axes: Axes, quantity: Quantity, costs: Sequence[RunCost], colour: str, marker: str) -> None:
    """Draw each seed's value at every width, and the means."""
    for width in sorted({cost.width for cost in costs}):
        values = [v for c in costs if c.width == width and (v := quantity.measured(c)) is not None]
        parameters = fmean(c.parameters for c in costs if c.width == width)
        if values:
            axes.plot(parameters, fmean(values), marker, color=colour, ms=5, zorder=3)
            axes.vlines(parameters, min(values), max(values), color=colour, alpha=0.6, zorder=2)


def draw_fitted_line(
    axes: Axes, quantity: Quantity, like: RunCost, first: int, last: int, rule: CostRules, colour: str
) -> None:
    """The prediction over the parameters at the workload of ``like``."""
    sizes = [round(first * (last / first) ** (i / 40)) for i in range(41)]
    values = [quantity.predicted(replace(like, parameters=size), rule) for size in sizes]
    known: list[tuple[int, float]] = [(s, v) for s, v in zip(sizes, values, strict=True) if v is not None]
    axes.plot([s for s, _ in known], [v for _, v in known], color=colour, linewidth=1, alpha=0.7, zorder=1)


def mark_held_out(
    axes: Axes, quantity: Quantity, costs: Sequence[RunCost], shift: float, rule: CostRules, colour: str, marker: str
) -> None:
    """Hollow what the ladder predicts, full and ringed what the records say, a line between: the error."""
    both: dict[str, Any] = {"color": colour, "marker": marker, "ms": 7, "linestyle": "none", "zorder": 4}
    for cost in costs:
        at = cost.parameters * shift
        predicted, measured = quantity.predicted(cost, rule), quantity.measured(cost)
        if predicted is not None:
            axes.plot(at, predicted, **both, markerfacecolor="white")
        if measured is not None:
            axes.plot(at, measured, **both, markeredgecolor="black")
        if predicted is not None and measured is not None:
            axes.vlines(at, *sorted((predicted, measured)), color=colour, linewidth=1, zorder=3)
    hollow: dict[str, Any] = {"color": "#444444", "marker": "o", "ms": 7, "linestyle": "none"}
    axes.plot([], [], **hollow, markerfacecolor="white", label=f"{HELD_OUT}, predicted")
    axes.plot([], [], **hollow, markeredgecolor="black", label=f"{HELD_OUT}, measured")
