"""What trackers share that show each run on a page of its own: pages of runs under way, and no row twice."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from bench.core.record import Record, RunSpec
from bench.core.trackers import Curves, Numbers, Tracker
from bench.core.types import Responses
from bench.tracking.shown import axis_of, series_of, side_by_side


class Page(Protocol):
    """One run, as a tracker shows it."""

    def log(self, rows: Mapping[str, Numbers]) -> None:
        """Show the next row of each of these series."""

    def show(self, record: Record, said: Mapping[str, Responses]) -> None:
        """Show the complete run, its series left out."""

    def finish(self, failed: bool) -> None:
        """Say how the run ended; nothing follows."""


class PageTracker(Tracker):
    """A page for each run, opened by its first row or else by its record, and closed by that.

    A stage that several runs share has a page while this command trains it. A row is shown once: what came while the run was
    under way isn't taken from its curves again, and of what came from the store the curves have everything.
    """

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        super().__init__(directory, device)
        self.pages: dict[tuple[str, str], Page] = {}
        """Of what is under way, by the run's key and the stage."""
        self.last: dict[tuple[str, str, str], float] = {}
        """By page and series, the place of the last row that was shown."""

    @abstractmethod
    def open_page(self, spec: RunSpec, stage: str) -> Page:
        """A new page for a run, or for a stage that several share."""

    def page(self, spec: RunSpec, stage: str = "") -> Page:
        """The page of what is under way."""
        if (spec.key, stage) not in self.pages:
            self.pages[spec.key, stage] = self.open_page(spec, stage)
        return self.pages[spec.key, stage]

    def row(self, spec: RunSpec, stage: str, series: str, row: Numbers) -> None:
        """See `Tracker`."""
        self.page(spec, stage).log({series: row})
        self.last[spec.key, stage, series] = row[axis_of(row)]

    def end(self, spec: RunSpec, stage: str, failed: bool) -> None:
        """See `Tracker`; nothing where nothing was shown."""
        if page := self.pages.pop((spec.key, stage), None):
            page.finish(failed)

    def record(self, record: Record, said: Mapping[str, Responses], curves: Curves) -> None:
        """See `Tracker`. A failed record is a failed run."""
        page, failed = self.page(record.spec), record.status == "failed"
        try:
            for rows in side_by_side(self.unseen(record, curves)):
                page.log(rows)
            page.show(record, said)
        except BaseException:
            failed = True
            raise
        finally:
            self.end(record.spec, "", failed)

    def unseen(self, record: Record, curves: Curves) -> dict[str, Sequence[Numbers]]:
        """The rows of a complete run that came after the last one shown of their series."""
        found: dict[str, Sequence[Numbers]] = {}
        for name, rows in series_of(record, curves).items():
            last = self.last.get((record.spec.key, "", name), -math.inf)
            found[name] = [row for row in rows if row[axis_of(row)] > last]
        return {name: rows for name, rows in found.items() if rows}

    def close(self) -> None:
        """End what is still under way: it was interrupted."""
        with ExitStack() as left:
            for page in self.pages.values():
                left.callback(page.finish, True)
            self.pages = {}
