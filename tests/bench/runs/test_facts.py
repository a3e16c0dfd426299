"""What stands beside the scores of a record: theta_0, notes, floors, FLOPs, and whose settings they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry
from bench.core.contracts import Metric, Node
from bench.core.provenance import get_instruction_set
from bench.core.record import Record, Score, Step
from bench.core.types import Checkpoint, Responses
from bench.engines.arithmetic.sums import distance, relative_distance
from bench.runs.context import Work
from bench.runs.facts import (
    count_oracle_tokens,
    diverged_stages,
    has_diverged,
    merged_provenance,
    method_flops,
    node_of,
    noise_floors,
    oracle_values,
    source_of,
    stages_of,
    trace_lineage,
)
from bench.runs.method_context import Ledger
from bench.runs.runner import prepare
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.lab_runs import MSA, Lab, spec, step

NPO = step("npo", steps=2, lr=1e-2)


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
    assert record.facts["displacement"] == relative_distance(moments[4].checkpoint, target) > 0
    assert 0 <= record.facts["about"]["same_answer"] <= record.facts["about"]["same_word"] <= 1


def test_a_record_says_what_one_retraining_takes(lab: Lab) -> None:
    """From theta_0 the oracle's own tokens, which its row pays; from nothing those of the pretraining too."""
    record, oracle = lab.run(spec(MSA)), lab.run(spec(step("retrain")))
    said, last = oracle.cost["oracle_tokens"], lab.moments()[-1]
    assert said == record.cost["oracle_tokens"] and last.tokens
    assert said["from_theta_0"] == oracle.cost["tokens_trained"] > 0
    assert said["from_nothing"] == said["from_theta_0"] + last.tokens


def test_a_later_training_is_part_of_the_retraining(lab: Lab) -> None:
    params = dict(spec().task_params) | {"gap_steps": 2, "later": 2}
    work = lab.work()
    scenario = prepare(replace(spec(), task_params=params), Paths(), work)
    stages = stages_of(scenario.oracles[0](), scenario, work)
    assert len(stages) == 2 and stages[1].info["label"] == "oracle-0"
    own = sum(node.info["meta"]["tokens"] for node in stages)
    assert count_oracle_tokens(scenario, scenario.oracles[0](), work)["oracle_tokens"]["from_theta_0"] == own
    assert count_oracle_tokens(scenario, Checkpoint("/elsewhere", "theirs"), work) == {}


def test_a_second_run_trains_in_another_order_from_the_same_target(lab: Lab) -> None:
    first, again = lab.run(spec(NPO)), lab.run(spec(replace(NPO), order=1))
    assert again.spec.order == 1 and again.spec.method == "npo" and again.name != first.name
    assert again.lineage["target"] == first.lineage["target"] and again.lineage["oracles"] == first.lineage["oracles"]
    assert again.lineage["result"] != first.lineage["result"]
    assert again.cost["tokens_trained"] > 0 and "order" not in first.spec.to_json()


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


def metric(name: str, goal: str | float, needs_oracle: bool = False) -> Metric:
    """A score that is the only number of the responses."""
    return Metric(name, lambda found, others: Score(found.rows["p"]["x"]["value"], 1), goal, needs_oracle=needs_oracle)


def answers(value: float) -> Responses:
    return Responses(f"oracle {value}", {"p": {"x": {"value": value}}}, 0.0)


def test_floors_by_hand() -> None:
    """Three oracles at .1, .2 and .4 lie .1, .3 and .2 apart: .2 on average. Of what compares with the oracle the ideal
    counts: 0 for a divergence (mean of the three: .7 / 3), 1 for a p-value (.9, .8, .6), 5 for a score that should be 5.
    """
    asked = [
        metric("accuracy", "up"),
        metric("loss", "oracle", needs_oracle=True),
        metric("kl", "down", needs_oracle=True),
        metric("p_value", "up", needs_oracle=True),
        metric("five", 5.0, needs_oracle=True),
    ]
    values = oracle_values(asked, [answers(value) for value in (0.1, 0.2, 0.4)])
    assert values == {each.name: [0.1, 0.2, 0.4] for each in asked}
    assert noise_floors(asked, values) == {
        "accuracy": pytest.approx(0.2),
        "loss": pytest.approx(0.2),
        "kl": pytest.approx(0.7 / 3),
        "p_value": pytest.approx(2.3 / 3),
        "five": pytest.approx(14.3 / 3),
    }
    assert noise_floors(asked, {"kl": [0.3]}) == {}, "one oracle alone says nothing"


def test_whose_settings_they_are() -> None:
    """NPO's default, a preset by its name, and a number of the user's own."""
    chosen = registry.load_component("methods", "npo")
    name, preset = next(iter(chosen.presets.items()))
    default = registry.default_params(chosen)
    assert source_of(Step("npo", default | dict(preset.params)), spec()) == f"{name}: {preset.source}"
    assert source_of(Step("npo", default | {"lr": 0.123}), spec()) == "set by the user"
    assert source_of(step("retrain"), spec()) == "defaults"


def test_a_preset_that_places_share_is_called_by_this_places_name() -> None:
    """MSA's `official` is the same on tofu and on restor, whose table takes the other's."""
    kind = registry.load_component("methods", "msa")
    made = Step("msa", registry.default_params(kind) | dict(kind.presets["lab-tofu-official"].params))
    assert kind.presets["lab-restor-official"] == kind.presets["lab-tofu-official"]
    for task in ("tofu", "restor"):
        assert source_of(made, replace(spec(), task=task)).startswith(f"lab-{task}-official: ")


def trained_node(work: Work, label: str, provenance: Any) -> Checkpoint:
    """A checkpoint that is a node of the store, made by such code."""
    node = replace(work, provenance=provenance).node({"kind": label}, lambda folder: {}, label)
    return Checkpoint(str(node.path), label)


def test_what_was_trained_elsewhere_is_told(lab: Lab, tmp_path: Path) -> None:
    work = Work(Store(tmp_path / "store"), seed=0, provenance={})
    ours = trained_node(work, "target", {})
    moment = replace(ours, path=f"{ours.path}/step-000002", hash="moment")
    theirs = Checkpoint(str(tmp_path / "downloaded"), "theirs")
    assert node_of(ours, work) == node_of(moment, work) != "", "a moment of a training run lies in its node"
    assert node_of(theirs, work) == ""
    scenario = lab.scenario()
    ledger = Ledger(set(), set())
    assert "outside" not in trace_lineage(scenario, ours, [moment], ledger, work)
    assert trace_lineage(scenario, ours, [moment, theirs], ledger, work)["outside"] == ["theirs"]


def test_one_stage_by_changed_code_makes_a_record_dirty(tmp_path: Path) -> None:
    clean = {"commit": "b", "dirty": False, "device": "cpu"}
    work = Work(Store(tmp_path), seed=0, provenance=clean)
    trained_node(work, "target", {"commit": "a", "dirty": False, "device": "cuda", "instruction_set": "NEON"})
    made = clean | {"commits": ["a", "b"], "devices": ["cpu", "cuda"]}
    here = get_instruction_set()["instruction_set"]
    sets = {"instruction_set": here, "instruction_sets": sorted([here, "NEON"])}
    found = merged_provenance(work)
    assert found.pop("finished") and found == made | sets
    trained_node(work, "oracle-0", {"commit": "a", "dirty": True, "device": "cpu"})
    assert merged_provenance(work)["dirty"] is True
    assert merged_provenance(Work(Store(tmp_path), 0, {}))["dirty"] is True, "unknown isn't clean"


def test_flops_of_a_method_by_hand(tmp_path: Path) -> None:
    """70 + 30 tokens at 6 each make 600; a sum of 3 terms over 11 parameters, 2 an entry, 66; the count itself nothing."""
    work = Work(Store(tmp_path), seed=0, provenance={})
    trained = {"checkpoint": "0" * 64}
    terms = [[1.0, "x"], [-0.5, "y"], [0.25, "z"]]
    own = [
        work.node({"kind": "train", "start": "a"}, lambda folder: trained | {"tokens": 70}, "theta_1"),
        work.node({"kind": "train", "start": "b"}, lambda folder: trained | {"tokens": 30}, "theta_2"),
        work.node({"kind": "combine", "terms": terms}, lambda folder: trained, "sum"),
    ]
    counted = {"training_per_token": 6, "forward_per_token": 2, "parameters": 11, "version": 1}
    assert method_flops(own, counted) == {
        "training": 600,
        "arithmetic": 66,
        "forward_per_token": 2,
        "training_per_token": 6,
        "parameters": 11,
    }


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([2.0, 1.0], False),
        ([], False),
        ([-800.0], False),
        ([2.0, None], True),
        ([float("nan")], True),
        ([-1e5, 3.0], True),
    ],
)
def test_a_loss_that_is_no_number_or_exploded_is_a_divergence(losses: list[float | None], diverged: bool) -> None:
    assert has_diverged([{"step": i, "loss": loss} for i, loss in enumerate(losses)]) == diverged


def test_the_trainings_that_diverged_are_a_fact(tmp_path: Path) -> None:
    """Of the method's own nodes, and of the target where it is its own result; nothing for others."""
    work = Work(Store(tmp_path), seed=0, provenance={})

    def made(label: str, loss: float | None) -> tuple[Node, Checkpoint]:
        fields = {"kind": f"trained {label}"}
        node = work.node(fields, lambda folder: {"curve": [{"step": 1, "loss": loss}]}, label)
        return node, Checkpoint(str(node.path), label)

    target, wreck, fine = made("target", None), made("msa", None), made("npo", 1.0)
    assert diverged_stages([wreck[0], fine[0]], fine[1], work) == {"diverged": ["msa"]}
    assert diverged_stages([], target[1], work) == {"diverged": ["target"]}
    assert diverged_stages([fine[0]], fine[1], work) == {}
