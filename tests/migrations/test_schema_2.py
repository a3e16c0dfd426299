"""A record of schema 1 becomes the record that today's spec makes, and is refused until then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import Record
from bench.core.types import Json
from bench.records.files import load_records, read_record, write_record
from bench.runs.asked import Asked
from bench.runs.plan import make_plan
from tests.factories import record
from tests.migrations.schema_2 import UNSAID, migrate, renewed_record, renewed_study

REAL_OF_TOFU = {"questions": 10, "epochs": 5, "lr": 1e-4, "batch": 8, "oracles": 2, "probed": 40, "judge": "similarity"}
"""What specs of the lab said of the real tier."""


def of_schema_1(new: Record, also: dict[str, Any], unsaid: tuple[str, ...] = ()) -> Json:
    """The record as schema 1 wrote it: with the other tier's parameters, and without some at their default."""
    data = new.to_json()
    spec = {name: value for name, value in data["spec"].items() if value != UNSAID.get(name, ...)}
    spec["task_params"] = {k: v for k, v in spec["task_params"].items() if k not in unsaid} | also
    return {**data, "schema": 1, "spec": spec | {"key": "0" * 16}}


@pytest.fixture
def planned(tmp_path: Path) -> Record:
    """A record of tofu's lab with the spec that a command makes of it today."""
    plan = make_plan(Asked("tofu", ("ga",), seeds=(0,)), Machine(tmp_path / "out", tmp_path / "store"))
    return replace(record(), spec=plan.entries[-1].spec)


def test_the_renewed_record_is_todays(planned: Record) -> None:
    assert renewed_record(of_schema_1(planned, REAL_OF_TOFU)) == planned.to_json()


def test_what_the_real_tier_left_unsaid_is_said(planned: Record) -> None:
    from bench.core import registry

    params = registry.default_params(registry.load_task("tofu", "real")) | {"authors": 20}
    real = replace(planned, spec=replace(planned.spec, tier="real", model="m", task_params=params, kinds=("logprob",)))
    old = of_schema_1(real, {"width": 192, "history_steps": 640, "gap_steps": 0}, ("split", "recipe", "template"))
    assert "compute" not in old["spec"] and old["spec"]["kinds"] == ["logprob"]
    assert renewed_record(old) == real.to_json()


def test_what_an_imported_record_says_of_its_split_stays(planned: Record) -> None:
    spec = replace(planned.spec, tier="real", task_params={"split": "forget10"}, hashes={"imported": "x"})
    imported = replace(planned, spec=spec)
    assert renewed_record(of_schema_1(imported, {})) == imported.to_json()


def test_a_parameter_that_no_tier_has_is_not_dropped_in_silence(planned: Record) -> None:
    with pytest.raises(AssertionError, match="tofu has no parameters .'depth'."):
        renewed_record(of_schema_1(planned, {"depth": 2}))


def test_a_folder_is_refused_and_then_renewed(planned: Record, tmp_path: Path) -> None:
    old = tmp_path / "runs" / "lab" / "tofu" / "lab" / f"ga-{'0' * 16}.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps(of_schema_1(planned, REAL_OF_TOFU)))
    with pytest.raises(
        UserError, match="schema 1, and `python -m tests.migrations.schema_2 FOLDER` renews.*checkout of the repo"
    ):
        read_record(old)
    assert [broken.path for broken in load_records(tmp_path / "runs").broken] == [f"lab/tofu/lab/{old.name}"]
    assert migrate(tmp_path / "runs") == 1 and migrate(tmp_path / "runs") == 0
    assert not old.exists() and load_records(tmp_path / "runs").records == [planned]
    assert write_record(planned, tmp_path / "again").read_text() == (tmp_path / "runs" / planned.name).read_text()


def test_a_study_is_renewed_with_its_place(planned: Record) -> None:
    place = {"task": "tofu", "tier": "lab", "model": "lab", "params": dict(planned.spec.task_params)}
    finding = {"at": {}, "seed": 0, "chosen": {}, "tried": []}
    new = {"kind": "ablation", "place": place, "findings": [{**finding, "record": planned.to_json()}]}
    old_place = {**place, "params": {**planned.spec.task_params, **REAL_OF_TOFU}}
    old_finding = {**finding, "record": of_schema_1(planned, REAL_OF_TOFU)}
    assert renewed_study({"kind": "ablation", "place": old_place, "findings": [old_finding]}) == new
