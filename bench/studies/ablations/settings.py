"""Ablations of a method's own settings, and how much is lost by choosing them without the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.records.markdown import format_number, markdown_table
from bench.runs import selection
from bench.studies.ablations import drawing
from bench.studies.ablations.base import FRAME, Ablation, AblationPlace, Finding, Point, Study, lines_of
from bench.studies.ablations.grids import values_of
from bench.studies.ablations.past import forget_only

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AS_IT_IS: tuple[dict[str, Any], ...] = ({},)
"""One setting, which leaves nothing to choose: its validation row is kept beside the record."""
SURFACE_ALPHAS = 7
"""Values of alpha between the ends of the search's box; the place's own stands beside them."""
SURFACE_BETAS = (0.0, 0.25, 0.5, 1.0)
TRIED = 5
"""Steps, or learning rates, between the ends of the search's box; the place's own stands beside them."""


def surface_points(place: AblationPlace) -> list[Point]:
    """Every alpha with every beta, on one theta_1 and one theta_2."""
    betas = sorted({*SURFACE_BETAS, place.step("msa").params["beta"]})
    return [
        Point({"alpha": alpha, "beta": beta}, (place.step("msa", alpha=alpha, beta=beta),), choices=AS_IT_IS)
        for alpha in values_of(place, "msa", "alpha", SURFACE_ALPHAS)
        for beta in betas
    ]


def measure_distance(finding: Finding) -> float:
    """How far a finding lies from the oracle: KL on forget plus KL on retain answers, nats; infinitely far: a wreck."""
    parts = [finding.score(name) for name in ("kl_forget", "kl_retain") if name in finding.record.scores]
    return sum(part for part in parts if part is not None) if parts else math.inf


def picks(study: Study) -> str:
    """The choices of the rule and of the oracle on each seed, with the scores there."""
    body = []
    for seed in study.seeds:
        for who, pick in (("the rule", rule_pick), ("the oracle", oracle_pick)):
            found = pick(study, seed)
            scores = ["-" if (value := found.score(name)) is None else f"{value:.3f}" for name in study.scores]
            body.append([str(seed), who, f"{found.at['alpha']:g}", f"{found.at['beta']:g}", *scores])
    return markdown_table(["seed", "who chooses", "alpha", "beta", *study.scores], body)


def draw_surface(study: Study, ablation: Ablation) -> Figure:
    """A map of each score over alpha and beta, with the rule's choice and the oracle's on it."""
    figure, panels = drawing.new_figure(study, ablation, len(study.scores), "means")
    alphas, betas = coordinates(study, "alpha"), coordinates(study, "beta")
    for axes, score in zip(panels, study.scores, strict=True):
        surface(axes, study, score)
        for pick, marker, size, label in (
            (rule_pick, "o", 7, "chosen by the rule, each seed"),
            (oracle_pick, "*", 9, "the oracle's"),
        ):
            at = [pick(study, seed).at for seed in study.seeds]
            x = [alphas.index(a["alpha"]) + 0.09 * (i - 1) for i, a in enumerate(at)]
            y = [betas.index(a["beta"]) + 0.09 * (i - 1) for i, a in enumerate(at)]
            axes.plot(x, y, marker, color="white", markeredgecolor="black", markersize=size, label=label)
    drawing.add_legend(figure, panels)
    return figure


def coordinates(study: Study, column: str) -> list[float]:
    """The values of a column in the study, rising."""
    return sorted({float(finding.at[column]) for finding in study.points})


def surface(axes: Axes, study: Study, score: str) -> None:
    """One map: means over seeds, with their numbers."""
    lines = [line for line in lines_of(study) if "alpha" in line.at]
    means = {(line.at["alpha"], line.at["beta"]): fmean(line.values(score)) for line in lines}
    alphas, betas = coordinates(study, "alpha"), coordinates(study, "beta")
    cells = [[means[alpha, beta] for alpha in alphas] for beta in betas]
    axes.imshow(cells, cmap="viridis", aspect="auto", origin="lower")
    low, high = min(map(min, cells)), max(map(max, cells))
    for j, row in enumerate(cells):
        for i, value in enumerate(row):
            colour = "white" if value < (low + high) / 2 else "black"
            axes.text(i, j + 0.3, format_number(value), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axes.set_xlabel("alpha (forget vector)")
    axes.set_ylabel("beta (retain vector)")
    frames = ", ".join(f"{row} {format_number(fmean(study.framing_values(row, score)))}" for row in FRAME)
    drawing.title_score(axes, study, score, f"\n({frames})")


def rule_pick(study: Study, seed: int) -> Finding:
    """The finding at the alpha and beta that the harness's rule chooses on a seed's validation rows."""
    group = [finding for finding in study.points if finding.seed == seed]
    return group[selection.choose_setting([selection.outcome_of(finding.tried) for finding in group]) or 0]


def oracle_pick(study: Study, seed: int) -> Finding:
    """The finding nearest to the oracle on a seed: what nobody without it can choose."""
    return min((finding for finding in study.points if finding.seed == seed), key=measure_distance)


def forget_only_points(parameter: str) -> Callable[[AblationPlace], list[Point]]:
    """MSA without a retain vector at each value of a parameter, alpha chosen by the rule."""

    def points(place: AblationPlace) -> list[Point]:
        settings: list[dict[str, Any]] = [{parameter: value} for value in values_of(place, "msa", parameter, TRIED)]
        return [forget_only(place, {"series": "MSA"} | own, "last-before-exposure", **own) for own in settings]

    return points


step_points = forget_only_points("steps")
lr_points = forget_only_points("lr")
