"""Published tables as they were published, number by number, each with a tag. Nothing here is measured.

The numbers stand in ``data/published.toml``, as texts, so that their rounding stays visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.core.files import read_toml
from bench.core.typed_toml import as_typed

NR = "NR"
"""A number that was not recovered."""
TAGS = {
    "V": "verified in a primary source",
    "A": "the first author's slides (k1rezaei/thesis-slides), not the paper itself",
    "S": "second-hand notes, one source",
    "NR": "not recovered",
}
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table: its label, its numbers, how they were recovered."""

    name: str
    values: tuple[str, ...]
    """A text for each column of its table; `NR` where the number is not known."""
    tags: tuple[str, ...]
    """A key of `TAGS` for each value."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table, or the part of it that is about one model and one data set."""

    name: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    note: str = ""

    def row(self, name: str) -> PublishedRow:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class PublishedEntry:
    """A table of the data file; one with ``parts`` is as many tables, which stand side by side."""

    source: str
    """With ``{part}`` where a part's text belongs."""
    columns: tuple[str, ...]
    tag: Literal["V", "A", "S", "NR"]
    rows: Mapping[str, str | tuple[str, ...]]
    """Row -> its numbers, parted by spaces, or these and the tag of this row."""
    note: str = ""
    parts: Mapping[str, str] = field(default_factory=lambda: {"": ""})
    """Part -> what the source is called for it."""

    def tables(self, key: str) -> dict[str, PublishedTable]:
        """Every part as a table, by ``key`` or ``key-part``; a table's name is what stands before the key's first -."""
        found = {}
        for place, (part, said) in enumerate(self.parts.items()):
            rows = tuple(self.row(name, place) for name in self.rows)
            name = f"{key}-{part}" if part else key
            source = self.source.format(part=said)
            found[name] = PublishedTable(key.partition("-")[0], source, self.columns, rows, self.note)
        return found

    def row(self, name: str, place: int) -> PublishedRow:
        """A row of the part at ``place``."""
        given = self.rows[name]
        numbers, tag = (given, self.tag) if isinstance(given, str) else given
        first = place * len(self.columns)
        values = tuple(numbers.split()[first : first + len(self.columns)])
        return PublishedRow(name, values, tuple(NR if text == NR else tag for text in values))


def read_published() -> dict[str, PublishedTable]:
    """Every published table by its key in the data file, such as T1 or T8-k0."""
    entries = as_typed(Mapping[str, PublishedEntry], read_toml(DATA / "published.toml"), "published.toml")
    return {key: table for name, entry in entries.items() for key, table in entry.tables(name).items()}


PUBLISHED_TABLES = read_published()
