"""Specs and records: what decides a run's key, and what comes back from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import Record, RunSpec, Score, Step

SPECS = {
    "5aadde593543d3ae": RunSpec(
        "tofu",
        {"authors": 150, "forget_share": 0.1},
        "lab",
        "lab",
        (Step("msa", {"alpha": 1.15, "beta": 0.25}),),
        3,
        versions={"training": 1, "tofu": 2},
        study="main",
    ),
    "3479fa5f89a57bd3": RunSpec(
        "tofu",
        {"authors": 20},
        "real",
        "smollm2",
        (Step("npo", {"beta": 0.1}, "small-retain"),),
        0,
        limit=5,
        data="hub",
        hashes={"model": "ab"},
        lm_eval=("arc_easy",),
    ),
}
"""By the keys that these specs have in schema 2."""


@pytest.mark.parametrize("key", SPECS)
def test_a_spec_keeps_its_key(key: str) -> None:
    assert SPECS[key].key == key
    assert {"start", "lean", "kinds", "compute"} <= set(SPECS[key].to_json()), "every field is said"


@pytest.mark.parametrize("changed", [{"start": "age=0.5"}, {"lean": True}, {"seed": 9}, {"limit": 1}, {"order": 1}])
def test_whatever_decides_the_result_is_in_the_key(changed: dict[str, object]) -> None:
    for key, spec in SPECS.items():
        other = replace(spec, **changed)  # type: ignore[arg-type]
        assert other.key != key and set(changed) <= set(other.to_json())
        assert RunSpec.from_json(other.to_json()) == other and RunSpec.from_json(spec.to_json()) == spec
    assert replace(spec, order=1).repetition == f"{spec.repetition}, order 1" == f"seed {spec.seed}, order 1"
    assert replace(spec, study="another", data="elsewhere").key == key, "labels aren't"


def test_a_run_that_begins_elsewhere_has_a_row_of_its_own() -> None:
    spec = SPECS["5aadde593543d3ae"]
    assert spec.method == "msa" and replace(spec, lean=True).method == "msa"
    assert replace(spec, start="last-before-exposure").method == "rewound-msa"
    assert replace(spec, steps=(), start="step=3").method == "rewound-target"


def record_of(**fields: Any) -> Record:
    scores = {"acc": Score(0.5, 4, 0.25, 0.75), "p": Score(1e-9, 4, unit="nats")}
    about = {"version": 1, "goal": "up", "unit": "", "needs_oracle": False}
    metrics = dict.fromkeys(scores, about)
    return Record(SPECS["3479fa5f89a57bd3"], "done", label="tofu (real)", scores=scores, metrics=metrics, **fields)


def test_a_record_comes_back_from_json_to_the_last_bit() -> None:
    made = record_of(facts={"floor": 0.1 + 0.2}, floors={"acc": 1 / 3}, absent={"x": "why"})
    data = json.loads(json.dumps(made.to_json()))
    assert Record.from_json(data) == made and data["spec"]["key"] == made.spec.key and data["schema"] == 2
    assert data["scores"]["p"] == {"value": 1e-9, "n": 4, "low": None, "high": None, "unit": "nats"}


def test_a_record_lies_by_tier_task_model_method_and_key() -> None:
    """A hub id's stroke would make a folder of its own."""
    key = "3479fa5f89a57bd3"
    assert record_of().name == f"real/tofu/smollm2/npo@small-retain-{key}.json"
    spec = replace(SPECS[key], model="owner/name", steps=(*SPECS[key].steps, Step("repair", {})))
    assert Record(spec, "done").name == f"real/tofu/owner--name/npo@small-retain+repair-{spec.key}.json"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": 1}, "it is of schema 1, and `python -m tests.migrations.schema_2 FOLDER` renews the records"),
        ({"schema": 3}, "schema 3 where 2 is expected"),
        ({"schema": None}, "schema None where 2 is expected"),
        ({"schema": "x" * 100_000}, "^schema 'x{3,20}[.]{3}x{3,20}' where 2 is expected$"),
        ({"spec": {"seed": 8}}, "its key '3479fa5f89a57bd3' is not the hash of its spec"),
        ({"spec": {"key": "0" * 16}}, r"is not the hash of its spec \(3479fa5f89a57bd3\)"),
    ],
)
def test_what_is_no_record_of_this_schema_is_refused(change: dict[str, Any], sentence: str) -> None:
    data = json.loads(json.dumps(record_of().to_json()))
    spec = {**data["spec"], **change.get("spec", {})}
    with pytest.raises(ValueError, match=sentence):
        Record.from_json({**data, **change, "spec": spec})


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_keeps_at_least_one_example(limit: int) -> None:
    data = json.loads(json.dumps(record_of().to_json()))
    with pytest.raises(ValueError, match=r"limit.*greater than or equal to 1, and it is"):
        Record.from_json({**data, "spec": {**data["spec"], "limit": limit}})


def test_an_interval_that_ends_before_it_begins_is_refused() -> None:
    data = json.loads(json.dumps(record_of().to_json()))
    name, score = next(iter(data["scores"].items()))
    for low, high in ((0.5, 0.25), (1e-9, 0), (-1, -2.0)):
        with pytest.raises(ValueError, match=f"^scores.{name}: its interval ends at .* before it begins at"):
            Record.from_json({**data, "scores": {**data["scores"], name: {**score, "low": low, "high": high}}})
    same = {**data["scores"], name: {**score, "low": 0.5, "high": 0.5}}
    assert Record.from_json({**data, "scores": same}).scores[name].low == 0.5


def test_labels_and_the_order_of_parameters_change_no_key() -> None:
    spec = SPECS["5aadde593543d3ae"]
    turned = replace(spec, task_params=dict(reversed(spec.task_params.items())))
    assert turned.key == spec.key
    assert replace(spec, steps=(Step("msa", {"alpha": 1.15, "beta": 0.25}, "named"),)).key != spec.key
