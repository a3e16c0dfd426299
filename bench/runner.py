"""One run, from its spec to its record: prepare, unlearn, measure, score."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.context import Ledger, Work, for_method
from bench.core import distributed, registry
from bench.core.contracts import Metric, Scenario, Setting, Told
from bench.core.errors import Busy, Unmet, UserError
from bench.core.hashing import digest, file_hash
from bench.core.record import Record, RunSpec, Step
from bench.core.types import Checkpoint, Json, Probe, Request, Responses, Validation, bare
from bench.core.versions import MEASURE
from bench.engines.loaders import sealed
from bench.metrics import score_all
from bench.records.files import read_responses, write_responses
from bench.store import Node, Store

RESPONSES_FILE = "responses.json.gz"


@dataclass(frozen=True)
class Paths:
    """Where a worker finds what comes from outside; never part of a spec or a record."""

    model: str = ""
    data: str = ""
    lm_eval: str = ""
    """Folder with offline copies of lm-eval's data; empty: the hub."""
    history: str = ""
    """File or folder with the model's past (`bench.assets.history_file.load`); empty: the model alone."""
    target: str = ""
    """Folder of a target that was trained elsewhere; empty: the task trains it."""
    oracles: tuple[str, ...] = ()
    """Folders of retrained models from elsewhere."""

    @classmethod
    def from_json(cls, data: Json) -> Paths:
        """The inverse of ``vars``, after JSON has made lists of tuples."""
        return cls(**{**data, "oracles": tuple(data.get("oracles", ()))})

    def folders(self) -> list[str]:
        """Every place that is named."""
        return [
            place for place in (self.model, self.data, self.lm_eval, self.history, self.target, *self.oracles) if place
        ]


@dataclass(frozen=True)
class Measured:
    """A checkpoint's responses and the node that holds them."""

    responses: Responses
    node: Node


def make_task(spec: RunSpec) -> Any:
    """The task of a spec with its parameters."""
    return registry.load("tasks", spec.task)(**spec.task_params)


def setting_of(spec: RunSpec, paths: Paths) -> Setting:
    """The tier and the outside world of a spec."""
    dtype = spec.compute.get("dtype", "float32")

    def outside(folder: str, name: str) -> Checkpoint:
        return Checkpoint(folder, spec.hashes[name], dtype=dtype, label=name)

    return Setting(
        spec.tier,
        paths.model,
        spec.hashes.get("model", ""),
        paths.data,
        paths.history,
        model=spec.model,
        dtype=dtype,
        target=outside(paths.target, "target") if paths.target else None,
        oracles=tuple(outside(folder, f"oracle-{i}") for i, folder in enumerate(paths.oracles)),
    )


def prepare(spec: RunSpec, paths: Paths, work: Work) -> Scenario:
    """The scenario of a spec, with lm-eval's probes where it asks for them."""
    scenario: Scenario = make_task(spec).prepare(work, setting_of(spec, paths))
    whole = with_lm_eval(scenario, spec.lm_eval, paths.lm_eval)
    kept = [p for p in whole.probes if not (spec.lean and p.kind in LEFT_OUT) and p.kind in (spec.kinds or (p.kind,))]
    return replace(whole, probes=tuple(kept))


LEFT_OUT = ("gradnorm", "reference", "lm-eval", "judge")
"""Kinds of probes that a lean run doesn't ask: they take most of the time of a lab's measurement."""


def with_lm_eval(scenario: Scenario, tasks: Sequence[str], data: str) -> Scenario:
    """The scenario with lm-eval's tasks as further probes and scores; a group is taken apart."""
    if not tasks:
        return scenario
    from bench.engines.measuring.lm_eval import named_probes

    probes = named_probes(tasks, Path(data) if data else None)
    metrics = lm_eval_metrics([f"{LM_EVAL}{probe.name}" for probe in probes])
    return replace(scenario, probes=(*scenario.probes, *probes), metrics=(*scenario.metrics, *metrics))


LM_EVAL = "lm_eval_"
"""How the scores of lm-eval's own tasks are named: this and the task."""


def lm_eval_metrics(scores: Sequence[str]) -> list[Metric]:
    """One accuracy for each score of an lm-eval task."""
    from bench.metrics.lm_eval import lm_eval_accuracy

    return [lm_eval_accuracy(score, score.removeprefix(LM_EVAL)) for score in scores]


def all_metrics(record: Record) -> list[Metric]:
    """Every metric of a record, without preparing its scenario."""
    own = list(make_task(record.spec).metrics(record.spec.tier))
    asked = set(record.metrics) - {metric.name for metric in own} if record.spec.lm_eval else set()
    return [*own, *lm_eval_metrics(sorted(asked))]


def build_stage(spec: RunSpec, paths: Paths, work: Work, stage: str) -> None:
    """Build one checkpoint of the scenario: ``target``, ``oracle-0`` ..."""
    scenario = prepare(spec, paths, work)
    if stage == "target":
        scenario.target()
    else:
        scenario.oracles[int(stage.removeprefix("oracle-"))]()


def execute(spec: RunSpec, paths: Paths, work: Work, estimate: Json | None = None) -> Record:
    """Run a spec and score it. A need that the task can't meet gives a skipped record; other errors are raised."""
    scenario = prepare(spec, paths, work)
    target, known = scenario.target(), built(scenario.oracles, work)
    if any(step.method == "retrain" for step in spec.steps):
        known = [oracle() for oracle in scenario.oracles]
    before = set(work.nodes)
    ledger = Ledger({row.id for row in scenario.retain}, set())
    try:
        result = unlearn(spec, scenario, target, known, work, ledger)
    except Unmet as need:
        return Record(spec, "skipped", str(need), scenario.label, provenance=work.provenance)
    own = [node for key, node in work.nodes.items() if key not in before]
    oracles = [oracle() for oracle in scenario.oracles]
    if result.hash in {oracle.hash for oracle in oracles}:  # the oracle's row pays for its retraining
        own = [node for node in work.nodes.values() if str(node.path) == result.path]
        ledger.retain_seen |= {row.id for row in scenario.retain}
    asked = [measured(oracle, scenario, oracles, spec.limit, work) for oracle in oracles]
    others = [with_grades(oracle, asked, scenario, work) for oracle in asked]
    found = with_grades(measured(result, scenario, oracles, spec.limit, work), asked, scenario, work)
    scored = score_all(scenario.metrics, found.responses, [other.responses for other in others])
    values = oracle_values(scenario.metrics, [other.responses for other in others])
    return Record(
        spec=spec,
        status="done",
        label=scenario.label if spec.limit is None else f"{scenario.label}, first {spec.limit} rows of each probe",
        scores=scored.scores,
        metrics={metric.name: metric.to_json() for metric in scenario.metrics},
        absent=scored.absent,
        floors=floors(scenario.metrics, values),
        facts=facts(spec, scenario, ledger)
        | theta_0(scenario, target, ledger)
        | judge_facts(scenario, target, oracles, asked, spec.limit, work)
        | {"oracle_values": values},
        lineage={
            **scenario.lineage,
            "target": target.hash,
            "oracles": [oracle.hash for oracle in oracles],
            "history": [moment.checkpoint.hash for moment in scenario.history().moments] if scenario.history else [],
            "history_used": sorted(ledger.past_used),
            **outside_of(target, oracles, work),
            "oracle_rows": {
                "count": len(scenario.oracle_rows),
                "in_forget": len({row.id for row in scenario.oracle_rows} & {row.id for row in scenario.forget}),
            },
            "result": result.hash,
            "result_node": node_of(result, work),
            "responses": found.node.key,
            "oracle_responses": [other.node.key for other in others],
        },
        cost=cost(own, found, work, result, estimate) | flops(own, scenario, target, work),
        provenance=merged_provenance(work),
    )


def outside_of(target: Checkpoint, oracles: Sequence[Checkpoint], work: Work) -> Json:
    """Which of target and oracles were trained elsewhere: nobody here can say on which rows."""
    foreign = [checkpoint.hash for checkpoint in (target, *oracles) if not node_of(checkpoint, work)]
    return {"outside": foreign} if foreign else {}


def node_of(checkpoint: Checkpoint, work: Work) -> str:
    """The key of the node that holds a checkpoint, itself or as a moment of a history; empty: it came from outside."""
    places = {Path(checkpoint.path), Path(checkpoint.path).parent}
    return next((key for key, node in work.nodes.items() if node.path in places), "")


def built(oracles: Sequence[Callable[[], Checkpoint]], work: Work) -> list[Checkpoint]:
    """The oracles that exist already, to be sealed while a method works.

    One that doesn't exist yet can't be opened either and need not be waited for: another worker may be building it.
    """
    found = []
    work.only_cached = True
    try:
        for oracle in oracles:
            with suppress(Busy):
                found.append(oracle())
    finally:
        work.only_cached = False
    return found


def merged_provenance(work: Work) -> Json:
    """This process's provenance; dirty when any node was made by changed code, and the commits of all of them."""
    made = [node.info["provenance"] for node in work.nodes.values()]
    return {
        **work.provenance,
        "dirty": any(p.get("dirty") is not False for p in (work.provenance, *made)),
        "commits": sorted({str(p.get("commit")) for p in (work.provenance, *made)}),
        "devices": sorted({str(p.get("device")) for p in (work.provenance, *made)}),
    }


def unlearn(
    spec: RunSpec,
    scenario: Scenario,
    target: Checkpoint,
    oracles: Sequence[Checkpoint],
    work: Work,
    ledger: Ledger,
) -> Checkpoint:
    """Apply the steps in order, each method seeing its `Request` and nothing else; from the target or `RunSpec.start`."""
    result = target
    if spec.start:
        result = begin(spec, scenario, ledger)
    told = scenario.told or Told(scenario.forget, scenario.retain)
    for step in spec.steps:
        component = registry.load("methods", step.method)
        method = component(**step.params)
        is_oracle = step.method == "retrain"
        history = scenario.history() if scenario.history and "history" in component.needs else None
        if "history" in component.needs and history is None:
            raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
        if "instructions" in component.needs and not scenario.instructions:
            raise Unmet("it needs rows of instructions, and this task has none")
        ledger.past |= {moment.checkpoint.hash for moment in history.moments} if history else set()
        held = scenario.validation
        request = Request(
            target=result,
            forget=bare(told.forget),
            retain=bare(told.retain) if "retain" in component.needs else (),
            validation=Validation(bare(held.forget), bare(held.retain), bare(held.utility)),
            history=history,
            oracle=oracles[0] if is_oracle and oracles else None,
            instructions=bare(scenario.instructions) if "instructions" in component.needs else (),
        )
        given = {moment.checkpoint.hash for moment in history.moments} if history else set()
        with sealed([oracle for oracle in oracles if not is_oracle and oracle.hash not in given]):
            result = method.unlearn(request, for_method(work, ledger))
        ledger.past_used |= {result.hash} & ledger.past
    return result


def begin(spec: RunSpec, scenario: Scenario, ledger: Ledger) -> Checkpoint:
    """The checkpoint of the history that a run begins at in the target's place."""
    from bench.assets.history import choose

    if scenario.history is None:
        raise Unmet("it begins at a checkpoint from before the forget set was seen, and this task has none")
    moment = choose(scenario.history(), spec.start)
    ledger.past |= {moment.checkpoint.hash}
    ledger.past_used |= {moment.checkpoint.hash}
    return moment.checkpoint


def measured(
    checkpoint: Checkpoint, scenario: Scenario, oracles: Sequence[Checkpoint], limit: int | None, work: Work
) -> Measured:
    """A checkpoint's responses to the scenario's probes, a node of the store like any other."""
    asks_reference = any(probe.kind == "reference" for probe in scenario.probes)
    reference = scenario.reference() if scenario.reference and asks_reference else None
    fields = {
        "kind": "responses",
        "checkpoint": checkpoint.hash,
        "others": {oracle.label: oracle.hash for oracle in oracles if oracle.hash != checkpoint.hash},
        "probes": digest([hashable(probe) for probe in scenario.probes]),
        "limit": limit,
        "engine": MEASURE,
        "generation": generation_hash(checkpoint),
    } | ({"reference": reference.hash} if reference else {})

    def make(folder: Path) -> Json:
        from bench.engines.measuring.measure import measure

        label = f"measure {checkpoint.label}"
        responses = measure(
            checkpoint,
            scenario.probes,
            oracles,
            reference=reference,
            device=work.device,
            limit=limit,
            report=lambda done, of: work.report({"stage": label, "status": "progress", "done": done, "total": of}),
        )
        if distributed.is_first():  # it has everybody's rows
            write_responses(responses, folder / RESPONSES_FILE)
        return {"seconds": responses.seconds}

    node = work.on_behalf_of("measure").node(fields, make, f"measure {checkpoint.label}", shared=True)
    return Measured(read_responses(node.path / RESPONSES_FILE), node)


def with_grades(found: Measured, oracles: Sequence[Measured], scenario: Scenario, work: Work) -> Measured:
    """The responses with the grades of the scenario's judge, a node of its own; as they are where nothing is judged."""
    from bench.engines.measuring import judges

    probes = judges.judge_probes(scenario.probes)
    if not probes:
        return found
    fields = {
        "kind": "judged",
        "responses": found.node.key,
        "oracles": [oracle.node.key for oracle in oracles],
        "probes": digest([hashable(probe) for probe in probes]),
        "judges": judges.labels(probes),
    }

    def make(folder: Path) -> Json:
        grades = judges.judged(found.responses, [oracle.responses for oracle in oracles], probes)
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
    """What the judge makes of target and oracle, to say beside its scores; nothing where nothing is judged."""
    from bench.engines.measuring import judges

    if not judges.judge_probes(scenario.probes):
        return {}
    before = measured(target, scenario, oracles, limit, work)
    return {"judge": judges.calibrated(before.responses, asked[0].responses, scenario.probes)}


def hashable(probe: Probe) -> Json:
    """A probe for the key: without the folder that its data lie in."""
    data = probe.to_json()
    data["options"].pop("data", None)
    return data


def generation_hash(checkpoint: Checkpoint) -> str:
    """Hash of the generation config, which says where greedy answers stop and isn't part of the weights' hash."""
    file = Path(checkpoint.path) / "generation_config.json"
    return file_hash(file) if file.exists() else ""


def row_versions(spec: RunSpec) -> Json:
    """What a row of a search depends on beside its spec: the rule's, the method's and the engines' versions."""
    from bench import selection
    from bench.core import versions

    method = registry.load("methods", spec.steps[-1].method)
    return {
        "rule": selection.VERSION,
        "method": method.version,
        "engines": [versions.TRAINING, versions.ARITHMETIC, versions.MEASURE],
    }


def validate(spec: RunSpec, paths: Paths, work: Work) -> Json:
    """One setting of a search: unlearn and ask the validation rows. No oracle is built, so none can take part."""
    from bench import selection

    scenario = prepare(spec, paths, work)
    if not scenario.validation.forget or not scenario.validation.unseen:
        raise UserError(
            "This scenario has no validation rows to tune on, forgotten ones and ones that were never trained on: "
            "probe a subset of the benchmark, or give a user's data a third file."
        )
    target = scenario.target()
    ledger = Ledger({row.id for row in scenario.retain}, set())
    shared = set(work.nodes)
    result = unlearn(spec, scenario, target, (), work, ledger)
    asked = replace(
        scenario,
        probes=tuple(
            Probe(f"validation_{side}", scenario.asks, getattr(scenario.validation, side)) for side in selection.SIDES
        ),
    )
    found = measured(result, asked, (), None, work).responses
    level = measured(target, asked, (), None, work).responses
    seconds = sum(node.info["seconds"] for key, node in work.nodes.items() if key not in shared)
    return {
        "params": dict(spec.steps[-1].params),
        "versions": row_versions(spec),
        "seed": spec.seed,
        "forget": selection.side_scores(found, "forget", scenario.validation),
        "level": selection.side_scores(level, "unseen", scenario.validation),
        "retain": selection.question_score(selection.side_scores(found, "retain", scenario.validation)),
        "world": selection.question_score(selection.side_scores(found, "utility", scenario.validation)),
        "fine": selection.mean_log_prob(found, scenario.validation),
        "signals": signals(found, scenario, work),
        "seconds": round(seconds, 2),
        "provenance": merged_provenance(work),
    }


def signals(found: Responses, scenario: Scenario, work: Work) -> Json:
    """What other rules than `bench.selection`'s may look at, without the oracle: mean losses and their AUC.

    ``forget_loss`` and ``theta_0_forget_loss``: of the forget validation rows under the model and under the last
    checkpoint before exposure, nats per answer token. ``auc``: the chance that a forget row has a lower loss than one
    that was never trained on.
    """
    from sklearn.metrics import roc_auc_score

    def losses(responses: Responses, side: str) -> list[float]:
        rows = [responses.rows[f"validation_{side}"][row.id]["answer"][0] for row in getattr(scenario.validation, side)]
        return [-sum(row["logp"]) / len(row["logp"]) for row in rows if row["logp"]]

    forget, unseen = losses(found, "forget"), losses(found, "unseen")
    said: Json = {
        "forget_loss": sum(forget) / len(forget),
        "auc": float(roc_auc_score([1] * len(forget) + [0] * len(unseen), [-x for x in (*forget, *unseen)])),
    }
    if scenario.history is not None:
        asked = replace(scenario, probes=(Probe("validation_forget", scenario.asks, scenario.validation.forget),))
        before = losses(measured(scenario.history().last.checkpoint, asked, (), None, work).responses, "forget")
        said["theta_0_forget_loss"] = sum(before) / len(before)
    return said


def floors(metrics: Sequence[Metric], values: Mapping[str, Sequence[float]]) -> dict[str, float]:
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


def facts(spec: RunSpec, scenario: Scenario, ledger: Ledger) -> Json:
    """What a reader must know beside the scores."""
    return {
        "headline": list(scenario.headline),
        "forgetting": list(scenario.forgetting),
        "utility": list(scenario.utility),
        "forget_rows": len(scenario.forget),
        "retain_rows": len(ledger.retain_seen),
        "history_used": bool(ledger.past_used),
        **({"notes": ledger.notes} if ledger.notes else {}),
        "source": [source_of(step, spec) for step in spec.steps],
    }


def theta_0(scenario: Scenario, target: Checkpoint, ledger: Ledger) -> Json:
    """Which checkpoint of the history a run used, and how far it lies away: steps, tokens, parameter distance."""
    from bench.assets.history import place
    from bench.engines.arithmetic.sums import distance

    if not ledger.past_used or scenario.history is None:
        return {}
    history = scenario.history()
    used = [moment for moment in history.moments if moment.checkpoint.hash in ledger.past_used]
    others = [moment for moment in used if moment != history.last]  # influence weights look at the last one as well
    first = (others or used)[0]
    return {
        "theta_0": place(history, first)
        | {
            "distance_to_target": distance(first.checkpoint, target),
            "distance_to_last": distance(first.checkpoint, history.last.checkpoint),
        }
    }


def source_of(step: Step, spec: RunSpec) -> str:
    """Where a step's parameters come from: the preset that they equal, or the user."""
    component = registry.load("methods", step.method)
    place = component.presets.get(f"{spec.tier}-{spec.task}")
    for name, preset in component.presets.items():
        if {**registry.defaults(component), **preset.params} == dict(step.params):
            return f"{name}: {preset.source}"
        if place and {**registry.defaults(component), **place.params, **preset.params} == dict(step.params):
            return f"{place.source}; with {name}, not searched for itself: {preset.source}"
    return "defaults" if registry.defaults(component) == dict(step.params) else "set by the user"


def cost(own: Sequence[Node], found: Measured, work: Work, result: Checkpoint, estimate: Json | None) -> Json:
    """What the method itself cost (shared stages are the task's), and what the whole scenario did."""
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


def flops(own: Sequence[Node], scenario: Scenario, target: Checkpoint, work: Work) -> Json:
    """``flops`` of the method's own nodes (`bench.engines.training.flops`); nothing where nothing was made."""
    from bench.engines.training.flops import flops_node, method_flops

    if not own:
        return {}
    return {"flops": method_flops(own, flops_node(target, scenario.forget, work).info["meta"])}


def curves(record: Record, store: Store) -> dict[str, list[dict[str, float]]]:
    """The loss curves of the training stages behind a record, for the tracker."""
    found: dict[str, list[dict[str, float]]] = {}
    for label in record.cost.get("nodes", []):
        node = store.find(label)
        if node and node.info["meta"].get("curve"):
            found[node.info["label"]] = node.info["meta"]["curve"]
    return found


def responses_in(store: Store, key: str) -> Responses:
    """The responses of a node; `UserError` when the store no longer has it."""
    node = store.find(key)
    if node is None:
        raise UserError(f"The store has no responses {key}: run the same command again to make them.")
    return read_responses(node.path / RESPONSES_FILE)


def spec_from_file(path: Path) -> tuple[RunSpec, Paths]:
    """A spec and its paths from the file that `bench exec` is given."""
    try:
        data = json.loads(path.read_text())
        return RunSpec.from_json(data["spec"]), Paths.from_json(data.get("paths", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path.name}' is not a run's spec: {error}.") from error
