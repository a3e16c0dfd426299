"""The published records, read once for all tests of a process."""

from __future__ import annotations

from functools import cache

from bench.records.files import LoadedRecords, load_records
from bench.records.tables import Section, build_sections
from tests.paths import ROOT

RESULTS = ROOT / "results"


@cache
def published_records() -> LoadedRecords:
    """Those of ``results/``."""
    return load_records(RESULTS)


@cache
def published_sections() -> list[Section]:
    """The leaderboard's sections of them."""
    return build_sections(published_records().records)
