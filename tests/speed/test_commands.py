"""The benchmark of whole commands runs and says seconds and aims; the demo's sees the first table. No seconds are judged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes import tiny_run
from tests.speed import commands, demo


def test_a_row_says_its_seconds_and_its_aim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["commands", "--only", "ls methods;--help", "--tries", "1", "--rows", "4"])
    commands.main()
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    found = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert float(found["ls methods"][0]) > 0 and found["ls methods"][1] == ".4 of .7"
    assert {*found} == {"command", "---", "ls methods", "--help"}


@pytest.mark.slow(30)
def test_the_first_table_comes_before_the_end(tmp_path: Path) -> None:
    first, whole = demo.wait_for_tables(tiny_run(), tmp_path)
    assert 0 < first <= whole
