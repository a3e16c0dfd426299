"""The page of the ablation of size, under its table of scores: nearness to the oracle, costs, the held-out model, and the
extrapolation with its assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, linear_regression

from bench.records.markdown import format_duration, format_number, format_scaled, markdown_table
from bench.runs.estimate import BYTES_PER_PARAMETER
from bench.studies.ablations import costing
from bench.studies.ablations.base import Study
from bench.studies.ablations.costing import COSTED, HELD_OUT, METHODS, CostRules, RunCost
from bench.studies.ablations.extrapolation import TEXTS, extrapolation_section


def between(values: Sequence[float], unit: str) -> str:
    """Mean, and the range over seeds where there is one."""
    middle = format_scaled(fmean(values), unit)
    low, high = format_scaled(min(values), unit), format_scaled(max(values), unit)
    return middle if low == high else f"{middle} ({low}–{high})"


def report(study: Study) -> str:
    """The parts under the table of scores."""
    costs = costing.ladder_costs(study)
    parts = ["## Does size help?", nearness_section(study)]
    if not costs:
        return "\n\n".join([*parts, TEXTS["uncounted"]])
    rule = costing.fit_cost_rules(costs)
    parts += ["## What each method costs on the ladder", measured_table(study, costs)]
    parts += [f"## The held-out point: {HELD_OUT}", held_out_table(study, rule)]
    parts += ["## Larger models, extrapolated", extrapolation_section(rule)]
    return "\n\n".join(parts)


@dataclass(frozen=True)
class Trend:
    """How far a method's score lies from the oracle's at the same width and seed, over the ladder."""

    narrow: float
    """At the smallest width, mean over seeds."""
    wide: float
    slopes: tuple[float, ...]
    """Of each seed: change for each doubling of the width, least squares; below zero it comes nearer."""


def trend_of_gap(study: Study, method: str, score: str) -> Trend | None:
    """The gap |method - oracle| of a score over the widths; None unless some seed has it at two widths."""
    gaps: dict[int, dict[float, float]] = {}
    values = {
        (finding.at["series"], finding.seed, finding.at["width"]): value
        for finding in study.points
        if (value := finding.score(score)) is not None
    }
    for (series, seed, width), value in values.items():
        oracle = values.get(("oracle", seed, width))
        if series == method and oracle is not None:
            gaps.setdefault(seed, {})[float(width)] = abs(value - oracle)
    slopes = tuple(slope(found) for found in gaps.values() if len(found) > 1)
    if not slopes:
        return None
    return Trend(fmean(g[min(g)] for g in gaps.values()), fmean(g[max(g)] for g in gaps.values()), slopes)


def slope(gaps: dict[float, float]) -> float:
    """Least squares against the logarithm of the width, for each doubling."""
    return linear_regression([math.log2(width) for width in gaps], list(gaps.values())).slope


def nearness_section(study: Study) -> str:
    """Every method's gap to the oracle from the narrowest to the widest, and its change for each doubling."""
    body = []
    for method in METHODS:
        found = [trend_of_gap(study, method, score) for score in study.scores]
        body.append([method, *("—" if each is None else trend_cell(each) for each in found)])
    return f"{TEXTS['nearness']}\n\n{markdown_table(['method', *study.scores], body)}"


def trend_cell(found: Trend) -> str:
    """``0.21 → 0.12 (−0.06 [−0.08, −0.05])``."""
    change = signed_text(fmean(found.slopes))
    if len(found.slopes) > 1:
        change += f" [{signed_text(min(found.slopes))}, {signed_text(max(found.slopes))}]"
        if max(found.slopes) < 0 or min(found.slopes) > 0:
            change = f"**{change}**"
    return f"{format_number(found.narrow)} → {format_number(found.wide)} ({change})"


def signed_text(change: float) -> str:
    """A change to three places; a smaller one is none."""
    return f"{change:+.3f}" if abs(change) >= 5e-4 else "0"


def measured_table(study: Study, costs: Sequence[RunCost]) -> str:
    """Every method at every size."""
    threads = ", ".join(sorted({str(finding.record.provenance.get("threads", "?")) for finding in study.points}))
    left_out = sum("flops" not in f.record.cost for f in study.points if f.at.get("series") in COSTED)
    groups: dict[tuple[str, int], list[RunCost]] = {}
    for cost in sorted(costs, key=lambda cost: (COSTED.index(cost.method), cost.width)):
        groups.setdefault((cost.method, cost.width), []).append(cost)
    body = [
        [
            method,
            str(width),
            between([c.parameters for c in group], ""),
            str(len(group)),
            between([c.tokens for c in group], ""),
            between([c.seconds for c in group], "s"),
            between([c.flops for c in group if c.flops is not None], "FLOP"),
            between([c.peak_bytes for c in group], "B"),
            between([c.bytes_stored for c in group], "B"),
        ]
        for (method, width), group in groups.items()
    ]
    said = TEXTS["ladder"].format(threads=threads)
    said += TEXTS["left_out"].format(left_out=left_out) if left_out else ""
    head = ["method", "width", "parameters", "n", "tokens trained", "seconds", "FLOPs", "peak memory", "stored"]
    return f"{said}\n\n{markdown_table(head, body)}"


def held_out_table(study: Study, rule: CostRules) -> str:
    """The fits, and predicted beside measured for the held-out model."""
    fits = [
        f"{method} {found.overhead:.2g} s + FLOPs / {format_scaled(found.rate, 'FLOP/s')}"
        if found
        else f"{method}: seconds don't grow with FLOPs, so that nothing is predicted"
        for method, found in rule.fits.items()
    ]
    said = TEXTS["held_out"].format(
        fits="; ".join(fits), per_parameter=f"{rule.per_parameter:.3g}", training_bytes=BYTES_PER_PARAMETER
    )
    rows = costing.held_out_costs(study)
    if not rows:
        return f"{said}\n\n{TEXTS['nothing_held_out'].format(model=HELD_OUT)}"
    body = []
    for row in rows:
        expected = costing.predict_cost(row, rule)
        pairs = [
            show_beside(expected.flops, row.flops, partial(format_scaled, unit="FLOP")),
            show_beside(expected.seconds, row.seconds, format_duration),
            show_beside(expected.peak_bytes, row.peak_bytes, partial(format_scaled, unit="B")),
            show_beside(expected.bytes_stored, row.bytes_stored, partial(format_scaled, unit="B")),
        ]
        body.append([row.method, str(row.seed), format_scaled(row.tokens, ""), *pairs])
    head = ["method", "seed", "tokens trained", "FLOPs", "time", "peak memory", "stored"]
    origins = sorted({f"{row['label']}, {row['threads']} thread(s)" for row in study.notes["held_out"]})
    of_what = TEXTS["beside"].format(origins="; ".join(origins), parameters=format_scaled(rows[0].parameters, ""))
    return f"{said}\n\n{of_what}\n\n{markdown_table(head, body)}"


def show_beside(predicted: float | None, measured: float | None, show: Callable[[float | None], str]) -> str:
    """``predicted / measured (×ratio)``."""
    ratio = f" (×{measured / predicted:.2f})" if predicted and measured is not None else ""
    return f"{show(predicted)} / {show(measured)}{ratio}"
