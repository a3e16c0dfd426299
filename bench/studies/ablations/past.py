"""Ablations of the model's past: how far back theta_0 may lie, how often it must have been stored, what a checkpoint
from during exposure is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.core import registry
from bench.core.contracts import TaskInputs
from bench.core.record import Step
from bench.records.names import score_name
from bench.studies.ablations import drawing
from bench.studies.ablations.base import FRAME, Ablation, AblationPlace, Finding, Point, Study, lines_of
from bench.studies.ablations.grids import lengths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNTIL = 0.05
"""Loss on the forget rows, in nats per token, to which theta_1 is trained where its steps aren't fixed."""
MOST_STEPS = 600
FIXED, REACHED = "theta_1 with fixed steps", f"theta_1 until its loss is {UNTIL}"
PLACE_COLUMNS = {
    "step": ("step", None),
    "tokens": ("tokens", None),
    "distance": ("distance_to_target", 3),
    "from the last": ("distance_to_last", 3),
}
"""Column -> the fact of theta_0 that stands there, and the digits to which it is rounded."""
STORED_EVERY = (1, 2, 5, 10)
"""Of the checkpoints after the fresh weights every n-th, the last one among them."""


@dataclass(frozen=True)
class Kept:
    """A checkpoint of pretraining that the place's history keeps."""

    step: int
    age: float
    """Share of pretraining behind it."""

    @property
    def rule(self) -> str:
        """What names it (`bench.assets.history.choose_moment`)."""
        return f"step={self.step}"


def checkpoints_of(place: AblationPlace) -> list[Kept]:
    """The checkpoints of the place's pretraining, the fresh weights first."""
    lab = registry.load_task(place.task, place.tier)(**place.params)
    return [Kept(step, round(step / lab.history_steps, 3)) for step in (0, *lab.history_kept)]


def forget_only(
    place: AblationPlace, at: Mapping[str, Any], before: str, task: Mapping[str, Any] | None = None, **changed: Any
) -> Point:
    """MSA without a retain vector, from the checkpoint of the rule ``before``; alpha is chosen."""
    return Point(at, (place.step("msa", beta=0.0, before=before, **changed),), task or {}, choices=lengths(place))


def grid(place: AblationPlace) -> list[Point]:
    """MSA with fixed steps from every checkpoint of the history."""
    return [forget_only(place, {"series": FIXED, "age": kept.age}, kept.rule) for kept in checkpoints_of(place)]


def distance_points(place: AblationPlace) -> list[Point]:
    """The grid, every second of its checkpoints with theta_1 trained to one loss, and each theta_1 by itself."""
    trained: dict[str, Any] = {"until": UNTIL, "steps": MOST_STEPS}
    seconds = checkpoints_of(place)[::2]
    reached = [forget_only(place, {"series": REACHED, "age": kept.age}, kept.rule, **trained) for kept in seconds]
    points = [*grid(place), *reached]
    return [*points, *(keep_point(point) for point in points)]


def keep_point(point: Point) -> Point:
    """The theta_1 of a point's MSA, to be looked at: the same training from the same checkpoint, and no arithmetic."""
    msa = point.steps[0].params
    kind = registry.load_component("methods", "finetune")
    shared = {name: msa[name] for name in ("steps", "lr", "batch", "text_batch", "until")}
    step = Step("finetune", {**registry.default_params(kind), **shared, "rows_of": "forget"})
    return Point({**point.at, "row": "theta_1"}, (step,), point.task, start=msa["before"])


def with_places(study: Study) -> list[Finding]:
    """MSA's findings with where their theta_0 lies, and with theta_1's own score on the forget set."""
    score = study.findings[0].record.facts["headline"][0]
    own = {
        (f.at["series"], f.at["age"], f.seed): f.score(score) for f in study.findings if f.at.get("row") == "theta_1"
    }
    kept = tuple(f for f in study.findings if f.at.get("row") != "theta_1")
    made: list[Finding] = []
    for line in lines_of(replace(study, findings=kept)):
        at, group = dict(line.at), line.findings
        if at.get("row") not in FRAME:
            places = [finding.record.facts["theta_0"] for finding in group]
            for column, (fact, digits) in PLACE_COLUMNS.items():
                at[column] = round(fmean(place[fact] for place in places), digits)
            mine = [own[at["series"], at["age"], finding.seed] for finding in group if own]
            if mine:
                at["theta_1's own"] = round(fmean(value for value in mine if value is not None), 3)
        made += [replace(finding, at=at) for finding in group]
    return made


def draw_distance(study: Study, ablation: Ablation) -> Figure:
    """Every score over the age, and beside them theta_1 itself and the distance in tokens and in parameters."""
    scores = study.scores
    figure, panels = drawing.new_figure(study, ablation, len(scores) + 3)
    styles = drawing.series_styles(study, ablation)
    drawing.draw_score_panels(panels, study, ablation, styles)
    own, tokens, parameters = panels[len(scores) :]
    for series, (colour, marker) in styles.items():
        rows = [line for line in lines_of(study) if line.at.get("series") == series]
        rows.sort(key=lambda line: line.at["age"])
        if rows and "theta_1's own" in rows[0].at:
            ages, scored = [r.at["age"] for r in rows], [r.at["theta_1's own"] for r in rows]
            own.plot(ages, scored, color=colour, marker=marker, ms=4.5)
        values = [row.values("kl_forget") for row in rows]
        for axes, column in ((tokens, "tokens"), (parameters, "distance")):
            at = [r.at[column] for r in rows]
            axes.plot(at, [fmean(v) for v in values], color=colour, marker=marker, ms=4.5)
            axes.vlines(at, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.5, linewidth=1.2)
    own.set_title(f"theta_1's own {score_name(scores[0])} (mean)", fontsize=9)
    own.set_xlabel(ablation.x_label)
    tokens.set_xlabel("theta_0: tokens trained on")
    tokens.locator_params(axis="x", nbins=5)  # they have six digits
    parameters.set_xlabel("distance of theta_0 from the target [2-norm]")
    for axes in (tokens, parameters):
        drawing.draw_framing(axes, study, "kl_forget")
        drawing.title_score(axes, study, "kl_forget")
        axes.set_ylabel(study.about("kl_forget")["unit"])
    drawing.add_legend(figure, panels)
    return figure


def frequency_findings(study: Study) -> list[Finding]:
    """For each storing interval, the grid's results at the checkpoints that could have been the last one stored."""
    kind = registry.load_task(study.place.task, study.place.tier)
    size = 4 * kind(**study.place.params).outline(TaskInputs(study.place.tier)).parameters
    made = [finding for finding in study.findings if finding.at.get("row") in FRAME]
    newest_first = [kept.age for kept in checkpoints_of(study.place)][::-1]
    for every in STORED_EVERY:
        ages = newest_first[:every]  # exposure may begin at any of these, the last one stored being the oldest
        stored = (len(newest_first) - 1) // every + 1
        at = {"series": "MSA", "every": every, "stored": stored, "megabytes": round(stored * size / 1e6, 2)}
        made += [replace(f, at=at, chosen={}) for f in study.points if f.at["age"] in ages]
    return made


EXPOSED = 6


def exposure_points(place: AblationPlace) -> list[Point]:
    """MSA from before, at and during the target's own training on the forget set."""
    lab = registry.load_task(place.task, place.tier)(**place.params)
    pretraining, target = lab.history_steps, lab.target_steps
    task = {"exposed": EXPOSED}
    before = checkpoints_of(place)
    points = []
    for kept in (before[len(before) // 2], *before[-2:]):
        at = {"series": "before exposure", "steps after": kept.step - pretraining}
        points.append(forget_only(place, at, kept.rule, task))
    for k in range(1, EXPOSED + 1):
        after = max(1, round(target * k / EXPOSED))
        at = {"series": "during and after exposure", "steps after": after}
        points.append(forget_only(place, at, f"step={pretraining + after}", task))
    return points
