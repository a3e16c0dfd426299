"""The one function from records to tables; the leaderboard and the plots draw what `build_sections` returns and nothing else.

A section is a task in one setting on one model: rows are methods (one per setting of a method, over its seeds),
columns are scores, and a cell keeps every seed's value. Nothing averages across sections.

Nothing is ranked here: `bench.records.contrasts` says which methods differ. Rows stand in an order of display: target,
oracle, controls, then the methods by their mean primary gap in units of its spread over seeds, wrecks last. What must not
be compared (other metric versions, one target under several seeds) is refused in words.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import fmean
from typing import Any

from bench.core.attacks import attack_of
from bench.core.hashing import canonical_json, hash_json
from bench.core.record import PRIMARY, Record
from bench.core.texts import one_line
from bench.core.types import BROKEN_DOWN
from bench.records.identity import (
    as_text,
    conditions_of,
    describe_differences,
    find_duplicates,
    find_older,
    find_repeated,
    keep_fullest,
    name_rows,
    origin_of,
    params_of,
    setting_key,
    target_faults,
)
from bench.records.noise import ROUNDING, Noise, difference, measure_noise, pooled_sd

TARGET = "target"
ORACLE = "retrain"
ATTACKS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_gradnorm", "mia_reference")
"""Scores of the membership attacks, in the order of tables and pictures."""
LONGEST_SLUG = 120
"""Characters of a section's name in files' names."""
CONTROLS = ("before", "interpolate", "rewind", "random", "max-update")
"""Rows that unlearn nothing worth having, or retrain: what any method must do better than. In the order of a table."""
SEEDS_OF_INTERVAL = 5
"""Seeds from which the interval of a cell is the t interval over them."""
MARKED = 0.5
"""Share of one retraining's tokens above which a method is marked."""
OWN_VALUE = ("kl_forget", "kl_retain")
"""Roles whose score is the gap itself: it is a distance from the oracle already."""
OF_RETRAINING = "of one retraining"
OF_NOTHING = "of one from nothing"
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
    people: tuple[float, float] | None = None
    """Mean over the seeds of their 95% bootstrap intervals over people or rows; None where a seed has none."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95%: the t interval over seeds where there are five or more, else what the bootstrap says; None for neither."""
        return t_interval(list(self.by_seed.values())) if self.is_over_seeds else self.people

    @property
    def is_over_seeds(self) -> bool:
        """Whether the interval is the t interval over seeds, which is as wide on both sides of the mean."""
        return self.n >= SEEDS_OF_INTERVAL

    @property
    def mean(self) -> float:
        """The mean of the cell's values over its seeds; 0 where nothing but rounding is left of it."""
        mean = _mean(self.by_seed.values())
        return mean if abs(mean) > ROUNDING * max(map(abs, self.by_seed.values())) else 0.0

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
    gaps: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Per role of the primary scores and seed, how far the row is from the oracles' mean; of the divergences the value."""
    distance: float | None = None
    """Mean over the primary scores of the mean gap in units of its spread (`_with_distances`); None where one is missing."""

    @property
    def is_method(self) -> bool:
        """Neither the untouched target nor the oracle."""
        return self.method not in (TARGET, ORACLE)

    @property
    def is_control(self) -> bool:
        """A control, in whatever setting."""
        steps = self.records[0].spec.steps
        return bool(steps) and steps[0].method in CONTROLS

    @property
    def costly(self) -> bool:
        """Whether it takes more than half of one retraining's tokens."""
        share = self.costs.get(OF_RETRAINING)
        return self.is_method and share is not None and share.mean > MARKED

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
    """Target, oracle, controls, methods by `TableRow.distance`, wrecks."""
    noise: Mapping[str, Noise]
    """Per score, how far two runs of one thing lie apart."""
    primary: Mapping[str, str]
    """Role -> score that methods are compared by; empty where the task has fixed none."""
    oracles: Mapping[int, Mapping[str, Sequence[float]]]
    """Per seed and score, the value of every oracle."""
    statements: tuple[str, ...]
    """What was refused or left out, and why; a section that is refused has no rows."""
    unfinished: tuple[UnfinishedRuns, ...]
    forgetting: tuple[str, ...]
    """Scores of the plots' forgetting axis."""
    utility: tuple[str, ...]
    older: Mapping[str, str] = field(default_factory=dict)
    """Name of a record that is left out -> whose older code made it."""
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

    def oracle_mean(self, score: str, seed: int) -> float | None:
        """The mean of a seed's oracles; None where there is none."""
        values = self.oracles.get(seed, {}).get(score)
        return fmean(values) if values else None


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
        settings |= zip(keys, describe_differences([conditions_of(groups[key][0]) for key in keys]), strict=True)
    sections = []
    for key, group in groups.items():
        slug = _slug(group[0])
        if len(slugs[slug]) > 1:
            slug = f"{slug}-{hash_json(key)[:6]}"
        sections.append(_section(key[1], settings[key], slug, group))
    return sections


def find_all_older(records: Sequence[Record]) -> dict[str, str]:
    """Name of a record -> whose older code made it, where another record of its section has newer code."""
    groups = _grouped(sorted(records, key=lambda record: record.name)).values()
    return {name: whose for group in groups for name, whose in find_older(group).items()}


def tell_older(older: Mapping[str, str], where: str = "") -> list[str]:
    """A line about records that older code made; none where there are none. ``where``: flags that name their folder."""
    if not older:
        return []
    what = "1 record is" if len(older) == 1 else f"{len(older):,} records are"
    whose = ", ".join(sorted(set(older.values())))
    return [f"{what} left out, made by older code of {whose}: python -m bench prune{where} removes such records."]


def record_beside(record: Record, around: Sequence[Record], method: str) -> Record | None:
    """The finished record of the target or the oracle that a record is compared with: of the same scenario and seed."""
    spec = record.spec
    same = (spec.tier, spec.task, spec.model, spec.seed, spec.limit, record.lineage.get("target"))
    for other in around:
        about = other.spec
        theirs = (about.tier, about.task, about.model, about.seed, about.limit, other.lineage.get("target"))
        if other.status == "done" and about.method == method and theirs == same and not about.attack:
            return other
    return None


def keys_beside(record: Record, around: Sequence[Record]) -> dict[str, str]:
    """``target`` and ``oracle`` -> the content keys of the responses that a record's are looked at beside; "" for none."""
    target = record_beside(record, around, TARGET)
    return {
        "target": target.lineage.get("responses", "") if target else "",
        "oracle": next(iter(record.lineage.get("oracle_responses", ())), ""),
    }


def _grouped(records: Sequence[Record]) -> dict[Key, list[Record]]:
    """Records by section, in the order of the page. One that failed early has no label yet and goes with its like."""

    def rest(record: Record) -> tuple[str, str, str]:
        spec = record.spec
        how = [dict(part) for part in (spec.compute.to_json(), origin_of(record)) if part]
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
    older = find_older(records)
    records = [record for record in records if record.name not in older]
    finished = [record for record in records if record.status == "done"]
    runs = keep_fullest([record for record in finished if not attack_of(record.spec)])
    done = [record for record in runs if not record.spec.order]
    spec = records[0].spec
    refused = [*target_faults(runs), *find_duplicates(runs)]
    columns, left_out = _columns(done)
    primary = _primary(done, columns)
    oracles = _oracle_values(done)
    noise = measure_noise(oracles, find_repeated(runs), done)
    noise = {column.name: noise[column.name] for column in columns if column.name in noise}
    rows = [] if refused else _rows(done, columns, primary, oracles)
    return Section(
        tier=spec.tier,
        label=label,
        task=spec.task,
        model=spec.model,
        setting=setting,
        slug=slug,
        columns=tuple(columns),
        rows=tuple(_in_order(_with_distances(rows, primary, noise))),
        noise=noise,
        primary=primary,
        oracles=oracles,
        statements=(*(refused or left_out), *_unmeasured(done, primary), *tell_older(older)),
        older=older,
        unfinished=tuple(_unfinished(records)),
        forgetting=tuple(_listed(done, "forgetting")),
        utility=tuple(_listed(done, "utility")),
        attacked=tuple(record for record in finished if attack_of(record.spec)),
    )


def _primary(records: Sequence[Record], columns: Sequence[ScoreColumn]) -> dict[str, str]:
    """The score of each role that the task has fixed and some record has."""
    names, fixed = {column.name for column in columns}, _fixed_scores(records)
    return {role: fixed[role] for role in PRIMARY if fixed.get(role) in names}


def _fixed_scores(records: Sequence[Record]) -> Mapping[str, str]:
    """The score of each role that the task has fixed."""
    return next((r.facts["primary"] for r in _oracle_first(records) if r.facts.get("primary")), {})


def _unmeasured(records: Sequence[Record], primary: Mapping[str, str]) -> list[str]:
    """A sentence about the scores fixed beforehand that no record has, which gaps and contrasts are then without."""
    fixed = _fixed_scores(records)
    lacking = [fixed[role] for role in PRIMARY if role in fixed and role not in primary]
    return [
        f"No record has the score {name}, which was fixed beforehand to compare by: mean gaps and contrasts are without it."
        for name in lacking
    ]


def _oracle_values(records: Sequence[Record]) -> dict[int, dict[str, list[float]]]:
    """Per seed and score the value of every oracle, as a record has it; else the oracle's own row alone."""
    found: dict[int, dict[str, list[float]]] = {}
    for record in _oracle_first(records):
        known = record.facts.get("oracle_values")
        if record.spec.method == ORACLE and not known:
            known = {name: [score.value] for name, score in record.scores.items()}
        if known:
            found.setdefault(record.spec.seed, {name: list(values) for name, values in known.items()})
    return found


def _rows(
    records: Sequence[Record],
    columns: Sequence[ScoreColumn],
    primary: Mapping[str, str],
    oracles: Mapping[int, Mapping[str, Sequence[float]]],
) -> list[TableRow]:
    groups = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec.seed):
        groups[setting_key(record)].append(record)
    names = name_rows([group[0] for group in groups.values()])
    found = []
    for key, group in groups.items():
        cells = {column.name: _cell(column.name, group) for column in columns}
        gaps = {role: find_gaps(role, name, cells.get(name), oracles) for role, name in primary.items()}
        found.append(
            TableRow(
                name=names[key],
                method=group[0].spec.method,
                params=", ".join(f"{key}={as_text(value)}" for key, value in sorted(params_of(group[0]).items())),
                records=tuple(group),
                cells={name: cell for name, cell in cells.items() if cell},
                costs=_costs(group),
                gaps={role: by_seed for role, by_seed in gaps.items() if by_seed},
            )
        )
    return found


def _cell(name: str, records: Sequence[Record]) -> TableCell | None:
    scores = {record.spec.seed: record.scores[name] for record in records if name in record.scores}
    if not scores:
        return None
    ends = [(score.low, score.high) for score in scores.values() if score.low is not None and score.high is not None]
    people = (_mean(low for low, _ in ends), _mean(high for _, high in ends)) if len(ends) == len(scores) else None
    return TableCell({seed: score.value for seed, score in scores.items()}, people)


def find_gaps(
    role: str, name: str, cell: TableCell | None, oracles: Mapping[int, Mapping[str, Sequence[float]]]
) -> dict[int, float]:
    """Per seed the distance from the oracles' mean; of a divergence the value itself."""
    by_seed = cell.by_seed if cell else {}
    if role in OWN_VALUE:
        return dict(by_seed)
    best = {seed: oracles.get(seed, {}).get(name) for seed in by_seed}
    return {s: abs(difference(value, _mean(values))) for s, value in by_seed.items() if (values := best[s])}


def _with_distances(rows: Sequence[TableRow], primary: Mapping[str, str], noise: Mapping[str, Noise]) -> list[TableRow]:
    """The rows with their mean gap over the primary scores, each in units of its spread.

    The spread is the pooled standard deviation over seeds of the gaps of sound methods, at least the noise of the score;
    a score that has neither is left out for all.
    """
    sound = [row for row in rows if row.is_method and not row.is_control and not row.wrecked]
    units = {}
    for role, name in primary.items():
        spread = pooled_sd([list(row.gaps[role].values()) for row in sound if role in row.gaps])
        units[role] = max(spread, noise[name].sd if name in noise else 0.0)
    units = {role: unit for role, unit in units.items() if unit}

    def distance(row: TableRow) -> float | None:
        if not units or units.keys() - row.gaps.keys():
            return None
        return _mean(_mean(row.gaps[role].values()) / unit for role, unit in units.items())

    return [replace(row, distance=distance(row)) for row in rows]


def _in_order(rows: Sequence[TableRow]) -> list[TableRow]:
    """Target, oracle, controls by their names, methods by their distance and without one by their names, wrecks."""

    def place(row: TableRow) -> tuple[Any, ...]:
        if not row.is_method:
            return ((TARGET, ORACLE).index(row.method), 0, 0.0, row.name)
        if row.is_control:
            return (2, CONTROLS.index(row.records[0].spec.steps[0].method), 0.0, row.name)
        return (4 if row.wrecked else 3, row.distance is None, row.distance or 0.0, row.name)

    return sorted(rows, key=place)


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


def _listed(records: Sequence[Record], name: str) -> list[str]:
    """A list of score names among the facts; the oracle's record speaks first, then the first that has one."""
    return next((list(record.facts[name]) for record in _oracle_first(records) if record.facts.get(name)), [])


def _oracle_first(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.spec.method != ORACLE, record.name))


def _costs(records: Sequence[Record]) -> dict[str, TableCell]:
    """Tokens trained, also over one retraining's, and the method's own seconds: no shared stage, and no measuring."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records:
        tokens, whole = record.cost.get("tokens_trained"), record.cost.get("oracle_tokens", {})
        values = {"tokens trained": tokens, "seconds": record.cost.get("seconds", {}).get("method")}
        if isinstance(tokens, int | float):
            shares = ((OF_RETRAINING, whole.get("from_theta_0")), (OF_NOTHING, whole.get("from_nothing")))
            values |= {what: tokens / of for what, of in shares if of}
        for what, value in values.items():
            if isinstance(value, int | float):
                found[what][record.spec.seed] = value
    return {what: TableCell(by_seed) for what, by_seed in found.items()}


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The t interval of the mean of two values or more."""
    half = t_quantile(len(values) - 1, (1 + level) / 2) * pooled_sd([values]) / math.sqrt(len(values))
    return _mean(values) - half, _mean(values) + half


@lru_cache
def t_quantile(df: int, share: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(df, share))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _in_words(value: Any) -> str:
    """A fact of a record in words: yes or no, the parts of a list, a text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(as_text(part) for part in value) if isinstance(value, list | tuple) else as_text(value)


def _slug(record: Record) -> str:
    spec = record.spec
    parts = [spec.tier, spec.task, *([spec.model] if spec.model != spec.tier else [])]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:LONGEST_SLUG]


def short_names(sections: Sequence[Section]) -> list[str]:
    """The sections' names without what a subset is of: ``tofu subset``; with the model, or whole, where two share one."""
    found = [one_line(section.title) for section in sections]
    labels = [one_line(section.label.partition(":")[0]) for section in sections]
    with_model = [f"{label} on {one_line(each.model)}" for label, each in zip(labels, sections, strict=True)]
    for names in (with_model, labels):
        found = [name if names.count(name) == 1 else longer for name, longer in zip(names, found, strict=True)]
    return found
