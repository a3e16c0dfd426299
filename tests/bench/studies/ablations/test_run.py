"""`bench ablate` in real processes, on authors so few that a whole ablation takes seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import Score
from bench.records.bundles import read_bundle, write_bundle
from bench.runs import selection
from bench.runs.jobs import Job
from bench.runs.store import Store
from bench.runs.validate import row_file
from bench.studies.ablations import FOLDER
from bench.studies.ablations import study as studies
from bench.studies.ablations.base import Point, spec_of
from bench.studies.ablations.run import (
    AblationRequest,
    Planned,
    ablate_command,
    chosen_for,
    distinct,
    distinct_scenarios,
    minutes_spent,
    plan_point,
)
from tests.factories import finding, place, searched
from tests.processes import bench, contents, without_torch

TINY = {"authors": 10, "width": 16, "history_passes": 0.18, "target_passes": 2.0}
FILES = [f"lab-tofu-controls{suffix}" for suffix in (".json", ".jsonl.xz", ".md", ".png", ".svg")]


def words(*more: str) -> list[str]:
    """A tiny ablation of controls."""
    sets = [word for name, value in TINY.items() for word in ("--set", f"tofu.{name}={value}")]
    where = ["--store", "store", "--out", "out", "--track", "none", "--jobs", "1"]
    return ["ablate", "controls", "--task", "tofu", "--seeds", "0", *sets, *where, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished ablation; to be read only."""
    folder = tmp_path_factory.mktemp("ablation")
    done = bench(words(), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 runs, 6 to do" in done.stdout
    return folder


def below(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "out" / FOLDER).iterdir() if file.is_file() and file.name[0] != ".")


@pytest.mark.slow
def test_an_ablation_leaves_its_study_and_the_records_behind_it(finished: Path) -> None:
    assert below(finished) == FILES
    study = studies.read_study(finished / "out" / FOLDER / FILES[0])
    assert [dict(f.at) for f in study.findings] == [
        {"row": "target"},
        {"row": "oracle"},
        *({"series": "MSA", "vector": kind} for kind in ("forget", "others", "shuffled", "random")),
    ]
    assert {**study.place.params, **TINY} == study.place.params and study.seeds == (0,)
    records = sorted(file.name for file in (finished / "out" / FOLDER / "runs").rglob("*.json"))
    assert records == sorted(f.record.name.split("/")[-1] for f in study.findings)
    assert all(f.record.status == "done" and f.record.spec.lean for f in study.findings)
    hashes = [f.record.lineage["result"] for f in study.findings]
    assert len(set(hashes)) == 6, "each control is another model"
    assert study.minutes > 0 and study.command.startswith(
        "python -m bench ablate controls --task tofu --seeds 0 --set "
    )


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_gives_the_same_files(finished: Path, tmp_path: Path) -> None:
    """Torch is not imported in any process; also where the page and the picture have gone."""
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    before, store = contents(folder / "out"), contents(folder / "store")
    for file in FILES[1:]:
        (folder / "out" / FOLDER / file).unlink()
    done = bench(words(), folder, [without_torch(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 runs, 0 to do" in done.stdout and "done in" not in done.stdout
    after = contents(folder / "out")
    assert {k: v for k, v in after.items() if FOLDER in k} == {k: v for k, v in before.items() if FOLDER in k}
    assert contents(folder / "store") == store


@pytest.mark.slow
def test_rescore_computes_a_studys_records_again_and_finds_a_changed_number(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    words = ["rescore", "--from", "out", "--store", "store", "--jobs", "1"]
    done = bench(words, folder)
    assert done.returncode == 0 and "6 records computed again: all numbers the same" in done.stdout, done.stdout
    bundle = folder / "out" / FOLDER / FILES[1]
    first, *others = read_bundle(bundle)
    changed = replace(first, scores=first.scores | {"forget_accuracy": Score(0.123, 2)})
    write_bundle([changed, *others], bundle)
    before = bundle.read_bytes()
    done = bench([*words, "--write"], folder)
    assert done.returncode == 1 and "6 records computed again: some numbers DIFFER" in done.stdout
    assert f"{FOLDER}/{FILES[1]}: {first.name}: forget_accuracy is stored as 0.123 and is now " in done.stdout
    assert "what differs in studies is made again by `python -m bench ablate`" in done.stdout
    assert bundle.read_bytes() == before
    done = bench(["rescore", "--from", "out", "--store", "elsewhere", "--jobs", "1"], folder)
    assert done.returncode == 1 and done.stdout.splitlines() == [
        "6 records have no responses beside them or in the store, and are not checked",
        "0 records computed again: all numbers the same",
    ]


@pytest.mark.slow
def test_a_failing_job_leaves_no_study(finished: Path, tmp_path: Path) -> None:
    """A file of the user's lies where a record belongs; the others are kept, and it isn't overwritten."""
    folder = tmp_path / "failing"
    shutil.copytree(finished, folder)
    for file in FILES:
        (folder / "out" / FOLDER / file).unlink()
    study = studies.read_study(finished / "out" / FOLDER / FILES[0])
    broken = folder / "out" / FOLDER / "runs" / study.findings[-1].record.name
    broken.write_text("my notes")
    done = bench(words(), folder)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert "FAILED" in done.stdout and f"{broken.name} is not a readable record" in done.stdout
    assert "controls: 1 jobs failed, so there is no study; the same command tries them again." in done.stdout
    assert below(folder) == [] and broken.read_text() == "my notes"


def test_every_mistake_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    wrong = ["ablate", "control", "frequenzy", "--seeds", "0,x", "--jobs", "0", "--track", "mlflow", "--device", "tpu"]
    wrong += ["--set", "msa.alpha=1", "--set", "tofu.widht=3", "--store", "store", "--out", "out"]
    done = bench(wrong, folder, [without_torch(tmp_path)])
    assert done.returncode == 2 and done.stdout == "", done.stdout
    errors = done.stderr.splitlines()
    expected = [
        "--seeds 0,x: write whole numbers",
        "--jobs",
        "mlflow",
        "--device tpu",
        "Unknown ablation 'control'. Did you mean 'controls'?",
        "Unknown ablation 'frequenzy'. Did you mean 'frequency'?",
        "--set msa.alpha=1: msa takes no part here",
        "Did you mean 'width'?",
    ]
    assert len(errors) == len(expected) and all(error.startswith("error: ") for error in errors), done.stderr
    assert all(any(part in error for error in errors) for part in expected), done.stderr
    assert list(folder.iterdir()) == []


# --- what the rule chooses


def planned(folder: Path, rows: Sequence[dict[str, Any]], choices: Sequence[dict[str, Any]]) -> Planned:
    """A point whose search has given these rows."""
    where = place()
    point = Point({"x": 1}, (where.step("msa"),), choices=tuple(choices))
    jobs = tuple(Job(spec_of(where, point, 0, "x", choice), "validate") for choice in choices)
    for job, row in zip(jobs, rows, strict=True):
        file = row_file(folder, job.spec)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"versions": {}, "provenance": {}, **row}))
    return Planned(point, 0, jobs)


def test_the_rule_chooses_on_this_seeds_validation_rows(tmp_path: Path) -> None:
    """J .8, .1 + .2 and .4: it is the middle one, not at an edge."""
    choices = [{"alpha": 0.5}, {"alpha": 1.0}, {"alpha": 2.0}]
    rows = [searched(0.9, 1.0, 0, 0), searched(0.2, 0.8, 0, 0), searched(0.1, 0.6, 0, 0)]
    assert chosen_for(planned(tmp_path, rows, choices), tmp_path) == {
        "params": {"alpha": 1.0},
        "edge": False,
        "of": 3,
    }


def test_a_choice_at_the_edge_says_so(tmp_path: Path) -> None:
    rows = [searched(0.9, 1.0, 0, 0), searched(0.5, 0.8, 0, 0)]
    found = chosen_for(planned(tmp_path, rows, [{"alpha": 0.5}, {"alpha": 1.0}]), tmp_path)
    assert found == {"params": {"alpha": 1.0}, "edge": True, "of": 2}
    assert selection.choose_setting([selection.outcome_of([row]) for row in rows]) == 1


def test_settings_of_a_box_have_no_edge(tmp_path: Path) -> None:
    """They are points of several parameters, and the first of them is no end of anything."""
    rows = [searched(0.1, 1.0, 0, 0), searched(0.5, 0.8, 0, 0)]
    choices = [{"alpha": 0.5, "steps": 40}, {"alpha": 1.0, "steps": 30}]
    assert chosen_for(planned(tmp_path, rows, choices), tmp_path) == {"params": choices[0], "edge": False, "of": 2}


def test_settings_are_tried_on_the_points_own_tuning_seed_where_it_names_one() -> None:
    """Then once for all seeds; otherwise on every seed."""
    where = place()
    point = Point({"x": 1}, (where.step("msa"),), choices=({"alpha": 0.5}, {"alpha": 1.0}))
    for tuned_on, tried in ((None, [0, 0, 1, 1]), (100, [100, 100])):
        found = [plan_point(where, replace(point, tuned_on=tuned_on), seed, "x") for seed in (0, 1)]
        assert [item.seed for item in found] == [0, 1]
        assert [job.spec.seed for job in distinct([job for item in found for job in item.search])] == tried


def test_what_several_settings_share_counts_once(tmp_path: Path) -> None:
    """A training of 50 s behind two lengths of 1 s each, on two seeds; the records' own stages of 4 s are each seed's."""
    searched = {"theta_1 of 0": 50.0, "short of 0": 1.0, "long of 0": 1.0, "theta_1 of 1": 50.0, "short of 1": 1.0}
    lineage = {"responses": "none", "oracle_responses": []}
    cost = {"nodes": ["theta_1 of 0"], "scenario_seconds": {"target": 4.0}}
    found = [finding({"x": 1}, seed, cost=cost) for seed in (0, 1)]
    plain = [replace(f, record=replace(f.record, lineage=lineage)) for f in found]
    assert minutes_spent(plain, Store(tmp_path), searched) == pytest.approx((103 + 8) / 60)


def test_where_there_is_nothing_to_choose_nothing_is_chosen(tmp_path: Path) -> None:
    assert chosen_for(planned(tmp_path, [], []), tmp_path) == {}


def test_jobs_and_scenarios_are_made_once() -> None:
    where = place()
    specs = [
        spec_of(where, Point({}, (where.step(method),), {"width": width}), seed, label)
        for method in ("msa", "npo")
        for width in (16, 32)
        for seed in (0, 1)
        for label in ("ablate-a", "ablate-b")
    ]
    jobs = [Job(spec, stage) for spec in specs for stage in ("", "validate")]
    assert len(jobs) == 32 and len(distinct(jobs)) == 16, "two ablations share their runs"
    assert len(distinct_scenarios(specs)) == 4, "two widths, two seeds"


def test_an_experiment_is_not_sent_to_a_cluster(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "out", tmp_path / "store", executor="slurm")
    with pytest.raises(UserError) as refused:
        ablate_command(AblationRequest(("controls", "sgd-influence"), "tofu", (0,)), machine)
    assert "--executor slurm: sgd-influence is no set of runs" in str(refused.value) and "controls" not in str(
        refused.value
    )
    assert not (tmp_path / "out").exists()
