"""The results of `bench.studies.ablations.meta_evaluation`: every score judged, as tables and as a picture. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.core.types import Json
from bench.records.figures import TIERS, new_figure, title_figure
from bench.records.looks import COLOURS
from bench.records.markdown import format_number, markdown_table, mean_and_range
from bench.records.names import score_name
from bench.studies.ablations.base import without_repetitions
from bench.studies.ablations.meta_formulas import (
    agreement,
    find_threshold,
    harmonic,
    measure_auc,
    relearning_ratio,
    relearning_symmetric,
    rounding_ratio,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KNOWS = "knows"
KEPT = 0.8
"""Share of the target's utility that an unlearned model keeps to be looked at for robustness, as published."""
FAITHFUL = 0.8
"""AUC from which robustness is asked of a score: of one that doesn't tell the pools apart it means nothing."""
FORMS = ("OU", "UD")
AGAINST = {"all": None, "wrong answers": ("wrong",), "oracles, retain": ("retain", "oracle")}
"""Comparison -> what those that don't know were taught, by the beginning of the word; None: anything."""
Pair = tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """What the models say of one score."""

    name: str
    rises: bool
    """Whether it is higher in the models that know."""
    areas: dict[str, float | None]
    """AUC by comparison (`AGAINST`), with that side up: below 0.5 the comparison turns it round."""
    by_seed: tuple[float, ...]
    """The AUC against all, each seed by itself."""
    models: Pair
    """How many models know and how many don't."""
    relearning: dict[str, tuple[float, ...]]
    """R by form, one of each unlearned model that counts."""
    rounding: dict[str, tuple[float, ...]]
    """Q by form."""

    def robustness(self, form: str) -> float | None:
        """The harmonic mean of the means of R and Q in a form."""
        return harmonic(mean_or_none(self.relearning[form]), mean_or_none(self.rounding[form]))


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return fmean(values) if values else None


def judge_scores(results: Sequence[Json]) -> list[Judged]:
    """Every score that some model of each pool has, those that tell the pools apart best first."""
    names = without_repetitions([name for result in results for name in result["metrics"]])
    judged = [judge_score(name, results) for name in names if all(pool_values(name, results))]
    return sorted(judged, key=lambda one: -(one.areas["all"] or 0))


def judge_score(name: str, results: Sequence[Json]) -> Judged:
    """One score, over all seeds together."""
    knowing, ignorant = pool_values(name, results)
    overall = measure_auc(knowing, ignorant)
    assert overall is not None, "it has values on both sides"
    rises = overall >= 0.5

    def area(of: Sequence[Json], taught: tuple[str, ...] | None = None) -> float | None:
        found = measure_auc(*pool_values(name, of, taught))
        return found if found is None or rises else 1 - found

    share = next(result["metrics"][name]["unit"] for result in results if name in result["metrics"]) == ""

    def turn(value: float) -> float:
        return value if rises else (1 - value if share else -value)

    faithful = max(overall, 1 - overall) >= FAITHFUL
    threshold = find_threshold([turn(value) for value in knowing], [turn(value) for value in ignorant])
    relearning = list(changes(name, results, "relearn", turn, threshold)) if faithful else []
    rounding = list(changes(name, results, "quantise", turn, threshold)) if faithful and share else []
    return Judged(
        name,
        rises,
        {said: area(results, taught) for said, taught in AGAINST.items()},
        tuple(found for result in results if (found := area([result])) is not None),
        (len(knowing), len(ignorant)),
        {
            "OU": known([relearning_ratio(own, oracle) for own, oracle in relearning]),
            "UD": known([relearning_symmetric(own, oracle) for own, oracle in relearning]),
        },
        {
            "OU": known([rounding_ratio(*own) for own, _ in rounding]),
            "UD": known([agreement(*own) for own, _ in rounding]),
        },
    )


def known(values: Sequence[float | None]) -> tuple[float, ...]:
    """Those that are numbers."""
    return tuple(value for value in values if value is not None)


def pool_values(
    name: str, results: Sequence[Json], taught: tuple[str, ...] | None = None
) -> tuple[list[float], list[float]]:
    """A score of the models that know, and of those that don't and were ``taught`` that."""
    models = [model for result in results for model in result["models"] if not model["left_out"]]
    models = [model for model in models if name in model["scores"]]
    knowing = [model["scores"][name] for model in models if model["pool"] == KNOWS]
    others = [model for model in models if model["pool"] != KNOWS]
    return knowing, [m["scores"][name] for m in others if taught is None or m["taught"].startswith(taught)]


def changes(
    name: str, results: Sequence[Json], attack: str, turn: Callable[[float], float], threshold: float
) -> Iterator[tuple[Pair, Pair]]:
    """A score before and after an attack, of each unlearned model that counts and of its seed's oracle.

    Those count that keep `KEPT` of the target's utility and that the score itself takes for unlearned.
    """
    for result in results:
        rows = {row["row"]: row for row in result["rows"]}
        pairs = {
            row: (turn(found["before"][name]), turn(found[attack][name]))
            for row, found in rows.items()
            if attack in found and name in found["before"] and name in found[attack]
        }
        for row in unlearned_rows(result):
            if row in pairs and "retrain" in pairs and pairs[row][0] <= threshold:
                yield pairs[row], pairs["retrain"]


def unlearned_rows(result: Json) -> list[str]:
    """The unlearned models of a seed that keep enough of the target's utility."""
    least = KEPT * next(row["utility"] for row in result["rows"] if row["row"] == "target")
    return [row["row"] for row in result["rows"] if row["row"] not in ("target", "retrain") and row["utility"] >= least]


def table(results: Sequence[Json]) -> str:
    """Markdown: the scores, the pools, the models under attack, and what is missing."""
    parts = [
        "Faithfulness (AUC over all seeds, in brackets each seed by itself) and robustness (means over unlearned models "
        f"that keep {KEPT:.0%} of the target's utility and that the score takes for unlearned; in brackets how many), a "
        f"score turned so that more means that more is known. HM is the harmonic mean of R and Q. Both are for scores with an "
        f"AUC of {FAITHFUL:g} or more, Q for those between 0 and 1; OU's R needs a rise of the model and of the oracle.",
        score_table(judge_scores(results)),
        "The models, means over seeds (smallest–largest):",
        pool_table(results),
        "The unlearned models, and target and oracle, before and after each attack:",
        attack_table(results),
        *missing(results),
    ]
    return "\n\n".join(parts)


def score_table(judged: Sequence[Judged]) -> str:
    """A line for each score."""
    head = ["score", "knows", *(f"AUC: {said}" for said in AGAINST)]
    head += [f"{what} ({form})" for form in FORMS for what in ("R", "Q", "HM")]
    body = []
    for one in judged:
        low, high = (f(one.by_seed) for f in (min, max)) if one.by_seed else (0.0, 0.0)
        cells = [one.name, "higher" if one.rises else "lower"]
        cells += [cell(area) for area in one.areas.values()]
        cells[2] += f" ({format_number(low)}–{format_number(high)})" if len(one.by_seed) > 1 else ""
        for form in FORMS:
            cells += [counted(one.relearning[form]), counted(one.rounding[form]), cell(one.robustness(form))]
        body.append(cells)
    return markdown_table(head, body)


def cell(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "—" if value is None else format_number(value)


def counted(values: Sequence[float]) -> str:
    """Their mean and how many they are."""
    return f"{format_number(fmean(values))} ({len(values)})" if values else "—"


def pool_table(results: Sequence[Json]) -> str:
    """A line for each kind of model of the pools."""
    groups: dict[tuple[Any, ...], list[Json]] = {}
    for result in results:
        for model in result["models"]:
            groups.setdefault(model_kind(model), []).append(model)
    forgetting = results[0]["forgetting"]
    body = [
        [
            *map(str, kind),
            f"{sum(not model['left_out'] for model in models)} of {len(models)}",
            *(mean_and_range([m["scores"][name] for m in models if name in m["scores"]]) for name in forgetting),
            mean_and_range([model["utility"] for model in models]),
        ]
        for kind, models in groups.items()
    ]
    return markdown_table(["pool", "model", "lr", "steps", "counted", *forgetting, "utility"], body)


def model_kind(model: Json) -> tuple[Any, ...]:
    """Pool, what it was taught, rate and steps."""
    return model["pool"], model["taught"], f"{model['lr']:g}" if "lr" in model else "", model.get("steps", "")


def attack_table(results: Sequence[Json]) -> str:
    """A line for each unlearned model: its utility, and the first score of forgetting before and after."""
    score = results[0]["forgetting"][0]
    names = without_repetitions([row["row"] for result in results for row in result["rows"]])
    attacks = ("before", "relearn", "quantise")
    body = []
    for name in names:
        rows = [row for result in results for row in result["rows"] if row["row"] == name]
        count = sum(name in unlearned_rows(result) for result in results)
        cells = [mean_and_range([row[at][score] for row in rows if score in row.get(at, {})]) for at in attacks]
        said = "" if name in ("target", "retrain") else f"{count} of {len(rows)}"
        body.append([name, mean_and_range([row["utility"] for row in rows]), said, *cells])
    head = ["model", "utility", "counted", f"{score} before", "after relearning", "after rounding to 4 bits"]
    return markdown_table(head, body)


def missing(results: Sequence[Json]) -> list[str]:
    """Sentences about models that were left out, scores that are absent and attacks that couldn't be made."""
    found = []
    for result in results:
        for model in result["models"]:
            if model["left_out"]:
                kind = " ".join(filter(None, map(str, model_kind(model)[1:])))
                found.append(f"- Seed {result['seed']}, {kind}: left out, as {model['left_out']}.")
        found += [f"- Seed {result['seed']}: {what} is missing: {why}." for what, why in result["unmet"].items()]
        found += [
            f"- Seed {result['seed']}: some model has no {what}: {why}." for what, why in result["absent"].items()
        ]
    return ["\n".join(found)] if found else []


def draw(results: Sequence[Json]) -> Figure:
    """AUC of every score as a strip, its robustness under relearning and under rounding beside it."""
    judged = judge_scores(results)[::-1]
    figure = new_figure(12.5, 1.9 + 0.27 * len(judged))
    faithful, relearnt, rounded = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    seeds = ", ".join(str(result["seed"]) for result in results)
    title_figure(figure, "Which scores can be trusted", f"{TIERS['lab']}; seed{'s' * (len(results) > 1)} {seeds}")
    draw_areas(faithful, judged)
    draw_robustness(relearnt, [one.relearning for one in judged], "R: under relearning")
    draw_robustness(rounded, [one.rounding for one in judged], "Q: under rounding to 4 bits")
    faithful.set_ylim(-0.7, max(len(judged), 1) - 0.3)
    faithful.set_yticks(range(len(judged)), [score_name(one.name) for one in judged], fontsize=8)
    handles, labels = faithful.get_legend_handles_labels()
    others, forms = relearnt.get_legend_handles_labels()
    figure.legend(
        [*handles, *others], [*labels, *forms], loc="outside lower center", ncols=6, frameon=False, fontsize=8
    )
    return figure


def draw_areas(axes: Axes, judged: Sequence[Judged]) -> None:
    """The AUC against all, its seeds as a bar, and against the models taught wrong answers alone."""
    for place, one in enumerate(judged):
        if one.by_seed:
            axes.hlines(place, min(one.by_seed), max(one.by_seed), color=COLOURS[0], linewidth=1.5, alpha=0.5)
    looks = {
        "all": ("o", COLOURS[0], 34),
        "wrong answers": ("X", COLOURS[1], 30),
        "oracles, retain": ("|", "#444444", 60),
    }
    for said, (marker, colour, size) in looks.items():
        points = [(area, i) for i, one in enumerate(judged) if (area := one.areas[said]) is not None]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=size, marker=marker, color=colour, label=f"AUC, {said}", zorder=3)
    axes.axvline(0.5, color="#444444", linestyle=":", linewidth=1)
    axes.set(xlim=(-0.03, 1.03), xlabel="faithfulness: AUC between models that know and don't (0.5: not at all)")
    axes.grid(axis="y", color="#EEEEEE", zorder=0)


def draw_robustness(axes: Axes, values: Sequence[dict[str, tuple[float, ...]]], title: str) -> None:
    """The mean of each form, and the models behind it as faint dots; a sentence where nothing was measured."""
    for form, marker, colour, shift in (("OU", "s", COLOURS[2], 0.14), ("UD", "D", COLOURS[3], -0.14)):
        points = [(fmean(found[form]), i + shift) for i, found in enumerate(values) if found[form]]
        dots = [(value, i + shift) for i, found in enumerate(values) for value in found[form]]
        if points:
            (x, y), (dots_x, dots_y) = zip(*points, strict=True), zip(*dots, strict=True)
            axes.scatter(dots_x, dots_y, s=9, color=colour, alpha=0.3, linewidths=0)
            axes.scatter(x, y, s=24, marker=marker, color=colour, label=form, zorder=3)
    axes.set(xlim=(-0.03, 1.03), xlabel=f"{title} (1: robust)")
    axes.grid(axis="y", color="#EEEEEE", zorder=0)
    if not any(found[form] for found in values for form in FORMS):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="#444444", fontsize=9)
