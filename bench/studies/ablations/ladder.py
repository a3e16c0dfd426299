"""The ladder from the lab's old world to its new one, and the new one with one change taken back: what each did to a
target and to two methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.records.markdown import markdown_table, mean_and_range
from bench.studies.ablations.base import FRAME, AblationPlace, Finding, Point, Study
from bench.studies.ablations.grids import TUNING_SEED, small_search

RUNGS: Mapping[str, Mapping[str, Any]] = {
    "old world": {"collisions": True, "spread": 0.02, "rate": 1e-3, "replay": 0.0},
    "two-word answers": {"collisions": False},
    "spread .06": {"spread": 0.06},
    "rate 8e-4": {"rate": 8e-4},
    "replay .25": {"replay": 0.25},
}
"""Rung -> the task parameters that it changes; it has those of the rungs before it as well."""
TAKEN_BACK: Mapping[str, Mapping[str, Any]] = {
    "now, one-word answers": {"collisions": True},
    "now, spread .02": {"spread": 0.02},
    "now, rate 1e-3": {"rate": 1e-3},
}
"""The last rung with one of its changes undone; without its replay it is the rung before it."""
LADDER_METHODS = ("msa", "npo")
LEARNT = 0.9
"""Least score of a target that has learnt what it was taught, in held-out wording, on every seed."""
GAPS = {
    "forget_accuracy": "forgetting gap",
    "retain_accuracy": "kept",
    "mia_min_k": "membership gap",
}
"""Score -> its column, the method's less the oracle's on the same rung and seed; but for ``kept`` without its sign."""


def rungs() -> dict[str, dict[str, Any]]:
    """Every rung's task parameters, complete; then those of the last one with one change taken back."""
    found, so_far = dict[str, dict[str, Any]](), dict[str, Any]()
    for name, changed in RUNGS.items():
        so_far = {**so_far, **changed}
        found[name] = so_far
    return found | {name: {**so_far, **old} for name, old in TAKEN_BACK.items()}


def ladder_points(place: AblationPlace) -> list[Point]:
    """Both methods on every rung, each at the best setting of the same small search there."""
    return [
        Point({"series": m, "rung": name}, (place.step(m),), params, "", small_search(place, m), TUNING_SEED)
        for name, params in rungs().items()
        for m in LADDER_METHODS
    ]


def framing_over_rungs(study: Study) -> list[Finding]:
    """Target and oracle as lines of their own over the rungs."""
    names = {tuple(sorted(params.items())): name for name, params in rungs().items()}

    def rung(at: Mapping[str, Any]) -> str:
        return names[tuple(sorted((key.removeprefix("task."), at[key]) for key in at if key.startswith("task.")))]

    return [
        replace(f, at={"series": str(f.at["row"]), "rung": rung(f.at)}) if f.at.get("row") in FRAME else f
        for f in study.findings
    ]


def ladder_table(study: Study) -> str:
    """What every rung's target is, and how far from its oracle each method ends there."""
    said = (
        "Each rung's own target: what it knows in held-out wording, how far it lies from theta_0 as a share of that one's "
        "norm, and the share of retained answers that are forgotten ones too, or share a word with one. Then each method "
        "beside the oracle of the same rung and seed: |method − oracle|, but method − oracle for what is kept. Means over "
        "seeds (smallest–largest)."
    )
    targets = [[name, *target_cells(of_rung(study, "target", name))] for name in rungs()]
    head = ["rung", "knows of forget", "knows of retain", "displacement", "same answer", "same word", "learnt?"]
    body = [
        [name, method, *(mean_and_range(gaps(study, name, method, score)) for score in GAPS)]
        for name in rungs()
        for method in LADDER_METHODS
    ]
    return f"{said}\n\n{markdown_table(head, targets)}\n\n{markdown_table(['rung', 'method', *GAPS.values()], body)}"


def of_rung(study: Study, series: str, rung: str) -> list[Finding]:
    """A line's findings on one rung, seed by seed."""
    return [f for f in study.findings if f.at.get("series") == series and f.at.get("rung") == rung]


def target_cells(found: Sequence[Finding]) -> list[str]:
    """What a rung's targets know, how far they have moved, the answers that collide, and whether they have learnt."""
    known = [
        [v for f in found if (v := f.score(score)) is not None] for score in ("forget_accuracy", "retain_accuracy")
    ]
    moved = [f.record.facts["displacement"] for f in found]
    colliding = [[f.record.facts["about"][name] for f in found] for name in ("same_answer", "same_word")]
    learnt = all(values and min(values) >= LEARNT for values in known)
    said = "yes" if learnt else f"no: below {LEARNT} on some seed, so that its rows say nothing of unlearning"
    return [*(mean_and_range(values) for values in (*known, moved, *colliding)), said]


def gaps(study: Study, rung: str, method: str, score: str) -> list[float]:
    """The method's score less the oracle's on each seed; without its sign but for what is kept."""
    oracle = {f.seed: f.score(score) for f in of_rung(study, "oracle", rung)}
    found = []
    for finding in of_rung(study, method, rung):
        mine, best = finding.score(score), oracle.get(finding.seed)
        if mine is not None and best is not None:
            found.append(mine - best if GAPS[score] == "kept" else abs(mine - best))
    return found
