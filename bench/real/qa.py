"""A user's own questions and answers (`--task qa`): JSON files, one row a line or one list, checked line by line.

A row has ``question`` and ``answer`` (or ``prompt`` and ``answer``, ``prompt`` and ``response``), and maybe ``paraphrase``,
the answer in other words, and ``wrong``, a list of wrong answers. The first file is to be forgotten, the second to be
kept, the third, if there is one, is never trained on. Every fourth row of a file is for validation and never probed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import fault_of_text, fault_of_texts, read_json_rows
from bench.core.errors import UserError, collecting, mistakes_in, raise_problems, report_mistake
from bench.core.hashing import hash_json
from bench.core.sampling import evenly_spread
from bench.core.texts import one_line
from bench.core.types import Example, Validation, data_hash
from bench.real.scenario import folded_text, overlap_problems

SIDES = ("forget", "retain", "holdout")
"""What the files are, in order."""
NAMES = (("question", "answer"), ("prompt", "answer"), ("prompt", "response"))
ROLES = ("paraphrase", "wrong")
VALIDATION_EVERY = 4
LEAST = 8
"""Rows of a file: two for validation and six to probe."""


@dataclass(frozen=True)
class QaRows:
    """The rows to train on and to probe."""

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    """Training rows, question and answer only; ids are ``forget-<line>`` and ``retain-<line>``."""
    probes: Mapping[str, tuple[Example, ...]]
    """Side -> its probed rows, with the references ``paraphrase`` and ``wrong`` where the file has them; no holdout
    where there is no such file."""
    validation: Validation
    """Rows that no probe has; the retain rows stand for utility, as the files know no other."""
    label: str
    counts: Mapping[str, int]
    data_hash: str


@lru_cache(maxsize=4)
def read_qa_rows(data: str, template: str, probed: int = 0) -> QaRows:
    """The rows of two or three files with commas between them, asked with a template (`bench.engines.templates`).

    ``probed`` bounds the rows of each probe, evenly spread; 0 for all. Raises one `UserError` with all that is wrong.
    """
    paths = [Path(place) for place in data.split(",")]
    if not 2 <= len(paths) <= len(SIDES):
        raise UserError(
            f"qa takes two or three files and not {len(paths)}: --data forget.jsonl,retain.jsonl[,holdout.jsonl]."
        )
    sides = dict(zip(SIDES, paths, strict=False))
    rows: dict[str, tuple[Example, ...]] = {}
    with collecting():
        for side, path in sides.items():
            with mistakes_in():
                rows[side] = read_side(path, side, template)
        report_mistake(*overlap_sentences(rows, sides))
    held = {side: found[VALIDATION_EVERY - 1 :: VALIDATION_EVERY] for side, found in rows.items()}
    asked = {side: tuple(row for row in found if row not in held[side]) for side, found in rows.items()}
    plain = {side: tuple(replace(row, references={}) for row in found) for side, found in rows.items()}
    names = [f"{path.name} ({len(rows[side])})" for side, path in sides.items()]
    return QaRows(
        plain["forget"],
        plain["retain"],
        {side: evenly_spread(found, probed) for side, found in asked.items()},
        Validation(held["forget"], held["retain"], held["retain"], held.get("holdout", ())),
        f"qa: {' / '.join(names)}",
        {side: len(found) for side, found in rows.items()},
        hash_json({side: data_hash(found) for side, found in rows.items()}),
    )


def read_side(path: Path, side: str, template: str) -> tuple[Example, ...]:
    """The rows of a file; one `UserError` with everything that is wrong in it."""
    rows, problems = list[Example](), list[str]()
    for number, row in read_json_rows(path):
        wrong = fault_of_row(row)
        if wrong:
            problems.append(f"{path.name}, row {number}: {wrong}")
        else:
            rows.append(make_example(f"{side}-{number}", row, template))
    shown = problems[:3] + ([f"{path.name}: {len(problems) - 3} more rows are wrong."] if len(problems) > 3 else [])
    raise_problems(shown)
    raise_problems(
        [*uneven_problems(path.name, rows), *repetition_problems(path.name, rows), *size_problems(path.name, rows)]
    )
    return tuple(rows)


def find_names(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The names of the row's question and answer, one of `NAMES`; None where it has neither pair."""
    return next((pair for pair in NAMES if all(name in row for name in pair)), None)


def fault_of_row(row: Any) -> str:
    """A sentence on the fault of a row, with the remedy; empty for a good one."""
    if not isinstance(row, dict):
        return 'it is no object; write {"question": ..., "answer": ...}.'
    pair = find_names(row)
    if pair is None:
        has = one_line(", ".join(sorted(row))) or "nothing"
        return f"it has no question and answer (it has {has}); name them 'question' and 'answer'."
    for name in (*pair, "paraphrase"):
        if name in row and (fault := fault_of_text(row[name]) or ("" if row[name].strip() else "an empty text")):
            return f"its '{name}' is no text that says something (it is {fault}); write one, or take the row out."
    if "wrong" not in row:
        return ""
    wrong = row["wrong"]
    if fault := fault_of_texts(wrong) or ("a text" if isinstance(wrong, str) else ""):
        return f"its 'wrong' is no list of texts (it is {fault}); write a list of wrong answers, or leave it out."
    if not all(text.strip() for text in wrong) or row[pair[1]] in wrong:
        return "its 'wrong' has an empty text or the right answer in it; take that out."
    return ""


def make_example(id: str, row: Mapping[str, Any], template: str) -> Example:
    """A good row as an example."""
    pair = find_names(row)
    assert pair is not None
    references = {"paraphrase": (row["paraphrase"],)} if "paraphrase" in row else {}
    references |= {"wrong": tuple(row["wrong"])} if "wrong" in row else {}
    return Example(id, {"prompt": row[pair[0]], "answer": row[pair[1]], "template": template}, references)


def uneven_problems(name: str, rows: Sequence[Example]) -> list[str]:
    """A sentence for a reference that some rows have and others lack: a mean over half the rows would not say so."""
    found = []
    for role in ROLES:
        have = sum(role in row.references for row in rows)
        if 0 < have < len(rows):
            found.append(f"{name}: {have} of {len(rows)} rows have '{role}'; give it to all of them or to none.")
    return found


def repetition_problems(name: str, rows: Sequence[Example]) -> list[str]:
    """A sentence for rows that stand in a file twice: one of them could be validated on and the other probed."""
    first: dict[str, Example] = {}
    again = [(row, first[folded_text(row)]) for row in rows if first.setdefault(folded_text(row), row) is not row]
    if not again:
        return []
    one, other = (row.id.rpartition("-")[2] for row in again[0])
    return [f"{name}: {len(again)} rows repeat an earlier one (row {one} is row {other}); take them out."]


def size_problems(name: str, rows: Sequence[Example]) -> list[str]:
    """A sentence for a file that is too small to be split."""
    if len(rows) >= LEAST:
        return []
    have = "no rows" if not rows else f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
    return [
        f"{name} has {have}: at least {LEAST} are needed, as every fourth is for validation and the others are probed."
    ]


def overlap_sentences(rows: Mapping[str, Sequence[Example]], sides: Mapping[str, Path]) -> list[str]:
    """Sentences for rows that stand in two files."""
    found = []
    if "forget" in rows and "retain" in rows:
        place = f"{sides['forget'].name} and {sides['retain'].name}"
        found += overlap_problems(rows["forget"], rows["retain"], place)
    unseen = {folded_text(row) for row in rows.get("holdout", ())}
    for side in ("forget", "retain"):
        if both := sum(folded_text(row) in unseen for row in rows.get(side, ())):
            found.append(
                f"{both} rows of {sides[side].name} are in {sides['holdout'].name} too, whose rows no model may be trained "
                "on: take them out of one."
            )
    return found
