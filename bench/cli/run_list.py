"""`bench ls runs`: the records of a folder, a line each, with their main scores, time and age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cli.listing import align_columns
from bench.cli.options import complete_name
from bench.core.errors import UserError, unknown_name
from bench.core.machine import format_duration
from bench.core.record import Record
from bench.records.files import LoadedRecords, load_records
from bench.records.markdown import format_number
from bench.records.tables import find_all_older
from bench.runs.asked import split_name

OLDER = "older"
"""Status of a record that tables leave out, as newer code has made others."""
STATES = ("done", "failed", "skipped", OLDER)
MAIN = ("forgetting", "kept")
"""Roles of the scores that are shown."""
NO_RUNS = "No runs yet: `python -m bench run --methods msa,npo --task muse-books` makes some."


@dataclass(frozen=True)
class Filter:
    """Which runs are meant; what is empty leaves them open."""

    task: str = ""
    method: str = ""
    model: str = ""
    seeds: tuple[int, ...] = ()
    status: str = ""

    def takes(self, record: Record, status: str) -> bool:
        """Whether a record is meant: a method's name means its variants too."""
        spec = record.spec
        return (
            complete_name("tasks", self.task) in ("", spec.task)
            and self.method in ("", spec.method, split_name(spec.method))
            and self.model in ("", spec.model)
            and (not self.seeds or spec.seed in self.seeds)
            and self.status in ("", status)
        )


def list_runs(folder: Path, wanted: Filter) -> str:
    """A table of the records below ``folder`` that are meant; broken ones are named."""
    if not folder.is_dir():
        return NO_RUNS
    loaded = load_records(folder)
    chosen = choose(loaded, wanted)
    rows: list[tuple[str, ...]] = [("status", "method", "task", "seed", *MAIN, "time", "age", "key")]
    for record, status in chosen:
        spec = record.spec
        where = spec.task if spec.tier == spec.model else f"{spec.task} on {spec.model}"
        seconds, age = seconds_of(record), age_of(record, folder)
        told = [format_duration(value) if value is not None else "-" for value in (seconds, age)]
        rows.append((status, spec.method, where, str(spec.seed), *main_scores(record), *told, spec.key))
    if not chosen:
        lines = [f"No run in '{folder}' is like that." if loaded.records else NO_RUNS]
    else:
        lines = align_columns(rows)
    if any(status == OLDER for _, status in chosen):
        lines.append(
            "older: another record of the section has newer code; tables leave it out, `bench prune` removes it"
        )
    return "\n".join([*lines, *(broken.left_out for broken in loaded.broken)])


def runs_json(folder: Path, wanted: Filter) -> list[dict[str, Any]]:
    """The same as data, with every score."""
    loaded = load_records(folder) if folder.is_dir() else LoadedRecords([], [])
    return [
        {
            "name": record.name,
            "status": status,
            "tier": record.spec.tier,
            "task": record.spec.task,
            "model": record.spec.model,
            "label": record.label,
            "method": record.spec.method,
            "seed": record.spec.seed,
            "key": record.spec.key,
            "scores": {name: score.value for name, score in record.scores.items()},
            "primary": dict(record.facts.get("primary", {})),
            "seconds": seconds_of(record),
            "finished": record.provenance.get("finished"),
            "reason": record.reason,
        }
        for record, status in choose(loaded, wanted)
    ]


def choose(loaded: LoadedRecords, wanted: Filter) -> list[tuple[Record, str]]:
    """The records that are meant, each with its status; `UserError` for a status that there is not."""
    if wanted.status not in ("", *STATES):
        raise UserError(unknown_name("status", wanted.status, STATES))
    older = find_all_older(loaded.records)
    told = [(record, OLDER if record.name in older else record.status) for record in loaded.records]
    chosen = [(record, status) for record, status in told if wanted.takes(record, status)]
    return sorted(chosen, key=lambda each: (each[0].spec.tier, each[0].name.rpartition("-")[0], each[0].spec.seed))


def main_scores(record: Record) -> Sequence[str]:
    """The scores that tell forgetting and what is kept, by name; the first of a section's where none is primary."""
    facts = record.facts
    primary = facts.get("primary") or {}
    first = {
        "forgetting": next(iter(facts.get("forgetting", ())), ""),
        "kept": next(iter(facts.get("utility", ())), ""),
    }
    names = [primary.get(role) or first[role] for role in MAIN]
    return [f"{name} {format_number(record.scores[name].value)}" if name in record.scores else "-" for name in names]


def seconds_of(record: Record) -> float | None:
    """Seconds that the method and its measurement took; None where the record doesn't say."""
    parts = [value for value in record.cost.get("seconds", {}).values() if isinstance(value, int | float)]
    return round(sum(parts), 3) if parts else None


def age_of(record: Record, folder: Path) -> float | None:
    """Seconds since the run was made: as its record says, else since its file was written; None where there is none."""
    try:
        if when := record.provenance.get("finished"):
            then = datetime.strptime(when, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        else:
            then = (folder / record.name).stat().st_mtime
    except (OSError, ValueError):
        return None
    return max(1.0, datetime.now(UTC).timestamp() - then)
