"""The public-domain stand-in for MUSE-Books: the same tables, filled from Sherlock Holmes and other old novels.

It is not MUSE-Books, and its scores can't be compared with published ones: the books are fewer and shorter, what is kept
is prose and no wiki pages, and every web-trained model has read them, so that its holdout isn't unseen text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Metric, Outline, Scenario, Setting, Task
from bench.real.muse import suite
from bench.real.muse.rows import muse_rows
from bench.real.muse.tier import RealBooks
from bench.real.suite import Suite
from bench.runs.context import Work

NAME = "books-public-domain (public-domain stand-in; not MUSE)"


@dataclass(frozen=True)
class BooksPublicDomain(RealBooks, Task):
    """Parameters of the real tier, which is all that the stand-in has."""

    summary: ClassVar[str] = (
        "old novels in MUSE-Books' layout, learnt to the letter; forget some (a stand-in, not MUSE)"
    )
    version: ClassVar[int] = 1
    tiers: ClassVar[tuple[str, ...]] = ("real",)

    def problems(self) -> list[str]:
        """What is wrong with the parameters."""
        return self.real_problems("books-public-domain")

    def metrics(self, tier: str) -> tuple[Metric, ...]:
        """Every score of the task."""
        return self.real_metrics()

    def offers(self, setting: Setting) -> frozenset[str]:
        """A history and retain rows."""
        return frozenset({"history", "retain"})

    def check(self, setting: Setting) -> list[str]:
        """What is wrong with the data."""
        if setting.data in ("", "hub"):
            return ["--data: the stand-in isn't on the hub; name its folder."]
        return self.real_check(setting.data, setting.model_path, stand_in=True)

    def prepare(self, work: Work, setting: Setting) -> Scenario:
        """The stand-in's books, or the part of them that was asked for."""
        rows = muse_rows(setting.data, setting.model_path, self.cut, stand_in=True)
        return self.real_scenario(work, setting, NAME, rows)

    @staticmethod
    def suite(data: str, split: str = "") -> Suite:
        """The benchmark's complete suite, for `bench eval`; without ``split`` on forget."""
        return suite.suite(data, split or "forget")

    def outline(self, setting: Setting) -> Outline:
        """Sizes of what will be trained on."""
        return self.real_outline(setting, stand_in=True)
