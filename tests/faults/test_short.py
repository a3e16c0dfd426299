"""The short form of the campaign: a few faults of each kind; `make faults` is the long one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.__main__ import KINDS
from tests.faults.campaign import Case, Kind, run_kind, table, try_case
from tests.faults.ground import Done, Ground, faults_of, open_ground, steady_page

FOREVER = float("inf")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with open_ground(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.mark.slow(90)
@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_is_lost_or_wrong_and_every_message_helps(
    kind: Kind, ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    row = run_kind(kind, kind.short, 0, ground, FOREVER)
    if row.remark:
        pytest.skip(row.remark)
    assert row.is_good and row.tried, capsys.readouterr().out + table([row])


def test_a_fault_that_is_found_counts_and_says_how_to_repeat_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(case: Case) -> None:
        case.what = f"drew {case.rng.randrange(100)}"
        if case.number == 1:
            case.lost("a record")
            case.lost("another record")
        if case.number == 2:
            raise OSError("no room")

    nowhere = Ground(tmp_path, Path(), None)  # type: ignore[arg-type]
    row = run_kind(kind := Kind("drawn", range(3), 3, attempt), range(3), 7, nowhere, FOREVER)
    assert (row.tried, row.lost, row.wrong, row.unhelpful, row.is_good) == (3, 1, 1, 0, False)
    said = capsys.readouterr().out
    assert "repeat: python -m tests.faults --seed 7 --only drawn --case 1" in said and "no room" in said
    assert try_case(kind, 1, 7, nowhere).what in said, "a case alone draws the same"
    assert "| drawn | 3 | 1 | 1 | 0 |" in table([row])
    assert not list((tmp_path / "cases").iterdir())


def test_a_campaign_stops_when_its_minutes_are_up(tmp_path: Path) -> None:
    row = run_kind(Kind("drawn", range(3), 3, lambda case: None), range(3), 0, Ground(tmp_path, Path(), None), 0.0)  # type: ignore[arg-type]
    assert row.tried == 0 and "stopped early" in row.remark


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (0, "records: out", ""),
        (2, "error: The disk of --out is full: free 2 MB, then give the command again.", ""),
        (2, "error: The disk is full. Nothing was lost.\n", "more than one sentence"),
        (2, "error: The disk is full.\n", "no remedy"),
        (2, "", "without a sentence"),
        (1, "FAILED msa seed 0: OSError: [Errno 28]", "no remedy"),
        (1, "Traceback (most recent call last):\nOSError: no room\n", "a traceback, ending 'OSError: no room'"),
        (-11, "", "exit code -11"),
    ],
)
def test_what_a_command_may_say(code: int, text: str, said: str) -> None:
    found = faults_of(Done(("run",), code, text, 1.0), (0, 1, 2))
    assert any(said in fault for fault in found) if said else not found


def test_a_page_is_compared_without_the_seconds_in_it() -> None:
    page = "| a | seconds |\n| --- | --: |\n| msa | {} |\n\n| a | kl |\n| msa | 0.5 |\nIt took {} minutes."
    assert steady_page(page.format(3, 0.5)) == steady_page(page.format(4, 12))
    assert "0.5 |" in steady_page(page.format(3, 1))
