"""Paths, and the setting that a task is prepared on: what comes from outside, and the spec's hashes beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.compute import Compute
from bench.core.errors import UserError
from bench.core.record import RunSpec, Step
from bench.runs.setting import Paths, build_setting, spec_from_file, task_of_spec
from tasks.tofu import LabTofu

OUTSIDE = Paths("m", "d", "l", "h", "t", ("o1", "o2"))
SPEC = RunSpec(
    "tofu",
    {"authors": 12},
    "real",
    "some/model",
    (Step("npo", {"lr": 0.1}),),
    3,
    data="hub",
    hashes={"model": "hm", "target": "ht", "oracle-0": "h0", "oracle-1": "h1"},
    compute=Compute(dtype="bfloat16"),
)


def test_paths_come_back_from_json() -> None:
    assert Paths.from_json(json.loads(json.dumps(vars(OUTSIDE)))) == OUTSIDE
    assert Paths.from_json({}) == Paths() and Paths().folders() == []
    assert OUTSIDE.folders() == ["m", "d", "l", "h", "t", "o1", "o2"]


def test_what_was_trained_elsewhere_has_its_hash_its_label_and_the_runs_dtype() -> None:
    found = build_setting(SPEC, OUTSIDE)
    assert (found.tier, found.model, found.model_path, found.model_hash) == ("real", "some/model", "m", "hm")
    assert (found.data, found.history, found.dtype) == ("d", "h", "bfloat16")
    assert found.target is not None
    given = [(each.path, each.hash, each.label, each.dtype) for each in (found.target, *found.oracles)]
    assert given == [
        ("t", "ht", "target", "bfloat16"),
        ("o1", "h0", "oracle-0", "bfloat16"),
        ("o2", "h1", "oracle-1", "bfloat16"),
    ]
    assert (found.before.path, found.before.hash) == ("m", "hm")


def test_the_lab_has_nothing_from_outside() -> None:
    found = build_setting(RunSpec("tofu", {}, "lab", "lab", (), 0), Paths())
    assert found.tier == "lab" and found.target is None and found.oracles == () and found.dtype == "float32"


def test_the_task_has_the_specs_parameters() -> None:
    assert task_of_spec(replace(SPEC, tier="lab")) == LabTofu(authors=12)


def test_a_spec_comes_back_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"spec": SPEC.to_json(), "paths": vars(OUTSIDE)}))
    spec, paths = spec_from_file(file)
    assert spec == SPEC and spec.key == SPEC.key and paths == OUTSIDE
    file.write_text(json.dumps({"spec": SPEC.to_json()}))
    assert spec_from_file(file) == (SPEC, Paths())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"spec": {"task": "tofu"}}', '{"spec": 3}'])
def test_a_file_that_is_no_spec_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(text)
    with pytest.raises(UserError, match=r"'spec.json' is not a run's spec: ") as caught:
        spec_from_file(tmp_path / "spec.json")
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'nosuch.json' is not a run's spec"):
        spec_from_file(tmp_path / "nosuch.json")
