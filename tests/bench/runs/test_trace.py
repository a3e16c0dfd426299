"""`--trace`: snapshots of one training and shares of a sum are measured, and nothing of the result changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.record import Record
from bench.records.files import load_records
from tests.processes import bench
from tests.shell import Shell

SMALL = (
    *("run", "--task", "digits", "--seeds", "0", "--jobs", "1", "--track", "none", "--set", "digits.width=4"),
    *("--set", "digits.history_passes=0.5", "--set", "digits.target_passes=0.22", "--set", "ga.steps=6"),
    *("--store", "store"),
)
MSA, TRACE = ("--set", "msa.steps=4"), ("--trace", "3")


def records_of(folder: Path, methods: str, *words: str) -> dict[str, Record]:
    """The records by method of a small run, of which ``words`` say the folder first."""
    done = bench([*SMALL, "--methods", methods, "--out", *words], folder)
    assert done.returncode == 0, done.stdout + (done.stderr or "")
    return {record.spec.method: record for record in load_records(folder / words[0]).records}


@pytest.mark.slow(12)
def test_a_trace_measures_the_way_and_changes_nothing(tmp_path: Path) -> None:
    plain = records_of(tmp_path, "ga,msa,before", "plain", *MSA)
    traced = records_of(tmp_path, "ga,msa,before", "traced", *MSA, *TRACE)
    for name in ("ga", "msa", "before", "retrain"):
        assert traced[name].lineage["result"] == plain[name].lineage["result"]
        assert traced[name].scores == plain[name].scores and "trace" not in plain[name].facts
    assert traced["before"].facts["trace"] == traced["retrain"].facts["trace"] == []
    target = {name: score.value for name, score in plain["target"].scores.items()}
    for name in ("ga", "msa"):
        way = traced[name].facts["trace"]
        beyond = [4 / 3] if name == "msa" else []  # of a sum, to one and a half of the chosen coefficients
        assert [point["share"] for point in way] == pytest.approx([0, 1 / 3, 2 / 3, *beyond])
        assert set(traced[name].facts["primary"].values()) <= way[0]["scores"].keys()
        assert way[0]["scores"].items() <= target.items(), "it begins at the target"
        assert len({str(point["scores"]) for point in way}) == len(way), "and moves"
    assert list((tmp_path / "traced" / "plots").glob("*-forget-keep.svg"))


@pytest.mark.slow(12)
def test_a_training_that_ends_in_a_sum_keeps_no_snapshots(tmp_path: Path) -> None:
    """The way of task arithmetic are shares of its sum: the training of its vector is the untraced run's own."""
    name, few = "task-arithmetic", ("--set", "task-arithmetic.steps=4")
    plain = records_of(tmp_path, f"ga,{name}", "plain", *few)[name]
    traced = records_of(tmp_path, f"ga,{name}", "traced", *few, *TRACE)[name]
    assert len(traced.facts["trace"]) == 4 and traced.cost["nodes"][0] == plain.cost["nodes"][0]


def test_a_record_without_the_trace_is_made_again(shell: Shell) -> None:
    records_of(shell.folder, "ga", "out")
    plan = ["plan", *[word for word in SMALL[1:] if word not in ("--track", "none")], "--methods", "ga", "--out", "out"]
    ga = [next(line for line in shell(*plan, *more).out.splitlines() if line.startswith("ga ")) for more in ((), TRACE)]
    assert "cached" in ga[0] and "run" in ga[1].split("│")[2]


@pytest.mark.parametrize("points", ["1", "-2"])
def test_a_way_has_two_points_or_more(points: str, shell: Shell) -> None:
    said = shell(*SMALL, "--methods", "ga", "--trace", points)
    assert said.code == 2 and said.errors == [
        f"--trace {points}: a way has two points or more; 0 or nothing measures none."
    ]
