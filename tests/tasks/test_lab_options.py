"""The lab's options on every task that has them: later training, exposed checkpoints, a finer history, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import methods
from bench.conformance import LAB, Tracer, row_contents
from bench.core import registry
from bench.core.contracts import Scenario
from bench.core.record import RunSpec, Step
from bench.core.types import without_references
from bench.lab.build import LabOptions
from bench.runs.method_context import Ledger
from bench.runs.runner import unlearn
from bench.runs.store import Store
from tests.conftest import SMALL
from tests.spies import Spy

TASKS = sorted(name for name, tiers in registry.components("tasks").items() if "lab" in tiers)
GAP = {"later": 3, "gap_steps": 2}


def task(name: str, **params: Any) -> Any:
    """A small one."""
    cls = registry.load_task(name, "lab")
    return cls(**{key: value for key, value in SMALL.items() if key in registry.fields_of(cls)} | params)


def passes_for(name: str, **steps: int) -> dict[str, float]:
    """Parameters for which the stages have so many steps."""
    usual = task(name)
    places = {"history": 0, "target": 1}
    return {
        f"{stage}_passes": n * usual.step_rows[places[stage]] / usual.pass_rows[places[stage]]
        for stage, n in steps.items()
    }


def prepared(name: str, folder: Path, **params: Any) -> tuple[Scenario, Tracer]:
    work = Tracer(Store(folder), seed=0, provenance={})
    return task(name, **params).prepare(work, LAB), work


def test_the_three_tasks_have_them() -> None:
    assert {"muse-books", "restor", "tofu"} <= set(TASKS)
    assert all(issubclass(registry.load_task(name, "lab"), LabOptions) for name in TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_target_and_oracles_train_on_alike(name: str, tmp_path: Path) -> None:
    scenario, work = prepared(name, tmp_path, **GAP)
    made = {"target": scenario.target()} | {oracle().label: oracle() for oracle in scenario.oracles}
    assert {"target", "oracle-0", "oracle-1"} <= set(made)
    history = scenario.history
    assert history is not None
    after, firsts = [], {}
    for label, checkpoint in made.items():
        first, second = [run for run in work.runs if run.label == label]
        assert first.start == history().last.checkpoint.hash, "theta_0 stays where it was"
        assert second.recipe.steps == GAP["gap_steps"]
        firsts[label] = second.start
        after.append(second)
        assert checkpoint.hash not in (first.start, second.start)
    assert len(set(firsts.values())) == len(made), "each goes on from its own end"
    assert all((run.rows, run.recipe) == (after[0].rows, after[0].recipe) for run in after)
    forgotten = row_contents(scenario.forget)
    assert not forgotten & row_contents(after[0].rows), "nothing is told of the forget set again"
    new = row_contents(after[0].rows) - row_contents(scenario.retain)
    assert new, "others are told of"
    for oracle in scenario.oracles:
        seen = [row for run in work.runs if run.label == oracle().label for row in run.rows]
        assert row_contents(seen) == row_contents(scenario.oracle_rows), (
            "what they were later trained on is named as well"
        )
    assert new & row_contents(next(run for run in work.runs if run.label == "target").rows) == set()


@pytest.mark.parametrize("name", TASKS)
def test_without_gap_steps_nothing_is_trained_later(name: str, tmp_path: Path) -> None:
    """People who are in the world and whom nobody is told of: the control of an ablation of gaps."""
    scenario, work = prepared(name, tmp_path, later=3)
    scenario.target()
    assert [run.label for run in work.runs] == ["history", "target"]
    assert row_contents(scenario.oracle_rows) <= row_contents(scenario.retain)


@pytest.mark.parametrize("name", TASKS)
def test_gap_steps_need_somebody_to_train_on(name: str) -> None:
    assert task(name, gap_steps=5).problems() == [
        f"{name}.gap_steps needs something to train on: set {name}.later to at least 1."
    ]
    assert task(name, **GAP).problems() == []


@pytest.mark.parametrize("name", TASKS)
def test_exposed_checkpoints_come_last_and_end_in_the_target(name: str, tmp_path: Path) -> None:
    """Of 4 steps two checkpoints, after 2 and 4; the history before exposure is as without them."""
    passes = passes_for(name, target=4)
    scenario, work = prepared(name, tmp_path, exposed=2, **passes)
    plain, _ = prepared(name, tmp_path, **passes)
    assert scenario.history is not None and plain.history is not None
    history, before = scenario.history(), plain.history()
    assert not any(moment.exposed for moment in before.moments)
    assert history.before == before.moments and history.last == before.last
    assert [moment.exposed for moment in history.moments] == [False] * len(before.moments) + [True] * 2
    exposed = history.moments[-2:]
    assert [moment.step - history.last.step for moment in exposed] == [2, 4]
    assert [moment.stage for moment in exposed] == ["exposure"] * 2
    tokens = [moment.tokens or 0 for moment in (history.last, *exposed)]
    assert tokens == sorted(set(tokens))
    assert exposed[-1].checkpoint.hash == scenario.target().hash == plain.target().hash
    assert exposed[0].checkpoint.hash != exposed[1].checkpoint.hash
    [run] = [run for run in work.runs if run.label == "exposure"]
    assert row_contents(scenario.forget) <= row_contents(run.rows)


@pytest.mark.parametrize("name", TASKS)
def test_a_finer_history_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    passes = passes_for(name, history=20)
    coarse, fine = (prepared(name, tmp_path, history_points=points, **passes)[0].history for points in (11, 21))
    assert coarse is not None and fine is not None
    falls = task(name).fall > 0
    shared_out = [[round(20 * k / 11) for k in range(12)], [*range(1, 21)]]
    expected = [[round(16 * k / 10) for k in range(11)] + [20], [*range(17), 20]] if falls else shared_out
    assert [moment.step for moment in coarse().moments] == expected[0]
    assert [moment.step for moment in fine().moments if moment.step or falls] == expected[1]
    assert fine().last.checkpoint.hash == coarse().last.checkpoint.hash
    shared = {moment.step: moment.checkpoint.hash for moment in fine().moments}
    assert all(shared[moment.step] == moment.checkpoint.hash for moment in coarse().moments)


@pytest.mark.parametrize("name", TASKS)
def test_methods_are_told_of_a_mislabelled_forget_set_and_nobody_else_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the forget set's size is retain rows, a quarter of its rows is missing."""
    monkeypatch.setitem(methods.TABLE, "spy", "tests.spies:Spy")
    scenario, work = prepared(name, tmp_path, noise_inside=0.25, noise_missing=0.25)
    clean, _ = prepared(name, tmp_path)
    assert (scenario.forget, scenario.retain, scenario.oracle_rows) == (clean.forget, clean.retain, clean.oracle_rows)
    assert scenario.probes == clean.probes and scenario.validation == clean.validation
    target = scenario.target()
    assert target.hash == clean.target().hash, "the target learns the truth"
    assert not {row.id for row in scenario.oracle_rows} & {row.id for row in scenario.forget}
    spec = RunSpec(name, {}, "lab", "lab", (Step("spy", {}),), 0)
    unlearn(spec, scenario, target, (), work, Ledger(set(), set()))
    request, _ = Spy.caught[-1]
    assert scenario.told is not None and clean.told is None
    assert request.forget == without_references(scenario.told.forget) and request.retain == without_references(
        scenario.told.retain
    )
    wrong, count = round(0.25 * len(scenario.forget)), len(scenario.forget)
    assert wrong >= 1
    given, kept = ({row.id for row in rows} for rows in (request.forget, request.retain))
    truly = {row.id for row in scenario.forget}
    assert len(given & truly) == count - wrong and len(given - truly) == wrong
    assert len(kept & truly) == wrong and given - truly <= {row.id for row in scenario.retain}
    assert not given & kept
    assert not any(row.references for row in (*request.forget, *request.retain))
