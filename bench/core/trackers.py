"""What a tracker must offer: a place where people watch runs and look at those that are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.core.record import Record, RunSpec
from bench.core.types import Responses

Numbers = Mapping[str, float]
"""A row of a series: its place on the axis first (``step`` or ``share``), then what was measured there."""
Curves = Mapping[str, Sequence[Numbers]]
"""Per training stage its rows such as ``{"step": 10, "loss": 2.3}``, in order."""


class Tracker:
    """Shows runs to people; this one shows nothing. Nothing is read back from it.

    A tracker derives from it and writes those methods that it has a use for. They are called one after another, in a thread
    of their own; what one of them raises becomes one line on the terminal.
    """

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        """``directory``: where its files go, not made yet; ``device``: what the runs compute on, ``cpu`` or ``cuda...``."""
        self.directory, self.device = directory, device

    @classmethod
    def problems(cls) -> list[str]:
        """Sentences about what it lacks on this machine, each with the remedy; asked before anything is run."""
        return []

    def row(self, spec: RunSpec, stage: str, series: str, row: Numbers) -> None:
        """Show what has just been measured in a run under way.

        ``stage``: what is built for several runs (``target``, ``oracle-0`` ...), empty for the run itself. ``series``:
        ``train/`` and the training's name, or ``trace``.
        """

    def end(self, spec: RunSpec, stage: str, failed: bool) -> None:
        """Take note that something under way is over and that no record of it comes."""

    def record(self, record: Record, said: Mapping[str, Responses], curves: Curves) -> None:
        """Show a complete run: what was asked, scores, cost, and what of its curves no `row` has shown.

        ``said``: what ``method``, ``target`` and ``oracle`` answered to the same questions, of those that are at hand.
        """

    def report(self, page: Path, pictures: Sequence[Path]) -> None:
        """Show a page and the pictures that were made of a folder's records, in the place of its earlier ones."""

    def close(self) -> None:
        """End tracking: no call follows."""
