"""Rewind: a share of the oracle's own training, and at the whole of it the oracle itself, which is never opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.conformance import TinyScenario, prepare_traced, tiny_place
from bench.core import registry
from bench.core.contracts import Recipe, Retraining, TaskInputs
from bench.core.errors import Unmet
from bench.core.record import RunSpec, Step
from bench.engines.loaders import seal
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.runner import unlearn
from methods.rewind import Rewind
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("rewind"))


@pytest.mark.parametrize("task", ["tofu", "restor", "muse-books", "digits", "graph"])
def test_the_whole_of_it_is_the_oracle_to_the_bit(task: str, tmp_path: Path) -> None:
    """On the oracle's rows with its batches and schedule, from where it began: nothing of the recipe is lost on the way."""
    cls = registry.load_task(task, "lab")
    small = cls(**{name: value for name, value in SMALL.items() if name in registry.fields_of(cls)})
    trace = prepare_traced(small, TaskInputs("lab"), tmp_path)
    scenario, target = trace.scenario, trace.scenario.target()
    spec = RunSpec("", {}, "lab", task, (Step("rewind", {"share": 1.0}),), 0)
    made = unlearn(spec, scenario, target, [], trace.work, Ledger(set(), set()))
    rewound = [run for run in trace.work.runs if run.label == "rewind"]
    oracle = scenario.oracles[0]()
    assert made.hash == oracle.hash != target.hash
    [own], [whole] = rewound, [run for run in trace.work.runs if run.label == "oracle-0"]
    assert own.recipe == whole.recipe


def test_a_share_is_of_the_retrainings_steps(place: TinyScenario) -> None:
    """A quarter of 40 steps, of the same peak rate and shape; the record says so."""
    request = replace(place.request, retraining=Retraining(Recipe(40, 5e-3, schedule="linear"), 4, 2))
    ledger = Ledger({row.id for row in request.retain}, {m.checkpoint.hash for m in request.history.moments})  # type: ignore[union-attr]
    work = place.work("share")
    Rewind(share=0.25).unlearn(request, MethodContext(work, ledger))
    [node] = work.nodes.values()
    assert node.info["fields"]["recipe"]["steps"] == 10 and node.info["fields"]["recipe"]["schedule"] == "linear"
    assert [stream["batch"] for stream in node.info["fields"]["streams"]] == [2, 4]
    assert node.info["fields"]["start"] == request.history.last.checkpoint.hash  # type: ignore[union-attr]
    assert ledger.notes == {"retraining": {"steps": 10, "of": 40}}
    assert len(ledger.retain_seen) == len(request.retain), "and no forget row, which the stream can't hold"


def test_it_can_be_held_to_msas_retain_budget(place: TinyScenario) -> None:
    ledger = Ledger({row.id for row in place.request.retain}, set())
    Rewind(retain="forget").unlearn(place.request, MethodContext(place.work("few"), ledger))
    assert len(ledger.retain_seen) == len(place.request.forget)


def test_it_opens_no_oracle(tmp_path: Path) -> None:
    """With the oracle on disk and shut, as the harness shuts it, a share of its training is still done."""
    cls = registry.load_task("tofu", "lab")
    small = cls(**{name: value for name, value in SMALL.items() if name in registry.fields_of(cls)})
    trace = prepare_traced(small, TaskInputs("lab"), tmp_path)
    oracles = [oracle() for oracle in trace.scenario.oracles]
    spec = RunSpec("", {}, "lab", "tofu", (Step("rewind", {"share": 0.5}),), 0)
    with seal(oracles):
        made = unlearn(spec, trace.scenario, trace.scenario.target(), oracles, trace.work, Ledger(set(), set()))
    done = [
        node.info["fields"]["recipe"]["steps"] for node in trace.work.nodes.values() if node.info["label"] == "rewind"
    ]
    whole = trace.scenario.retraining
    assert whole is not None and done == [max(1, round(whole.recipe.steps / 2))]
    assert made.hash in {node.info["meta"].get("checkpoint") for node in trace.work.nodes.values()}


def test_without_a_retraining_or_a_past_the_need_is_unmet(place: TinyScenario) -> None:
    ctx = MethodContext(place.work("unmet"), Ledger(set(), set()))
    with pytest.raises(Unmet, match="nothing is retrained here"):
        Rewind().unlearn(replace(place.request, retraining=None), ctx)
    with pytest.raises(Unmet, match="before the forget set was seen"):
        Rewind().unlearn(replace(place.request, history=None), ctx)


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert Rewind().problems() == []
    assert Rewind(share=1.5, retain="some").problems() == [
        "rewind.share is above 0 and at most 1, not 1.5.",
        "rewind.retain is 'all' or 'forget', not 'some'.",
    ]
    [sentence] = Rewind(before="age=2").problems()
    assert sentence.startswith("rewind.before: 'age=2' chooses no checkpoint; write last-before-exposure, ")
