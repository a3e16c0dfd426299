"""Attacks that ask the states: run on target, oracle and another model, each record by its own responses alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core.contracts import Scenario
from bench.core.errors import Unmet
from bench.core.record import Record, RunSpec
from bench.metrics import score_all
from bench.metrics.depth import block_means
from bench.runs import runner
from bench.runs.attacks import QUESTIONS, ask_instead
from bench.runs.responses import load_responses, measure_node
from bench.runs.runner import all_metrics, execute
from bench.runs.setting import Paths
from tests.lab_runs import Lab, spec, step

FIELDS = {"uds": "patching", "lens": "lens", "linear": "linear"}


def questioned(lab: Lab) -> Scenario:
    """The lab's scenario with its forget rows as questions."""
    scenario = lab.scenario()
    return replace(scenario, questions=scenario.forget[:30])


def attacked(lab: Lab, monkeypatch: pytest.MonkeyPatch, one: RunSpec) -> Record:
    with monkeypatch.context() as patched:
        made = ask_instead(one.attack, questioned(lab))
        patched.setattr(runner, "prepare", lambda *_: made)
        return execute(one, Paths(), lab.work())


@pytest.mark.parametrize("attack", FIELDS)
def test_each_attack_makes_ordinary_records(attack: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: attacked(lab, monkeypatch, spec(*steps, attack=attack)) for name, steps in STEPS.items()}
    (metric,) = QUESTIONS[attack].metrics
    for name, record in rows.items():
        assert record.status == "done" and record.spec.method.endswith(attack)
        assert list(record.metrics) == [metric.name] == [each.name for each in all_metrics(record)]
        assert set(record.scores) | set(record.absent) == {metric.name}, name
        found = load_responses(lab.work().store, record.lineage["responses"])
        oracles = [load_responses(lab.work().store, key) for key in record.lineage["oracle_responses"]]
        assert score_all([metric], found, oracles).scores == record.scores, "scored again from what is kept"
        (probe,) = found.rows
        if record.scores:
            assert len(block_means(found, probe, FIELDS[attack])) == 2
    if attack != "linear" and rows["target"].scores:
        assert rows["target"].scores[metric.name].value == 0.0


STEPS = {"target": (), "retrain": (step("retrain"),), "ga": (step("ga", steps=2, lr=1e-3),)}


def test_what_the_target_is_enters_the_key_of_depth_probes_alone(lab: Lab) -> None:
    scenario, work = questioned(lab), lab.work()
    target, oracles = scenario.target(), [oracle() for oracle in scenario.oracles]
    deep = measure_node(oracles[0], ask_instead("uds", scenario), oracles, None, work)
    plain = measure_node(oracles[0], scenario, oracles, None, work)
    assert deep.node.info["fields"]["target"] == target.hash and "target" not in plain.node.info["fields"]


def test_what_the_probes_need_is_said(lab: Lab) -> None:
    scenario = questioned(lab)
    with pytest.raises(
        Unmet, match="a linear probe is trained on retain questions, and this task has none of that form"
    ):
        ask_instead("linear", replace(scenario, retain=()))
    with pytest.raises(Unmet, match="it asks questions about what was to be forgotten"):
        ask_instead("uds", replace(scenario, questions=()))
    (probe,) = ask_instead("linear", scenario).probes
    forget = {row.payload["prompt"] for row in scenario.forget}
    assert probe.options["train"] and not forget & {payload["prompt"] for payload in probe.options["train"]}
