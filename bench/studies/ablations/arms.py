"""Ablations that compare arms: the same checkpoint for everybody, controls of the vector, recipes, influence weights."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from bench.core import registry
from bench.records.markdown import markdown_table
from bench.studies.ablations import drawing
from bench.studies.ablations.base import Ablation, AblationPlace, Point, Study
from bench.studies.ablations.grids import lengths
from bench.studies.ablations.past import checkpoints_of, forget_only

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE = "last-before-exposure"
TARGET, REWOUND = "from the target", "from theta_0"


QUARTER = 0.25
"""Rows of the plain fine-tuning, as a share of the target's training."""
RATES = ({"lr": 2e-4}, {"lr": 5e-4}, {"lr": 1e-3})
"""Its learning rates, among which the rule chooses."""


def rewind_points(place: AblationPlace) -> list[Point]:
    """Every baseline from the target and from theta_0, and training on retain rows from both; MSA for comparison."""
    arms = [(name, place.step(name)) for name in ("ga", "graddiff", "npo", "task-arithmetic")]
    msa, alone = place.step("msa"), place.step("msa", beta=0.0)
    own = {name: msa.params[name] for name in ("steps", "lr", "batch", "text_batch")}
    alike = place.step("task-arithmetic", **own)
    points = [
        Point({"series": "arithmetic of both", "method": "msa"}, (msa,)),
        Point({"series": "arithmetic of both", "method": "msa, alpha only"}, (alone,), choices=lengths(place)),
        Point({"series": TARGET, "method": "arithmetic, MSA's recipe"}, (alike,), choices=lengths(place)),
    ]
    for series, start in ((TARGET, ""), (REWOUND, BEFORE)):
        points += [Point({"series": series, "method": name}, (step,), start=start) for name, step in arms]
    points += fine_tuning(place)
    for variant in ("10", "25", "50"):
        points.append(Point({"series": REWOUND, "method": f"rewind@{variant}, all"}, (place.step("rewind", variant),)))
    few = place.step("rewind", "25", retain="forget")
    return [*points, Point({"series": REWOUND, "method": "rewind@25, few"}, (few,))]


def fine_tuning(place: AblationPlace) -> list[Point]:
    """What is fine-tuned from the target on all retain rows and on few of them."""
    lab, batch = registry.load_task(place.task, place.tier)(**place.params), place.step("finetune").params["batch"]
    steps = round(QUARTER * lab.target_steps * lab.step_rows[1] / batch)
    return [
        Point(
            {"series": TARGET, "method": f"fine-tuning, {said}"},
            (place.step("finetune", retain=rows, steps=steps),),
            choices=RATES,
        )
        for rows, said in (("all", "all"), ("forget", "few"))
    ]


def control_points(place: AblationPlace) -> list[Point]:
    """MSA with its own vector and with each control in its place."""
    kinds = ("forget", "others", "shuffled", "random")
    return [Point({"series": "MSA", "vector": kind}, (place.step("msa", beta=0.0, vector=kind),)) for kind in kinds]


def recipe_points(place: AblationPlace) -> list[Point]:
    """The gentle recipe, the authors', and low-rank vectors."""
    arms = {"gentle": place.step("msa"), "official": place.step("msa", "official"), "LoRA": place.step("msa", "lora")}
    return [Point({"series": "MSA", "recipe": name}, (step,), choices=lengths(place)) for name, step in arms.items()]


def rounding(study: Study) -> str:
    """Rounding losses of the official recipe's vector in bfloat16."""
    found = [f.record.facts["notes"]["rounding"] for f in study.points if "rounding" in f.record.facts.get("notes", {})]
    if not found:
        return ""
    mean = {name: fmean(float(item[name]) for item in found) for name in found[0]}
    return (
        "Rounding of the official recipe's forget vector, against the same recipe in float32 (mean over seeds): "
        f"{mean['unchanged']:.1%} of its entries are exactly 0 ({mean['unchanged_in_float32']:.1%} in float32), its relative "
        f"error is {mean['relative_error']:.2f} and its cosine with the exact vector {mean['cosine']:.2f}."
    )


WEIGHTS = ("uniform", "fisher", "gradient", "shuffled-fisher")
PLACES = (2, 4, 7, -1)
"""Of the history's checkpoints, the fresh weights first."""


def influence_points(place: AblationPlace) -> list[Point]:
    """Plain and weighted MSA from checkpoints of several ages."""
    before = checkpoints_of(place)
    return [
        forget_only(place, {"series": kind, "age": kept.age}, kept.rule, weights=kind)
        for kind in WEIGHTS
        for kept in (before[i] for i in PLACES)
    ]


def ages_of(study: Study) -> list[float]:
    """The ages in the study, rising."""
    return sorted({float(finding.at["age"]) for finding in study.points})


def draw_influence(study: Study, ablation: Ablation) -> Figure:
    """Every score over the age, and the rank correlation of the weights."""
    figure, panels = drawing.new_figure(study, ablation, len(study.scores) + 1)
    styles = drawing.series_styles(study, ablation)
    drawing.draw_score_panels(panels, study, ablation, styles)
    axes = panels[-1]
    for series in ("fisher", "gradient"):
        colour, marker = styles[series]
        for name, line in (("rank_correlation_with_target", "-"), ("rank_correlation_with_last", ":")):
            values = {age: correlations(study, series, age, name) for age in ages_of(study)}
            shown = [age for age in values if values[age]]
            means = [fmean(values[age]) for age in shown]
            label = f"{series} {name.removeprefix('rank_correlation_').replace('_', ' ')}"
            axes.plot(shown, means, line, color=colour, marker=marker, ms=4.5, label=label)
    axes.set_ylabel("rank correlation of the weights at theta_0")
    axes.set_xlabel(ablation.x_label)
    drawing.add_legend(figure, panels)
    return figure


def correlations(study: Study, kind: str, age: float, name: str) -> list[float]:
    """A rank correlation of the weights, each seed's."""
    return [
        float(f.record.facts["notes"]["influence"][name])
        for f in study.points
        if f.at["series"] == kind and f.at["age"] == age
    ]


def influence_table(study: Study) -> str:
    """Quantiles, rank correlations, seconds and bytes of the weights."""
    head = ["weights", "age", "mean", "10%", "50%", "90%", "rank corr. with theta_D's", "with the last theta_0's"]
    rows = []
    for kind in ("fisher", "gradient"):
        for age in ages_of(study):
            group = [f for f in study.points if f.at["series"] == kind and f.at["age"] == age]
            notes = [f.record.facts["notes"]["influence"] for f in group]
            stages = [
                sum(s for label, s in f.record.cost["stages"].items() if label.startswith("influence")) for f in group
            ]
            size = fmean(float(note["bytes"]) for note in notes) / 1e6
            cells = [
                fmean(float(note["mean"]) for note in notes),
                *(fmean(float(note["quantiles"][q]) for note in notes) for q in ("0.1", "0.5", "0.9")),
                *(fmean(correlations(study, kind, age, f"rank_correlation_with_{w}")) for w in ("target", "last")),
            ]
            rows.append([kind, f"{age:g}", *(f"{c:.3f}" for c in cells), f"{fmean(stages):.1f}", f"{size:.1f}"])
    said = (
        "The weights: 2 F_forget / (F_forget + F_retain), mean of the estimates at theta_0 and at theta_D; correlations are of "
        "the estimate at theta_0 alone. Seconds include every estimate that a run needed; bytes are of one set of weights."
    )
    return f"{said}\n\n{markdown_table([*head, 'seconds', 'MB'], rows)}"
