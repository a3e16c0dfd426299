"""`bench show`: one run, its scores and answers beside the target's and the oracle's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.cli.picking import (
    Picked,
    Wanted,
    answer_of,
    answered_probes,
    find_responses,
    pick_record,
    responses_beside,
)
from bench.core.record import Record
from bench.core.types import BROKEN_DOWN, Json, Responses
from bench.records.markdown import format_interval, format_number
from bench.records.tables import TARGET

PARTS = ("lineage", "cost", "provenance")
"""Parts of a record that are shown when they are asked for."""


def show_record(wanted: Wanted, source: Path, store: Path, examples: int, parts: tuple[str, ...] = ()) -> str:
    """Spec, scores beside target and oracle, what is absent and why, the ``parts`` that are asked for, and answers."""
    picked = pick_record(wanted, source)
    record, spec = picked.record, picked.record.spec
    lines = [f"{record.name}  ({record.status})", *([picked.note] if picked.note else [])]
    if whose := picked.older.get(record.name):
        lines.append(f"made by older code of {whose}: tables leave it out")
    label = record.label or f"{spec.task} ({spec.tier})"
    lines.append(f"{label}: {spec.method}, {spec.repetition}, model {spec.model}")
    if record.reason:
        lines += ["why:", *(f"  {line}" for line in record.reason.splitlines())]
    lines += [f"task parameters: {dict(spec.task_params)}"]
    lines += [f"step {step.name}: {dict(step.params)}" for step in spec.steps]
    lines += [f"settings from: {'; '.join(record.facts.get('source', [])) or 'none'}"]
    if record.scores or record.absent:
        lines += ["", *score_lines(record, scores_beside(picked))]
    for part in parts:
        fields = getattr(record, part).items()
        lines += ["", f"{part}:", *(f"  {key}: {value}" for key, value in fields if key != "nodes")]
    if hidden := [f"--{part}" for part in PARTS if part not in parts]:
        lines += ["", f"more: {', '.join(hidden)}; --json has everything"]
    return "\n".join([*lines, *answer_lines(picked, source, store, examples)])


def scores_beside(picked: Picked) -> dict[str, dict[str, float]]:
    """``target`` and ``oracle`` -> their scores by name: of the oracles the mean."""
    record = picked.record
    target = picked.beside(TARGET) if record.spec.method != TARGET else None
    values: Mapping[str, Any] = record.facts.get("oracle_values", {})
    return {
        "target": {name: score.value for name, score in target.scores.items()} if target else {},
        "oracle": {name: sum(each) / len(each) for name, each in values.items() if each},
    }


def score_lines(record: Record, beside: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A line for each score, with its interval and what target and oracles have, and for each that is absent."""
    rows: list[tuple[str, ...]] = [("scores", "value", "95%", "n", "goal", "target", "oracle", "floor", "unit")]
    for name, found in sorted(record.scores.items()):
        interval = "" if found.low is None or found.high is None else format_interval(found.low, found.high)
        others = [format_number(beside[who][name]) if name in beside[who] else "" for who in ("target", "oracle")]
        floor = f"{record.floors[name]:.3g}" if name in record.floors else ""
        goal = str(record.metrics[name]["goal"])
        rows.append((name, format_number(found.value), interval, str(found.n), goal, *others, floor, found.unit))
    used = [k for k in range(len(rows[0])) if any(row[k] for row in rows[1:])] if len(rows) > 1 else []
    widths = [max(len(row[k]) for row in rows) for k in used]
    lines = ["  ".join(row[k].ljust(wide) for k, wide in zip(used, widths, strict=True)).rstrip() for row in rows]
    return [*(lines if used else []), *(f"absent: {name}: {why}" for name, why in sorted(record.absent.items()))]


def answer_lines(picked: Picked, source: Path, store: Path, examples: int) -> list[str]:
    """The first ``examples`` answers of each probe, beside those of the target and of an oracle."""
    record = picked.record
    if record.status != "done":
        return []
    if "imported" in record.provenance:
        return ["", "examples: an imported record has no responses; they stay with the file it came from."]
    responses = find_responses(record, source, store)
    if responses is None:
        return ["", "examples: the responses are no longer in the store; run the same command again to see them."]
    if responses.wrecked:
        return ["", f"examples: none, as {BROKEN_DOWN}."]
    beside = responses_beside(picked, source, store)
    lines: list[str] = []
    for probe, rows in answered_probes(responses).items() if examples else ():
        lines += ["", f"what was answered, {probe}:"]
        for key in list(rows)[:examples]:
            lines += example_lines(key, rows[key], answers_to(probe, key, beside | {record.spec.method: responses}))
    spoken = [row for rows in responses.rows.values() for row in rows.values() if "counts" in row]
    if lines and spoken and not any("text" in row for row in spoken):
        lines += ["", "published responses hold numbers only; texts stay in the store that made them."]
    return lines


def answers_to(probe: str, key: str, of: Mapping[str, Responses]) -> dict[str, Any]:
    """Who -> the answer to one example, of those that have one."""
    found = {who: answer_of(responses.rows.get(probe, {}).get(key, {})) for who, responses in of.items()}
    return {who: answer for who, answer in found.items() if answer}


def example_lines(key: str, row: Mapping[str, Any], answers: Mapping[str, Any]) -> list[str]:
    """One example: what was asked, the truth, and each answer with a sign of whether it is the truth."""
    lines = [f"  {key}"]
    told = {"asked": row.get("prompt"), "truth": row.get("reference")}
    wide = max(map(len, (*told, *answers))) + 1
    lines += [f"    {who + ':':{wide}}   {text}" for who, text in told.items() if text is not None]
    marks = {True: "=", False: "≠", None: " "}
    return lines + [f"    {who + ':':{wide}} {marks[each.right]} {each.text}" for who, each in answers.items()]


def record_json(wanted: Wanted, source: Path, store: Path, examples: int) -> Json:
    """The record, what stands beside its scores, and the first answers of each probe."""
    picked = pick_record(wanted, source)
    record = picked.record
    found = find_responses(record, source, store) if record.status == "done" else None
    return {
        "name": record.name,
        "record": record.to_json(),
        "older": picked.older.get(record.name, ""),
        "others": [other.name for other in picked.others],
        "beside": scores_beside(picked),
        "answers": answers_json(picked, found, source, store, examples) if found else {},
    }


def answers_json(picked: Picked, own: Responses, source: Path, store: Path, examples: int) -> Json:
    """Probe -> example -> what was asked, the truth, and who answered what."""
    everyone = responses_beside(picked, source, store) | {picked.record.spec.method: own}
    return {
        probe: {key: example_json(rows[key], answers_to(probe, key, everyone)) for key in list(rows)[:examples]}
        for probe, rows in answered_probes(own).items()
    }


def example_json(row: Mapping[str, Any], answers: Mapping[str, Any]) -> Json:
    """One example as data."""
    told = {who: vars(answer) for who, answer in answers.items()}
    return {"asked": row.get("prompt"), "truth": row.get("reference"), "answers": told}
