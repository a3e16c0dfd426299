"""What a record's fields may hold: strict kinds, finite numbers, names that stay inside of the results folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import Record, Score, Step
from bench.core.schema import LONGEST_NAME, MOST, read_as
from tests.factories import record
from tests.processes import environment


def told(change: Callable[[Any], Any]) -> Any:
    """A sound record's JSON with a change in it, and the key that its spec has."""
    data = json.loads(json.dumps(record("msa", 1).to_json()))
    change(data)
    return data


WRONG: dict[str, Callable[[Any], Any]] = {
    "label": lambda data: data.update(label=None),
    "status": lambda data: data.update(status="fine"),
    "scores.kl_forget.low": lambda data: data["scores"]["kl_forget"].update(low="small"),
    "scores.kl_forget": lambda data: data["scores"]["kl_forget"].update(low=None),
    "scores.kl_forget.n": lambda data: data["scores"]["kl_forget"].update(n=1.5),
    "scores.kl_forget.value": lambda data: data["scores"]["kl_forget"].update(value=True),
    "scores.kl_forget.unit": lambda data: data["scores"]["kl_forget"].pop("unit"),
    "metrics.kl_forget": lambda data: data["metrics"].pop("kl_forget"),
    "metrics.kl_forget.goal": lambda data: data["metrics"]["kl_forget"].update(goal="sideways"),
    "floors.x": lambda data: data.update(floors={"x": "1"}),
    "facts.headline": lambda data: data["facts"].update(headline="acc"),
    "facts.oracle_values.a": lambda data: data["facts"].update(oracle_values={"a": 1}),
    "lineage.responses": lambda data: data["lineage"].update(responses="../../secret"),
    "cost.seconds.method": lambda data: data["cost"]["seconds"].update(method="long"),
    "provenance.dirty": lambda data: data["provenance"].update(dirty="no"),
    "spec.seed": lambda data: data["spec"].update(seed="1"),
    "spec.steps.0.params": lambda data: data["spec"]["steps"][0].update(params=[]),
    "spec.compute.lora": lambda data: data["spec"]["compute"].update(lora="8"),
    "spec.unknown": lambda data: data["spec"].update(unknown=1),
    "unknown": lambda data: data.update(unknown=1),
    "absent": lambda data: data.pop("absent"),
}


@pytest.mark.parametrize("field", WRONG)
def test_what_is_not_as_declared_is_named_with_its_field_in_one_line(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field.replace('.', '[.]')}[.:a-z]*") as error:
        Record.from_json(told(WRONG[field]))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_numbers_are_kept_as_they_were_told_and_members_in_their_order() -> None:
    data = told(lambda data: data.update(cost={"seconds": {"method": 0, "measure": 1.0}, "bytes_stored": 7}))
    made = Record.from_json(data)
    assert json.dumps(made.to_json()["cost"]) == json.dumps(data["cost"])
    assert Score(0.5, 3) == read_as(Score, {"value": 0.5, "n": 3, "low": None, "high": None, "unit": ""})


def test_a_number_beyond_all_reckoning_is_none() -> None:
    for value in (2 * MOST, -2 * MOST, 10**400):
        with pytest.raises(ValueError, match=r"^scores\.kl_forget\.value: "):
            Record.from_json(told(lambda data, value=value: data["scores"]["kl_forget"].update(value=value)))


@pytest.mark.parametrize(
    "change",
    [
        {"tier": ".."},
        {"tier": ""},
        {"task": "a/b"},
        {"task": "/etc"},
        {"model": ".hidden"},
        {"model": "a\\b"},
        {"model": "a\0b"},
        {"model": "a\u202eb"},
        {"model": "x" * (LONGEST_NAME + 1)},
        {"steps": (Step("../up", {}),)},
    ],
)
def test_no_name_leads_out_of_the_results_folder(change: dict[str, Any]) -> None:
    one = record("npo", 0)
    wrong = replace(one, spec=replace(one.spec, **change))
    with pytest.raises(ValueError, match="it names itself"):
        assert wrong.name
    with pytest.raises(ValueError, match="it names itself"):
        Record.from_json(json.loads(json.dumps(wrong.to_json())))


def test_a_hub_id_is_a_folders_name() -> None:
    one = record("npo", 0)
    assert "/owner--name/" in replace(one, spec=replace(one.spec, model="owner/name")).name


def test_help_needs_no_schema() -> None:
    code = (
        "import sys, bench.cli.app; print([name for name in ('pydantic', 'bench.core.record') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
