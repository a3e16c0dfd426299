"""Records without their numbers, for finding one among thousands: read in a third of the time that whole ones take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.core.record import Record
from bench.core.types import Json
from bench.records.bundles import bundle_lines, parse_record, read_lines
from bench.records.plain import MOST_BYTES, read_bounded

PARTS = ("spec", "status", "label", "lineage", "provenance", "schema")
"""Members that a head has: what says which run it is, and beside which others it stands."""
NOTHING: Json = dict.fromkeys(("scores", "metrics", "absent", "floors", "facts", "cost"), {}) | {"reason": ""}
"""The other members."""


@dataclass(frozen=True)
class Head:
    """A record without scores, facts and cost, and the way to all of it."""

    name: str
    about: Record
    whole: Callable[[], Record]
    """Reads the record; ValueError where it isn't sound, which a head may not show."""
    bundle: str = ""
    """The name of the bundle that holds it, if one does."""


def read_head(path: Path) -> Head:
    """The head of the record in a file; ValueError where there is none."""
    return parse_head(read_bounded(path, MOST_BYTES))


def read_heads(path: Path) -> list[Head]:
    """The heads of a bundle's records."""
    return read_lines(bundle_lines(path), partial(parse_head, bundle=path.name))


def parse_head(content: bytes, bundle: str = "") -> Head:
    """The head of a record that is JSON. Of one that doesn't look sound all is read, so that the reason is said."""
    from pydantic_core import from_json

    whole = partial(parse_record, content)
    try:
        data = from_json(content)
        about = Record.from_json({part: data[part] for part in PARTS if part in data} | NOTHING)
    except (ValueError, TypeError, AttributeError):
        about = whole()
    return Head(about.name, about, whole, bundle)
