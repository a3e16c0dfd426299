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


@pytest.mark.slow(20)
def test_what_another_checkout_refuses_is_said_and_the_rows_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The other one has records that lie as files, and no command `show`."""
    other = tmp_path / "other"
    (other / "bench").mkdir(parents=True)
    (other / "bench" / "__main__.py").write_text("import sys; sys.exit('show' in sys.argv)")
    place = other / "results/lab/tofu/lab/msa-0.json"
    place.parent.mkdir(parents=True)
    place.write_text("{}")
    words = ["--beside", str(other), "--only", "show;--help", "--tries", "1", "--rows", "4"]
    monkeypatch.setattr(sys, "argv", ["commands", *words])
    commands.main()
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    found = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert found["show"][1:3] == ["refused", ""] and float(found["show"][0]) > 0
    assert all(float(seconds) > 0 for seconds in found["--help"][:3])


def test_a_row_that_there_is_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["commands", "--only", "lss;--help"])
    with pytest.raises(SystemExit, match="2"):
        commands.main()
    assert "no row is called lss" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow(30)
def test_the_first_table_comes_before_the_end(tmp_path: Path) -> None:
    first, whole = demo.wait_for_tables(tiny_run(), tmp_path)
    assert 0 < first <= whole
