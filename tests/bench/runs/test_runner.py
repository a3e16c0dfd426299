"""One run, from its spec to its record: what a lean one leaves out, where a run begins, which oracles are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core import registry
from bench.core.record import RunSpec
from bench.core.types import BROKEN_DOWN, Checkpoint, Responses
from bench.metrics import score_all
from bench.records.files import record_text
from bench.runs.context import Work
from bench.runs.plan import with_versions
from bench.runs.runner import LEFT_OUT, all_metrics, execute, is_twin, oracles_there, prepare
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.lab_runs import STILL, Lab, spec, step


def test_a_lean_run_asks_log_probs_divergences_and_no_more(lab: Lab) -> None:
    whole = prepare(spec(lean=False), Paths(), lab.work())
    asked = {probe.name: probe.kind for probe in whole.probes}
    assert {"gradnorm", "reference", "lm-eval"} <= set(asked.values()), "there is something to leave out"
    assert {"gradnorm", "reference", "lm-eval", "judge"} == set(LEFT_OUT)
    lean = {probe.name: probe.kind for probe in lab.scenario().probes}
    assert lean == {name: kind for name, kind in asked.items() if kind not in LEFT_OUT}
    assert {"logprob", "divergence"} <= set(lean.values())


def test_what_a_lean_run_asks_scores_as_in_a_whole_one(lab: Lab) -> None:
    lean, whole = lab.run(spec()), lab.run(spec(lean=False))
    assert lean.status == whole.status == "done" and whole.absent == {}
    left = set(whole.scores) - set(lean.scores)
    assert left == set(lean.absent) and {"mia_gradnorm", "mia_reference"} <= left
    assert all(reason and isinstance(reason, str) for reason in lean.absent.values())
    for name, score in lean.scores.items():
        assert score.value == whole.scores[name].value, name
    assert {"forget_accuracy", "kl_forget", "kl_retain"} <= set(lean.scores)
    assert lean.lineage["result"] == whole.lineage["result"]
    assert lean.spec.key != whole.spec.key


def test_without_a_step_the_result_is_the_checkpoint_itself(lab: Lab) -> None:
    record = lab.run(spec(start="step=2"))
    assert record.spec.method == "rewound-target" and record.name.split("/")[-1].startswith("rewound-target-")
    assert record.lineage["result"] == lab.moments()[2].checkpoint.hash != record.lineage["target"]
    assert record.facts["history_used"] and record.facts["theta_0"]["step"] == 2
    assert record.lineage["history_used"] == [lab.moments()[2].checkpoint.hash]


def test_a_run_that_begins_nowhere_else_begins_at_the_target(lab: Lab) -> None:
    record = lab.run(spec())
    assert record.lineage["result"] == record.lineage["target"]
    assert not record.facts["history_used"] and "theta_0" not in record.facts


def test_without_a_history_there_is_nothing_to_begin_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.runs import runner

    alone = replace(lab.scenario(), history=None)
    monkeypatch.setattr(runner, "prepare", lambda *_: alone)
    record = execute(spec(STILL, start="step=2"), Paths(), lab.work())
    assert record.status == "skipped" and "begins at a checkpoint from before the forget set" in record.reason


def test_oracles_that_are_not_trained_yet_are_not_trained_to_be_sealed(lab: Lab, tmp_path: Path) -> None:
    """The second oracle exists, the first doesn't: only the second is found, and asking built nothing."""
    work = Work(Store(tmp_path), seed=0, provenance={})
    scenario = prepare(spec(), Paths(), work)
    assert oracles_there(scenario, work) == []
    second = scenario.oracles[1]()
    before = set(work.built)
    assert oracles_there(prepare(spec(), Paths(), work), work) == [second]
    assert work.built == before
    first = prepare(spec(), Paths(), work).oracles[0]()
    assert first.hash != second.hash, "afterwards what isn't there is built again"


@pytest.mark.parametrize("method", ["ga", "msa"])
def test_a_diverged_run_is_a_record_without_scores(method: str, lab: Lab) -> None:
    record = lab.run(spec(step(method, steps=2, lr=1e30)))
    sound = lab.run(spec())
    assert record.status == "done" and {name: score.value for name, score in record.scores.items()} == {"collapsed": 1}
    lost = set(sound.scores) - {"collapsed"}
    assert lost and {record.absent[name] for name in lost} == {BROKEN_DOWN}
    record_text(record)  # no NaN
    curve = lab.work().store.find(record.cost["nodes"][0])
    assert curve is not None and "NaN" not in (curve.path / "node.json").read_text()


@pytest.mark.parametrize("task", ["digits", "graph"])
def test_a_diverged_classifier_is_a_record_without_scores(task: str, tmp_path: Path) -> None:
    small = {"width": 4, "history_passes": 0.25, "target_passes": 0.12}
    params = registry.default_params(registry.load_task(task, "lab")) | small
    one = RunSpec(task, params, "lab", "lab", (step("ga", steps=2, lr=1e30),), 0)
    record = execute(one, Paths(), Work(Store(tmp_path), 0, {}))
    assert record.status == "done" and {name: score.value for name, score in record.scores.items()} == {"collapsed": 1}
    assert set(record.absent.values()) == {BROKEN_DOWN}
    record_text(record)


class AllBroken(dict[str, str]):
    """Every probe is broken, whatever it is called."""

    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]
        return BROKEN_DOWN

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> str:
        return BROKEN_DOWN


@pytest.mark.parametrize(
    ("task", "tier"), [(name, tier) for name, tiers in registry.components("tasks").items() for tier in tiers]
)
def test_no_metric_of_a_task_makes_a_number_of_a_wreck(task: str, tier: str) -> None:
    metrics = registry.load_task(task, tier)().metrics()
    wreck, oracles = Responses("w", {}, broken=AllBroken(x=BROKEN_DOWN)), [Responses("o", {}), Responses("p", {})]
    scored = score_all(metrics, wreck, oracles)
    assert {name: score.value for name, score in scored.scores.items()} in ({"collapsed": 1}, {})
    assert ("collapsed" in scored.scores) == any(metric.name == "collapsed" for metric in metrics)
    assert all(BROKEN_DOWN in reason for reason in scored.absent.values()), scored.absent


def test_an_oracle_with_the_targets_weights_is_a_twin_where_it_lies_elsewhere() -> None:
    """A wreck that no training changes is its own oracle; shut by its hash, the target would be shut too."""
    target = Checkpoint("t", "same")
    assert is_twin(Checkpoint("o", "same"), target)
    assert not is_twin(Checkpoint("o", "another"), target)
    assert not is_twin(Checkpoint("t", "same"), target), "the oracle's own folder stays shut"


def test_a_record_from_before_a_late_metric_is_scored_without_it(lab: Lab) -> None:
    record = lab.run(spec())
    late = {metric.name for metric in registry.load_task("tofu", "lab")().metrics() if metric.late}
    assert late == {"field_memorisation", "field_privacy"} <= set(record.scores)
    assert [metric.name for metric in all_metrics(record)] == list(record.metrics)
    older = replace(record, metrics={name: about for name, about in record.metrics.items() if name not in late})
    assert [metric.name for metric in all_metrics(older)] == list(older.metrics)
    assert not late & with_versions(spec()).versions.keys(), "runs keep their keys"
