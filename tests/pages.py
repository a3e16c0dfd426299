"""What is written from records, for tests that read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bench.core.record import Record
from bench.records.files import BrokenFile
from bench.records.leaderboard import render_pages
from tests.factories import record


def all_pages(records: Sequence[Record], broken: Sequence[BrokenFile] = ()) -> str:
    """The leaderboard and every page and LaTeX table behind it, one after another; CSV is data, in which nothing is live."""
    pages = render_pages(records, broken)
    return "\n\n".join([pages.board, *(text for name, text in pages.tables.items() if not name.endswith(".csv"))])


def page_of(records: Sequence[Record], slug: str = "lab-tofu") -> str:
    """The page of a section."""
    return render_pages(records, []).tables[f"{slug}.md"]


PRIMARY = {"forgetting": "x", "kept": "y"}


def compared(seeds: int = 5) -> list[Record]:
    """Records whose gaps in y are msa's .1, npo's .2 and ga's .05, each a little otherwise on every seed; in x alike."""
    found = []
    for method, kept, takes in (("retrain", 1.0, 100), ("msa", 0.9, 20), ("npo", 0.8, 60), ("ga", 0.95, 10)):
        for seed in range(seeds):
            y = kept + (0 if method == "retrain" else seed / 1000)
            scores = {"x": 0.5 + 0.01 * seed, "y": y, "collapsed": float(method == "ga")}
            one = record(method, seed, scores, goals={"x": "oracle", "y": "up", "collapsed": "down"})
            cost = {"tokens_trained": takes, "oracle_tokens": {"from_theta_0": 100, "from_nothing": 1000}}
            facts = {
                "headline": ["x", "y"],
                "primary": PRIMARY,
                "oracle_values": {"x": [0.5, 0.52, 0.54], "y": [1.0] * 3},
            }
            found.append(dataclasses.replace(one, facts=facts, cost=cost))
    return found
