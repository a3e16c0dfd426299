"""The whole report as JSON, from which the page is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.record import Record
from bench.core.types import Json
from bench.metrics.catalogue import metric_entries
from bench.records import tables
from bench.records.contrasts import SEEDS_TO_RANK
from bench.records.files import BrokenFile
from bench.records.section_page import TEXTS
from bench.records.tables import build_sections, short_names
from bench.report.answers import KNOWS, Said
from bench.report.sections import Losses, build_section
from bench.report.words import tidy


@dataclass(frozen=True)
class Sources:
    """Where the report finds what isn't in the records."""

    said: Said
    losses: Losses
    own: bool
    """Whether it is somebody's own report, which may show a benchmark's texts; a published folder's shows the lab's alone."""


def build_view(records: Sequence[Record], broken: Sequence[BrokenFile], sources: Sources) -> Json:
    """The view of ``records``; ``broken`` are files that are named at its end."""
    sections = build_sections(records)
    catalogue = list(metric_entries())
    tiers = {section.tier: TEXTS["tiers"].get(section.tier, {}) for section in sections}
    return {
        "reading": _paragraphs(TEXTS["reading"].format(seeds=SEEDS_TO_RANK, interval=tables.SEEDS_OF_INTERVAL)),
        "attacks": _paragraphs(TEXTS["attacks"]),
        "field": _paragraphs(TEXTS["field"]),
        "knows": KNOWS,
        "own": sources.own,
        "tiers": {
            tidy(tier): {
                "title": about.get("title", f"Tier {tidy(tier)}"),
                "meaning": _paragraphs(about.get("meaning", "")),
            }
            for tier, about in tiers.items()
        },
        "sections": [
            {"short": tidy(name)} | build_section(each, catalogue, sources.said, sources.losses)
            for name, each in zip(short_names(sections), sections, strict=True)
        ],
        "broken": [tidy(file.left_out) for file in broken],
        "records": len(records),
    }


def _paragraphs(text: str) -> list[str]:
    """The paragraphs of a text of ours; what stands between asterisks the page sets in its own way."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]
