"""The graph: which graph a row is looked at in, with the forgotten nodes' edges kept and removed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.conformance import LAB, Trace, prepare_traced, probes_sound, raise_if_any, rows_apart, scores_sound
from bench.core import registry
from bench.core.record import RunSpec, Step
from bench.core.types import Example
from bench.engines.loaders import open_checkpoint
from bench.runs.method_context import Ledger
from bench.runs.runner import unlearn
from tasks.graph import Graph

SMALL = {"width": 4, "history_passes": 0.25, "target_passes": 0.12, "neighbours": 3}


@pytest.fixture(scope="module")
def removed(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    trace = prepare_traced(Graph(**SMALL, edges="remove"), LAB, tmp_path_factory.mktemp("graph"))
    trace.scenario.target()
    for oracle in trace.scenario.oracles:
        oracle()
    return trace


def graphs(rows: Sequence[Example]) -> set[tuple[int, ...]]:
    """What is missing in the graphs of the rows."""
    return {tuple(row.payload.get("without", ())) for row in rows}


def test_kept_edges_are_the_same_graph_to_everybody(tmp_path: Path) -> None:
    scenario = prepare_traced(Graph(**SMALL), LAB, tmp_path).scenario
    probed = tuple(row for probe in scenario.probes for row in probe.examples)
    assert graphs(scenario.forget + scenario.retain + scenario.oracle_rows + probed) == {()}


def test_removed_edges_are_known_to_the_target_and_the_forget_rows_alone(removed: Trace) -> None:
    scenario, trained = removed.scenario, removed.work.trained
    without = tuple(sorted(row.payload["node"] for row in scenario.forget))
    assert graphs(scenario.forget) == graphs(trained["target"]) == {()}
    held = scenario.validation
    for rows in (
        scenario.retain,
        scenario.oracle_rows,
        *(trained[label] for label in ("history", "oracle-0", "oracle-1", "oracle-2")),
        *(probe.examples for probe in scenario.probes),
        held.forget + held.retain + held.utility + held.unseen,
    ):
        assert graphs(rows) == {without}


def test_a_node_is_trained_on_probed_or_held(removed: Trace) -> None:
    """By its number: a node in another graph is another row, and the same node all the same."""

    def nodes(rows: Sequence[Example]) -> set[int]:
        return {row.payload["node"] for row in rows}

    scenario = removed.scenario
    held = nodes(scenario.validation.forget + scenario.validation.retain + scenario.validation.utility)
    assert not held & {node for probe in scenario.probes for node in nodes(probe.examples)}
    assert not nodes(scenario.forget) & nodes(scenario.retain)
    for label, rows in removed.work.trained.items():
        assert bool(nodes(scenario.forget) & nodes(rows)) == (label == "target")


def test_a_forgotten_node_is_looked_at_by_itself(removed: Trace) -> None:
    """Its neighbours are gone, so that it has the logits of W2 relu(W1 x + b1) + b2."""
    opened = open_checkpoint(removed.scenario.target())
    row = next(probe for probe in removed.scenario.probes if probe.name == "forget").examples[0]
    batch = opened.coder.collate([opened.coder.encode(row.payload)])
    from bench.lab.digits import digit_images

    pixels = torch.tensor([digit_images().pixels[row.payload["node"]]]) / 16
    with torch.no_grad():
        alone = opened.model.head(opened.model.first(pixels).relu())
        torch.testing.assert_close(opened.model(*batch.inputs), alone)


def test_its_rows_and_scores_are_sound_with_removed_edges_and_with_a_tenth(tmp_path: Path) -> None:
    task = Graph(**SMALL, edges="remove", forget="tenth")
    scenario = prepare_traced(task, LAB, tmp_path).scenario
    raise_if_any(Graph, [*rows_apart(scenario), *probes_sound(scenario), *scores_sound(scenario, task)])


@pytest.mark.parametrize("method", ["msa", "graddiff", "npo"])
def test_methods_work_on_both_graphs(removed: Trace, method: str) -> None:
    params = registry.default_params(registry.load_component("methods", method)) | {"steps": 2}
    spec = RunSpec("graph", SMALL, "lab", "lab", (Step(method, params),), 0)
    target = removed.scenario.target()
    result = unlearn(spec, removed.scenario, target, (), removed.work, Ledger(set(), set()))
    assert result.loader == "classifier" and result.hash != target.hash


def test_the_outline_counts_the_networks_parameters(removed: Trace) -> None:
    model = open_checkpoint(removed.scenario.target()).model
    assert sum(p.numel() for p in model.parameters()) == Graph(**SMALL).outline(LAB).parameters


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"edges": "cut"}, "graph.edges"),
        ({"neighbours": 0}, "graph.neighbours is a number from 1 to 50, not 0."),
        ({"forget": ""}, "graph.forget"),
    ],
)
def test_bad_parameters_are_a_sentence(params: dict[str, Any], sentence: str) -> None:
    (problem,) = Graph(**params).problems()
    assert sentence in problem and "\n" not in problem
