"""Ablations of a method's own settings, and how much is lost by choosing them without the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.core.types import Json
from bench.runs import selection
from bench.studies.ablations import drawing
from bench.studies.ablations.base import Ablation, Finding, Place, Point, Study, lines_of
from bench.studies.ablations.past import forget_only, lengths
from bench.studies.markdown import markdown_table, mean_and_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AS_IT_IS: tuple[dict[str, Any], ...] = ({},)
"""One setting, which leaves nothing to choose: its validation row is kept beside the record."""
SURFACE_ALPHAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
SURFACE_BETAS = (0.0, 0.25, 0.5, 1.0)


def surface_points(place: Place) -> list[Point]:
    """Every alpha with every beta, on one theta_1 and one theta_2."""
    return [
        Point({"alpha": alpha, "beta": beta}, (place.step("msa", alpha=alpha, beta=beta),), choices=AS_IT_IS)
        for alpha in SURFACE_ALPHAS
        for beta in SURFACE_BETAS
    ]


def away(finding: Finding) -> float:
    """How far a finding lies from the oracle: KL on forget plus KL on retain answers, nats."""
    parts = [finding.score(name) for name in ("kl_forget", "kl_retain") if name in finding.record.scores]
    return sum(part for part in parts if part is not None)


def picks(study: Study) -> str:
    """What the rule and the oracle choose on each seed, and the scores there."""
    body = []
    for seed in study.seeds:
        for who, pick in (("the rule", rule_pick), ("the oracle", oracle_pick)):
            alpha, beta = pick(study, seed)
            at = next(f for f in study.points if f.seed == seed and (f.at["alpha"], f.at["beta"]) == (alpha, beta))
            scores = [f"{at.score(name):.3f}" for name in study.scores]
            body.append([str(seed), who, f"{alpha:g}", f"{beta:g}", *scores])
    return markdown_table(["seed", "who chooses", "alpha", "beta", *study.scores], body)


def draw_surface(study: Study, ablation: Ablation) -> Figure:
    """A map of each score over alpha and beta, with the rule's choice and the oracle's on it."""
    figure, panels = drawing.grid(study, ablation, len(study.scores), "means")
    for axes, score in zip(panels, study.scores, strict=True):
        surface(axes, study, score)
        for find, marker, label in (
            (rule_pick, "o", "chosen by the rule, each seed"),
            (oracle_pick, "*", "the oracle's"),
        ):
            at = [find(study, seed) for seed in study.seeds]
            x = [SURFACE_ALPHAS.index(a) + 0.09 * (i - 1) for i, (a, _) in enumerate(at)]
            y = [SURFACE_BETAS.index(b) + 0.09 * (i - 1) for i, (_, b) in enumerate(at)]
            axes.plot(
                x, y, marker, color="white", markeredgecolor="black", markersize=9 if marker == "*" else 7, label=label
            )
    drawing.legend(figure, panels)
    return figure


def surface(axes: Axes, study: Study, score: str) -> None:
    """One map: means over seeds, with their numbers."""
    from bench.records.leaderboard import arrow, number

    means = {
        (line.at["alpha"], line.at["beta"]): fmean(line.values(score)) for line in lines_of(study) if "alpha" in line.at
    }
    cells = [[means[alpha, beta] for alpha in SURFACE_ALPHAS] for beta in SURFACE_BETAS]
    axes.imshow(cells, cmap="viridis", aspect="auto", origin="lower")
    low, high = min(map(min, cells)), max(map(max, cells))
    for j, row in enumerate(cells):
        for i, value in enumerate(row):
            dark = value < (low + high) / 2
            axes.text(
                i, j + 0.3, number(value), ha="center", va="center", fontsize=7, color="white" if dark else "black"
            )
    axes.set_xticks(range(len(SURFACE_ALPHAS)), [f"{alpha:g}" for alpha in SURFACE_ALPHAS])
    axes.set_yticks(range(len(SURFACE_BETAS)), [f"{beta:g}" for beta in SURFACE_BETAS])
    axes.set_xlabel("alpha (forget vector)")
    axes.set_ylabel("beta (retain vector)")
    goal = study.findings[0].record.metrics[score]["goal"]
    frames = ", ".join(
        f"{row} {number(fmean([v for f in study.framing(row) if (v := f.score(score)) is not None]))}"
        for row in ("target", "oracle")
    )
    axes.set_title(f"{score} {arrow(goal)}\n({frames})", fontsize=9)


def rule_pick(study: Study, seed: int) -> tuple[float, float]:
    """(alpha, beta) of the harness's rule on a seed's validation rows."""
    group = [finding for finding in study.points if finding.seed == seed]
    index = selection.choose([selection.average(finding.tried) for finding in group]).index
    return group[index].at["alpha"], group[index].at["beta"]


def oracle_pick(study: Study, seed: int) -> tuple[float, float]:
    """(alpha, beta) nearest to the oracle on a seed: what nobody without it can choose."""
    best = min((finding for finding in study.points if finding.seed == seed), key=away)
    return best.at["alpha"], best.at["beta"]


def step_points(place: Place) -> list[Point]:
    """theta_1 trained for a few or for many steps."""
    return [
        Point(
            {"series": "MSA", "steps": steps},
            (forget_only(place, "last-before-exposure", steps=steps),),
            choices=lengths(place),
        )
        for steps in (20, 60, 150, 300, 600)
    ]


def lr_points(place: Place) -> list[Point]:
    """theta_1 trained gently or hotly."""
    return [
        Point({"series": "MSA", "lr": lr}, (forget_only(place, "last-before-exposure", lr=lr),), choices=lengths(place))
        for lr in (1e-4, 2e-4, 5e-4, 1e-3)
    ]


# --- regret

STRENGTHS: dict[str, tuple[dict[str, Any], ...]] = {
    "msa": tuple({"alpha": alpha} for alpha in (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)),
    "task-arithmetic": tuple({"alpha": alpha} for alpha in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)),
    "ga": tuple({"steps": steps} for steps in (20, 40, 60, 80, 100, 120, 150)),
    "graddiff": tuple({"steps": steps} for steps in (15, 30, 60, 120, 180, 240, 360)),
    "npo": tuple({"steps": steps} for steps in (20, 40, 60, 90, 120, 180, 240)),
}
"""Seven strengths of every method; everything else stays at its default."""


def regret_points(place: Place) -> list[Point]:
    """Every strength of every method, and its default where that is another."""
    points = []
    for method, strengths in STRENGTHS.items():
        default = place.step(method)
        (name,) = strengths[0]
        tried = [s[name] for s in strengths]
        tried += [] if default.params[name] in tried else [default.params[name]]
        for value in sorted(tried):
            at = {"method": method, "strength": value, "default": value == default.params[name]}
            points.append(Point(at, (place.step(method, **{name: value}),), choices=AS_IT_IS))
    return points


@dataclass(frozen=True)
class Rule:
    """A way to choose a strength without the oracle."""

    name: str
    meaning: str
    choose: Callable[[Sequence[Finding]], int | None]
    """Index among a method's findings on one seed, by rising strength; None where no strength satisfies it."""


def first_that(holds: Callable[[Json], bool]) -> Callable[[Sequence[Finding]], int | None]:
    """The weakest setting whose validation row satisfies ``holds``."""
    return lambda group: next((i for i, finding in enumerate(group) if holds(finding.tried[0])), None)


def by_harness(group: Sequence[Finding]) -> int | None:
    """The harness's own rule; None where nothing has forgotten."""
    choice = selection.choose([selection.average(finding.tried) for finding in group])
    return choice.index if choice.forgotten else None


RULES = (
    Rule("harness", "the rule of `bench tune`: forgotten, then the highest utility", by_harness),
    Rule(
        "theta_0's loss",
        "the weakest whose mean loss on forget validation rows has risen to theta_0's",
        first_that(lambda row: row["signals"]["forget_loss"] >= row["signals"]["theta_0_forget_loss"]),
    ),
    Rule(
        "membership",
        "the weakest with an AUC of at most .5 on forget validation rows against never-trained ones",
        first_that(lambda row: row["signals"]["auc"] <= 0.5),
    ),
    Rule("default", "the published default, searched on other seeds", lambda group: default_of(group)),
)


def default_of(group: Sequence[Finding]) -> int | None:
    """The setting that `bench run` takes."""
    return next((i for i, finding in enumerate(group) if finding.at["default"]), None)


def groups_of(study: Study) -> dict[tuple[str, int], list[Finding]]:
    """(method, seed) -> its findings by rising strength."""
    found: dict[tuple[str, int], list[Finding]] = {}
    for finding in sorted(study.points, key=lambda f: float(f.at["strength"])):
        found.setdefault((finding.at["method"], finding.seed), []).append(finding)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Regret:
    """What a rule's choice costs beside the oracle's own, on one seed."""

    method: str
    rule: str
    seed: int
    nats: float | None
    """`away` of the choice minus that of the oracle's choice, negative where that is held to more; None: not reached."""
    strength: float | None
    best: float
    """The strength that the oracle would choose."""


def forgotten(study: Study, finding: Finding) -> bool:
    """Whether the first forgetting score lies at most the rule's margin above the oracle's, on the finding's seed."""
    (score, *_) = finding.record.facts["forgetting"]
    oracle = next(f.score(score) for f in study.framing("oracle") if f.seed == finding.seed)
    mine = finding.score(score)
    if mine is None or oracle is None:
        return False
    return round(mine - oracle - selection.MARGIN, 9) <= 0  # as the rule rounds: .8 is .1 above .7


def regrets(study: Study, must_forget: bool = False) -> list[Regret]:
    """Every method, rule and seed, beside the strength nearest to the oracle; with ``must_forget`` the nearest of those
    that have forgotten, where there are any.
    """
    found = []
    for (method, seed), group in groups_of(study).items():
        fit = [finding for finding in group if forgotten(study, finding)] if must_forget else []
        best = min(fit or group, key=away)
        for rule in RULES:
            index = rule.choose(group)
            picked = None if index is None else group[index]
            found.append(
                Regret(
                    method,
                    rule.name,
                    seed,
                    None if picked is None else away(picked) - away(best),
                    None if picked is None else float(picked.at["strength"]),
                    float(best.at["strength"]),
                )
            )
    return found


def regret_table(study: Study) -> str:
    """Regret of every rule for every method, and what was chosen, beside both of the oracle's choices."""
    intro = (
        "Regret: KL to the oracle on forget plus retain answers at the rule's choice, minus that at the oracle's choice; nats, "
        "mean over seeds (smallest–largest). In brackets the strengths chosen, seed by seed."
    )
    free = "The oracle's choice is the strength with the smallest such KL, whatever is still known:"
    held = f"The oracle's choice is the one with the smallest KL of those that have forgotten (to within {selection.MARGIN}):"
    rules = "\n".join(f"- {rule.name}: {rule.meaning}." for rule in RULES)
    tables = [free, table_of(regrets(study)), held, table_of(regrets(study, must_forget=True))]
    return "\n\n".join([intro, *tables, rules])


def table_of(all_found: Sequence[Regret]) -> str:
    """One line a method, one column a rule."""
    body = []
    for method in STRENGTHS:
        mine = [item for item in all_found if item.method == method]
        best = ", ".join(f"{item.best:g}" for item in mine if item.rule == RULES[0].name)
        cells = []
        for rule in RULES:
            group = [item for item in mine if item.rule == rule.name]
            reached = [item.nats for item in group if item.nats is not None]
            chosen = ", ".join("not reached" if item.strength is None else f"{item.strength:g}" for item in group)
            few = f" n={len(reached)}" if 0 < len(reached) < len(group) else ""
            ends = [STRENGTHS[method][k][next(iter(STRENGTHS[method][0]))] for k in (0, -1)]
            edge = " (edge)" if any(item.strength in ends for item in group) else ""
            cells.append(f"{mean_and_range(reached)}{few} [{chosen}]{edge}")
        body.append([method, best, *cells])
    return markdown_table(["method", "the oracle's strengths", *(rule.name for rule in RULES)], body)


def draw_regret(study: Study, ablation: Ablation) -> Figure:
    """Each method's curve of distance over strength with the rules' choices, and the regret of every rule."""
    from bench.records.plots import COLOURS, MARKERS

    figure, panels = drawing.grid(study, ablation, len(STRENGTHS) + 1, "a line each")
    found = regrets(study)
    for axes, method in zip(panels, STRENGTHS, strict=False):
        for seed in study.seeds:
            group = groups_of(study)[method, seed]
            axes.plot([f.at["strength"] for f in group], [away(f) for f in group], color="#BBBBBB", zorder=1)
            for rule, colour, marker in zip(RULES, COLOURS, MARKERS, strict=False):
                index = rule.choose(group)
                if index is not None:
                    axes.plot(
                        group[index].at["strength"],
                        away(group[index]),
                        marker,
                        color=colour,
                        ms=6,
                        label=rule.name,
                        zorder=3,
                    )
        (name,) = STRENGTHS[method][0]
        axes.set_xscale("log")
        axes.set_xticks([f.at["strength"] for f in group], [f"{f.at['strength']:g}" for f in group], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel(f"{method}: {name}")
        axes.set_ylabel("KL forget + retain ↓ [nats]")
    last = panels[-1]
    for i, method in enumerate(STRENGTHS):
        for j, (rule, colour, marker) in enumerate(zip(RULES, COLOURS, MARKERS, strict=False)):
            nats = [item.nats for item in found if (item.method, item.rule) == (method, rule.name)]
            costs = [value for value in nats if value is not None]
            last.plot([i + 0.16 * (j - 1.5)] * len(costs), costs, marker, color=colour, ms=5)
    last.set_xticks(range(len(STRENGTHS)), list(STRENGTHS), rotation=35, ha="right", fontsize=8)
    last.set_ylabel("regret [nats], each seed")
    drawing.legend(figure, panels)
    return figure
