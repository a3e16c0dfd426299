"""The ablation of size: what every method costs and how it scores on a ladder of widths, and what that means for
models that don't fit here.
"""

from __future__ import annotations

from dataclasses import replace

from bench.ablations.base import FRAME, Ablation, Finding, Place, Point, Study

WIDTHS = (96, 128, 192, 256)
METHODS = ("msa", "task-arithmetic", "ga", "graddiff", "npo")


def cost_points(place: Place) -> list[Point]:
    """Every method at every width, at its default setting."""
    return [
        Point({"series": method, "width": width}, (place.step(method),), {"width": width})
        for width in WIDTHS
        for method in METHODS
    ]


def framing_as_series(study: Study) -> list[Finding]:
    """Target and oracle as lines of their own: both change with the width."""
    return [
        replace(finding, at={"series": str(finding.at["row"]), "width": finding.at["task.width"]})
        if finding.at.get("row") in FRAME
        else finding
        for finding in study.findings
    ]


COST = Ablation(
    name="cost",
    question="What does each method cost, and does size help it?",
    reading="The lab's Llama at several widths, everything else alike; methods at the settings that were searched at width 192.",
    points=cost_points,
    x="width",
    x_label="hidden size of the two-layer Llama",
    log_x=True,
    derive=framing_as_series,
)
