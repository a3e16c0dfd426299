"""`bench ls runs`: status, main scores, time and age of each record, and filters."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.cli.run_list import NO_RUNS, Filter, age_of, list_runs, runs_json
from bench.core.errors import UserError
from bench.records.files import write_record
from bench.records.markdown import format_number
from tests.factories import record, study
from tests.shell import Shell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for each in (
        *study(("target", "msa", "npo"), (0, 1, 2)),
        record("npo", 3, status="failed", reason="no", scores={}),
    ):
        write_record(each, tmp_path)
    return tmp_path


def listed(folder: Path, **wanted: object) -> list[tuple[str, str]]:
    """Method and seed of the rows."""
    rows = [line.split() for line in list_runs(folder, Filter(**wanted)).splitlines()[1:]]  # type: ignore[arg-type]
    return [(row[1], row[3]) for row in rows]


def test_a_row_has_main_scores_time_and_age(folder: Path) -> None:
    made = record("msa", 1)
    hour = (datetime.now(UTC) - timedelta(hours=3, minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    write_record(record("msa", 1, provenance={"finished": hour}), folder)
    [line] = [line for line in list_runs(folder, Filter(method="msa", seeds=(1,))).splitlines() if "done" in line]
    forgetting, kept = (format_number(made.scores[name].value) for name in ("forget_accuracy", "retain_accuracy"))
    words = ["done", "msa", "tofu", "1", "forget_accuracy", forgetting, "retain_accuracy", kept, "16", "s", "3.0", "h"]
    assert line.split() == [*words, made.spec.key]


def test_filters_choose(folder: Path) -> None:
    assert len(listed(folder)) == 10
    assert listed(folder, method="msa") == [("msa", "0"), ("msa", "1"), ("msa", "2")]
    assert listed(folder, seeds=(0, 3), method="npo") == [("npo", "0"), ("npo", "3")]
    assert listed(folder, status="failed") == [("npo", "3")] and len(listed(folder, task="tof", seeds=(1,))) == 3
    assert list_runs(folder, Filter(task="restor")) == f"No run in '{folder}' is like that."
    assert list_runs(folder / "none", Filter()) == NO_RUNS
    with pytest.raises(UserError, match="Unknown status 'don'. Did you mean 'done'"):
        list_runs(folder, Filter(status="don"))


def test_the_age_of_a_record_without_a_date_is_its_files(folder: Path) -> None:
    made = record("msa", 0)
    os.utime(folder / made.name, (0, 0))
    age = age_of(made, folder)
    assert age is not None and age > 1e9
    assert age_of(record("msa", 9), folder) is None


def test_the_command_takes_ranges_and_gives_json(folder: Path, shell: Shell) -> None:
    told = json.loads(shell("ls", "runs", "--from", str(folder), "--seeds", "0-1", "-m", "msa", "--json").out)
    assert [(one["method"], one["seed"], one["status"]) for one in told] == [("msa", 0, "done"), ("msa", 1, "done")]
    assert told == runs_json(folder, Filter(method="msa", seeds=(0, 1))) and "retain_accuracy" in told[0]["scores"]
    assert shell("ls", "methods", "--seeds", "0").errors == ["ls methods takes no --seeds: that goes with `ls runs`."]
    assert shell("ls", "runs", "msa").errors[0].startswith("ls runs takes no name: --method, --task")
