"""What choosing a method's strength without the oracle costs: rules beside the oracle's own choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.core.types import Json
from bench.records.looks import COLOURS, MARKERS
from bench.records.markdown import markdown_table, mean_and_range
from bench.runs import selection
from bench.studies.ablations import drawing
from bench.studies.ablations.base import Ablation, AblationPlace, Finding, Point, Study
from bench.studies.ablations.grids import values_of
from bench.studies.ablations.settings import AS_IT_IS, measure_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRENGTHS: Mapping[str, str] = {
    "msa": "alpha",
    "task-arithmetic": "alpha",
    "ga": "steps",
    "graddiff": "steps",
    "npo": "steps",
}
"""The parameter that sets each method's strength; everything else stays at its default."""
TRIED = 7
"""Strengths between the ends of the search's box; the default stands beside them."""

MARGIN = 0.10
"""How far above the oracle's a forget score may stay where the oracle's choice is held to forgetting."""


def regret_points(place: AblationPlace) -> list[Point]:
    """Every strength of every method, and its default where that is another."""
    points = []
    for method, name in STRENGTHS.items():
        default = place.step(method).params[name]
        for value in values_of(place, method, name, TRIED):
            at = {"method": method, "strength": value, "default": value == default}
            points.append(Point(at, (place.step(method, "", **{name: value}),), choices=AS_IT_IS))
    return points


@dataclass(frozen=True)
class ChoiceRule:
    """A way to choose a strength without the oracle."""

    name: str
    meaning: str
    choose: Callable[[Sequence[Finding]], int | None]
    """Index among a method's findings on one seed, by rising strength; None where no strength satisfies it."""


def first_that(holds: Callable[[Finding], bool]) -> Callable[[Sequence[Finding]], int | None]:
    """The rule that takes the weakest setting that works and for which ``holds``."""
    return lambda group: next((i for i, f in enumerate(group) if "broken" not in f.tried[0] and holds(f)), None)


def signals(finding: Finding) -> Json:
    """Losses and AUC of a setting's validation row."""
    found: Json = finding.tried[0]["signals"]
    return found


def by_harness(group: Sequence[Finding]) -> int | None:
    """The harness's own rule; None where every setting is broken."""
    return selection.choose_setting([selection.outcome_of(finding.tried) for finding in group])


RULES = (
    ChoiceRule(
        "harness", "the rule of `bench tune`: the smallest J, which counts what forgetting and utility lack", by_harness
    ),
    ChoiceRule(
        "theta_0's loss",
        "the weakest whose mean loss on forget validation rows has risen to theta_0's",
        first_that(lambda finding: signals(finding)["forget_loss"] >= signals(finding)["theta_0_forget_loss"]),
    ),
    ChoiceRule(
        "membership",
        "the weakest with an AUC of at most .5 on forget validation rows against never-trained ones",
        first_that(lambda finding: signals(finding)["auc"] <= 0.5),
    ),
    ChoiceRule("default", "the default of the settings file", first_that(lambda finding: finding.at["default"])),
)


def findings_by_method_and_seed(study: Study) -> dict[tuple[str, int], list[Finding]]:
    """(method, seed) -> its findings by rising strength."""
    found: dict[tuple[str, int], list[Finding]] = {}
    for finding in sorted(study.points, key=lambda f: float(f.at["strength"])):
        found.setdefault((finding.at["method"], finding.seed), []).append(finding)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Regret:
    """The cost of a rule's choice beside the oracle's own, on one seed."""

    method: str
    rule: str
    seed: int
    nats: float | None
    """`away` of the choice minus that of the oracle's choice, negative where that is held to more; None: not reached."""
    strength: float | None
    best: float
    """The strength that the oracle would choose."""
    edge: bool = False
    """Whether the strength is the weakest or the strongest of those tried."""


def has_forgotten(study: Study, finding: Finding) -> bool:
    """Whether the first forgetting score lies at most `MARGIN` above the oracle's, on the finding's seed."""
    (score, *_) = finding.record.facts["forgetting"]
    oracle = next(f.score(score) for f in study.framing("oracle") if f.seed == finding.seed)
    mine = finding.score(score)
    if mine is None or oracle is None:
        return False
    return round(mine - oracle - MARGIN, 9) <= 0  # .8 is .1 above .7


def compute_regrets(study: Study, must_forget: bool = False) -> list[Regret]:
    """Every method, rule and seed, beside the strength nearest to the oracle; with ``must_forget`` the nearest of those
    that have forgotten, where there are any.
    """
    found = []
    for (method, seed), group in findings_by_method_and_seed(study).items():
        fit = [finding for finding in group if has_forgotten(study, finding)] if must_forget else []
        best = min(fit or group, key=measure_distance)
        for rule in RULES:
            index = rule.choose(group)
            nats = None if index is None else measure_distance(group[index]) - measure_distance(best)
            strength = None if index is None else float(group[index].at["strength"])
            edge = index in (0, len(group) - 1)
            found.append(Regret(method, rule.name, seed, nats, strength, float(best.at["strength"]), edge))
    return found


def regret_table(study: Study) -> str:
    """Regret of every rule for every method, and what was chosen, beside both of the oracle's choices."""
    intro = (
        "Regret: KL to the oracle on forget plus retain answers at the rule's choice, minus that at the oracle's choice; nats, "
        "mean over seeds (smallest–largest). In brackets the strengths chosen, seed by seed."
    )
    free = "The oracle's choice is the strength with the smallest such KL, whatever is still known:"
    held = f"The oracle's choice is the one with the smallest KL of those that have forgotten (to within {MARGIN}):"
    rules = "\n".join(f"- {rule.name}: {rule.meaning}." for rule in RULES)
    by_distance, forgotten = (table_of_regrets(compute_regrets(study, must)) for must in (False, True))
    return "\n\n".join([intro, free, by_distance, held, forgotten, rules])


def table_of_regrets(found: Sequence[Regret]) -> str:
    """One line a method, one column a rule."""
    body = []
    for method in STRENGTHS:
        groups = {rule.name: [one for one in found if (one.method, one.rule) == (method, rule.name)] for rule in RULES}
        best = ", ".join(f"{one.best:g}" for one in groups[RULES[0].name])
        body.append([method, best, *(regret_cell(group) for group in groups.values())])
    return markdown_table(["method", "the oracle's strengths", *(rule.name for rule in RULES)], body)


def regret_cell(group: Sequence[Regret]) -> str:
    """A rule's regret over the seeds, the strengths that it chose, and whether one of these is an end of what was tried."""
    reached = [one.nats for one in group if one.nats is not None]
    chosen = ", ".join("not reached" if one.strength is None else f"{one.strength:g}" for one in group)
    few = f" n={len(reached)}" if 0 < len(reached) < len(group) else ""
    edge = " (edge)" if any(one.edge for one in group) else ""
    return f"{mean_and_range(reached)}{few} [{chosen}]{edge}"


def draw_regret(study: Study, ablation: Ablation) -> Figure:
    """Each method's curve of distance over strength with the rules' choices, and the regret of every rule."""
    figure, panels = drawing.new_figure(study, ablation, len(STRENGTHS) + 1, "a line each")
    *curves, last = panels
    groups, found = findings_by_method_and_seed(study), compute_regrets(study)
    for axes, (method, name) in zip(curves, STRENGTHS.items(), strict=True):
        for seed in study.seeds:
            draw_choices(axes, groups[method, seed])
        at = [finding.at["strength"] for finding in groups[method, study.seeds[-1]]]
        axes.set_xscale("log")
        axes.set_xticks(at, [f"{value:g}" for value in at], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel(f"{method}: {name}")
        axes.set_ylabel("KL forget + retain ↓ [nats]")
    for i, method in enumerate(STRENGTHS):
        for j, (rule, style) in enumerate(_rule_styles()):
            nats = [one.nats for one in found if (one.method, one.rule) == (method, rule.name)]
            costs = [value for value in nats if value is not None]
            last.plot([i + 0.16 * (j - 1.5)] * len(costs), costs, **style, linestyle="none", ms=5)
    last.set_xticks(range(len(STRENGTHS)), list(STRENGTHS), rotation=35, ha="right", fontsize=8)
    last.set_ylabel("regret [nats], each seed")
    drawing.add_legend(figure, panels)
    return figure


def _rule_styles() -> list[tuple[ChoiceRule, dict[str, Any]]]:
    return [(rule, {"color": COLOURS[i], "marker": MARKERS[i]}) for i, rule in enumerate(RULES)]


def draw_choices(axes: Axes, group: Sequence[Finding]) -> None:
    """One seed's distances over strength in grey, and on them what each rule chooses."""
    axes.plot([f.at["strength"] for f in group], [measure_distance(f) for f in group], color="#BBBBBB", zorder=1)
    for rule, style in _rule_styles():
        index = rule.choose(group)
        if index is not None:
            found = group[index]
            mark = style | {"linestyle": "none", "ms": 6, "label": rule.name, "zorder": 3}
            axes.plot(found.at["strength"], measure_distance(found), **mark)
