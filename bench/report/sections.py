"""A section of the report as JSON: what the leaderboard's tables and the pictures are drawn from, by the same functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from bench.core.record import Record
from bench.core.sampling import evenly_spread
from bench.core.types import Json
from bench.metrics.catalogue import CatalogueEntry
from bench.records import tables
from bench.records.attacked import AttackRow, AttackTable, build_attacks
from bench.records.contrasts import Contrast, build_contrasts
from bench.records.forget_keep import mean_front
from bench.records.fronts import FrontPoint, front_of, kept_at_oracle
from bench.records.looks import MARKERS, Look, look_of, looks_of
from bench.records.markdown import (
    NOTHING,
    format_amount,
    format_cell,
    format_interval,
    format_number,
    goal_arrow,
    seed_list,
)
from bench.records.overall import FieldScore, field_scores
from bench.records.section_page import commits_in_words, kept_in_words
from bench.records.tables import OWN_VALUE, ScoreColumn, Section, TableCell, TableRow
from bench.records.warnings import find_warnings
from bench.report.answers import Said, build_answers
from bench.report.commands import command_of
from bench.report.words import last_line, short, tidy

PLOTLY = "circle diamond triangle-up triangle-down cross x pentagon hexagon diamond-tall triangle-left triangle-right"
SYMBOLS = dict(zip(MARKERS, PLOTLY.split(), strict=True)) | {"s": "square", "*": "star"}
"""Matplotlib's markers as plotly calls them."""
FLOORS = "_floors"
"""Ending of a divergence counted in those between two oracles."""
MOST_LOSSES = 120
"""Points of one curve of losses."""
COSTS: Mapping[str, Callable[[float], str]] = {
    "tokens trained": format_amount,
    tables.OF_RETRAINING: format_number,
    tables.OF_NOTHING: format_number,
    "seconds": format_amount,
}
Losses = Callable[[Record], Mapping[str, Sequence[Mapping[str, float]]]]
"""What gives the loss curves of the trainings behind a record, by the name of the stage."""


def build_section(section: Section, catalogue: Sequence[CatalogueEntry], said: Said, losses: Losses) -> Json:
    """All that the page shows of a section."""
    contrasts = build_contrasts(section)
    looks = looks_of((row.name, row.method) for row in section.rows)
    seeds = sorted({seed for row in section.rows for seed in row.seeds})
    return {
        "id": section.slug,
        "title": tidy(section.title),
        "label": tidy(section.label),
        "tier": tidy(section.tier),
        "model": tidy(section.model),
        "seeds": seeds,
        "statements": [tidy(line) for line in (*section.statements, *find_warnings(section))],
        "roles": roles_of(section),
        "fixed": bool(section.primary),
        "columns": [_column(section, column, catalogue) for column in section.columns],
        "rows": [_row(section, row, looks[row.name]) for row in section.rows],
        "oracles": _oracle_means(section, seeds),
        "better": {score: sorted(map(tidy, names)) for score, names in contrasts.better_rows().items()},
        "contrasts": [_contrast(contrast) for contrast in (*contrasts.fixed, *contrasts.best)],
        "contrasts_said": tidy(contrasts.said),
        "forgetting": _there(section, section.forgetting),
        "utility": _there(section, section.utility),
        "membership": _there(section, tables.ATTACKS),
        "fronts": {tidy(row.name): found for row in section.rows if (found := _front(section, row))},
        "attacks": [_attack(table) for table in build_attacks(section)],
        "field": [_field(row, scores) for row, scores in field_scores(section)],
        "ways": {tidy(row.name): found for row in section.rows if (found := _ways(section, row))},
        "losses": {tidy(row.name): found for row in section.rows if (found := _losses(row, losses))},
        "unfinished": [
            f"{tidy(run.name)} {run.status} on {seed_list(run.seeds)}: {last_line(run.reason)}"
            for run in section.unfinished
        ],
        "absent": _absences(section.rows),
        "judges": _judges(section),
        "answers": build_answers(section, said),
    }


def roles_of(section: Section) -> dict[str, str]:
    """Role -> the score that the glance shows for it: the fixed primary ones, else the first of each kind."""
    if section.primary:
        return dict(section.primary)
    first = {
        "forgetting": next(iter(_there(section, section.forgetting)), ""),
        "kept": next(iter(_there(section, section.utility)), ""),
        **{role: role for role in OWN_VALUE},
    }
    names = {column.name for column in section.columns}
    return {role: score for role, score in first.items() if score in names}


def _there(section: Section, names: Iterable[str]) -> list[str]:
    there = {column.name for column in section.columns}
    return [name for name in names if name in there]


def _column(section: Section, column: ScoreColumn, catalogue: Sequence[CatalogueEntry]) -> Json:
    entry = next((entry for entry in catalogue if entry.fits(column.name)), None)
    noise = section.noise.get(column.name)
    return {
        "name": tidy(column.name),
        "goal": column.goal,
        "arrow": goal_arrow(column.goal),
        "version": column.version,
        "headline": column.headline,
        "meaning": tidy(entry.meaning) if entry else "",
        "source": tidy(entry.source) if entry else "",
        "noise": format_number(noise.sd) if noise else "",
        "sd": short(noise.sd) if noise else None,
        "df": noise.df if noise else 0,
    }


def _row(section: Section, row: TableRow, look: Look) -> Json:
    source = row.fact("source")
    return {
        "name": tidy(row.name),
        "kind": kind_of(row),
        "seeds": row.seeds,
        "collapsed": seed_list(row.collapsed) if row.collapsed else "",
        "diverged": seed_list(row.diverged) if row.diverged else "",
        "costly": row.costly,
        "colour": look.colour,
        "symbol": SYMBOLS[look.marker],
        "cells": {tidy(name): _cell(cell, row) for name, cell in row.cells.items()},
        "gaps": {
            role: found for role, score in roles_of(section).items() if (found := _gap(section, row, role, score))
        },
        "used": _used(section, row),
        "params": tidy(row.params),
        "source": tidy(source) if source else "",
        "command": tidy(command_of(row.records)),
        "commits": commits_in_words([row]),
        "measured": _provenance(row.records),
        "facts": _facts(row.records[0]),
    }


def kind_of(row: TableRow) -> str:
    """``target``, ``oracle``, ``control`` or ``method``."""
    if not row.is_method:
        return "target" if row.method == tables.TARGET else "oracle"
    return "control" if row.is_control else "method"


def _cell(cell: TableCell, row: TableRow) -> Json:
    """What the leaderboard writes, the mean for sorting, the interval's ends and the seeds' values for the picture."""
    ends = cell.interval
    return {
        "text": format_cell(cell, len(row.seeds)),
        "mean": cell.mean,
        "n": cell.n,
        "ends": list(map(short, ends)) if ends else None,
        "over": "" if not ends else "t, over seeds" if cell.n >= tables.SEEDS_OF_INTERVAL else "bootstrap",
        "seeds": [short(cell.by_seed[seed]) if seed in cell.by_seed else None for seed in row.seeds],
    }


def _gap(section: Section, row: TableRow, role: str, score: str) -> Json | None:
    """The mean distance from the oracle in a role's score, and how many times the noise that is.

    Of a divergence the noise is its value between two oracles.
    """
    cell = row.cells.get(score)
    by_seed = row.gaps.get(role) or tables.find_gaps(role, score, cell, section.oracles)
    if not by_seed:
        return None
    gap, noise = TableCell(by_seed), section.noise.get(score)
    times = gap.mean / noise.sd if noise and noise.sd else None
    if role in OWN_VALUE:
        floors = row.cells.get(score + FLOORS)
        times = floors.mean if floors else None
    return {
        "text": format_number(gap.mean),
        "whole": format_cell(gap, len(row.seeds)),
        "mean": gap.mean,
        "times": None if times is None else short(times),
        "said": "" if times is None else format_number(times),
    }


def _used(section: Section, row: TableRow) -> dict[str, str]:
    """What a row saw, what it cost, and what it keeps at the oracle's forgetting."""
    seen = {name: tidy(row.fact(fact)) or NOTHING for name, fact in tables.SAW.items()}
    costs = {what: format_cell(row.costs.get(what), len(row.seeds), say) for what, say in COSTS.items()}
    kept = kept_at_oracle(section, row) if row.is_method else None
    return seen | costs | {"kept at the oracle's forgetting": kept_in_words(kept, len(row.seeds))}


def _provenance(records: Sequence[Record]) -> str:
    """The kinds of machine and the versions that the records were made with."""
    kinds: dict[str, None] = {}
    for record in records:
        about = record.provenance
        versions = about.get("versions", {})
        named = [
            f"{name} {versions[name]}" for name in ("python", "torch", "transformers", "msa-bench") if name in versions
        ]
        place = " ".join(str(about[name]) for name in ("device", "machine", "instruction_set") if about.get(name))
        kinds[tidy("; ".join(filter(None, [place, ", ".join(named)])))] = None
    return " | ".join(filter(None, kinds))


def _facts(record: Record) -> dict[str, str]:
    """Facts of the first seed's record that are one number or word."""
    known = {*tables.SAW.values(), "source", "trace_points"}
    plain = {name: value for name, value in record.facts.items() if isinstance(value, str | int | float | bool)}
    return {
        tidy(name): format_number(value) if type(value) is float else tidy(str(value))
        for name, value in sorted(plain.items())
        if name not in known
    }


def _oracle_means(section: Section, seeds: Sequence[int]) -> dict[str, list[float | None]]:
    """Per score the mean of each seed's oracles, in the order of the section's seeds."""
    means = {c.name: [section.oracle_mean(c.name, seed) for seed in seeds] for c in section.columns}
    return {
        tidy(name): [None if value is None else short(value) for value in values]
        for name, values in means.items()
        if any(value is not None for value in values)
    }


def _contrast(contrast: Contrast) -> Json:
    paired = contrast.paired
    verdict = "not tested"
    if contrast.holm is not None:
        verdict = f"{tidy(contrast.better)} is better" if contrast.supported else "no"
    return {
        "rows": [[tidy(name), name in contrast.wrecks] for name in (contrast.one, contrast.other)],
        "role": contrast.role,
        "score": tidy(contrast.score),
        "difference": format_number(paired.mean),
        "interval": format_interval(paired.low, paired.high),
        "p": NOTHING if contrast.holm is None else format_number(contrast.holm),
        "verdict": verdict,
        "supported": contrast.supported,
    }


def _front(section: Section, row: TableRow) -> Json | None:
    """A line a seed and the mean's: [share, forget score minus the oracle's, kept]."""
    fronts = [front for record in row.records if row.is_method and (front := _beside_oracle(section, record))]
    if not fronts:
        return None
    mean = [[share, *map(short, place)] for share, place in mean_front(fronts).items()]
    return {"seeds": [list(map(_point, front)) for front in fronts], "mean": mean}


def _beside_oracle(section: Section, record: Record) -> list[FrontPoint]:
    """A record's front, its forget scores taken from the oracles'."""
    oracle = section.oracle_mean(section.primary.get("forgetting", ""), record.spec.seed)
    return [] if oracle is None else [replace(p, forget=p.forget - oracle) for p in front_of(section, record)]


def _point(point: FrontPoint) -> list[float]:
    return [point.share, short(point.forget), short(point.kept)]


def _ways(section: Section, row: TableRow) -> dict[str, list[list[float]]]:
    """Per headline score its mean over the seeds along the way from the target: [share, score]."""
    traced = [record for record in row.records if record.facts.get("trace")]
    found: dict[str, list[list[float]]] = {}
    for column in section.headline if traced else ():
        by_share: dict[float, list[float]] = {}
        for record in traced:
            places = [(point["share"], point["scores"].get(column.name)) for point in record.facts["trace"]]
            end = record.scores.get(column.name)
            for share, value in [*places, (1.0, end.value if end else None)]:
                if value is not None:
                    by_share.setdefault(round(share, 6), []).append(value)
        whole = {share: values for share, values in sorted(by_share.items()) if len(values) == len(traced)}
        if len(whole) > 1:
            found[tidy(column.name)] = [[share, short(fmean(values))] for share, values in whole.items()]
    return found


def _losses(row: TableRow, losses: Losses) -> dict[str, list[list[float]]]:
    """The loss curves of the first seed's trainings: [step, loss]."""
    found = {}
    for stage, curve in losses(row.records[0]).items():
        points = [[point["step"], short(point["loss"])] for point in curve if {"step", "loss"} <= point.keys()]
        if len(points) > 1:
            found[tidy(stage)] = list(evenly_spread(points, MOST_LOSSES))
    return found


def _attack(table: AttackTable) -> Json:
    more = list(dict.fromkeys(name for row in table.rows for name in row.more))
    head = [
        f"{tidy(table.before)} before".strip(),
        f"{tidy(table.score)} after",
        "minus the oracle's after",
        *([f"{tidy(table.kept)} after"] if table.kept else []),
        *more,
    ]
    return {
        "name": tidy(table.attack),
        "head": head,
        "rows": [_attack_row(row, table, more) for row in table.rows],
    }


def _attack_row(row: AttackRow, table: AttackTable, more: Sequence[str]) -> Json:
    seeds = row.after.n
    cells = [
        row.before,
        row.after,
        row.gap,
        *([row.kept] if table.kept else []),
        *(row.more.get(name) for name in more),
    ]
    look = look_of(row.method)
    return {
        "name": tidy(row.name),
        "wreck": row.wreck,
        "colour": look.colour,
        "symbol": SYMBOLS[look.marker],
        "seeds": seeds,
        "cells": [format_cell(cell, seeds) for cell in cells],
        "means": [None if cell is None else cell.mean for cell in cells],
        "after": [short(value) for value in row.after.by_seed.values()],
        "gap": [short(value) for value in row.gap.by_seed.values()] if row.gap else [],
        "blocks": list(map(short, row.blocks)),
        "curves": [[[step, short(value)] for step, value in curve] for curve in row.curves.values()],
    }


def _field(row: TableRow, scores: Sequence[FieldScore]) -> Json:
    parts = {
        "overall without fluency": [score.overall for score in scores],
        "memorisation": [score.memorisation for score in scores],
        "privacy": [score.privacy for score in scores],
        "utility / target's": [score.utility for score in scores],
    }
    cells = {name: TableCell(dict(enumerate(values))) for name, values in parts.items()}
    return {
        "name": tidy(row.name),
        "cells": {name: format_cell(cell, len(row.seeds)) for name, cell in cells.items()},
        "means": {name: cell.mean for name, cell in cells.items()},
    }


def _absences(rows: Sequence[TableRow]) -> list[str]:
    """Absent scores, those with one reason together."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for pair in {pair: None for record in row.records for pair in sorted(record.absent.items())}:
            found.setdefault(pair, []).append(row.name)
    return [f"{tidy(name)} of {tidy(', '.join(of))}: {last_line(why)}" for (name, why), of in sorted(found.items())]


def _judges(section: Section) -> list[str]:
    """The verdicts of the judge on target and oracle: how much its scores are worth."""
    records = [record for row in section.rows for record in row.records]
    verdicts = dict.fromkeys(verdict for r in records if (verdict := r.facts.get("judge", {}).get("verdict")))
    return list(map(tidy, verdicts))
