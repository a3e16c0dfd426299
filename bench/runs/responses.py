"""Responses as nodes of the store: measuring a checkpoint once, grading its answers, reading them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core import distributed, stopping
from bench.core.contracts import Node, Scenario
from bench.core.errors import UserError
from bench.core.hashing import hash_file, hash_json
from bench.core.types import Checkpoint, Json, Probe, Responses
from bench.core.versions import MEASURE
from bench.records.files import read_responses, write_responses
from bench.runs.context import Work
from bench.runs.store import Store

RESPONSES_FILE = "responses.json.gz"


@dataclass(frozen=True)
class Measured:
    """A checkpoint's responses and the node that holds them."""

    responses: Responses
    node: Node


def measure_node(
    checkpoint: Checkpoint, scenario: Scenario, oracles: Sequence[Checkpoint], limit: int | None, work: Work
) -> Measured:
    """A checkpoint's responses to the scenario's probes, a node of the store like any other."""
    asks_reference = any(probe.kind == "reference" for probe in scenario.probes)
    reference = scenario.reference() if scenario.reference and asks_reference else None
    target = scenario.target() if any(probe.kind == "depth" for probe in scenario.probes) else None
    fields = {
        "kind": "responses",
        "checkpoint": checkpoint.hash,
        "others": {oracle.label: oracle.hash for oracle in oracles if oracle.hash != checkpoint.hash},
        "probes": hash_json([probe_for_key(probe) for probe in scenario.probes]),
        "limit": limit,
        "engine": MEASURE,
        "generation": generation_hash(checkpoint),
    }
    fields |= {"reference": reference.hash} if reference else {}
    fields |= {"target": target.hash} if target else {}

    def make(folder: Path) -> Json:
        from bench.engines.measuring.measure import measure

        label = f"measure {checkpoint.label}"

        def report(done: int, of: int) -> None:
            stopping.heed()
            work.report({"stage": label, "status": "progress", "done": done, "total": of})

        responses = measure(
            checkpoint,
            scenario.probes,
            oracles,
            reference=reference,
            target=target,
            device=work.device,
            limit=limit,
            report=report,
        )
        if distributed.is_first():  # it has everybody's rows
            write_responses(responses, folder / RESPONSES_FILE)
        return {"seconds": responses.seconds}

    node = work.on_behalf_of("measure").node(fields, make, f"measure {checkpoint.label}", shared=True)
    return Measured(read_responses(node.path / RESPONSES_FILE), node)


def grade_node(found: Measured, oracles: Sequence[Measured], scenario: Scenario, work: Work) -> Measured:
    """The responses with the grades of the scenario's judge, a node of its own; as they are where nothing is judged."""
    from bench.engines.measuring import judges

    probes = judges.judge_probes(scenario.probes)
    if not probes:
        return found
    fields = {
        "kind": "judged",
        "responses": found.node.key,
        "oracles": [oracle.node.key for oracle in oracles],
        "probes": hash_json([probe_for_key(probe) for probe in probes]),
        "judges": judges.judge_labels(probes),
    }

    def make(folder: Path) -> Json:
        grades = judges.add_grades(found.responses, [oracle.responses for oracle in oracles], probes)
        write_responses(grades, folder / RESPONSES_FILE)
        return {}

    node = work.on_behalf_of("measure").node(fields, make, f"judge {found.node.info['label'].removeprefix('measure ')}")
    return Measured(read_responses(node.path / RESPONSES_FILE), node)


def judge_facts(
    scenario: Scenario,
    target: Checkpoint,
    oracles: Sequence[Checkpoint],
    asked: Sequence[Measured],
    limit: int | None,
    work: Work,
) -> Json:
    """The judge's grades of target and oracle, for a record's facts; empty where nothing is judged."""
    from bench.engines.measuring import judges

    if not judges.judge_probes(scenario.probes):
        return {}
    before = measure_node(target, scenario, oracles, limit, work)
    return {"judge": judges.calibrate_judge(before.responses, asked[0].responses, scenario.probes)}


def probe_for_key(probe: Probe) -> Json:
    """A probe for the key: without the folder that its data lie in."""
    data = probe.to_json()
    data["options"].pop("data", None)
    return data


def generation_hash(checkpoint: Checkpoint) -> str:
    """Hash of the generation config, which says where greedy answers stop and isn't part of the weights' hash."""
    file = Path(checkpoint.path) / "generation_config.json"
    return hash_file(file) if file.exists() else ""


def load_responses(store: Store, key: str) -> Responses:
    """The responses of a node; `UserError` when the store no longer has it."""
    node = store.find(key)
    if node is None:
        raise UserError(f"The store has no responses {key}: run the same command again to make them.")
    return read_responses(node.path / RESPONSES_FILE)
