"""`bench attack`: rows that are there, with target, oracle and `before`; and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.attacks import attack_of
from bench.records.files import load_records
from tests.processes import bench
from tests.shell import Shell

PLACE = ("--task", "tofu", "--seeds", "0", "--jobs", "1", "--track", "none", "--store", "store", "--out", "out")
SMALL = [
    word
    for value in ("authors=10", "width=16", "history_passes=0.18", "target_passes=2")
    for word in ("--set", f"tofu.{value}")
]
RELEARN = ("--set", "relearn.steps=2", "--set", "relearn.points=1", "--set", "relearn.teach=all")


@pytest.mark.slow(30)
def test_rows_that_are_there_are_attacked_with_those_that_frame_them(tmp_path: Path) -> None:
    made = bench(["run", "--methods", "npo", "--set", "npo.steps=2", *SMALL, *PLACE], tmp_path)
    assert made.returncode == 0, made.stdout + (made.stderr or "")
    words = ["attack", "--methods", "npo", "--attacks", "relearn", "--set", "npo.steps=2", *SMALL, *PLACE]
    hit = bench([*words, *RELEARN], tmp_path)
    assert hit.returncode == 0, hit.stdout + (hit.stderr or "")
    records = {record.spec.method: record for record in load_records(tmp_path / "out").records}
    attacked = {name for name, record in records.items() if attack_of(record.spec)}
    assert attacked == {"relearn", "retrain+relearn", "before+relearn", "npo+relearn"}
    assert set(records) - attacked == {"target", "retrain", "before", "npo"}
    assert all(record.status == "done" for record in records.values())
    assert (
        "under relearn" in hit.stdout and "Attack: relearn" in (tmp_path / "out" / "tables" / "lab-tofu.md").read_text()
    )
    assert (tmp_path / "out" / "plots" / "lab-tofu-relearning.png").is_file()
    again = bench([*words, *RELEARN], tmp_path)
    assert again.returncode == 0 and "run " not in again.stdout.split("tofu (lab)")[0].replace("run  ", "")


def test_a_row_that_was_not_run_is_one_sentence(shell: Shell) -> None:
    said = shell("attack", "--methods", "npo", "--attacks", "relearn", *SMALL, *PLACE)
    assert said.code == 2
    assert said.errors == [
        "out has no finished run in this setting of npo (seed 0): make it first, with the same options and `run`."
    ]


def test_names_that_nobody_knows_are_told_together(shell: Shell) -> None:
    said = shell("attack", "--methods", "npo", "--attacks", "relern,msa", *SMALL, *PLACE)
    assert said.code == 2 and "relearn" in said.errors[0] and "msa" in said.errors[1]
    assert (
        shell("attack", "--methods", "npo", "--attacks", ",", *PLACE)
        .errors[0]
        .startswith("--attacks needs at least one name")
    )
    assert "name it with --attacks" in shell("attack", "--methods", "relearn", "--attacks", "int4", *PLACE).errors[0]
    assert "twice" in shell("attack", "--methods", "npo", "--attacks", "relearn,relearn", *PLACE).errors[0]


def test_the_listing_names_every_attack(shell: Shell) -> None:
    said = shell("ls", "attacks")
    assert said.code == 0 and "relearn" in said.out and "int4" in said.out
