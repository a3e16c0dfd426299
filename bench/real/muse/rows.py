"""MUSE-Books' rows (Shi et al. 2024, arXiv 2407.06460) from the hub or a folder in its layout, and a stated part of them.

Target and retrained model read ``train``: the target all of it, the retrained model `retain1` and `retain2`. Methods are
given `retain1`, the retain scores are read off `retain2`. That is MUSE's own division: its data card calls ``train`` what
the target was trained on, and its code takes `retain1` as the regulariser and `retain2` for evaluation.

The whole text is cut into passages of ``chunk`` tokens as its authors cut it, and every row is probed. Of a part, passages
begin where a row of the benchmark begins, and only rows that lie inside one trained passage are probed. The questions are
on whole books, and the data don't say where their answers stand: of a part they aren't asked.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from bench.assets.data_sets import DATA_SETS, TableFacts
from bench.assets.hub_tables import HubRow, read_rows
from bench.core.errors import Absent, UserError, raise_problems
from bench.core.hashing import hash_json
from bench.core.sampling import evenly_spread
from bench.core.types import Example, Validation, data_hash

HUB = DATA_SETS["muse-books"].hub
TABLES = (
    "train/forget",
    "train/retain1",
    "train/retain2",
    "raw/holdout",
    "verbmem/forget",
    "privleak/forget",
    "privleak/retain",
    "privleak/holdout",
)
"""Tables that must be there."""
QUESTIONS = ("knowmem/forget_qa", "knowmem/forget_qa_icl", "knowmem/retain_qa", "knowmem/retain_qa_icl")
"""Tables of the questions; without them their scores are absent."""
EVERY = (*TABLES, *QUESTIONS)


def published_table(data_set: str, table: str) -> TableFacts:
    """Facts published about a table; the texts of ``train`` are those of ``raw``, under which they are entered."""
    return DATA_SETS[data_set].tables[table.replace("train/", "raw/")]


FIELDS = {table: published_table("muse-books", table).fields for table in EVERY}
"""Table -> the fields that it must have."""
MUSE_COUNTS = tuple(published_table("muse-books", table).rows for table in EVERY)
"""Rows of MUSE-Books' tables, in the order above. No hash of its texts was ever seen here."""
STAND_IN = {table: published_table("books-public-domain", table).identity for table in EVERY}
"""`table_hashes` of the public-domain stand-in; no data with one of them are MUSE-Books."""
SPLITS = ("forget", "retain1", "retain2")
"""Of ``train``."""
HOLDS: Mapping[str, tuple[str, ...]] = {
    "train/forget": ("verbmem/forget", "privleak/forget"),
    "train/retain1": ("privleak/retain",),
    "train/retain2": ("privleak/retain",),
    "raw/holdout": ("privleak/holdout",),
}
"""Table of texts -> the tables whose rows are taken from it."""
ROWS = ("verbmem/forget", "privleak/forget", "privleak/retain", "privleak/holdout")
VALIDATION_SHARE = 0.2
"""Of a part's tokens, about how much is for validation."""
VALIDATION_ROWS = 20
"""Most validation rows of a side."""
LEAST = 0.25
"""Of ``chunk``: shorter pieces are no validation rows, and enter a bounded part only where they hold a row."""

Tables = dict[str, list[HubRow]]


@dataclass(frozen=True)
class MuseCut:
    """The part of the benchmark's text that is trained on and asked, and how it is cut into passages."""

    texts: int = 0
    """Most texts of each split of ``train``, the first ones; 0 for all."""
    most_tokens: int = 0
    """Most tokens to forget, and as many to keep (half of them `retain1`, half `retain2`); 0 for all."""
    chunk: int = 2048
    """Tokens of a training passage."""
    passage: int = 2048
    """Tokens of a membership row that are scored, its first ones."""
    probed: int = 0
    """Most rows of a table that are probed; 0 for all."""

    @property
    def whole(self) -> bool:
        """Whether all of the text is trained on."""
        return not self.texts and not self.most_tokens


@dataclass(frozen=True)
class MuseRows:
    """Passages to train on, and which rows of the tables are asked."""

    trained: Mapping[str, tuple[Example, ...]]
    """Training passages by split, template ``text``; ids are ``<split>-<text>-<first character>``."""
    tables: Tables
    asked: Mapping[str, tuple[int, ...]]
    """Table -> numbers of its rows that are probed."""
    validation: Validation
    """Passages that share no text with a probed row: of forget, `retain1`, `retain2` (as utility) and of the holdout."""
    exact: bool
    """Whether all is as the benchmark has it, by counts (the stand-in by content): every text, every row, uncut."""
    tokens: Mapping[str, int]
    """Tokens trained on by split, in one pass."""
    content: str
    """Digest of all tables."""

    @property
    def counts(self) -> dict[str, int]:
        """Passages, tokens, probed and validation rows: all sizes, for the record."""
        tokens = {f"{split} tokens": count for split, count in self.tokens.items()}
        probed = {f"{table} probed": len(rows) for table, rows in self.asked.items()}
        held = {f"validation_{side}": len(rows) for side, rows in vars(self.validation).items()}
        return {split: len(rows) for split, rows in self.trained.items()} | tokens | probed | held

    @property
    def data_hash(self) -> str:
        """Over all tables, the passages and the choice of rows."""
        passages = {split: data_hash(rows) for split, rows in self.trained.items()}
        return hash_json([self.content, passages, {table: list(rows) for table, rows in self.asked.items()}])


@dataclass(frozen=True)
class RowSpan:
    """The place of a table's row in a text, in characters."""

    table: str
    number: int
    start: int
    """First character."""
    end: int
    """One past the last character."""


@dataclass(frozen=True)
class TextWindow:
    """A piece of a text, and the rows that lie inside it."""

    text: int
    start: int
    end: int
    tokens: int
    rows: tuple[RowSpan, ...] = ()


class Document:
    """A text with the places of its tokens, in which rows are found whatever white space stands between the words."""

    def __init__(self, text: str, tokenizer: Any) -> None:
        self.text = text
        self.starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]
        words = list(re.finditer(r"\S+", text))
        self.folded = " ".join(word.group() for word in words)
        self.words = [word.start() for word in words]
        self.at, place = list[int](), 0
        for word in words:
            self.at.append(place)
            place += len(word.group()) + 1

    def find(self, folded: str) -> tuple[int, int] | None:
        """First character and one past the last of a text that `fold_spaces` has made, or None."""
        place = self.folded.find(folded)
        return None if place < 0 else (self.original(place), self.original(place + len(folded) - 1) + 1)

    def original(self, place: int) -> int:
        """The character of the text that a character of its folded form is."""
        word = bisect_right(self.at, place) - 1
        return self.words[word] + place - self.at[word]

    def after(self, start: int, tokens: int) -> int:
        """The character that lies ``tokens`` tokens behind ``start``, at most the text's end."""
        at = bisect_left(self.starts, start) + tokens
        return self.starts[at] if at < len(self.starts) else len(self.text)

    def count(self, start: int, end: int) -> int:
        """The number of tokens between two characters."""
        return bisect_left(self.starts, end) - bisect_left(self.starts, start)


def fold_spaces(text: str) -> str:
    """The text with one space between its words."""
    return " ".join(text.split())


@dataclass(frozen=True)
class MuseLibrary:
    """All tables, their texts, and where the rows stand in them."""

    tables: Tables
    texts: Mapping[str, Sequence[Document]]
    """Table of texts -> its texts, in order."""
    rows: Mapping[tuple[str, int], Sequence[RowSpan]]
    """(Table of texts, number of the text) -> the rows found there, by place."""
    lost: frozenset[str]
    """Tables of rows of which some stand in no text."""
    content: str
    """Digest of all tables."""

    def windows(self, split: str, cut: MuseCut) -> list[TextWindow]:
        """The texts of a split of ``train`` in windows that begin at rows."""
        table = f"train/{split}"
        texts = self.texts[table][: cut.texts or None]
        return [
            window
            for i, text in enumerate(texts)
            for window in cut_at_rows(text, i, cut_to_scored(text, self.rows[table, i], cut.passage), cut.chunk)
        ]

    def gaps(self, table: str, chunk: int) -> list[TextWindow]:
        """Windows of a table of texts that share nothing with any row; none where a row isn't found anywhere."""
        if self.lost & set(HOLDS[table]):
            return []
        found: list[TextWindow] = []
        for i, text in enumerate(self.texts[table]):
            done = 0
            for span in self.rows[table, i]:
                found += cut_into_windows(text, i, chunk, done, span.start)
                done = max(done, span.end)
            found += cut_into_windows(text, i, chunk, done)
        return [window for window in found if window.tokens >= LEAST * chunk]

    def made(
        self,
        passages: Mapping[str, Sequence[TextWindow]],
        asked: Mapping[str, Iterable[int]],
        held: Mapping[str, Sequence[TextWindow]],
        exact: bool,
    ) -> MuseRows:
        """Windows as examples: ``passages`` by split, ``held`` for validation by table of texts."""

        def examples(table: str, windows: Iterable[TextWindow]) -> tuple[Example, ...]:
            return tuple(self.example(table, window) for window in windows)

        return MuseRows(
            {split: examples(f"train/{split}", passages[split]) for split in SPLITS},
            self.tables,
            {table: tuple(asked[table]) for table in (*ROWS, *QUESTIONS) if table in asked},
            Validation(*(examples(table, held[table]) for table in HOLDS)),
            exact,
            {split: sum(window.tokens for window in passages[split]) for split in SPLITS},
            self.content,
        )

    def example(self, table: str, window: TextWindow) -> Example:
        """A window as a passage to train on."""
        text = self.texts[table][window.text].text[window.start : window.end].strip()
        name = f"{table.split('/')[1]}-{window.text}-{window.start}"
        return Example(name, {"prompt": "", "answer": text, "template": "text"})


@lru_cache(maxsize=4)
def choose_muse_rows(data: str, model: str, cut: MuseCut, stand_in: bool = False) -> MuseRows:
    """The rows of ``data`` (a folder or ``hub``) that are trained on and asked, alike for every seed.

    ``model`` is the folder of the model whose tokenizer counts. Raises one `UserError` with all that is wrong.
    """
    library = open_library(data, model, stand_in)
    return take_whole_text(library, cut) if cut.whole else take_part(library, cut)


@lru_cache(maxsize=2)
def open_library(data: str, model: str, stand_in: bool) -> MuseLibrary:
    """The data, read and looked over."""
    tables = load_muse_tables(data)
    hashes = table_hashes(tables)
    check_identity(hashes, stand_in)
    tokenizer = load_tokenizer(model)
    texts = {table: [Document(row["text"], tokenizer) for row in tables[table]] for table in HOLDS}
    check_sides(tables, texts)
    rows: dict[tuple[str, int], list[RowSpan]] = {(table, i): [] for table in HOLDS for i in range(len(texts[table]))}
    lost = set()
    for table in ROWS:
        homes = [place for place in rows if table in HOLDS[place[0]]]
        for number, row in enumerate(tables[table]):
            for text, (home, i) in product(possible_wordings(row), homes):
                if place := texts[home][i].find(text):
                    rows[home, i].append(RowSpan(table, number, *place))
                    break
            else:
                lost.add(table)
    ordered = {home: sorted(spans, key=lambda span: (span.start, span.end)) for home, spans in rows.items()}
    return MuseLibrary(tables, texts, ordered, frozenset(lost), hash_json(hashes))


def possible_wordings(row: HubRow) -> list[str]:
    """The texts that a row may stand as, folded: a prompt goes on with or without a space."""
    if "text" in row:
        return [fold_spaces(row["text"])]
    return [fold_spaces(f"{row['prompt']}{seam}{row['gt']}") for seam in (" ", "")]


def load_muse_tables(data: str) -> Tables:
    """Every table of ``data``; `UserError` with each that is missing and needed."""
    place = HUB if data in ("", "hub") else data
    tables: Tables = {}
    problems = []
    for table in EVERY:
        try:
            tables[table] = rows_of_table(place, table)
        except Absent as reason:
            if table in TABLES:
                problems.append(f"--data: '{Path(place).name}' isn't in MUSE-Books' layout: {reason}. Get it again.")
    raise_problems(problems)
    return tables


def rows_of_table(place: str, table: str) -> list[HubRow]:
    """The rows of ``config/split``, with the fields that are published of it (`bench.assets.hub_tables.read_rows`)."""
    config, split = table.split("/")
    return read_rows(place, config, split, FIELDS[table])  # all of them are texts


def table_hashes(tables: Tables) -> dict[str, str]:
    """Digest of each table's fields that are read."""
    return {
        table: hash_json([[row[field] for field in FIELDS[table]] for row in rows]) for table, rows in tables.items()
    }


def check_identity(hashes: Mapping[str, str], stand_in: bool) -> None:
    """`UserError` where the stand-in would pass for the benchmark, or something else for the stand-in."""
    if stand_in and hashes != STAND_IN:
        raise UserError(
            "--data: by their content these aren't the rows of the public-domain stand-in. Get its folder again, or "
            "take --task muse-books for other data in MUSE-Books' layout."
        )
    if not stand_in and set(hashes.values()) & set(STAND_IN.values()):
        raise UserError(
            "--data: this is the public-domain stand-in, not MUSE-Books: take --task books-public-domain, which says so."
        )


def load_tokenizer(model: str) -> Any:
    """The tokenizer in a model's folder as one that knows the places of its tokens; loads no torch where it is a file."""
    from tokenizers import Tokenizer

    file = Path(model) / "tokenizer.json"
    if file.is_file():
        found: Any = Tokenizer.from_file(str(file))
    else:
        from transformers import AutoTokenizer

        found = getattr(AutoTokenizer.from_pretrained(model, trust_remote_code=False), "backend_tokenizer", None)
    if found is None:
        raise UserError(
            f"The tokenizer of '{Path(model).name}' can't say where its tokens stand in a text: give the model one "
            "with a tokenizer.json."
        )
    found.no_truncation()
    return found


def check_sides(tables: Tables, texts: Mapping[str, Sequence[Document]]) -> None:
    """`UserError` where something to forget, or something never to be seen, is among the texts that are trained on."""
    kept = [document.folded for table in ("train/retain1", "train/retain2") for document in texts[table]]
    trained = [*(document.folded for document in texts["train/forget"]), *kept]
    twice = "are also among those to be kept, so that no oracle could do without them"
    sides = (
        ("train/forget", kept, twice),
        ("privleak/forget", kept, twice),
        ("raw/holdout", trained, "are trained on, so that they are no unseen text"),
        ("privleak/holdout", trained, "are trained on, so that they are no unseen text"),
    )
    problems = []
    for table, others, why in sides:
        rows = [fold_spaces(row["text"]) for row in tables[table]]
        both = [i for i, row in enumerate(rows) if any(row in other or other in row for other in others)]
        if both:
            problems.append(f"--data: {len(both)} rows of '{table}' (the first: row {both[0]}) {why}. Take them out.")
    raise_problems(problems)


def take_whole_text(library: MuseLibrary, cut: MuseCut) -> MuseRows:
    """All of the text in passages of ``chunk`` tokens, one after the other; all rows, or ``probed`` of each table."""
    tables = library.tables
    passages = {
        split: [
            w for i, text in enumerate(library.texts[f"train/{split}"]) for w in cut_into_windows(text, i, cut.chunk)
        ]
        for split in SPLITS
    }
    asked = {
        table: evenly_spread(range(len(tables[table])), 0 if table.endswith("icl") else cut.probed)
        for table in (*ROWS, *QUESTIONS)
        if table in tables
    }
    held = {table: evenly_spread(library.gaps(table, cut.chunk), VALIDATION_ROWS) for table in HOLDS}
    uncut = not cut.probed and cut.passage >= MuseCut.passage
    counts = tuple(len(tables.get(table, ())) for table in EVERY)
    known = counts == MUSE_COUNTS or library.content == hash_json(STAND_IN)
    return library.made(passages, asked, held, exact=uncut and known)


def take_part(library: MuseLibrary, cut: MuseCut) -> MuseRows:
    """Passages that hold rows and some that hold none, up to the bound; only rows inside a passage are asked."""
    shares = {"forget": cut.most_tokens, "retain1": cut.most_tokens // 2, "retain2": cut.most_tokens // 2}
    passages = {split: choose_windows(library.windows(split, cut), most, cut.chunk) for split, most in shares.items()}
    asked: dict[str, list[int]] = {}
    for span in (span for windows in passages.values() for window in windows for span in window.rows):
        asked.setdefault(span.table, []).append(span.number)
    problems = [
        f"No row of '{table}' lies inside one passage of {cut.chunk} tokens: take more of the text (most_tokens, "
        "stories), longer passages (chunk), or score less of a membership row (passage)."
        for table in ("verbmem/forget", "privleak/forget", "privleak/retain")
        if not asked.get(table)
    ]
    raise_problems(problems)
    numbers = {table: evenly_spread(sorted(rows), cut.probed) for table, rows in asked.items()}
    unseen = range(len(library.tables["privleak/holdout"]))
    numbers["privleak/holdout"] = evenly_spread(unseen, len(numbers["privleak/forget"]))
    held = {
        f"train/{split}": evenly_spread([window for window in windows if not window.rows], VALIDATION_ROWS)
        for split, windows in passages.items()
    }
    held["raw/holdout"] = evenly_spread(library.gaps("raw/holdout", cut.chunk), max(1, len(held["train/forget"])))
    return library.made(passages, numbers, held, exact=False)


def cut_to_scored(text: Document, rows: Sequence[RowSpan], passage: int) -> list[RowSpan]:
    """The rows as far as they are scored: of a membership row its first ``passage`` tokens."""
    return [
        replace(row, end=min(row.end, text.after(row.start, passage))) if row.table.startswith("privleak") else row
        for row in rows
    ]


def cut_into_windows(
    document: Document, text: int, chunk: int, start: int = 0, end: int | None = None
) -> list[TextWindow]:
    """Consecutive windows of ``chunk`` tokens from ``start`` to ``end``, the last one shorter; white space makes none."""
    end = len(document.text) if end is None else end
    made = []
    while start < end:
        stop = min(end, document.after(start, chunk))
        if document.text[start:stop].strip():
            made.append(TextWindow(text, start, stop, document.count(start, stop)))
        start = stop
    return made


def cut_at_rows(document: Document, text: int, rows: Sequence[RowSpan], chunk: int) -> list[TextWindow]:
    """The text cut into windows of at most ``chunk`` tokens that begin at rows.

    A row lies in none where it is longer than a window, or begins inside another one and doesn't fit there.
    """
    made: list[TextWindow] = []
    done, left = 0, list(rows)
    while left:
        first = left.pop(0)
        limit = document.after(first.start, chunk)
        if first.end > limit:
            continue
        inside, last = [first], first.end
        while left and (left[0].end <= limit or left[0].start < last):
            row = left.pop(0)
            if row.end <= limit:
                inside.append(row)
                last = max(last, row.end)
        stop = min([limit, *(row.start for row in left[:1])])
        made += cut_into_windows(document, text, chunk, done, first.start)
        made.append(TextWindow(text, first.start, stop, document.count(first.start, stop), tuple(inside)))
        done = stop
    return made + cut_into_windows(document, text, chunk, done)


def choose_windows(windows: Sequence[TextWindow], most: int, chunk: int) -> list[TextWindow]:
    """Windows of at most ``most`` tokens together (0: all), drawn the same way each time, in the order of the text.

    Some without rows first, for validation; then those with rows of two tables; then of one table and the other in turn.
    """
    if not most:
        return list(windows)
    drawn = [window for window in windows if window.rows or window.tokens >= LEAST * chunk]
    random.Random("muse").shuffle(drawn)
    by_tables: dict[tuple[str, ...], list[TextWindow]] = {}
    for window in drawn:
        by_tables.setdefault(tuple(sorted({span.table for span in window.rows})), []).append(window)
    plain = by_tables.get((), [])
    several = [window for window in drawn if len({span.table for span in window.rows}) > 1]
    single = [by_tables[tables] for tables in sorted(by_tables) if len(tables) == 1]
    turns = [window for turn in zip_longest(*single) for window in turn if window]
    taken = fill_up_to([*fill_up_to(plain, VALIDATION_SHARE * most), *several, *turns, *plain], most)
    return sorted(taken, key=lambda window: (window.text, window.start))


def fill_up_to(windows: Iterable[TextWindow], most: float) -> list[TextWindow]:
    """The windows in turn, each where there is still room for it, none twice."""
    taken: dict[TextWindow, None] = {}
    for window in windows:
        if window not in taken and window.tokens <= most:
            taken[window] = None
            most -= window.tokens
    return list(taken)
