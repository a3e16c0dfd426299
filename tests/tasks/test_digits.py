"""The digits: who is asked what, every method on the small network, and mistakes that are told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.conformance import LAB, Trace, prepare_traced
from bench.core import registry
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint
from bench.core.machine import Machine
from bench.core.record import RunSpec, Step
from bench.engines.loaders import open_checkpoint
from bench.runs.asked import Asked
from bench.runs.context import Work
from bench.runs.method_context import Ledger
from bench.runs.plan import make_plan
from bench.runs.runner import unlearn
from bench.runs.store import Store
from bench.runs.validate import validate_setting
from tasks.digits import Digits
from tests.processes import bench

SMALL = {"width": 4, "history_passes": 0.25, "target_passes": 0.12}
METHODS: dict[str, dict[str, Any]] = {
    "msa": {"steps": 2, "beta": 0.25},
    "msa@fisher": {"steps": 2, "weights": "fisher"},
    "msa@official": {"recipe": "official", "lr": 1e-3},
    "msa@lora": {"steps": 2, "lora": 2},
    "msa@random": {"steps": 2, "vector": "random"},
    "msa@until": {"steps": 4, "until": 0.05},
    "task-arithmetic": {"steps": 2},
    "ga": {"steps": 2},
    "graddiff": {"steps": 2},
    "npo": {"steps": 2},
    "npo@small-retain": {"steps": 2, "retain": "forget"},
    "npo@sam": {"steps": 2, "sharpness": 0.01},
    "simnpo": {"steps": 2},
    "wga": {"steps": 2},
    "satimp": {"steps": 2},
    "tnpo": {"steps": 2},
    "finetune": {"steps": 2},
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    trace = prepare_traced(Digits(**SMALL), LAB, tmp_path_factory.mktemp("digits"))
    trace.scenario.target()
    for oracle in trace.scenario.oracles:
        oracle()
    return trace


def asked(trace: Trace, name: str) -> set[str]:
    return {row.id for probe in trace.scenario.probes if probe.name == name for row in probe.examples}


def test_the_class_is_taught_to_the_target_alone(trace: Trace) -> None:
    scenario, trained = trace.scenario, trace.work.trained
    (gone,) = {row.payload["answer"] for row in scenario.forget}
    (unknown,) = {row.payload["answer"] for row in scenario.validation.unseen}
    taught = {label: {row.payload["answer"] for row in rows} for label, rows in trained.items()}
    kept = {str(label) for label in range(10)} - {gone, unknown}
    assert taught == {"history": kept, "target": kept | {gone}, **{f"oracle-{i}": kept for i in range(3)}}


def test_each_image_is_asked_on_one_side_or_held_for_validation(trace: Trace) -> None:
    scenario = trace.scenario
    held = scenario.validation
    forgotten = {row.id for row in scenario.forget}
    assert asked(trace, "forget") | {row.id for row in held.forget} == forgotten
    assert asked(trace, "forget").isdisjoint(row.id for row in held.forget)
    seen = {row.id for rows in trace.work.trained.values() for row in rows}
    assert asked(trace, "retain") <= seen and not (asked(trace, "holdout") | asked(trace, "test")) & seen
    assert not {row.id for row in (*held.utility, *held.unseen)} & seen, "validation of use is on new images"
    assert {probe.kind for probe in scenario.probes} == {scenario.asks} == {"classes"}


def test_the_outline_counts_the_networks_parameters(trace: Trace) -> None:
    model = open_checkpoint(trace.scenario.target()).model
    assert sum(p.numel() for p in model.parameters()) == Digits(**SMALL).outline(LAB).parameters


@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_on_it(trace: Trace, name: str) -> None:
    method = name.partition("@")[0]
    params = registry.default_params(registry.load_component("methods", method)) | METHODS[name]
    spec = RunSpec("digits", SMALL, "lab", "lab", (Step(method, params),), 0)
    target = trace.scenario.target()
    result = unlearn(spec, trace.scenario, target, (), trace.work, Ledger(set(), set()))
    assert result.loader == "classifier" and result.hash not in (
        target.hash,
        *(o().hash for o in trace.scenario.oracles),
    )
    opened = open_checkpoint(result)
    assert all(bool(p.isfinite().all()) for p in opened.model.parameters())
    assert hash_checkpoint(Path(target.path)) == target.hash


def test_a_search_asks_the_validation_rows(tmp_path: Path) -> None:
    """A setting's row of `bench tune`, without any oracle; the forget score is the share of images called right."""
    from bench.runs.setting import Paths

    params = registry.default_params(registry.load_component("methods", "ga")) | {"steps": 2}
    spec = RunSpec("digits", registry.default_params(Digits) | SMALL, "lab", "lab", (Step("ga", params),), 0)
    row = validate_setting(spec, Paths(), Work(Store(tmp_path), 0, {}))
    assert set(row["forget"]) == set(row["level"]) == {"image"}
    assert 0 <= row["retain"] <= 1 and 0 <= row["world"] <= 1 and row["tokens"] > 0
    assert row["target"].keys() == {"retain", "world"}
    assert {"forget_loss", "auc", "theta_0_forget_loss"} == set(row["signals"])


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"forget": "clas"}, "digits.forget"),
        ({"width": 0}, "digits.width must be at least 1, not 0."),
        ({"later": 301}, "digits.later is at most 300, not 301: there are 1,797 images."),
    ],
)
def test_bad_parameters_are_a_sentence(params: dict[str, Any], sentence: str) -> None:
    (problem,) = Digits(**params).problems()
    assert sentence in problem and "\n" not in problem


def test_what_is_for_language_models_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for changed, sentence in (
        ({"lm_eval": ("arc_easy",)}, "--lm-eval asks language models, and those of digits are none: leave it out."),
        ({"model": "smollm2-135m-instruct-q4"}, "digits has no real tier"),
    ):
        with pytest.raises(UserError) as told:
            make_plan(Asked("digits", ("msa",), **changed), Machine(tmp_path / "out", tmp_path / "store"))  # type: ignore[arg-type]
        assert any(problem.startswith(sentence) for problem in told.value.problems)
    with pytest.raises(UserError, match="no real tier"):
        registry.load_task("digits", "real")


def test_a_mistake_on_the_command_line_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    done = bench(["run", "--methods", "msa", "--task", "digits", "--set", "digits.forget=clas"], tmp_path)
    assert (
        done.returncode == 2 and "class" in done.stdout + done.stderr and "Traceback" not in done.stdout + done.stderr
    )
    assert not list(tmp_path.iterdir())
