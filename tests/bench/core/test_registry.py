from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry
from bench.core.errors import UserError
from tests.processes import plug_in


@dataclass(frozen=True)
class Sample:
    """A parameter of each kind."""

    steps: int = 60
    lr: float = 1e-4
    per_token: bool = False
    retain: str = "all"

    def problems(self) -> list[str]:
        return ["sample.retain is 'all'."] if self.retain != "all" else []


def test_a_name_is_a_class() -> None:
    from methods.msa import MSA
    from tasks.tofu import LabTofu, RealTofu

    assert registry.load_component("methods", "msa") is MSA
    assert registry.load_task("tofu", "lab") is LabTofu and registry.load_task("tofu", "real") is RealTofu


def test_an_unknown_name_is_told_with_the_nearest_and_all() -> None:
    with pytest.raises(UserError) as told:
        registry.load_component("methods", "task-aritmetic")
    [sentence] = told.value.problems
    assert sentence.startswith(
        "Unknown method 'task-aritmetic'. Did you mean 'task-arithmetic'? Known: before, finetune, ga,"
    )
    assert "python -m bench ls methods" in sentence


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "12", 12),
        ("lr", "2e-4", 0.0002),
        ("lr", "1", 1.0),
        ("per_token", "true", True),
        ("per_token", "No", False),
        ("per_token", "1", True),
        ("retain", "forget", "forget"),
    ],
)
def test_texts_become_values_of_the_defaults_type(name: str, text: str, value: Any) -> None:
    found = registry.convert_param(Sample, name, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("steps", "1.5"), ("steps", ""), ("lr", "fast"), ("lr", "nan"), ("lr", "-inf"), ("per_token", "2")],
)
def test_other_texts_are_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        registry.convert_param(Sample, name, text)


def test_bounds_are_the_shared_ones_and_the_components_own() -> None:
    assert registry.check_bounds(Sample, registry.default_params(Sample)) == []
    bad = {"steps": 0, "lr": 0.0, "per_token": False, "retain": "some"}
    assert registry.check_bounds(Sample, bad, "sample") == [
        "sample.steps must be at least 1, not 0.",
        "sample.lr must be above 0, not 0.0.",
        "sample.retain is 'all'.",
    ]


def test_plug_ins_add_names_and_take_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registry.components("methods")
    plug_in(
        tmp_path,
        "from bench.api import Method\nclass Mine(Method): pass\nclass Other: pass\n",
        {"mine": "Mine", "msa": "Mine"},
        "mining",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = registry.components("methods")
    assert found == before | {"mine": "mining:Mine"} and found["msa"] == "methods.msa:MSA"
    assert registry.load_component("methods", "mine").__module__ == "mining"


def test_a_plug_in_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, "", {"gone": "Gone"}, "left")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"The plug-in for 'gone' \(left:Gone\) can't be loaded"):
        registry.load_component("methods", "gone")
