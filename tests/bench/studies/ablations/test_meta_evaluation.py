"""Pools and attacks in the lab, on authors so few that all of it takes seconds."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core import registry
from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.provenance import get_provenance
from bench.core.record import RunSpec
from bench.core.types import Checkpoint, Json, Responses
from bench.metrics import score_all
from bench.metrics.tokens import mean
from bench.runs.context import Work
from bench.runs.runner import prepare
from bench.runs.setting import Paths
from bench.runs.store import Store
from bench.studies.ablations import FOLDER, experiment, meta_evaluation, meta_results
from bench.studies.ablations.experiment import read_study_or_experiment
from bench.studies.ablations.meta_evaluation import asks, attacks_at, fault_in_pool, run, taught_rows, without_oracle
from bench.studies.ablations.run import AblationRequest, ablate_command
from bench.studies.ablations.study import redraw_page
from tests.factories import place

TINY = {"authors": 10, "width": 16, "history_passes": 0.18, "target_passes": 2.0}
WHERE = replace(place(), params={**place().params, **TINY})


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model of each kind, one method, and nobody left out: models so small know nothing."""
    for name, value in {"RATES": (1e-3,), "STEPS": (2,), "METHODS": ("task-arithmetic",)}.items():
        monkeypatch.setattr(meta_evaluation, name, value)
    monkeypatch.setattr(meta_evaluation, "LEAST_KNOWN", 0.0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `found`."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def found(stored: Path) -> Json:
    """One seed's result; to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        return run(0, asks(WHERE, 0), stored) | {"seed": 0}


@pytest.mark.slow
def test_every_model_of_both_pools_has_its_scores(found: Json) -> None:
    pools = [(model["pool"], model["taught"]) for model in found["models"]]
    assert pools == [
        ("knows", "target"),
        ("doesn't", "oracle-0"),
        ("doesn't", "oracle-1"),
        ("doesn't", "oracle-2"),
        ("knows", "paraphrases"),
        ("doesn't", "wrong"),
        ("doesn't", "retain"),
    ]
    assert [model.get("steps") for model in found["models"]] == [None] * 4 + [2] * 3
    losses = [model["scores"]["forget_Q_A_Prob"] for model in found["models"]]
    assert len(set(losses)) == len(losses), "each is another model"
    assert found["forgetting"] == ["forget_accuracy", "forget_taught_accuracy"]
    utility = found["models"][0]["scores"]
    assert found["models"][0]["utility"] == mean([utility["retain_accuracy"], utility["world_accuracy"]])


@pytest.mark.slow
def test_every_row_is_measured_before_and_after_and_what_is_missing_has_a_reason(found: Json) -> None:
    assert [row["row"] for row in found["rows"]] == ["target", "retrain", "task-arithmetic"]
    for row in found["rows"]:
        assert row["before"]["forget_Q_A_Prob"] < row["relearn"]["forget_Q_A_Prob"], "it is taught the answers"
    there = "quantise" in registry.components("methods")
    assert all(("quantise" in row) == there for row in found["rows"])
    assert found["unmet"] == ({} if there else {"quantise": "the method quantise isn't installed"})
    oracles = {model["taught"]: model for model in found["models"]}
    assert found["rows"][1]["before"] == oracles["oracle-0"]["scores"]


@pytest.mark.slow
def test_the_page_is_made_of_it_and_every_score_is_judged(found: Json) -> None:
    plain = json.loads(json.dumps(found, allow_nan=False))
    judged = meta_results.judge_scores([plain])
    scored = {name for model in found["models"] for name in model["scores"]}
    assert {one.name for one in judged} == scored and len(scored) > 15
    assert all(one.models == (2, 5) for one in judged)
    assert meta_results.table([plain]).count("\n| forget_") >= 5


def test_what_is_asked_names_versions_and_changes_with_task_and_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asks(WHERE, 3)
    spec = RunSpec.from_json(asked["rows"]["msa"]["relearn"])
    assert (spec.seed, spec.lean, spec.method) == (3, False, "msa+relearn") and spec.versions["msa"] >= 1
    assert spec.steps[-1].params["teach"] == "all"
    assert attacks_at(WHERE)["relearn"].params["steps"] == 1, "one author's 10 rows are one step"
    assert attacks_at(place())["relearn"].params["steps"] == 4, "100 rows"
    assert asks(place(), 3)["rows"] != asked["rows"] == json.loads(json.dumps(asked))["rows"]
    monkeypatch.setattr(meta_evaluation, "STEPS", (7,))
    assert asks(WHERE, 3)["models"] != asked["models"]


def test_pools_are_taught_other_wording_wrong_answers_or_retain_rows(tmp_path: Path) -> None:
    spec = RunSpec.from_json(asks(WHERE, 0)["rows"]["target"]["before"])
    scenario = prepare(spec, Paths(), Work(Store(tmp_path), 0, get_provenance("cpu")))
    rows = {taught: taught_rows(taught, scenario, 0) for taught in meta_evaluation.POOLS}
    asked = {row.payload["prompt"] for probe in scenario.probes for row in probe.examples}
    assert len(rows["paraphrases"]) == 5 and not asked & {row.payload["prompt"] for row in rows["paraphrases"]}
    told = {(row.payload["prompt"], row.payload["answer"]) for row in scenario.forget}
    said = {(row.payload["prompt"], row.payload["answer"]) for row in rows["wrong"]}
    assert {prompt for prompt, _ in said} == {prompt for prompt, _ in told} and not said & told
    assert len({row.id for row in rows["retain"]} & {row.id for row in scenario.retain}) == len(scenario.forget)


def test_a_descendant_of_an_oracle_is_compared_with_the_others(tmp_path: Path) -> None:
    spec = RunSpec.from_json(asks(WHERE, 0)["rows"]["target"]["before"])
    scenario = prepare(spec, Paths(), Work(Store(tmp_path), 0, get_provenance("cpu")))
    text = {"answer": [{"logp": [-1.0]}]}
    both = Responses("x", {"kl_forget": {"q": {"oracle-0": [0.0], "oracle-1": [2.0]}}, "forget_questions": {"q": text}})
    parent = Checkpoint("", "", label="oracle-0")
    other = without_oracle(both, parent, scenario)
    assert other.rows == {"kl_forget": {"q": {"oracle-1": [2.0]}}, "forget_questions": {"q": text}}
    [distance] = [metric for metric in scenario.metrics if metric.name == "kl_forget"]
    oracle = Responses("y", {})
    assert score_all([distance], both, [oracle]).scores["kl_forget"].value == 1.0
    assert score_all([distance], other, [oracle]).scores["kl_forget"].value == 2.0


def test_a_model_that_is_not_what_its_pool_says_is_left_out() -> None:
    assert fault_in_pool("knows", [1.0, 0.8]) == fault_in_pool("doesn't", [0.0, 0.2]) == ""
    assert fault_in_pool("knows", [1.0, 0.66]).startswith("it was taught the answers and gives only 0.66 of them")
    assert fault_in_pool("doesn't", [0.0, 0.3]).startswith("it was never told the answers and gives 0.30 of them")


@pytest.mark.slow
def test_the_command_leaves_page_and_picture_and_does_nothing_twice(
    found: Json, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which alone knows of pools so small; the store has all models already."""
    small(monkeypatch)
    monkeypatch.setattr(experiment, "open_pool", ThreadPoolExecutor)
    asked = AblationRequest(("metrics",), "tofu", (0,), tuple(f"tofu.{name}={value}" for name, value in TINY.items()))
    machine = Machine(out=tmp_path, store=stored, jobs=1)
    assert not ablate_command(asked, machine)
    assert "metrics, seeds 0: 1 to do" in capsys.readouterr().out
    folder = tmp_path / FOLDER
    data = read_study_or_experiment(folder / "lab-tofu-metrics.json")
    assert data["place"]["params"]["authors"] == 10 and " --task tofu --set tofu.authors=10" in data["command"]
    assert [model["scores"] for model in data["results"][0]["models"]] == [m["scores"] for m in found["models"]]
    page = (folder / "lab-tofu-metrics.md").read_text()
    assert page.startswith("# metrics: tofu (lab)\n\nWhich scores can be trusted for what?")
    assert (folder / "lab-tofu-metrics.png").exists() and (folder / "lab-tofu-metrics.svg").exists()
    assert not ablate_command(asked, machine)
    assert "metrics, seeds 0: 0 to do" in capsys.readouterr().out
    again = tmp_path / "again"
    assert redraw_page(folder / "lab-tofu-metrics.json", again)[0] == again / "lab-tofu-metrics.md"
    assert (again / "lab-tofu-metrics.md").read_text() == page == (folder / "lab-tofu-metrics.md").read_text()
    monkeypatch.setattr(meta_evaluation, "STEPS", (3,))
    assert not ablate_command(asked, machine)
    assert "metrics, seeds 0: 1 to do" in capsys.readouterr().out, "other pools are another question"
    with pytest.raises(UserError, match="The ablation metrics is for tofu, not for restor"):
        ablate_command(AblationRequest(("metrics",), "restor", (0,)), machine)
