"""The work of reading, rendering and stamping grows with the records, counted in calls and not by the clock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records import plots
from bench.records.files import load_records, write_record
from bench.records.leaderboard import render_pages
from bench.runs.store import Store
from tests.speed.growth import make_nodes, make_records

SIZES = (150, 300, 600)


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions are called, of Python and of C."""
    count = 0

    def see(frame: Any, event: str, about: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder of records of every size."""
    made = {size: tmp_path_factory.mktemp(f"records-{size}") for size in SIZES}
    for size, folder in made.items():
        for one in make_records(size):
            write_record(one, folder)
    return made


@pytest.mark.parametrize("what", ["load", "render", "draw nothing"])
def test_twice_the_records_are_at_most_twice_the_work(
    folders: dict[int, Path], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "_draw", lambda *_: [])  # stamped as pictures without files
    found = []
    for folder in folders.values():
        records = load_records(folder).records
        plots.draw_plots(records, folder / "plots")
        works: dict[str, Callable[[], Any]] = {
            "load": lambda folder=folder: load_records(folder),
            "render": lambda records=records: render_pages(records, []),
            "draw nothing": lambda records=records, folder=folder: plots.draw_plots(records, folder / "plots"),
        }
        found.append(calls_of(works[what]))
    assert found[1] < 2.3 * found[0] and found[2] < 2.3 * found[1]


def test_a_picture_holds_so_many_rows_and_says_so(tmp_path: Path) -> None:
    """600 records are 66 rows a section: drawing them takes no longer than 30 do."""
    from bench.records.tables import build_sections

    section = build_sections(list(make_records(600)))[0]
    shown = plots._first_rows(section)
    assert len(shown.rows) == plots.MOST_ROWS < len(section.rows)
    assert f"the first {plots.MOST_ROWS} of {len(section.rows)} rows" in shown.title
    assert [row.name for row in shown.rows[:2]] == ["target", "retrain"]


def test_made_up_nodes_are_whole(tmp_path: Path) -> None:
    make_nodes(3, tmp_path)
    assert len(Store(tmp_path).index()) == 3
