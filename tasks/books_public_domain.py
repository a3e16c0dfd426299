"""The public-domain stand-in for MUSE-Books: the same tables, filled from Sherlock Holmes and other old novels.

It is not MUSE-Books, and its scores can't be compared with published ones: the books are fewer and shorter, what is kept
is prose and no wiki pages, and every web-trained model has read them, so that its holdout isn't unseen text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import TaskInputs
from bench.real.muse.tier import RealBooksTask


@dataclass(frozen=True)
class BooksPublicDomain(RealBooksTask):
    """Old novels, taught to a model that the user names."""

    name: ClassVar[str] = "books-public-domain"
    summary: ClassVar[str] = (
        "old novels in MUSE-Books' layout, learnt to the letter; forget some (a stand-in, not MUSE)"
    )
    stand_in: ClassVar[bool] = True

    def titled(self, setting: TaskInputs) -> str:
        """The stand-in's name; nobody shall take it for MUSE-Books."""
        return "books-public-domain (public-domain stand-in; not MUSE)"

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about data that don't fit."""
        if setting.data in ("", "hub"):
            return ["--data: the stand-in isn't on the hub; name its folder."]
        return super().check(setting)
