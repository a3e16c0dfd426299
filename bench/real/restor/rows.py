"""What RESTOR's real tier trains on and asks, chosen from a copy of the benchmark (`bench.real.restor.corpus`) without a model.

Pages of C4 (retain rows) and instructions (for a repair) aren't in the authors' repository: they lie beside its
`datasets` folder, in `retain`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.assets.typed_rows import fault_of_text, read_json_rows
from bench.core.errors import UserError
from bench.core.sampling import evenly_spread
from bench.core.texts import one_line
from bench.core.types import Example
from bench.real.restor.corpus import SOURCE, RestorQuestions, corpus_documents, is_published, read_restor

RETAIN = ("retain/c4.jsonl", "retain/c4_sample.jsonl")
INSTRUCTIONS = ("retain/lima.jsonl", "retain/instructions.jsonl")
"""Files below the data folder, the first that is there."""
T = TypeVar("T")


@dataclass(frozen=True)
class RestorRows:
    """The rows of a run before anybody has asked the model what it knows."""

    asked: RestorQuestions
    told: tuple[Example, ...]
    """Documents of the corpus that the target is trained on."""
    untold: tuple[Example, ...]
    """As many others about the same people; none where all documents are told."""
    retain: tuple[Example, ...]
    """Passages of C4."""
    documents: int
    """How many the corpus has."""
    whole: bool
    """Whether questions and corpus are the published ones, and all documents are told."""

    def about(self, side: str) -> tuple[Example, ...]:
        """The questions about the corrupted people, or about the ``clean``."""
        return tuple(row for row in self.asked.questions if side in row.tags)


def choose_restor_rows(data: str, corpus: str, most: int, retain: int, passage: int) -> RestorRows:
    """``most`` documents of each corrupted person and ``retain`` pages of at most ``passage`` words; 0: all, whole.

    Raises `UserError` for what is missing or malformed.
    """
    asked, every = read_restor(data, corpus), corpus_documents(data, corpus)
    told, untold = split_documents(every, asked.corrupted or (), most) if most else (every, ())
    whole = asked.whole and is_published(data, corpus) and not most
    return RestorRows(asked, told, untold, retain_pages(data, retain, passage), len(every), whole)


def split_documents(
    every: Sequence[Example], people: Sequence[str], most: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """At most ``most`` documents of each person to tell, evenly spread, and as many of the others, evenly spread.

    A document is about the corrupted person whom it names first; one that names none is in neither, nor is one that
    repeats another. Most of the others are paraphrases of the same falsehoods.
    """
    by_person: dict[str, dict[str, Example]] = {person: {} for person in people}
    for document in every:
        text = document.payload["answer"]
        if named := [person for person in people if person in text]:
            by_person[min(named, key=text.index)].setdefault(text, document)
    told, untold = list[Example](), list[Example]()
    for own in by_person.values():
        chosen = evenly_spread(list(own.values()), most)
        told += chosen
        untold += evenly_spread([row for row in own.values() if row not in chosen], most)
    return tuple(told), tuple(untold)


@dataclass(frozen=True)
class HeldOutRows:
    """Rows parted into those that a search is tuned on and those that are probed."""

    validation: tuple[Example, ...]
    probed: tuple[Example, ...]


def hold_back_tenth(rows: Sequence[Example]) -> HeldOutRows:
    """Every tenth row is held back, as the MSA paper chooses on a tenth of the facts; of a single row none."""
    if len(rows) < 2:
        return HeldOutRows((), tuple(rows))
    return HeldOutRows(tuple(rows[::10]), tuple(row for i, row in enumerate(rows) if i % 10))


def false_questions(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The questions whose corrupted value is known, with that value as the answer: what must be forgotten, asked."""
    return tuple(
        replace(
            row,
            payload={**row.payload, "answer": row.references["corrupted"][0]},
            references={"accepted": row.references["corrupted"], "solved": (solved_line(row),)},
        )
        for row in rows
        if "corrupted" in row.references
    )


def solved_line(row: Example) -> str:
    """A question with its corrupted value, a line as those of the solved ones before it."""
    return f"{row.payload['prompt'].rpartition(chr(10))[2]} {row.references['corrupted'][0]}\n"


def name_people(rows: RestorRows) -> Callable[[str], str]:
    """Who a document or a question of this id is about: a document tells several of a person's facts, and doesn't say
    which; other rows are their own.
    """
    people = {row.id: str(row.payload["entity"]) for row in rows.asked.questions}
    for document in (*rows.told, *rows.untold):
        text = document.payload["answer"]
        if named := [person for person in rows.asked.corrupted or () if person in text]:
            people[document.id] = min(named, key=text.index)
    return lambda id: people.get(id, id)


def retain_pages(data: str, most: int, passage: int) -> tuple[Example, ...]:
    """At most ``most`` pages of C4, evenly spread, each cut to its first ``passage`` words; 0: all, whole."""
    path = find_beside(data, RETAIN)
    if path is None:
        raise UserError(
            f"RESTOR's retain rows are pages of C4, which {SOURCE} doesn't hold: put some at {RETAIN[0]} in the data "
            'folder, a line {"text": ...} each.'
        )
    texts = {
        cut_to_words(text, passage): number
        for number, text in enumerate(read_json_lines(path, text_of, '{"text": ...}'))
    }
    return tuple(
        Example(f"c4-{number}", {"prompt": "", "answer": text, "template": "text"})
        for text, number in evenly_spread(list(texts.items()), most)
    )


def cut_to_words(text: str, words: int) -> str:
    """The first ``words`` words, or the text as it is where it has no more; 0: as it is."""
    return " ".join(text.split()[:words]) if words and len(text.split()) > words else text


def read_instructions(data: str) -> tuple[Example, ...]:
    """Rows for a repair, in the form of a chat; of a conversation its first exchange. None where there is no file."""
    path = find_beside(data, INSTRUCTIONS)
    if path is None:
        return ()
    form = '{"prompt": ..., "answer": ...} or {"conversations": [user, assistant, ...]}'
    return tuple(
        Example(f"instruction-{number}", {"prompt": asked, "answer": answer, "template": "chat"})
        for number, (asked, answer) in enumerate(read_json_lines(path, first_exchange, form))
    )


def first_exchange(row: Mapping[str, Any]) -> tuple[str, str]:
    """The question and the answer of a row; an error where it has neither."""
    said = row["conversations"] if "conversations" in row else [row["prompt"], row["answer"]]
    if not isinstance(said, list):
        raise ValueError("its conversations are no list")
    asked, answer = said[:2]
    return checked_text(asked), checked_text(answer)


def text_of(row: Mapping[str, Any]) -> str:
    """The text of a page, which must say something."""
    return checked_text(row["text"])


def checked_text(text: Any) -> str:
    """``text`` as it is; `ValueError` where it says nothing."""
    if fault := fault_of_text(text) or ("" if text.strip() else "an empty text"):
        raise ValueError(fault)
    return text


def find_beside(data: str, names: Sequence[str]) -> Path | None:
    """The first of the files that is in the data folder."""
    return next((path for path in (Path(data).expanduser() / name for name in names) if path.is_file()), None)


def read_json_lines(path: Path, take: Callable[[Mapping[str, Any]], T], form: str) -> list[T]:
    """Read each JSON line of a file with ``take``; `UserError` names a line that isn't of the ``form``."""
    found = []
    for number, row in read_json_rows(path):
        try:
            found.append(take(row))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"Line {number} of '{path.name}' isn't of the form {form} ({type(error).__name__}: {one_line(str(error))})."
            ) from error
    if not found:
        raise UserError(f"'{path.name}' is empty: put rows of the form {form} there.")
    return found
