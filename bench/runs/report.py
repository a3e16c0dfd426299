"""`bench report`: the page of a folder of records, with what the store or the folder holds of the models' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import UserError
from bench.core.files import write_text
from bench.core.record import Record
from bench.core.types import Responses
from bench.records.files import LoadedRecords, is_published, read_responses, texts_path
from bench.records.publish import has_our_texts
from bench.report.page import has_stamp, render_page, stamp_of
from bench.runs.facts import loss_curves
from bench.runs.responses import load_responses
from bench.runs.store import Store

if TYPE_CHECKING:
    from bench.report.view import Sources

NAME = "report.html"
"""The page beside the records of a folder."""


def write_report_page(loaded: LoadedRecords, source: Path, store: Path, page: Path, keep: bool = False) -> Path:
    """Write the page of the records of ``source``; returns it. ``keep`` one that is there already, of the same records."""
    stamp = stamp_of(loaded.records)
    if not (keep and has_stamp(page, stamp)):
        from bench.report.view import build_view  # with the metrics' definitions, which need numpy

        view = build_view(loaded.records, loaded.broken, sources_of(source, store))
        write_text(page, render_page(view, stamp))
    return page


def sources_of(source: Path, store: Path) -> Sources:
    """Texts beside the records or in the store, and the store's loss curves.

    Of a benchmark's own texts nothing for a published folder, whose report others will see.
    """
    from bench.report.view import Sources

    own, nodes = not is_published(source), Store(store)

    def said(record: Record) -> Responses | None:
        key = record.lineage.get("responses")
        if not key or not (own or has_our_texts(record)):
            return None
        try:
            file = texts_path(source, key)
            return (read_responses(file) if file.is_file() else load_responses(nodes, key)).spoken()
        except UserError:  # gone or damaged: the page says that there are none
            return None

    def losses(record: Record) -> Mapping[str, Sequence[Mapping[str, float]]]:
        return loss_curves(record, nodes)

    return Sources(said, losses, own)
