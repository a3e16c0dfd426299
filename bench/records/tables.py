"""The one function from records to tables; the leaderboard and the plots draw what `build_sections` returns and nothing else.

A section is a task in one setting on one model: rows are methods (one per setting of a method, over its seeds),
columns are scores, and a cell keeps every seed's value. Nothing averages across sections.

Ranks follow the paired differences over seeds: A beats B on a score only if A is nearer the goal on every one of at
least three common seeds, and by more than the noise floor on average. The noise floor is how far two oracles of one
seed lie apart. What must not be compared (other metric versions, one target under several seeds) is refused in words.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import accumulate, combinations
from operator import and_, or_
from typing import Any

from bench.core.attacks import attack_of
from bench.core.hashing import canonical_json, hash_json
from bench.core.record import Record
from bench.core.types import BROKEN_DOWN

TARGET = "target"
ORACLE = "retrain"
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_gradnorm", "mia_reference")
"""Scores of the membership attacks, in the order of tables and pictures."""
LONGEST_SLUG = 120
"""Characters of a section's name in files' names."""
SEEDS_TO_RANK = 3
"""Common seeds that a rank needs."""
TIERS = ("lab", "real")
"""Order of the tiers; unknown ones follow."""
SAW = {"retain rows seen": "retain_rows", "history used": "history_used"}
"""Columns that say what a method saw, and the fact of the record behind each."""
Goal = str | float
Key = tuple[str, ...]
"""(tier, label, model, everything else that sets the task)."""


@dataclass(frozen=True)
class ScoreColumn:
    """A score of a section, which is a column of its table."""

    name: str
    goal: Goal
    """``up``, ``down``, ``oracle``, a value to approach, or empty when the records don't say."""
    version: int
    headline: bool


@dataclass(frozen=True)
class TableCell:
    """One quantity of one row, over the seeds."""

    by_seed: Mapping[int, float]
    loss: Mapping[int, float] = field(default_factory=dict)
    """Per seed, what is lost against the goal: the lower the better. A seed without it can't be compared."""
    interval: tuple[float, float] | None = None
    """95% bootstrap interval over examples, of a single seed only."""

    @property
    def mean(self) -> float:
        """The mean of the cell's values over its seeds."""
        return _mean(self.by_seed.values())

    @property
    def low(self) -> float:
        """The smallest of the seeds' values."""
        return min(self.by_seed.values())

    @property
    def high(self) -> float:
        """The largest of the seeds' values."""
        return max(self.by_seed.values())

    @property
    def n(self) -> int:
        """Seeds behind the mean."""
        return len(self.by_seed)


@dataclass(frozen=True)
class TableRow:
    """One method in one setting, over its seeds."""

    name: str
    """The method, with the parameters that tell it from its namesakes in the section."""
    method: str
    params: str
    """The complete setting."""
    records: tuple[Record, ...]
    """One per seed, by seed."""
    cells: Mapping[str, TableCell]
    costs: Mapping[str, TableCell]
    """``tokens trained`` and ``seconds``, where the records have them."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Per score, 1 + the rows that beat this one; only methods are ranked."""

    @property
    def is_method(self) -> bool:
        """Neither the untouched target nor the oracle."""
        return self.method not in (TARGET, ORACLE)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the row, in ascending order."""
        return tuple(record.spec.seed for record in self.records)

    @property
    def collapsed(self) -> tuple[int, ...]:
        """Seeds on which the model fell apart."""
        return tuple(r.spec.seed for r in self.records if "collapsed" in r.scores and r.scores["collapsed"].value == 1)

    @property
    def diverged(self) -> tuple[int, ...]:
        """Seeds on which a training's loss left all bounds, or the model's logits are no finite numbers."""
        return tuple(r.spec.seed for r in self.records if r.facts.get("diverged") or BROKEN_DOWN in r.absent.values())

    @property
    def wrecked(self) -> bool:
        """Whether it fell apart or diverged on some seed, which is marked wherever its numbers stand."""
        return bool(self.collapsed or self.diverged)

    def fact(self, name: str) -> str:
        """A fact of the records for people: its distinct values over the seeds, a range where they are numbers."""
        values = [record.facts[name] for record in self.records if name in record.facts]
        distinct = sorted({_in_words(value) for value in values})
        if len(distinct) > 1 and all(type(value) in (int, float) for value in values):
            return f"{min(values)}–{max(values)}"
        return "; ".join(distinct)


@dataclass(frozen=True)
class UnfinishedRuns:
    """Runs of one method that ended without scores, for one reason."""

    name: str
    status: str
    seeds: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Section:
    """A table of the leaderboard: methods on one task in one setting on one model."""

    tier: str
    label: str
    """What the task calls itself here, such as ``tofu (lab)``."""
    task: str
    model: str
    setting: str
    """What tells it from the sections with the same title; mostly empty."""
    slug: str
    """Name for files; no two sections share it."""
    columns: tuple[ScoreColumn, ...]
    """Headline first, in the task's order, then the rest by name."""
    rows: tuple[TableRow, ...]
    """Target, oracle, then the methods by name."""
    floors: Mapping[str, TableCell]
    """Noise floor per score."""
    statements: tuple[str, ...]
    """What was refused or left out, and why; a section that is refused has no rows."""
    unfinished: tuple[UnfinishedRuns, ...]
    forgetting: tuple[str, ...]
    """Scores of the plots' forgetting axis."""
    utility: tuple[str, ...]
    attacked: tuple[Record, ...] = ()
    """Finished runs that attack what a row has left; they are no rows (`bench.records.attacked`)."""

    @property
    def headline(self) -> tuple[ScoreColumn, ...]:
        """Columns of the first table."""
        return tuple(column for column in self.columns if column.headline)

    @property
    def title(self) -> str:
        """The label, the model where it is not the lab's own, and what tells it from its namesakes."""
        model = "" if self.model == self.tier else f" on {self.model}"
        return f"{self.label}{model}{f', {self.setting}' if self.setting else ''}"

    def row(self, method: str) -> TableRow | None:
        """The first row of ``method``."""
        return next((row for row in self.rows if row.method == method), None)


def build_sections(records: Sequence[Record]) -> list[Section]:
    """Every section of ``records``, by tier, label, model and setting; the order of ``records`` does not matter."""
    groups = _grouped(sorted(records, key=lambda record: record.name))
    titles: dict[Key, list[Key]] = defaultdict(list)
    slugs: dict[str, list[Key]] = defaultdict(list)
    for key, group in groups.items():
        titles[key[:3]].append(key)
        slugs[_slug(group[0])].append(key)
    settings: dict[Key, str] = {}
    for keys in titles.values():
        settings |= zip(keys, describe_differences([_conditions(groups[key][0]) for key in keys]), strict=True)
    sections = []
    for key, group in groups.items():
        slug = _slug(group[0])
        if len(slugs[slug]) > 1:
            slug = f"{slug}-{hash_json(key)[:6]}"
        sections.append(_section(key[1], settings[key], slug, group))
    return sections


def beats(one: TableCell, other: TableCell, floor: float) -> bool:
    """Whether ``one`` is nearer the goal on each of at least three common seeds, on average by more than ``floor``."""
    gains = [other.loss[seed] - one.loss[seed] for seed in _common(one, other)]
    return len(gains) >= SEEDS_TO_RANK and all(gain > 0 for gain in gains) and _mean(gains) > floor


def rank_cells(cells: Sequence[TableCell | None], floor: float | None) -> list[int | None]:
    """Rank of each cell: 1 + how many beat it; None for a cell that can't be compared.

    Without a noise floor, with one cell alone, or when two of them have fewer than three seeds in common, none has one.
    """
    fit = {i: cell for i, cell in enumerate(cells) if cell is not None and len(cell.loss) >= SEEDS_TO_RANK}
    groups: dict[tuple[int, ...], dict[int, TableCell]] = defaultdict(dict)
    for i, cell in fit.items():
        groups[tuple(sorted(cell.loss))][i] = cell
    paired = all(len(set(one) & set(other)) >= SEEDS_TO_RANK for one, other in combinations(groups, 2))
    if floor is None or len(fit) < 2 or not paired:
        return [None] * len(cells)
    placed = dict.fromkeys(fit, 1)
    for own in groups.values():
        for others in groups.values():
            for i, count in _count_beating(own, list(others.values()), floor).items():
                placed[i] += count
    return [placed.get(i) for i in range(len(cells))]


def _count_beating(own: Mapping[int, TableCell], others: Sequence[TableCell], floor: float) -> dict[int, int]:
    """For each of ``own`` how many of ``others`` beat it; the cells of either side have the same seeds.

    As `beats` says, but by sets of cells as bits of a number: a table of a thousand rows has a million pairs.
    """
    common = _common(next(iter(own.values())), others[0])
    below = [_cells_below([other.loss[seed] for other in others]) for seed in common]
    below_mean = _cells_below([_mean(other.loss[seed] for seed in common) for other in others])
    found = {}
    for i, cell in own.items():
        nearer = reduce(and_, (cells(cell.loss[seed]) for cells, seed in zip(below, common, strict=True)))
        edge = _mean(cell.loss[seed] for seed in common) - floor
        rounding = 1e-9 * (abs(edge) + floor)
        surely, perhaps = below_mean(edge - rounding) & nearer, below_mean(edge + rounding) & nearer
        unsure = surely ^ perhaps
        found[i] = surely.bit_count()
        found[i] += sum(beats(o, cell, floor) for j, o in enumerate(others) if unsure >> j & 1) if unsure else 0
    return found


def _cells_below(values: Sequence[float]) -> Callable[[float], int]:
    """A function that says which of ``values`` are smaller than a limit, as the bits of a number."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ordered = [values[i] for i in order]
    bits = list(accumulate((1 << i for i in order), or_, initial=0))
    return lambda limit: bits[bisect_left(ordered, limit)]


def loss_against_goal(value: float, goal: Goal, oracles: Sequence[float]) -> float | None:
    """The distance of ``value`` from its goal, in its own unit; from ``oracles`` the mean one; None if it can't be told."""
    if goal in ("up", "down"):
        return -value if goal == "up" else value
    if goal == "oracle":
        return _mean(abs(value - oracle) for oracle in oracles) if oracles else None
    return abs(value - goal) if isinstance(goal, int | float) else None


def describe_differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each setting, as text, only what not all of them share."""
    texts = [{key: _text(value) for key, value in setting.items()} for setting in settings]
    names = sorted({key for text in texts for key in text})
    telling = [name for name in names if len({text.get(name) for text in texts}) > 1]
    return [", ".join(f"{name}={text[name]}" for name in telling if name in text) for text in texts]


def _grouped(records: Sequence[Record]) -> dict[Key, list[Record]]:
    """Records by section, in the order of the page. One that failed early has no label yet and goes with its like."""

    def rest(record: Record) -> tuple[str, str, str]:
        spec = record.spec
        how = [dict(part) for part in (spec.compute.to_json(), _origin(record)) if part]
        asked = [spec.task, spec.task_params, spec.limit or 0, " ".join(spec.lm_eval), *how]
        return spec.tier, spec.model, canonical_json(asked)

    labels: dict[Key, str] = {}
    for record in records:
        if record.label:
            labels.setdefault(rest(record), record.label)
    groups: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        tier, model, setting = rest(record)
        label = record.label or labels.get((tier, model, setting), f"{record.spec.task} ({tier})")
        groups[tier, label, model, setting].append(record)
    order = {tier: index for index, tier in enumerate(TIERS)}
    return dict(sorted(groups.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])))


def _section(label: str, setting: str, slug: str, records: Sequence[Record]) -> Section:
    finished = [record for record in records if record.status == "done"]
    done = _fullest([record for record in finished if not attack_of(record.spec)])
    spec = records[0].spec
    refused = [*_target_faults(done), *_duplicates(done)]
    columns, left_out = _columns(done)
    floors = _floors(done)
    rows = [] if refused else _rows(done, columns, floors)
    return Section(
        tier=spec.tier,
        label=label,
        task=spec.task,
        model=spec.model,
        setting=setting,
        slug=slug,
        columns=tuple(columns),
        rows=tuple(rows),
        floors=floors,
        statements=tuple(refused or left_out),
        unfinished=tuple(_unfinished(records)),
        forgetting=tuple(_listed(done, "forgetting")),
        utility=tuple(_listed(done, "utility")),
        attacked=tuple(record for record in finished if attack_of(record.spec)),
    )


def _rows(records: Sequence[Record], columns: Sequence[ScoreColumn], floors: Mapping[str, TableCell]) -> list[TableRow]:
    groups = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec.seed):
        groups[setting_key(record)].append(record)
    oracle = [group for (method, _), group in groups.items() if method == ORACLE]
    oracles = {record.spec.seed: record for group in oracle for record in group}
    names = _row_names([group[0] for group in groups.values()])
    rows = [_row(names[key], group, columns, oracles) for key, group in groups.items()]
    first = {TARGET: 0, ORACLE: 1}
    return _with_ranks(sorted(rows, key=lambda row: (first.get(row.method, 2), row.name)), columns, floors)


def _row(
    name: str, records: Sequence[Record], columns: Sequence[ScoreColumn], oracles: Mapping[int, Record]
) -> TableRow:
    cells = {column.name: _cell(column, records, oracles) for column in columns}
    return TableRow(
        name=name,
        method=records[0].spec.method,
        params=", ".join(f"{key}={_text(value)}" for key, value in sorted(_params(records[0]).items())),
        records=tuple(records),
        cells={name: cell for name, cell in cells.items() if cell},
        costs=_costs(records),
    )


def _cell(column: ScoreColumn, records: Sequence[Record], oracles: Mapping[int, Record]) -> TableCell | None:
    scores = {record.spec.seed: record.scores[column.name] for record in records if column.name in record.scores}
    if not scores:
        return None
    losses: dict[int, float] = {}
    for seed, score in scores.items():
        best = _oracle_values(oracles[seed], column.name) if seed in oracles else []
        lost = loss_against_goal(score.value, column.goal, best)
        if lost is not None:
            losses[seed] = lost
    interval = None
    if len(scores) == 1 and score.low is not None and score.high is not None:
        interval = score.low, score.high
    return TableCell({seed: score.value for seed, score in scores.items()}, losses, interval)


def _oracle_values(oracle: Record, name: str) -> list[float]:
    """A score's value under every oracle of a seed; where the oracle's record doesn't have them, its own."""
    values = oracle.facts.get("oracle_values", {}).get(name)
    if values:
        return list(values)
    return [oracle.scores[name].value] if name in oracle.scores else []


def _with_ranks(
    rows: Sequence[TableRow], columns: Sequence[ScoreColumn], floors: Mapping[str, TableCell]
) -> list[TableRow]:
    methods = [row for row in rows if row.is_method]
    placed: dict[str, dict[str, int]] = defaultdict(dict)
    for column in columns:
        floor = floors[column.name].mean if column.name in floors else None
        for row, rank in zip(methods, rank_cells([row.cells.get(column.name) for row in methods], floor), strict=True):
            if rank is not None:
                placed[row.name][column.name] = rank
    return [replace(row, ranks=placed.get(row.name, {})) for row in rows]


def _columns(records: Sequence[Record]) -> tuple[list[ScoreColumn], list[str]]:
    """The scores, headline first; and a sentence for each that is left out because its definitions differ."""
    names = sorted({name for record in records for name in record.scores})
    headline = [name for name in _listed(records, "headline") if name in names]
    columns, left_out = [], []
    for name in headline + [name for name in names if name not in headline]:
        metrics = [record.metrics.get(name, {}) for record in records if name in record.scores]
        definitions = sorted({canonical_json([m.get("version", 0), m.get("goal", "")]) for m in metrics})
        if len(definitions) > 1:
            both = " and ".join("version {} (goal {})".format(*json.loads(text)) for text in definitions)
            left_out.append(f"{name} is left out: {both} of it can't stand in one column; run the older records again.")
            continue
        version, goal = json.loads(definitions[0])
        columns.append(ScoreColumn(name, goal, version, name in headline))
    return columns, left_out


def _floors(records: Sequence[Record]) -> dict[str, TableCell]:
    """Per score the noise floor of each seed: as the oracle's record has it, or else the first record that does."""
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: (record.spec.method != ORACLE, record.name)):
        known = by_seed[record.spec.seed]
        for name, value in record.floors.items():
            known.setdefault(name, value)
        for name in record.scores:
            # A score counted in floors: two oracles are one floor apart by its definition.
            if name.endswith("_floors") and name.removesuffix("_floors") in known:
                known.setdefault(name, 1.0)
    names = sorted({name for known in by_seed.values() for name in known})
    return {
        name: TableCell({seed: known[name] for seed, known in sorted(by_seed.items()) if name in known})
        for name in names
    }


def _target_faults(records: Sequence[Record]) -> list[str]:
    """Reasons why the seeds are not independent runs of one experiment; none when each has its own, single target."""
    nameless = [record.name for record in records if not record.lineage.get("target")]
    if nameless:
        return [f"This section is refused: {', '.join(nameless)} name no target in their lineage."]
    targets = defaultdict(set)
    for record in records:
        targets[record.spec.seed].add(_text(record.lineage["target"]))
    faults = [
        f"This section is refused: the records of seed {seed} start from different targets "
        f"({', '.join(name[:10] for name in sorted(found))}); keep those of one and delete the others."
        for seed, found in sorted(targets.items())
        if len(found) > 1
    ]
    return faults + [
        f"This section is refused: seeds {one} and {other} have the same target, so they are no independent seeds; "
        "keep the records of one."
        for one, other in combinations(sorted(targets), 2)
        if targets[one] & targets[other]
    ]


def _fullest(records: Sequence[Record]) -> list[Record]:
    """The records, but of one run that was asked other probes, or had a history that it made no use of, the fullest."""
    same: dict[Any, list[Record]] = defaultdict(list)
    for record in records:
        made = canonical_json([record.lineage.get("result"), dict(record.spec.versions)])
        same[setting_key(record), record.spec.seed, made].append(record)
    return [max(group, key=lambda record: (len(record.scores), record.name)) for group in same.values()]


def _duplicates(records: Sequence[Record]) -> list[str]:
    """Two records of one method, setting and seed: they come from different versions of a component."""
    same = defaultdict(list)
    for record in records:
        same[setting_key(record), record.spec.seed].append(record.name)
    return [
        f"This section is refused: {' and '.join(names)} are the same run by different versions; delete the older."
        for names in same.values()
        if len(names) > 1
    ]


def _unfinished(records: Sequence[Record]) -> list[UnfinishedRuns]:
    """Runs without scores, those with the same reason together."""
    groups = defaultdict(list)
    for record in records:
        if record.status != "done":
            groups[record.spec.method, record.status, record.reason].append(record.spec.seed)
    return [
        UnfinishedRuns(method, status, tuple(sorted(set(seeds))), reason)
        for (method, status, reason), seeds in sorted(groups.items())
    ]


def _row_names(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """The method's name, and where rows share it what tells their settings apart."""
    same = defaultdict(list)
    for record in records:
        same[record.spec.method].append(record)
    names = {}
    for method, group in same.items():
        for record, difference in zip(group, describe_differences([_params(record) for record in group]), strict=True):
            names[setting_key(record)] = f"{method} ({difference})" if difference else method
    return names


def _conditions(record: Record) -> dict[str, Any]:
    """The conditions of a run besides method and seed: runs under other conditions stand in another table."""
    spec = record.spec
    limit = {"limit": spec.limit} if spec.limit is not None else {}
    asked = {"lm-eval": " ".join(spec.lm_eval)} if spec.lm_eval else {}
    origin = {name: value[:8] for name, value in _origin(record).items()}
    return {**spec.task_params, **limit, **asked, **spec.compute.to_json(), **origin}


def _origin(record: Record) -> dict[str, str]:
    """Contents of what came from outside and is the same for every row: other rows or another model, another table."""
    return {name: value for name, value in record.spec.hashes.items() if name in ("data", "model")}


def _past(record: Record) -> dict[str, str]:
    """The content of the history that a row has made use of, where the user named one."""
    used = record.facts.get("history_used") and record.spec.hashes.get("history")
    return {"history": used[:8]} if used else {}


def setting_key(record: Record) -> tuple[str, str]:
    """What the records of one row have in common: the method, and its complete setting."""
    return record.spec.method, canonical_json([*(dict(step.params) for step in record.spec.steps), _past(record)])


def _params(record: Record) -> dict[str, Any]:
    """The parameters of a run's only step; of several steps with the step's place and method before each name."""
    steps = record.spec.steps
    if len(steps) == 1:
        return {**steps[0].params, **_past(record)}
    return {f"{i}.{step.method}.{k}": v for i, step in enumerate(steps, start=1) for k, v in step.params.items()}


def _listed(records: Sequence[Record], name: str) -> list[str]:
    """A list of score names among the facts; the oracle's record speaks first, then the first that has one."""
    ordered = sorted(records, key=lambda record: (record.spec.method != ORACLE, record.name))
    return next((list(record.facts[name]) for record in ordered if record.facts.get(name)), [])


def _costs(records: Sequence[Record]) -> dict[str, TableCell]:
    """Tokens trained, and the method's own seconds: neither the stages that all share nor the measuring."""
    found: dict[str, dict[int, float]] = {"tokens trained": {}, "seconds": {}}
    for record in records:
        values = (record.cost.get("tokens_trained"), record.cost.get("seconds", {}).get("method"))
        for by_seed, value in zip(found.values(), values, strict=True):
            if isinstance(value, int | float):
                by_seed[record.spec.seed] = value
    return {what: TableCell(by_seed) for what, by_seed in found.items() if by_seed}


def _common(one: TableCell, other: TableCell) -> list[int]:
    return sorted(one.loss.keys() & other.loss.keys())


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _in_words(value: Any) -> str:
    """A fact of a record in words: yes or no, the parts of a list, a text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(_text(part) for part in value) if isinstance(value, list | tuple) else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _slug(record: Record) -> str:
    spec = record.spec
    parts = [spec.tier, spec.task, *([spec.model] if spec.model != spec.tier else [])]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:LONGEST_SLUG]
