"""What attacks bring back: a row's score before and after, beside the oracle's after the same attack.

An attack damages and teaches by itself, and what it does so it does to the oracle: what counts is the difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from bench.core.attacks import attack_of, attacked_run
from bench.core.hashing import canonical_json
from bench.core.record import Record
from bench.core.types import Json
from bench.records.identity import describe_differences, setting_key
from bench.records.noise import difference
from bench.records.tables import ORACLE, TARGET, Section, TableCell, TableRow

Curve = Sequence[tuple[int, float]]
"""A score at ascending steps."""


@dataclass(frozen=True)
class AttackRow:
    """A row of a section under one attack."""

    name: str
    method: str
    wreck: str
    """``collapsed`` or ``diverged`` on some seed, else empty."""
    before: TableCell | None
    """The row's own score on the attacked seeds; of an attack that trains, on the same questions as after it."""
    after: TableCell
    gap: TableCell | None
    """After the attack, minus the oracle's after the same attack on the same seed."""
    kept: TableCell | None
    """What is left of the score that must stay, of an attack on the weights."""
    more: Mapping[str, TableCell] = field(default_factory=dict)
    """Further columns of this attack."""
    blocks: tuple[float, ...] = ()
    """Means over seeds of what each block of the model says, first to last, of an attack on its states."""
    curves: Mapping[int, Curve] = field(default_factory=dict)
    """Per seed, the score on the way, of an attack that trains."""
    records: tuple[Record, ...] = ()

    @property
    def is_method(self) -> bool:
        """Neither the untouched target nor the oracle."""
        return self.method not in (TARGET, ORACLE)

    @property
    def title(self) -> str:
        """The name, and what has become of a wreck."""
        return f"{self.name} ({self.wreck})" if self.wreck else self.name


@dataclass(frozen=True)
class AttackTable:
    """All rows of a section under one attack."""

    attack: str
    before: str
    """The score that ``before`` is of."""
    score: str
    kept: str
    rows: tuple[AttackRow, ...]


def build_attacks(section: Section) -> list[AttackTable]:
    """A table for each attack on the rows of a section; one attack in two settings is two attacks."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in section.attacked:
        groups[attack_of(record.spec), canonical_json(_params(record))].append(record)
    settings: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in sorted(groups):
        settings[key[0]].append(key)
    tables = []
    for attack, keys in settings.items():
        told = describe_differences([_params(groups[key][0]) for key in keys])
        for key, apart in zip(keys, told, strict=True):
            tables.append(_table(section, f"{attack} ({apart})" if apart else attack, groups[key]))
    return tables


def _params(record: Record) -> dict[str, Any]:
    """The parameters of an attack on the weights."""
    return {} if record.spec.attack else dict(record.spec.steps[-1].params)


def _table(section: Section, attack: str, records: Sequence[Record]) -> AttackTable:
    asks = bool(records[0].spec.attack)
    scored = [row.cells for row in section.rows] if asks else [record.scores for record in records]
    own = next((name for name in section.forgetting if any(name in scores for scores in scored)), "")
    score = next(iter(records[0].facts.get("forgetting", ())), "") if asks else own
    kept = "" if asks else next(iter(section.utility), "")
    by_row: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec.seed):
        by_row[setting_key(replace(record, spec=attacked_run(record.spec)))].append(record)
    there = {setting_key(row.records[0]): row for row in section.rows}
    oracle = next((group for key, group in by_row.items() if key[0] == ORACLE), [])
    start = next((group for key, group in by_row.items() if key[0] == TARGET), [])
    found = [
        _row(
            key[0],
            there.get(key),
            group,
            (own, score, kept),
            _values(oracle, score),
            _curves(oracle, score),
            _curves(start, score),
        )
        for key, group in by_row.items()
        if any(score in record.scores for record in group)
    ]
    order = {TARGET: 0, ORACLE: 1}
    return AttackTable(
        attack, own, score, kept, tuple(sorted(found, key=lambda row: (order.get(row.name, 2), row.name)))
    )


def _row(
    method: str,
    row: TableRow | None,
    records: Sequence[Record],
    names: tuple[str, str, str],
    oracle: Mapping[int, float],
    oracle_curves: Mapping[int, Curve],
    target_curves: Mapping[int, Curve],
) -> AttackRow:
    own, score, kept = names
    after, curves = _values(records, score), _curves(records, score)
    rounded = {r.spec.seed: r.facts.get("notes", {}).get("rounding", {}).get("differs") for r in records}
    areas = {seed: area_between(curve, oracle_curves[seed]) for seed, curve in curves.items() if seed in oracle_curves}
    halves = {
        seed: steps_until_half(curve, oracle_curves[seed][0][1], target_curves[seed][0][1])
        for seed, curve in curves.items()
        if seed in oracle_curves and seed in target_curves
    }
    moved = {r.spec.seed: r.facts.get("notes", {}).get("update", {}) for r in records}
    more = {
        "update's relative norm": {s: each["relative_norm"] for s, each in moved.items() if each.get("relative_norm")},
        "its stable rank": {s: each["stable_rank"] for s, each in moved.items() if each.get("stable_rank")},
        "rounded otherwise than the target's": {seed: each["values"] for seed, each in rounded.items() if each},
        "to another code": {seed: each["codes"] for seed, each in rounded.items() if each},
        "area": {seed: area for seed, area in areas.items() if area is not None},
        "steps until half": {seed: steps for seed, steps in halves.items() if steps is not None},
    }
    return AttackRow(
        name=row.name if row else method,
        method=method,
        wreck="collapsed" if row and row.collapsed else "diverged" if row and row.diverged else "",
        before=_cell({s: curve[0][1] for s, curve in curves.items()}) or _own(row, own, after),
        after=TableCell(after),
        gap=_cell({seed: difference(value, oracle[seed]) for seed, value in after.items() if seed in oracle}),
        kept=_cell(_values(records, kept)),
        more={name: TableCell(by_seed) for name, by_seed in more.items() if by_seed},
        blocks=_mean_blocks(records),
        curves=curves,
        records=tuple(records),
    )


def area_between(curve: Curve, oracle: Curve) -> float | None:
    """The mean difference between two curves over the steps of the attack: the area between them over its length.

    None where they have no two steps in common.
    """
    theirs = dict(oracle)
    gaps = [(step, value - theirs[step]) for step, value in curve if step in theirs]
    if len(gaps) < 2:
        return None
    area = sum((b - a) * (x + y) / 2 for (a, x), (b, y) in pairwise(gaps))
    return area / (gaps[-1][0] - gaps[0][0])


def steps_until_half(curve: Curve, oracle: float, target: float) -> float | None:
    """Steps until a curve is half-way from the oracle's level to the target's, between snapshots on a straight line.

    The levels are those before the attack. None where it never is, censored at the last step, or where there is no way
    from the one level to the other.
    """
    if not difference(target, oracle):
        return None
    half, sign = (oracle + target) / 2, 1 if target >= oracle else -1
    way = [(step, sign * (value - half)) for step, value in curve]
    if way[0][1] >= 0:
        return 0.0
    for (a, x), (b, y) in pairwise(way):
        if y >= 0:
            return a + (b - a) * -x / (y - x)
    return None


def _mean_blocks(records: Sequence[Record]) -> tuple[float, ...]:
    """What the records say block by block, the mean over them; empty where one of them says nothing."""
    each = [record.facts.get("blocks") or () for record in records]
    return tuple(map(fmean, zip(*each, strict=True))) if len({len(blocks) for blocks in each}) == 1 else ()


def _curves(records: Sequence[Record], score: str) -> dict[int, Curve]:
    """Per seed the curve of a score, of records that have one."""

    def curve(points: Sequence[Json]) -> Curve:
        return [(point["step"], point["scores"][score]) for point in points if score in point["scores"]]

    found = {record.spec.seed: curve(record.facts.get("curve", ())) for record in records}
    return {seed: points for seed, points in found.items() if len(points) > 1}


def _own(row: TableRow | None, score: str, seeds: Container[int]) -> TableCell | None:
    """A row's score before an attack, on the seeds that were attacked."""
    cell = row.cells.get(score) if row else None
    if cell is None or all(seed in seeds for seed in cell.by_seed):
        return cell
    return _cell({seed: value for seed, value in cell.by_seed.items() if seed in seeds})


def _values(records: Sequence[Record], score: str) -> dict[int, float]:
    return {record.spec.seed: record.scores[score].value for record in records if score in record.scores}


def _cell(by_seed: Mapping[int, float]) -> TableCell | None:
    return TableCell(by_seed) if by_seed else None
