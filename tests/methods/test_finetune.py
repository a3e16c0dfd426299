"""Plain fine-tuning: on which rows, from where, and that MSA's own theta_1 can be looked at without training it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bench.conformance import TinyScenario, tiny_place
from bench.core.types import Checkpoint
from bench.runs.asked import parse_methods
from bench.runs.method_context import Ledger, MethodContext
from methods.finetune import Finetune
from methods.msa import MSA


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("finetune"))


def before(place: TinyScenario) -> Checkpoint:
    assert place.request.history is not None
    return place.request.history.last.checkpoint


def seen(place: TinyScenario, method: Finetune, store: str) -> set[str]:
    """Retain rows that a run was given."""
    ledger = Ledger({row.id for row in place.request.retain}, set())
    method.unlearn(place.request, MethodContext(place.work(store), ledger))
    return ledger.retain_seen


def test_it_trains_on_all_retain_rows_or_on_as_many_as_there_are_to_forget(place: TinyScenario) -> None:
    assert len(seen(place, Finetune(steps=1), "all")) == 14 == len(place.request.retain)
    assert len(seen(place, Finetune(steps=1, retain="forget"), "few")) == 8 == len(place.request.forget)
    assert seen(place, Finetune(steps=1, rows_of="forget"), "none") == set()


def test_it_learns_the_rows(place: TinyScenario) -> None:
    """From the target, and no arithmetic after it: what comes out is what training gave."""
    work = place.work("learns")
    made = Finetune(steps=3, lr=5e-3).unlearn(place.request, MethodContext(work, Ledger(set(), set())))
    [node] = work.nodes.values()
    assert made.path == str(node.path) and node.info["fields"]["start"] == place.request.target.hash
    name = "model.norm.weight"
    weights = [load_file(Path(each.path) / "model.safetensors")[name] for each in (made, place.request.target)]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("until", [0.0, 2.0])
def test_on_forget_rows_from_theta_0_it_is_msas_theta_1(place: TinyScenario, until: float) -> None:
    """The same node of the store: nothing is trained twice, with fixed steps as with a bound on the loss."""
    shared: dict[str, Any] = {"steps": 3, "lr": 5e-3, "until": until}
    work = place.work(f"shared-{until}")
    MSA(**shared).unlearn(place.request, MethodContext(work, Ledger(set(), set())))
    [theta_1] = [node for node in work.nodes.values() if node.info["label"] == "theta_1"]
    work.built.clear()
    rewound = replace(place.request, target=before(place))
    made = Finetune(rows_of="forget", **shared).unlearn(rewound, MethodContext(work, Ledger(set(), set())))
    assert made.path == str(theta_1.path) and not work.built


def test_a_run_of_all_methods_leaves_it_out() -> None:
    everything = {name for name, _ in parse_methods(["all"])}
    assert {"msa", "npo", "retrain"} <= everything and "finetune" not in everything
    assert ("finetune", "") in parse_methods(["finetune"])


def test_bad_settings_are_refused_in_a_sentence() -> None:
    assert Finetune().problems() == []
    assert Finetune(rows_of="retian", retain="some").problems() == [
        "Unknown value of finetune.rows_of 'retian'. Did you mean 'retain'? Known: forget, retain.",
        "Unknown value of finetune.retain 'some'. Known: all, forget.",
    ]
