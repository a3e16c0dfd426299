"""`bench show`: everything about one run."""

from __future__ import annotations

from pathlib import Path

from bench.cli.options import records_folder
from bench.core.errors import UserError
from bench.core.record import Record
from bench.core.types import BROKEN_DOWN, Responses
from bench.records.files import load_records, read_record, read_responses, responses_path
from bench.runs.responses import load_responses
from bench.runs.store import Store


def find_record(name: str, source: Path) -> Record:
    """The one record that ``name`` means: its file, its key, or a part of its name that only it has."""
    if Path(name).is_file():
        return read_record(Path(name))
    loaded = load_records(records_folder(source), name)
    matching = loaded.records
    if len(matching) == 1:
        return matching[0]
    for broken in loaded.broken:
        if not matching and name in broken.path:
            raise UserError(f"{broken.path} is not a readable record ({broken.reason}): {broken.remedy}.")
    if not matching:
        raise UserError(f"No record in '{source}' has '{name}' in its name: `python -m bench ls runs` lists them.")
    shown = ", ".join(f"{r.spec.method}-{r.spec.key} ({r.spec.repetition})" for r in matching[:6])
    raise UserError(f"'{name}' fits {len(matching)} records: {shown}{' ...' if len(matching) > 6 else ''}. Name one.")


def show_record(name: str, source: Path, store: Path, examples: int) -> str:
    """Spec, scores with intervals, what is absent and why, lineage, cost, and what the model said."""
    record = find_record(name, source)
    spec = record.spec
    lines = [
        f"{record.name}  ({record.status})",
        f"{record.label}: {spec.method}, {spec.repetition}, model {spec.model}",
    ]
    if record.reason:
        lines += ["why:", *(f"  {line}" for line in record.reason.splitlines())]
    lines += [f"task parameters: {dict(spec.task_params)}"]
    lines += [f"step {step.name}: {dict(step.params)}" for step in spec.steps]
    lines += [f"settings from: {'; '.join(record.facts.get('source', [])) or 'none'}", "", "scores:"]
    for score, found in sorted(record.scores.items()):
        about = record.metrics[score]
        interval = "" if found.low is None else f"  [{found.low:.4g}, {found.high:.4g}]"
        floor = f"  floor {record.floors[score]:.3g}" if score in record.floors else ""
        lines.append(
            f"  {score:30} {found.value:10.4g}{interval}  n={found.n} {found.unit} goal {about['goal']}{floor}"
        )
    lines += [f"  {score:30} absent: {reason}" for score, reason in sorted(record.absent.items())]
    for title, part in (("lineage", record.lineage), ("cost", record.cost), ("provenance", record.provenance)):
        lines += ["", f"{title}:", *(f"  {key}: {value}" for key, value in part.items() if key != "nodes")]
    return "\n".join([*lines, *generation_lines(record, source, store, examples)])


def generation_lines(record: Record, source: Path, store: Path, examples: int) -> list[str]:
    """The first ``examples`` generations of each probe that has any, from the store (published files hold no text)."""
    if record.status != "done":
        return []
    if "imported" in record.provenance:
        return ["", "examples: an imported record has no responses; they stay with the file it came from."]
    responses = find_responses(record, source, store)
    if responses is None:
        return ["", "examples: the responses are no longer in the store; run the same command again to see them."]
    if responses.wrecked:
        return ["", f"examples: none, as {BROKEN_DOWN}."]
    lines: list[str] = []
    for probe, rows in responses.rows.items():
        spoken = [(key, row) for key, row in rows.items() if "text" in row][:examples]
        if spoken:
            lines += ["", f"what the model said, {probe}:"]
        for key, row in spoken:
            lines += [
                f"  {key}",
                f"    asked:     {row.get('prompt', '')}",
                f"    reference: {row.get('reference', '')}",
            ]
            lines += [f"    said:      {row['text']}"]
    return lines or ["", "examples: published responses hold numbers only; the texts stay in the store that made them."]


def find_responses(record: Record, source: Path, store: Path) -> Responses | None:
    """The record's responses, with texts where the store still has them."""
    key = record.lineage.get("responses")
    if not key:
        return None
    try:
        return load_responses(Store(store), key)
    except UserError:
        file = responses_path(source, key)
        return read_responses(file) if file.exists() else None
