"""The parts of a record beside its scores: settings and their source, theta_0, cost, floors, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.assets.history import describe_moment
from bench.core import registry
from bench.core.contracts import Metric, Node, Scenario
from bench.core.errors import Absent
from bench.core.hashing import TOKENIZER_FILES, hash_checkpoint, hash_file
from bench.core.provenance import get_instruction_set, say_when
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Checkpoint, Example, Json, Probe, Responses, data_hash, finite_json, without_references
from bench.core.versions import ARITHMETIC
from bench.engines.training.flops import FLOPS_VERSION, PER_ENTRY, training_flops
from bench.metrics import score_all
from bench.metrics.depth import block_means
from bench.runs.context import Work
from bench.runs.method_context import Ledger
from bench.runs.responses import Measured
from bench.runs.store import Store


def flops_node(checkpoint: Checkpoint, rows: Sequence[Example], work: Work) -> Node:
    """`training_flops` as a node: of the config, the tokenizer and the rows, whatever the weights are."""
    folder = Path(checkpoint.path)
    fields = {
        "kind": "flops",
        "version": FLOPS_VERSION,
        "config": hash_file(folder / "config.json"),
        "tokenizer": hash_checkpoint(Path(checkpoint.tokenizer or folder), TOKENIZER_FILES),
        "rows": data_hash(without_references(rows)),
    }
    return work.on_behalf_of("measure").node(
        fields, lambda _: training_flops(checkpoint, rows, work.device), "count FLOPs"
    )


def method_flops(own: Sequence[Node], counted: Json) -> Json:
    """FLOPs of a method's nodes: ``training``, their tokens times the count, and ``arithmetic``, 2 a term and parameter."""
    tokens = sum(node.info["meta"].get("tokens", 0) for node in own)
    terms = sum(len(node.info["fields"]["terms"]) for node in own if node.info["fields"].get("kind") == "combine")
    return {
        "training": tokens * counted["training_per_token"],
        "arithmetic": PER_ENTRY * terms * counted["parameters"],
        **{name: counted[name] for name in ("forward_per_token", "training_per_token", "parameters")},
    }


def trace_lineage(
    scenario: Scenario, target: Checkpoint, oracles: Sequence[Checkpoint], ledger: Ledger, work: Work
) -> Json:
    """Hashes of the scenario's data and checkpoints, and of the oracle's training rows those that are forget rows.

    ``outside``: which of target and oracles were trained elsewhere, as nobody here can say on which rows.
    """
    foreign = [checkpoint.hash for checkpoint in (target, *oracles) if not node_of(checkpoint, work)]
    forget = {row.id for row in scenario.forget}
    return {
        **scenario.lineage,
        "target": target.hash,
        "oracles": [oracle.hash for oracle in oracles],
        "history": [moment.checkpoint.hash for moment in scenario.history().moments] if scenario.history else [],
        "history_used": sorted(ledger.past_used),
        **({"outside": foreign} if foreign else {}),
        "oracle_rows": {
            "count": len(scenario.oracle_rows),
            "in_forget": len({row.id for row in scenario.oracle_rows} & forget),
        },
    }


def node_of(checkpoint: Checkpoint, work: Work) -> str:
    """The key of the node that holds a checkpoint, itself or as a moment of a history; empty: it came from outside."""
    places = {Path(checkpoint.path), Path(checkpoint.path).parent}
    return next((key for key, node in work.nodes.items() if node.path in places), "")


def stages_of(made: Checkpoint, scenario: Scenario, work: Work) -> list[Node]:
    """The trainings between the history (or what was given) and a checkpoint, the last one first."""
    past = {moment.checkpoint.hash for moment in scenario.history().moments} if scenario.history else set()
    holders = {node.info["meta"].get("checkpoint"): node for node in work.nodes.values()}
    found: list[Node] = []
    node = work.nodes.get(node_of(made, work))
    while node is not None and node not in found:
        found.append(node)
        start = node.info["fields"].get("start")
        node = None if start in past else holders.get(start)
    return found


def count_oracle_tokens(scenario: Scenario, oracle: Checkpoint, work: Work) -> Json:
    """``oracle_tokens``: those of one retraining ``from_theta_0``, and ``from_nothing`` with the pretraining's.

    Nothing for an oracle that was trained elsewhere; none from nothing where nobody knows the pretraining's tokens.
    """
    stages = stages_of(oracle, scenario, work)
    if not stages:
        return {}
    own = sum(node.info["meta"].get("tokens", 0) for node in stages)
    last = scenario.history().last if scenario.history else None
    begins = stages[-1].info["fields"].get("start")
    known = last is not None and last.tokens is not None and begins == last.checkpoint.hash
    whole = {"from_nothing": own + last.tokens} if known and last else {}
    return {"oracle_tokens": {"from_theta_0": own, **whole}}


def merged_provenance(work: Work) -> Json:
    """This process's provenance; dirty when any node was made by changed code, and the commits and processors of all of them."""
    here = {**work.provenance, **get_instruction_set()}
    made = [here, *(node.info["provenance"] for node in work.nodes.values())]
    sets = sorted({str(p["instruction_set"]) for p in made if p.get("instruction_set")})
    return {
        **here,
        "finished": say_when(),
        "dirty": any(p.get("dirty") is not False for p in made),
        "commits": sorted({str(p.get("commit")) for p in made}),
        "devices": sorted({str(p.get("device")) for p in made}),
        **({"instruction_sets": sets} if sets else {}),
    }


def noise_floors(metrics: Sequence[Metric], values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Per score, how far two oracles of this seed lie apart, from their `oracle_values`.

    A score that compares with the oracle (KL, PrivLeak, forget quality) is taken of each oracle against the others: the
    floor is its mean distance from the ideal (0, or 1 for a p-value). Any other score, and one whose goal is the
    oracle's own value: the mean absolute difference.
    """
    found: dict[str, float] = {}
    for metric in metrics:
        each = values.get(metric.name, [])
        if len(each) < 2:
            continue
        if metric.needs_oracle and metric.goal != "oracle":
            ideal = {"up": 1.0, "down": 0.0}.get(str(metric.goal), 0.0 if isinstance(metric.goal, str) else metric.goal)
            gaps = [abs(value - ideal) for value in each]
        else:
            gaps = [abs(a - b) for i, a in enumerate(each) for b in each[i + 1 :]]
        found[metric.name] = sum(gaps) / len(gaps)
    return found


def oracle_values(metrics: Sequence[Metric], oracles: Sequence[Responses]) -> dict[str, list[float]]:
    """Every score of every oracle, in the oracles' order; an oracle is compared with the others."""
    each = [score_all(metrics, oracle, oracles).scores for oracle in oracles]
    return {m.name: [scores[m.name].value for scores in each if m.name in scores] for m in metrics}


def collect_facts(spec: RunSpec, scenario: Scenario, ledger: Ledger, work: Work) -> Json:
    """Facts that a reader must know beside the scores."""
    notes = {**work.notes, **ledger.notes}
    return {
        "headline": list(scenario.headline),
        "forgetting": list(scenario.forgetting),
        "utility": list(scenario.utility),
        **({"primary": dict(scenario.primary)} if scenario.primary else {}),
        **({"about": dict(scenario.about)} if scenario.about else {}),
        "forget_rows": len(scenario.forget),
        "retain_rows": len(ledger.retain_seen),
        "history_used": bool(ledger.past_used),
        **({"notes": notes} if notes else {}),
        "source": [source_of(step, spec) for step in spec.steps],
    }


def describe_blocks(probes: Sequence[Probe], responses: Responses) -> Json:
    """What each block of the model says, first to last, where its states were looked at; empty where it has nothing to say."""
    for probe in probes:
        with suppress(Absent):
            if probe.kind == "depth":
                return {"blocks": block_means(responses, probe.name, probe.options["by"])}
    return {}


EXPLODED = 1e4
"""Nats a token: no loss of a model that still says something comes near it; evenly spread guesses cost about ten."""


def diverged_stages(own: Sequence[Node], result: Checkpoint, work: Work) -> Json:
    """The trainings behind a result whose loss was no finite number or exploded; empty where there is none.

    ``own``: what the method made; of the target and the oracle, which are their own results, the node that holds them.
    """
    key = node_of(result, work)
    nodes = {node.key: node for node in (*own, *([work.nodes[key]] if key else []))}
    found = [node.info["label"] for node in nodes.values() if has_diverged(node.info["meta"].get("curve") or ())]
    return {"diverged": found} if found else {}


def has_diverged(curve: Sequence[Mapping[str, float | None]]) -> bool:
    """Whether a training's loss was no finite number at some point (null, as JSON keeps it), or exploded."""
    losses = [point.get("loss") for point in curve]
    return any(loss is None or not math.isfinite(loss) or abs(loss) > EXPLODED for loss in losses)


def describe_theta_0(scenario: Scenario, target: Checkpoint, ledger: Ledger, work: Work) -> Json:
    """The checkpoint of the history that a run used, and how far it lies away: steps, tokens, parameter distance."""
    if not ledger.past_used or scenario.history is None:
        return {}
    history = scenario.history()
    used = [moment for moment in history.moments if moment.checkpoint.hash in ledger.past_used]
    others = [moment for moment in used if moment != history.last]  # influence weights look at the last one as well
    first = (others or used)[0]
    return {
        "theta_0": describe_moment(history, first)
        | {
            "distance_to_target": find_distance(first.checkpoint, target, work),
            "distance_to_last": find_distance(first.checkpoint, history.last.checkpoint, work),
        }
    }


def describe_displacement(spec: RunSpec, scenario: Scenario, target: Checkpoint, work: Work) -> Json:
    """How far the lab's target lies from the last checkpoint before exposure, as a share of that one's norm."""
    if spec.tier != "lab" or scenario.history is None:
        return {}
    last = scenario.history().last.checkpoint

    def make(folder: Path) -> Json:
        from bench.engines.arithmetic.sums import relative_distance

        return finite_json({"distance": relative_distance(last, target)})

    fields = {"kind": "relative distance", "engine": ARITHMETIC, "of": [last.hash, target.hash]}
    return {
        "displacement": work.on_behalf_of("measure")
        .node(fields, make, "displacement of the target")
        .info["meta"]["distance"]
    }


def find_distance(one: Checkpoint, other: Checkpoint, work: Work) -> float | None:
    """How far the weights of two checkpoints lie apart, kept in the store for the next run; None where it is no number."""
    if one.hash == other.hash:
        return 0.0

    def make(folder: Path) -> Json:
        from bench.engines.arithmetic.sums import distance

        return finite_json({"distance": distance(one, other)})

    fields = {"kind": "distance", "engine": ARITHMETIC, "of": [one.hash, other.hash]}
    node = work.on_behalf_of("measure").node(fields, make, f"distance of {one.label} to {other.label}")
    found: float | None = node.info["meta"]["distance"]
    return found


def source_of(step: Step, spec: RunSpec) -> str:
    """Where a step's parameters come from: the preset that they equal, or the user."""
    component = registry.load_component("methods", step.method)
    here = f"{spec.tier}-{spec.task}"
    place = component.presets.get(here)
    given, usual = registry.said_params(component, step.params), registry.default_params(component)
    if not place and registry.said_params(component, usual) == given:
        return "defaults"
    own_first = sorted(
        component.presets.items(), key=lambda item: item[0] != here and not item[0].startswith(f"{here}-")
    )
    for name, preset in own_first:
        if registry.said_params(component, {**usual, **preset.params}) == given:
            return f"{name}: {preset.source}"
        if place and registry.said_params(component, {**usual, **place.params, **preset.params}) == given:
            return f"{place.source}; with {name}, not searched for itself: {preset.source}"
    return "defaults" if registry.said_params(component, usual) == given else "set by the user"


def measure_cost(own: Sequence[Node], found: Measured, work: Work, estimate: Json | None) -> Json:
    """Seconds, bytes and tokens of the method itself (shared stages are the task's), and what the whole scenario did."""
    stages = {node.info["label"]: node.info["seconds"] for node in own}
    shared = [node for node in work.nodes.values() if node not in own and node.key != found.node.key]
    return {
        "seconds": {"method": round(sum(stages.values()), 3), "measure": found.node.info["seconds"]},
        "stages": stages,
        "scenario_seconds": {node.info["label"]: node.info["seconds"] for node in shared},
        "tokens_trained": sum(node.info["meta"].get("tokens", 0) for node in own),
        "nodes": [node.key for node in own],
        "bytes_stored": sum(node.info["bytes"] for node in own),
        "peak_bytes": max([node.info["meta"].get("peak_bytes", 0) for node in [*own, found.node]]),
        "estimate": estimate or {},
        "expected_seconds": round(sum(node.info["expected_seconds"] for node in own), 3),
    }


def count_flops(own: Sequence[Node], scenario: Scenario, target: Checkpoint, work: Work) -> Json:
    """``flops`` of the method's own nodes (`bench.engines.training.flops`); nothing where nothing was made."""
    if not own:
        return {}
    return {"flops": method_flops(own, flops_node(target, scenario.forget, work).info["meta"])}


def loss_curves(record: Record, store: Store) -> dict[str, list[dict[str, float]]]:
    """The loss curves of the training stages behind a record, for the tracker."""
    found: dict[str, list[dict[str, float]]] = {}
    for label in record.cost.get("nodes", []):
        node = store.find(label)
        if node and node.info["meta"].get("curve"):
            found[node.info["label"]] = node.info["meta"]["curve"]
    return found
