"""Runs inside this process: where they begin, what a lean one leaves out, and what a record says of theta_0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry
from bench.core.contracts import Scenario
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Moment, Responses, Validation
from bench.engines.arithmetic.sums import distance
from bench.runs.context import Work
from bench.runs.runner import LEFT_OUT, execute, prepare
from bench.runs.setting import Paths
from bench.runs.store import Store
from bench.runs.validate import signals, validate
from tests.tiny import qa

SMALL = {"authors": 10, "width": 16, "history_steps": 4, "target_steps": 4}


def step(method: str, **params: Any) -> Step:
    return Step(method, registry.defaults(registry.load("methods", method)) | params)


def spec(*steps: Step, **fields: Any) -> RunSpec:
    params = registry.defaults(registry.load_task("tofu", "lab")) | SMALL
    return RunSpec("tofu", params, "lab", "lab", steps, 0, **{"lean": True, **fields})


class Lab:
    """One store for every run of this file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, Record] = {}

    def work(self) -> Work:
        return Work(Store(self.root), seed=0, provenance={})

    def run(self, one: RunSpec) -> Record:
        """Its record, made once."""
        if one.key not in self.known:
            self.known[one.key] = execute(one, Paths(), self.work())
        return self.known[one.key]

    def scenario(self) -> Scenario:
        return prepare(spec(), Paths(), self.work())

    def moments(self) -> tuple[Moment, ...]:
        history = self.scenario().history
        assert history is not None
        return history().moments


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


MSA = step("msa", before="age=0.5", steps=2)
STILL = step("finetune", steps=1, lr=1e-12)
"""Training that changes nothing to speak of."""


# --- lean


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


# --- where a run begins


@pytest.mark.parametrize(("start", "which"), [("last-before-exposure", 4), ("age=0", 0), ("step=2", 2)])
def test_a_run_begins_at_the_checkpoint_that_its_spec_names(lab: Lab, start: str, which: int) -> None:
    work = lab.work()
    made = validate(spec(step("finetune", steps=2), start=start), Paths(), work)
    assert made["seed"] == 0
    [node] = [node for node in work.nodes.values() if node.info["label"] == "theta_1"]
    assert node.info["fields"]["start"] == lab.moments()[which].checkpoint.hash


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


# --- what the record says


def test_a_record_says_which_theta_0_and_how_far_away(lab: Lab) -> None:
    """4 steps of pretraining with a checkpoint after each: half of the way is step 2, two steps before exposure."""
    record = lab.run(spec(MSA))
    moments, target = lab.moments(), lab.scenario().target()
    assert [moment.step for moment in moments] == [0, 1, 2, 3, 4]
    said = record.facts["theta_0"]
    assert {key: said[key] for key in ("which", "step", "stage", "steps_before", "age", "exposed")} == {
        "which": "history-2",
        "step": 2,
        "stage": "pretraining",
        "steps_before": 2,
        "age": 0.5,
        "exposed": False,
    }
    assert said["tokens"] == moments[2].tokens and said["tokens_before"] == moments[4].tokens - moments[2].tokens > 0  # type: ignore[operator]
    chosen = moments[2].checkpoint
    assert said["distance_to_target"] == distance(chosen, target) > 0
    assert said["distance_to_last"] == distance(chosen, moments[4].checkpoint) > 0
    assert record.lineage["history_used"] == [chosen.hash]
    assert "notes" not in record.facts


def test_notes_of_a_method_land_in_its_record(lab: Lab) -> None:
    """The influence weights look at the last checkpoint too; theta_0 is the one that the vectors begin at."""
    record = lab.run(spec(replace(MSA, params={**MSA.params, "weights": "fisher"})))
    notes = record.facts["notes"]["influence"]
    assert 0 < notes["mean"] < 2 and notes["bytes"] > 0
    assert record.facts["theta_0"]["step"] == 2 and len(record.lineage["history_used"]) == 2
    assert Record.from_json(record.to_json()).facts == record.facts
    assert any(label.startswith("influence") for label in record.cost["stages"])


def test_the_official_recipes_rounding_lands_there_too(lab: Lab) -> None:
    record = lab.run(spec(step("msa", recipe="official", lr=2e-4)))
    assert set(record.facts["notes"]) == {"rounding"} and 0 < record.facts["notes"]["rounding"]["unchanged"] <= 1


# --- what other rules may look at


def test_the_signals_of_the_checkpoint_itself_are_theta_0s(lab: Lab) -> None:
    """Nothing to speak of is learnt from theta_0, so that its loss on the forget rows is the loss; not so at the target."""
    rewound = validate(spec(STILL, start="last-before-exposure"), Paths(), lab.work())["signals"]
    assert rewound["forget_loss"] == pytest.approx(rewound["theta_0_forget_loss"], abs=1e-5)
    there = validate(spec(STILL), Paths(), lab.work())["signals"]
    assert there["theta_0_forget_loss"] == rewound["theta_0_forget_loss"]
    assert there["forget_loss"] < rewound["forget_loss"] - 0.01, "the target has seen them"


def test_signals_by_hand(lab: Lab) -> None:
    """Losses 1 and 3 of forget rows, 2 and 4 of never-trained ones: mean 2; of 4 pairs the forget row's is lower in 3."""
    held = Validation((qa(0, "a", "b"), qa(1, "a", "b")), (), (), (qa(2, "a", "b"), qa(3, "a", "b")))
    rows = {
        "validation_forget": {"row-0": [-0.5, -1.5], "row-1": [-3.0]},
        "validation_unseen": {"row-2": [-2.0], "row-3": [-4.0, -4.0, -4.0]},
    }
    found = Responses(
        "x",
        {side: {name: {"answer": [{"logp": logp}]} for name, logp in each.items()} for side, each in rows.items()},
        0.0,
    )
    alone = replace(lab.scenario(), history=None, validation=held)
    assert signals(found, alone, lab.work()) == {"forget_loss": 2.0, "auc": 0.75}
