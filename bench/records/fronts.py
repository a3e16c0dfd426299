"""Forgetting against kept knowledge along a method's own dial, from records that were made with ``--trace N``.

The dial is the share of a sum of weights, also beyond the chosen one, or the steps of a training. A table compares methods
at one place of it each; a front compares what they keep where they have forgotten as much as the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from bench.core.record import Record
from bench.records.tables import Section, TableCell, TableRow

NEAR = 0.02
"""Distance from the oracles' mean forget score at which a method has forgotten as they have."""


@dataclass(frozen=True)
class FrontPoint:
    """One place on a method's dial."""

    share: float
    """Of the chosen setting: 0 is the target, 1 the row's own result."""
    forget: float
    """The primary score of forgetting."""
    kept: float


@dataclass(frozen=True)
class KeptAtOracle:
    """What a row keeps where it has forgotten as much as the oracle."""

    kept: TableCell | None
    nearest: dict[int, float] = field(default_factory=dict)
    """Of the seeds on which it never has, the forget score nearest to the oracle's."""


def front_of(section: Section, record: Record) -> list[FrontPoint]:
    """The places of a record's trace and its own result, by their share, up to the first that lacks one of both scores.

    None where it has no trace.
    """
    forget, kept = section.primary.get("forgetting", ""), section.primary.get("kept", "")
    places = [(point["share"], point["scores"]) for point in record.facts.get("trace", ())]
    if not places:
        return []
    places.append((1.0, {name: score.value for name, score in record.scores.items()}))
    whole = takewhile(lambda place: {forget, kept} <= place[1].keys(), sorted(places, key=lambda place: place[0]))
    return [FrontPoint(share, scores[forget], scores[kept]) for share, scores in whole]


def kept_at_oracle(section: Section, row: TableRow) -> KeptAtOracle | None:
    """The column *kept at the oracle's forgetting* of a row; None where no seed has a front and an oracle."""
    kept, nearest = {}, {}
    for record in row.records:
        points, seed = front_of(section, record), record.spec.seed
        oracle = section.oracle_mean(section.primary.get("forgetting", ""), seed)
        if not points or oracle is None:
            continue
        found = interpolate_kept(points, oracle)
        if found is None:
            nearest[seed] = min((point.forget for point in points), key=lambda value: abs(value - oracle))
        else:
            kept[seed] = found
    return KeptAtOracle(TableCell(kept) if kept else None, nearest) if kept or nearest else None


def interpolate_kept(points: Sequence[FrontPoint], oracle: float, near: float = NEAR) -> float | None:
    """Kept knowledge where the forget score first comes within ``near`` of the oracle's, on straight lines between points."""
    if abs(points[0].forget - oracle) <= near:
        return points[0].kept
    for a, b in pairwise(points):
        before, after = a.forget - oracle, b.forget - oracle
        edge = near if before > 0 else -near
        if (after - edge) * (before - edge) <= 0 and before != after:
            share = (before - edge) / (before - after)
            return a.kept + share * (b.kept - a.kept)
    return None
