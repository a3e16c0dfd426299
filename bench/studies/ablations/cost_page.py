"""The page of the ablation of size, under its table of scores: nearness to the oracle, costs, the held-out model, and the
extrapolation with its assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.runs.estimate import BYTES_PER_PARAMETER
from bench.studies.ablations.base import Study
from bench.studies.ablations.costing import (
    CARD_BYTES,
    COSTED,
    DISK_BYTES,
    FORGET_ROWS,
    HELD_OUT,
    LOADS,
    MERGE_BYTES,
    METHODS,
    PASSES,
    PEAK_FLOPS,
    RETAIN_ROWS,
    ROW_TOKENS,
    SIZES,
    UTILISATION,
    WEIGHT_BYTES,
    Cost,
    Rules,
    gpu_seconds,
    held_out,
    ladder,
    predict,
    rules,
)
from bench.studies.markdown import markdown_table

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def scaled(value: float | None, unit: str) -> str:
    """A quantity with three digits and a decimal prefix: ``1.23 TFLOP``."""
    if value is None:
        return "—"
    power = 0
    while abs(value) / 1000**power >= 999.5 and power < len(PREFIXES) - 1:
        power += 1
    return f"{value / 1000**power:.3g} {PREFIXES[power]}{unit}".rstrip()


def duration(seconds: float | None) -> str:
    """In the unit that reads best."""
    if seconds is None:
        return "—"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def between(values: Sequence[float], unit: str) -> str:
    """Mean, and the range over seeds where there is one."""
    middle = scaled(fmean(values), unit)
    low, high = scaled(min(values), unit), scaled(max(values), unit)
    return middle if low == high else f"{middle} ({low}–{high})"


def report(study: Study) -> str:
    """The parts under the table of scores."""
    costs = ladder(study)
    parts = [heading("Does size help?", nearness(study))]
    if not costs:
        return "\n\n".join([*parts, "No record of this study counts FLOPs: make its runs again for the costs."])
    rule = rules(costs)
    parts += [
        heading("What each method costs on the ladder", measured_table(study, costs)),
        heading(f"The held-out point: {HELD_OUT}", held_out_table(study, rule)),
        heading("Larger models, extrapolated", larger(rule)),
    ]
    return "\n\n".join(parts)


def heading(title: str, text: str) -> str:
    """A section."""
    return f"## {title}\n\n{text}"


@dataclass(frozen=True)
class Trend:
    """How far a method's score lies from the oracle's at the same width and seed, over the ladder."""

    narrow: float
    """At the smallest width, mean over seeds."""
    wide: float
    slopes: tuple[float, ...]
    """Of each seed: change for each doubling of the width, least squares; below zero it comes nearer."""


def trend(study: Study, method: str, score: str) -> Trend | None:
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
    x = [math.log2(width) for width in gaps]
    middle, level = fmean(x), fmean(gaps.values())
    return sum((a - middle) * (gap - level) for a, gap in zip(x, gaps.values(), strict=True)) / sum(
        (a - middle) ** 2 for a in x
    )


def nearness(study: Study) -> str:
    """Every method's gap to the oracle from the narrowest to the widest, and its change for each doubling."""
    scores = study.scores
    body = []
    for method in METHODS:
        found = [trend(study, method, score) for score in scores]
        body.append([method, *("—" if t is None else trend_cell(t) for t in found)])
    return "\n\n".join(
        [
            "Distance of each score from the oracle's at the same width and seed, |method − oracle|: at the smallest width → "
            "at the largest (change for each doubling, by least squares over all widths, mean over seeds; in "
            "brackets the range). **Bold** where "
            "every seed says nearer or every seed says farther. The settings were searched at width 192, so that a method "
            "may suffer at the ends because they don't fit there.",
            markdown_table(["method", *scores], body),
        ]
    )


def trend_cell(found: Trend) -> str:
    """``0.21 → 0.12 (−0.06 [−0.08, −0.05])``."""
    from bench.records.leaderboard import number

    change = signed(fmean(found.slopes))
    if len(found.slopes) > 1:
        change += f" [{signed(min(found.slopes))}, {signed(max(found.slopes))}]"
        if max(found.slopes) < 0 or min(found.slopes) > 0:
            change = f"**{change}**"
    return f"{number(found.narrow)} → {number(found.wide)} ({change})"


def signed(change: float) -> str:
    """A change to three places; a smaller one is none."""
    return f"{change:+.3f}" if abs(change) >= 5e-4 else "0"


def measured_table(study: Study, costs: Sequence[Cost]) -> str:
    """Every method at every size."""
    threads = ", ".join(sorted({str(finding.record.provenance.get("threads", "?")) for finding in study.points}))
    left_out = sum("flops" not in f.record.cost for f in study.points if f.at.get("series") in COSTED)
    body = []
    for method in COSTED:
        for width in sorted({cost.width for cost in costs if cost.method == method}):
            group = [cost for cost in costs if (cost.method, cost.width) == (method, width)]
            body.append(
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
            )
    said = (
        "Means over seeds (smallest–largest). Held fixed: two layers, vocabulary, rows, steps and batches. Seconds are of "
        f"the method's own stages on {threads} thread(s), and vary with whatever else the machine did; FLOPs are trained tokens "
        "times a count by torch of the matrix products of one batch, and the sum's two operations a term and parameter; "
        "the peak is the process's resident memory, with Python and torch in it, while training or measuring; bytes are "
        "those that the method leaves in the store. The oracle's row is its retraining."
    )
    if left_out:
        said += f" {left_out} run(s) with records from before FLOPs were counted are left out."
    head = ["method", "width", "parameters", "n", "tokens trained", "seconds", "FLOPs", "peak memory", "stored"]
    return f"{said}\n\n{markdown_table(head, body)}"


def held_out_table(study: Study, rule: Rules) -> str:
    """The fits, and predicted beside measured for the held-out model."""
    fits = [
        f"{method} {found.overhead:.2g} s + FLOPs / {scaled(found.rate, 'FLOP/s')}"
        if found
        else f"{method}: seconds don't grow with FLOPs, so that nothing is predicted"
        for method, found in rule.fits.items()
    ]
    said = (
        f"Fitted to the ladder alone: seconds = overhead + FLOPs / rate for each method ({'; '.join(fits)}); FLOPs = "
        f"{rule.per_parameter:.3g} for each parameter and token, as counted at the largest width; peak = "
        f"{BYTES_PER_PARAMETER} bytes a parameter (float32 weights, gradients and AdamW's moments) and the mean of what "
        "the ladder's processes take beside that; stored = 4 bytes a parameter and a tokenizer for each checkpoint. Taken "
        "from the real record: its parameters, trained tokens and checkpoints. "
        "The rate is that of small matrices: larger ones run faster, so that a measured time below the predicted one is to "
        "be expected. Activations and logits "
        "are not in the predicted peak: they grow with depth, batch and vocabulary, which the ladder "
        "holds fixed, and GradDiff and NPO hold those of a forget and of a retain batch at once."
    )
    rows = held_out(study)
    if not rows:
        return f"{said}\n\n{MISSING}"
    body = [
        [row.method, str(row.seed), scaled(row.tokens, "")]
        + [
            beside(predicted, measured, show)
            for predicted, measured, show in (
                (expected.flops, row.flops, lambda v: scaled(v, "FLOP")),
                (expected.seconds, row.seconds, duration),
                (expected.peak_bytes, row.peak_bytes, lambda v: scaled(v, "B")),
                (expected.bytes_stored, row.bytes_stored, lambda v: scaled(v, "B")),
            )
        ]
        for row in rows
        for expected in [predict(row, rule)]
    ]
    head = ["method", "seed", "tokens trained", "FLOPs", "time", "peak memory", "stored"]
    origins = sorted({f"{row['label']}, {row['threads']} thread(s)" for row in study.notes["held_out"]})
    return (
        f"{said}\n\nPredicted / measured (ratio of measured to predicted); {'; '.join(origins)}; "
        f"{scaled(rows[0].parameters, '')} parameters.\n\n{markdown_table(head, body)}"
    )


MISSING = (
    f"There were no real records of {HELD_OUT} on TOFU in `results/` when this study was written, so that nothing is held "
    "out: publish them and run the ablation's command again."
)


def beside(predicted: float | None, measured: float | None, show: Callable[[float | None], str]) -> str:
    """``predicted / measured (×ratio)``."""
    ratio = f" (×{measured / predicted:.2f})" if predicted and measured is not None else ""
    return f"{show(predicted)} / {show(measured)}{ratio}"


def larger(rule: Rules) -> str:
    """The extrapolation with its assumptions."""
    sizes = [
        [
            name,
            scaled(BYTES_PER_PARAMETER * n, "B"),
            str(math.ceil(BYTES_PER_PARAMETER * n / CARD_BYTES)),
            scaled(WEIGHT_BYTES * n, "B"),
            scaled(MERGE_BYTES * n, "B"),
        ]
        for name, n in SIZES.items()
    ]
    body = []
    for name, n in SIZES.items():
        for method, load in LOADS.items():
            flops = load.flops(n, rule.per_parameter)
            body.append(
                [
                    name,
                    method,
                    scaled(load.tokens, ""),
                    scaled(flops, "FLOP"),
                    duration(gpu_seconds(flops)),
                    f"{scaled(load.kept * WEIGHT_BYTES * n, 'B')} / {scaled(load.kept * MERGE_BYTES * n, 'B')}"
                    if load.kept
                    else "0",
                    duration(load.disk_seconds(n)) if load.terms else "—",
                ]
            )
    head = ["size", "method", "tokens", "FLOPs", "H100 time", "kept beside (float32 / bfloat16)", "merge on disk"]
    memory = ["size", "memory for training", "80 GB cards for it", "a checkpoint, float32", "bfloat16"]
    return "\n\n".join(
        [
            "Arithmetic with assumptions; nothing here was measured, and how well a method works at these sizes is not said.",
            "\n".join(f"- {text}" for text in assumptions(rule)),
            markdown_table(memory, sizes),
            markdown_table(head, body),
        ]
    )


def assumptions(rule: Rules) -> list[str]:
    """Every constant of the extrapolation, in words."""
    return [
        f"{rule.per_parameter:.3g} FLOPs for each parameter and token, as the ladder's largest width has it; dense models, and "
        f"rows so short that attention adds little.",
        f"TOFU forget10: {FORGET_ROWS} forget and {RETAIN_ROWS:,} retain rows of {ROW_TOKENS} tokens, {PASSES} passes "
        "everywhere (the authors' script; OpenUnlearning trains its target for 5).",
        "MSA trains two vectors, theta_2 on as many retain rows as there are forget rows; task arithmetic one; GradDiff and "
        "NPO take a retain row with each forget row; GA takes all passes, though it is usually stopped sooner. One run at "
        "one setting: no search.",
        f"An H100 at {UTILISATION:.0%} of {scaled(PEAK_FLOPS, 'FLOP/s')} (bfloat16, dense), with no loss from sharding over "
        "several.",
        f"Training takes {BYTES_PER_PARAMETER} bytes a parameter (float32 weights, gradients, AdamW's moments); activations "
        "come on top. NPO holds no second model: its reference is computed once, in one more forward pass that is left out. "
        "The arithmetic needs a few megabytes, as it streams.",
        f"Kept beside target and result: theta_0, theta_1 and theta_2 for MSA, the tuned model for task arithmetic, the "
        f"checkpoint before for oracle and target. Each {WEIGHT_BYTES} bytes a parameter in float32, {MERGE_BYTES} in "
        "bfloat16.",
        f"The merge reads every term and writes the result in bfloat16 at {scaled(DISK_BYTES, 'B/s')} from one disk, which is "
        "all of its time.",
        "Pretraining and the rest of the model's history are taken as given, and nobody's cost here; the oracle is "
        "the target's fine-tuning without the forget rows.",
    ]
