"""Which record a few words mean, what stands beside it, and what was answered: for `bench show` and `bench compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

from bench.cli.options import complete_name, records_folder
from bench.core.attacks import attack_of
from bench.core.errors import UserError
from bench.core.record import Record
from bench.core.types import Responses
from bench.records.files import LoadedHeads, load_heads, read_record, read_responses, responses_path
from bench.records.heads import Head
from bench.records.identity import is_called
from bench.records.tables import ORACLE, find_all_older, keys_beside, record_beside
from bench.runs.responses import load_responses
from bench.runs.store import Store

STATES = ("done", "failed", "skipped")
"""Of two records that words fit equally well, the first is meant."""
MOST_NAMED = 5
"""Records that fit too and are named."""


@dataclass(frozen=True)
class Wanted:
    """What a user says of the record that is meant."""

    name: str
    """A file, a method, or a part of a record's name or key."""
    task: str = ""
    seed: int | None = None

    @property
    def words(self) -> str:
        """What was said, for a message."""
        seed = [] if self.seed is None else [f"--seed {self.seed}"]
        return " ".join([f"'{self.name}'", *([f"-t {self.task}"] if self.task else []), *seed])


@dataclass(frozen=True)
class Picked:
    """The record that is meant, and what else was there."""

    record: Record
    others: tuple[Record, ...] = ()
    """Records that fit as well."""
    around: LoadedHeads = field(default_factory=lambda: LoadedHeads({}, []))
    """All records of the folder, without their numbers."""
    older: Mapping[str, str] = field(default_factory=dict)
    """Name of a record -> whose older code made it."""

    def beside(self, method: str) -> Record | None:
        """The whole record of the target or the oracle that the record is compared with (`record_beside`), if it is sound."""
        found = record_beside(self.record, self.around.records, method)
        try:
            return self.around.heads[found.name].whole() if found else None
        except ValueError:
            return None

    @property
    def note(self) -> str:
        """A line about the records that fit too; empty where there are none."""
        if not self.others:
            return ""
        some = [
            f"{r.spec.method} on {r.spec.task}, {r.spec.repetition} ({r.spec.key})" for r in self.others[:MOST_NAMED]
        ]
        more = ", ..." if len(self.others) > MOST_NAMED else ""
        return f"{len(self.others)} more fit (--task, --seed or a key choose): {'; '.join(some)}{more}"


def pick_record(wanted: Wanted, source: Path, loaded: LoadedHeads | None = None) -> Picked:
    """The record that is meant: of those that fit a plain run that is done, of the newest code, on the first seed.

    ``loaded``: what there is in ``source``, if that has been read.
    """
    if Path(wanted.name).is_file():
        return Picked(read_record(Path(wanted.name)))
    loaded = loaded or load_heads(records_folder(source))
    records = loaded.records
    task = complete_name("tasks", wanted.task)
    matching = [record for record in records if fits(record, wanted.name, task, wanted.seed)]
    if exact := [record for record in matching if record.spec.key == wanted.name or is_called(record, wanted.name)]:
        matching = exact
    if not matching:
        for broken in loaded.broken:
            if wanted.name in broken.path:
                raise UserError(f"{broken.path} is not a readable record ({broken.reason}): {broken.remedy}.")
        raise UserError(f"No record in '{source}' fits {wanted.words}: `python -m bench ls runs` lists them.")
    older = find_all_older(records)

    def place(record: Record) -> tuple[Any, ...]:
        spec = record.spec
        strange = bool(attack_of(spec)) or bool(spec.order) or bool(spec.start) or spec.limit is not None
        return record.name in older, STATES.index(record.status), strange, spec.tier, spec.task, spec.seed, record.name

    ordered = sorted(matching, key=place)
    record = first_whole([loaded.heads[one.name] for one in ordered])
    return Picked(record, tuple(one for one in ordered if one.name != record.name), loaded, older)


def first_whole(heads: Sequence[Head]) -> Record:
    """The first record whose numbers are sound; `UserError` says what is wrong with the first one, where none is."""
    problems = []
    for head in heads:
        try:
            return head.whole()
        except ValueError as reason:
            remedy = f"delete {head.bundle} and publish its records" if head.bundle else "delete it and run"
            problems.append(f"{head.name} is not a readable record ({reason}): {remedy} again.")
    raise UserError(problems[0])


def fits(record: Record, name: str, task: str, seed: int | None) -> bool:
    """Whether a record has the name, or it in its name, and is of the task and seed where these are said."""
    return name in record.name and task in ("", record.spec.task) and seed in (None, record.spec.seed)


def find_responses(record: Record, source: Path, store: Path) -> Responses | None:
    """The record's responses, with texts where the store still has them."""
    return responses_of(record.lineage.get("responses", ""), source, store)


def responses_of(key: str, source: Path, store: Path) -> Responses | None:
    """The responses of a key, from the store, else as they were published; None where they are nowhere."""
    if not key:
        return None
    try:
        return load_responses(Store(store), key)
    except UserError:
        file = responses_path(source, key)
        return read_responses(file) if file.exists() else None


def responses_beside(picked: Picked, source: Path, store: Path) -> dict[str, Responses]:
    """``target`` and ``oracle`` -> their responses, where they are kept and are not the record's own."""
    record, own = picked.record, picked.record.lineage.get("responses")
    keys = keys_beside(record, picked.around.records)
    if record.spec.method == ORACLE:
        del keys["oracle"]
    found = {who: responses_of(key, source, store) for who, key in keys.items() if key != own}
    return {who: responses for who, responses in found.items() if responses is not None}


@dataclass(frozen=True)
class Answer:
    """What a model answered to one example."""

    text: str
    """Its words, or numbers about them where the words are not kept."""
    right: bool | None
    """Whether it is the reference exactly; None where nobody can tell."""


def answer_of(row: Mapping[str, Any]) -> Answer | None:
    """The answer in a row of responses; None where the row holds none that a reader could look at."""
    counts = row.get("counts")
    right = None if counts is None else counts["lcs"] == counts["n_ref"] == counts["n_hyp"]
    if "text" in row:
        return Answer(row["text"], row["text"].strip() == row["reference"].strip() if "reference" in row else right)
    if counts is not None:
        return Answer(f"({counts['n_hyp']} words, {counts['lcs']} of the reference's {counts['n_ref']})", right)
    hits = row["answer"][0]["hit"] if row.get("answer") else []
    if "classes" in row:
        said = max(range(len(row["classes"])), key=row["classes"].__getitem__)
        return Answer(f"class {said} (p {exp(row['classes'][said]):.2f})", all(hits))
    if hits:
        mean = exp(sum(row["answer"][0]["logp"]) / len(hits))
        return Answer(f"({sum(hits)} of {len(hits)} tokens foremost, p {mean:.2f} a token)", all(hits))
    return None


def answered_probes(responses: Responses) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """The probes whose answers a reader looks at: what was said or which class; where there are none, scored answers."""
    said = {name: rows for name, rows in responses.rows.items() if is_spoken(rows)}
    return said or {name: rows for name, rows in responses.rows.items() if any(map(answer_of, rows.values()))}


def is_spoken(rows: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a probe's rows hold what a model says by itself."""
    return any({"text", "counts", "classes"} & row.keys() for row in rows.values())
