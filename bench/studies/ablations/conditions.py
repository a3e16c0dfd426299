"""Ablations of what lies between the forget set and the request: later training, and a forget set with mistakes."""

from __future__ import annotations

from dataclasses import replace

from bench.core import registry
from bench.studies.ablations.base import FRAME, AblationPlace, Finding, Point, Study, framing_as_series

GAPS = (0.0, 0.25, 1.0)
"""Lengths of the later training, as shares of the target's own optimiser steps."""
LATER = {"tofu": 30, "restor": 24, "muse-books": 10, "digits": 150, "graph": 150}
"""People, books or images that training goes on to; every point of the ablation has them in its world."""
GAP_METHODS = ("msa", "task-arithmetic", "npo")
SHARES = (0.1, 0.3)
NOISE_METHODS = ("msa", "npo")


def gap_points(place: AblationPlace) -> list[Point]:
    """Every method after each length of later training."""
    steps = registry.load_task(place.task, place.tier)(**place.params).target_steps
    return [
        Point({"series": method, "gap": gap}, (place.step(method),), {"later": LATER[place.task], "gap_steps": gap})
        for gap in (round(share * steps) for share in GAPS)
        for method in GAP_METHODS
    ]


framing_over_gap = framing_as_series("gap", "gap_steps")


def noise_points(place: AblationPlace) -> list[Point]:
    """Every method on a clean forget set, on one with retain rows inside, and on one with forget rows missing."""
    clean = [Point({"series": m, "share": 0.0}, (place.step(m),)) for m in NOISE_METHODS]
    both = (("noise_inside", "retain rows inside"), ("noise_missing", "forget rows missing"))
    noisy = [
        Point({"series": f"{method}, {said}", "share": share}, (place.step(method),), {name: share})
        for name, said in both
        for share in SHARES
        for method in NOISE_METHODS
    ]
    return [*clean, *noisy]


def clean_everywhere(study: Study) -> list[Finding]:
    """The clean run as the first point of both of a method's lines; one target and one oracle, which noise doesn't move."""
    made = []
    for finding in study.findings:
        if finding.at.get("row") in FRAME:
            if len(finding.at) == 1:
                made.append(finding)
        elif finding.at["share"] == 0:
            made += [
                replace(finding, at={**finding.at, "series": f"{finding.at['series']}, {said}"})
                for said in ("retain rows inside", "forget rows missing")
            ]
        else:
            made.append(finding)
    return made
