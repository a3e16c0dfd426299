"""Tables on the terminal: a plan's rows and sums, and scores in as many tables as the width takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.assets.shapes import Shape
from bench.core.compute import Compute
from bench.core.machine import Machine
from bench.core.record import Record, RunSpec, Step
from bench.records.bundles import put_records
from bench.records.files import write_record
from bench.runs import terminal
from bench.runs.estimate import Room, Size
from bench.runs.plan import Plan, PlannedRun
from bench.runs.terminal import (
    plan_rows,
    print_agreement,
    print_table,
    show_plan,
    side_by_side,
    summarise_plan,
)
from tests.factories import study

SMALL = Shape(hidden=4, layers=2, inner=8, vocabulary=10, heads=2, groups=1, parameters=1000)


def entry(
    method: str, seed: int, status: str = "run", reason: str = "", seconds: float = 0, tier: str = "lab"
) -> PlannedRun:
    steps = (Step(method, {}),) if method != "target" else ()
    return PlannedRun(RunSpec("tofu", {}, tier, "m", steps, seed), status, reason, seconds)


def test_a_plans_rows_are_a_method_and_what_happens_to_it() -> None:
    """Seeds 0 and 1 take 30 s and 60 s; what isn't run takes none, and stands apart."""
    entries = [
        entry("target", 0, "cached"),
        entry("msa", 0, seconds=30),
        entry("msa", 2, "cached"),
        entry("msa", 1, seconds=60),
        entry("npo", 0, "skipped", "it needs the moon"),
    ]
    assert plan_rows(Plan(entries=tuple(entries))) == [
        ("target", "0", "cached", "", ""),
        ("msa", "0,1", "run", "90 s", ""),
        ("msa", "2", "cached", "", ""),
        ("npo", "0", "skipped", "", "it needs the moon"),
    ]


def test_rows_stand_side_by_side_as_far_as_their_names_have_room() -> None:
    """A column is as wide as its widest cell, and 3 between it and the next: 10, 10 and 13 of 33."""
    rows = [["ga", "1 [0,1]"], ["msa", "2 [1, 2"], ["graddiff-x", "3"]]
    assert side_by_side(rows, 33) == [rows]
    assert side_by_side(rows, 32) == [rows[:2], rows[2:]]
    assert side_by_side(rows, 10) == [[row] for row in rows]
    assert side_by_side(rows, 0) == [[row] for row in rows], "one at least in each"


def test_the_sum_of_a_lab_plan_is_two_lines() -> None:
    """Two seeds: stages of 20 s each and runs of 60 s are 100 s, on two workers 50 s: from .3 times that and 3 s of
    start-up to 1.5 times and 15 s; where nothing like it was trained in this store 3 times.
    """
    plan = Plan(
        {"history": 15, "target": 5},
        memory=10**9,
        entries=(entry("ga", 0, seconds=40), entry("ga", 1, seconds=20)),
        machine=Machine(jobs=2, world=1),
    )
    shared, time = summarise_plan(plan)
    assert shared == "seeds 0, 1: to be made: history 15 s, target 5 s"
    assert time.startswith(
        "expected 18 s to 3 min with 2 workers, start-up and measuring included; 1.0 GB of memory each"
    )
    assert "expected 18 s to 90 s" in [*summarise_plan(replace(plan, guessed=False))][1]
    assert [*summarise_plan(replace(plan, stages={}))][0] == "seeds 0, 1: to be made: nothing that is shared"


def test_what_the_store_has_is_said_and_takes_no_time() -> None:
    """Seed 0 has all, seed 1 the history: 20 s and 5 s of stages are left of the runs' 60 s, on one worker 65 s."""
    plan = Plan(
        {"history": 15, "target": 5},
        entries=(entry("ga", 0, seconds=40), entry("ga", 1, seconds=20)),
        machine=Machine(jobs=1, world=1),
        at_hand={0: {"target", "history"}, 1: {"history"}},
    )
    assert plan.seconds(1) == 65
    assert [*summarise_plan(plan)][:2] == [
        "seed 0: the store has history, target; to be made: nothing that is shared",
        "seed 1: the store has history; to be made: target 5 s",
    ]


def test_a_guessed_rate_of_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(entries=(entry("ga", 0, seconds=40),), machine=Machine(device="cuda", world=1))
    said = [*summarise_plan(plan)][1]
    assert "; the GPU's speed is a guess)" in said and "with 1 worker," in said
    assert "guess" not in [*summarise_plan(replace(plan, guessed=False))][1]
    assert "guess" not in [*summarise_plan(replace(plan, machine=Machine(jobs=1, world=1)))][1]


def test_a_real_plan_says_memory_and_disk_beside_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(SMALL, 5, 1, 2, checkpoints=5)
    plan = Plan(size=size, compute=Compute(), entries=(entry("ga", 0, tier="real"),), machine=Machine(jobs=1, world=1))
    for room, said in (
        (Room(8 * 10**9, 3 * 10**9), "; this machine has 8.0 GB"),
        (Room(0, 3 * 10**9, where="the GPU"), "; the GPU says not how much it has"),
    ):
        monkeypatch.setattr(terminal, "room_of", lambda *asked, room=room: room)
        lines = [*summarise_plan(plan)]
        assert len(lines) == 4 and lines[2].startswith("memory: training 0.7 GB, ") and lines[2].endswith(said)
        assert lines[3] == "disk: at most 0.0 GB of checkpoints, 3.0 GB are free"


def test_a_model_that_nobody_knows_has_no_estimate() -> None:
    plan = Plan(entries=(entry("ga", 0, tier="real"),))
    assert [*summarise_plan(plan)] == ["how long and how much memory: nobody here knows before the model is fetched"]


def test_a_plan_without_work_says_no_time(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    show_plan(Plan(entries=(entry("ga", 0, "cached"),), fetch=("python -m bench fetch " + 90 * "x",)))
    said = capsys.readouterr().out
    assert "cached" in said and "expected" in said.splitlines()[0] and "start-up" not in said
    assert "not fetched yet:\n  python -m bench fetch " + 90 * "x" in said, "a command is never broken into lines"


@pytest.mark.parametrize("width", [60, 200])
def test_the_scores_of_the_commands_own_runs_are_printed(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    records = study(("target", "retrain", "msa", "npo"), (0, 1))
    for each in records:
        write_record(each, tmp_path)
    own = [each for each in records if each.spec.method != "npo"]
    print_table(Plan(entries=tuple(PlannedRun(each.spec, "cached") for each in own)), tmp_path)
    said = capsys.readouterr().out
    assert "tofu (lab), mean over seeds 0, 1" in said and "npo" not in said
    table = [line for line in said.splitlines() if "│" in line or "┃" in line]
    assert table and all(len(line) <= width for line in table)
    mean = sum(each.scores["retain_accuracy"].value for each in own if each.spec.method == "msa") / 2
    [*_, line] = [line for line in said.splitlines() if line.startswith("retain_accuracy ↑")]
    assert f"{mean:.3f} [{mean - 0.02:.3f}, {mean + 0.02:.3f}]" in line and "msa" in said
    legend = [line for line in said.splitlines() if line.startswith("[low, high]")]
    assert len(legend) == 1 and "over people or rows (bootstrap)" in legend[0] and "↑ more is better" in legend[0]


def test_what_a_run_was_skipped_for_is_printed_with_its_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it turns out only as the method works, and so stands in no plan."""
    for each in study(("target", "ga", "npo"), (0, 1)):
        skipped = each.spec.method == "ga"
        write_record(Record(each.spec, "skipped", "it reads decoder blocks") if skipped else each, tmp_path)
    plan = Plan(entries=tuple(PlannedRun(each.spec, "run") for each in study(("target", "ga", "npo"), (0, 1))))
    print_table(plan, tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == "ga on seeds 0, 1: skipped, it reads decoder blocks"


def test_a_records_texts_are_no_markup_and_no_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a run whose training diverged has its mark and its line."""
    odd = "[red]a[/red] \x1b[31mb :smile: [/]"
    one = replace(study(("msa",), (0,))[0], label=odd)
    one = replace(one, facts={**one.facts, "diverged": ["theta_1"]})
    write_record(one, tmp_path)
    print_table(Plan(entries=(PlannedRun(one.spec, "cached"),)), tmp_path)
    said = capsys.readouterr().out
    assert "[red]a[/red] \ufffd[31mb :smile: [/], seed 0" in said and "\x1b" not in said
    assert "msa ⚠" in said and "msa on seed 0: its training diverged" in said


def test_what_was_run_stands_beside_what_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    roles = {"kept": "retain_accuracy"}
    records = [replace(r, facts={**r.facts, "primary": roles}) for r in study(("retrain", "msa", "npo"), range(6))]
    put_records([r for r in records if r.spec.method != "npo"], tmp_path / "results")
    fresh = [r for r in records if r.spec.seed == 1]
    worse = {"retain_accuracy": replace(fresh[1].scores["retain_accuracy"], value=0.5, low=0.4, high=0.6)}
    for each in (fresh[0], replace(fresh[1], scores={**fresh[1].scores, **worse}), fresh[2]):
        write_record(each, tmp_path / "out")
    plan = Plan(entries=tuple(PlannedRun(each.spec, "run") for each in fresh))
    print_agreement(plan, tmp_path / "out", tmp_path / "results")
    title, _, oracle, msa, note = capsys.readouterr().out.replace("│", "").splitlines()
    assert title == "beside the published runs of the same settings, 6 seeds" and note.startswith(
        "agrees: within the 95%"
    )
    assert oracle.split()[:2] == ["retrain", "retain_accuracy"] and oracle.split()[-1] == "agrees"
    assert msa.split()[:3] == ["msa", "retain_accuracy", "0.500"] and msa.split()[-1] == "differs"
    for results in (None, tmp_path / "out", tmp_path / "empty"):
        print_agreement(plan, tmp_path / "out", results)
    assert capsys.readouterr().out == "", "nothing is said without published rows"
