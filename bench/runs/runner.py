"""One run, from its spec to its record: prepare, unlearn, measure, score."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from bench.assets.history import choose_moment
from bench.core import registry
from bench.core.attacks import attack_of, compared_oracles
from bench.core.contracts import Metric, MislabelledRows, Scenario
from bench.core.errors import Unmet
from bench.core.provenance import say_when
from bench.core.record import Record, RunSpec
from bench.core.types import (
    Checkpoint,
    Example,
    Json,
    Probe,
    Request,
    Responses,
    Validation,
    finite_json,
    without_references,
)
from bench.engines.loaders import seal
from bench.metrics import score_all
from bench.metrics.catalogue import plugged_metrics
from bench.runs import facts
from bench.runs.attacks import ask_instead, questions_of
from bench.runs.context import Work
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.responses import grade_node, judge_facts, measure_node
from bench.runs.setting import Paths, build_setting, task_of_spec
from bench.runs.trace import score_at, trace_run


def prepare(spec: RunSpec, paths: Paths, work: Work) -> Scenario:
    """The scenario of a spec, with lm-eval's probes where it asks for them."""
    scenario: Scenario = task_of_spec(spec).prepare(work, build_setting(spec, paths))
    if spec.attack:
        return ask_instead(spec.attack, scenario)
    scenario = with_lm_eval(scenario, spec.lm_eval, paths.lm_eval)
    probes = without_slow_probes(scenario.probes) if spec.lean else scenario.probes
    kept = tuple(probe for probe in probes if not spec.kinds or probe.kind in spec.kinds)
    plugged = plugged_metrics(spec.task, [metric.name for metric in scenario.metrics])
    return replace(scenario, probes=kept, metrics=(*scenario.metrics, *plugged))


LEFT_OUT = ("gradnorm", "reference", "lm-eval", "judge")
"""Kinds of probes that a lean run doesn't ask: they take most of the time of a lab's measurement."""


def without_slow_probes(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """The probes that a lean run asks."""
    return tuple(probe for probe in probes if probe.kind not in LEFT_OUT)


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
    if record.spec.attack:
        return list(questions_of(record.spec.attack).metrics)
    own = [metric for metric in task_of_spec(record.spec).metrics() if not metric.late or metric.name in record.metrics]
    plugged = plugged_metrics(record.spec.task, [metric.name for metric in own])
    own += [metric for metric in plugged if metric.name in record.metrics]
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
    try:
        scenario = prepare(spec, paths, work)
    except Unmet as need:  # of an attack by questions; the task itself has its label
        label = prepare(replace(spec, attack=""), paths, work).label
        return Record(spec, "skipped", str(need), label, provenance=work.provenance | {"finished": say_when()})
    target, known = scenario.target(), oracles_there(scenario, work)
    if any(step.method == "retrain" for step in spec.steps):
        known = [oracle() for oracle in scenario.oracles]
    before = set(work.nodes)
    ledger = Ledger({row.id for row in scenario.retain}, set(), forget={row.id for row in scenario.forget})
    try:
        result = unlearn(spec, scenario, target, known, work, ledger)
    except Unmet as need:
        return Record(spec, "skipped", str(need), scenario.label, provenance=work.provenance | {"finished": say_when()})
    own = [node for key, node in work.nodes.items() if key not in before]
    attacked = bool(attack_of(spec)) and not spec.attack
    if attacked:
        scenario = on_other_facts(scenario, ledger.forget_seen)
    oracles = [oracle() for oracle in scenario.oracles]
    if result.hash in {oracle.hash for oracle in oracles}:  # the oracle's row pays for its retraining
        own = facts.stages_of(result, scenario, work)
        ledger.see(*scenario.retain)
    asked = [measure_node(oracle, scenario, oracles, spec.limit, work) for oracle in oracles]
    others = [grade_node(oracle, asked, scenario, work) for oracle in asked]
    beside = compared_oracles(spec, oracles)
    measured = measure_node(result, scenario, beside, spec.limit, work)
    found = grade_node(measured, compared_oracles(spec, asked), scenario, work)
    against = [other.responses for other in others]
    compared = compared_oracles(spec, against)
    scored = score_all(scenario.metrics, found.responses, compared)
    values = facts.oracle_values(scenario.metrics, against)
    judged = judge_facts(scenario, target, oracles, asked, spec.limit, work)
    about = (
        facts.collect_facts(spec, scenario, ledger, work)
        | facts.describe_theta_0(scenario, target, ledger, work)
        | facts.describe_displacement(spec, scenario, target, work)
        | judged
    ) | facts.diverged_stages(own, result, work)
    about |= facts.describe_blocks(scenario.probes, found.responses)
    if attacked and ledger.snapshots.get(result.hash):
        about["curve"] = attack_curve(spec, scenario, result, beside, compared, ledger, work)
    elif work.trace:
        lean = replace(scenario, probes=without_slow_probes(scenario.probes))
        about["trace"] = trace_run(result, target, lean, oracles, against, spec.limit, ledger, work)
        about["trace_points"] = work.trace
    past = facts.trace_lineage(scenario, target, oracles, ledger, work)
    spent = facts.measure_cost(own, found, work, estimate) | facts.count_flops(own, scenario, target, work)
    spent |= facts.count_oracle_tokens(scenario, oracles[0], work) if oracles else {}
    return Record(
        spec=spec,
        status="done",
        label=scenario.label if spec.limit is None else f"{scenario.label}, first {spec.limit} rows of each probe",
        scores=scored.scores,
        metrics={metric.name: metric.to_json() for metric in scenario.metrics},
        absent=scored.absent,
        floors=facts.noise_floors(scenario.metrics, values),
        facts=finite_json(about) | {"oracle_values": values, "attention": found.responses.attention},
        lineage=past
        | {
            "result": result.hash,
            "result_node": facts.node_of(result, work),
            "responses": found.node.key,
            "oracle_responses": [other.node.key for other in others],
        },
        cost=finite_json(spent),
        provenance=facts.merged_provenance(work),
    )


def oracles_there(scenario: Scenario, work: Work) -> list[Checkpoint]:
    """The oracles that exist already, to be sealed while a method works.

    One that doesn't exist yet can't be opened either and need not be waited for: another worker may be building it.
    """
    found = [work.store.if_published(oracle) for oracle in scenario.oracles]
    return [oracle for oracle in found if oracle is not None]


def unlearn(
    spec: RunSpec,
    scenario: Scenario,
    target: Checkpoint,
    oracles: Sequence[Checkpoint],
    work: Work,
    ledger: Ledger,
) -> Checkpoint:
    """Apply the steps in order, each method seeing its `Request` and nothing else; from the target or `RunSpec.start`."""
    result = start_checkpoint(spec, scenario, ledger) if spec.start else target
    for step in spec.steps:
        component = registry.load_component("methods", step.method)
        is_oracle = step.method == "retrain"
        request = request_for(component.needs, scenario, result)
        ledger.forget_seen.clear()
        if component.attack:
            ledger.attacked = result
            rows = without_references(scenario.instructions)
            request = replace(request, first=target, half=half_of(scenario), instructions=rows)
        if is_oracle and oracles:
            request = replace(request, oracle=oracles[0])
        given = {moment.checkpoint.hash for moment in request.history.moments} if request.history else set()
        ledger.past |= given
        own = given | ({result.hash} if component.attack else set())  # the oracle is attacked too
        others = [oracle for oracle in oracles if not is_oracle and oracle.hash not in own]
        with seal([oracle for oracle in others if not is_twin(oracle, target)]):
            traced = "" if component.is_sum else request.target.hash
            ctx = MethodContext(replace(work, order=spec.order), ledger, traced)
            result = component(**step.params).unlearn(request, ctx)
        ledger.read(result)
    return result


def half_of(scenario: Scenario) -> tuple[Example, ...]:
    """The forget rows of every second fact; none where there is one fact alone."""
    facts = list(dict.fromkeys(scenario.fact_of(row.id) for row in scenario.forget))
    taught = set(facts[1::2])
    return without_references([row for row in scenario.forget if scenario.fact_of(row.id) in taught])


def on_other_facts(scenario: Scenario, taught: Collection[str]) -> Scenario:
    """The scenario with the examples whose fact no forget row of ``taught`` tells, where these are some and not all."""
    facts = {scenario.fact_of(row.id) for row in scenario.forget}
    known = {scenario.fact_of(row) for row in taught}
    if not known or known == facts:
        return scenario

    def others(probe: Probe) -> Probe:
        return replace(probe, examples=tuple(row for row in probe.examples if scenario.fact_of(row.id) not in known))

    return replace(scenario, probes=tuple(map(others, scenario.probes)))


def attack_curve(
    spec: RunSpec,
    scenario: Scenario,
    result: Checkpoint,
    oracles: Sequence[Checkpoint],
    known: Sequence[Responses],
    ledger: Ledger,
    work: Work,
) -> list[Json]:
    """Scores before the attack, at each step that it kept, and at its end: ``step`` and ``scores``.

    ``scenario`` has the probes that are asked, those that are slow left out.
    """
    lean, steps = replace(scenario, probes=without_slow_probes(scenario.probes)), spec.steps[-1].params["steps"]
    assert ledger.attacked is not None, "the last step is an attack"
    ends = (0.0, ledger.attacked), (1.0, result)
    way = [ends[0], *ledger.snapshots[result.hash], ends[1]]
    return [
        {"step": round(share * steps), "scores": score_at(checkpoint, lean, oracles, known, spec.limit, work)}
        for share, checkpoint in way
    ]


def is_twin(oracle: Checkpoint, target: Checkpoint) -> bool:
    """Whether an oracle that lies elsewhere has the target's weights to the bit, as a wreck that no training changes.

    To shut it by its hash would shut the target.
    """
    return oracle.hash == target.hash and oracle.path != target.path


def request_for(needs: frozenset[str], scenario: Scenario, start: Checkpoint) -> Request:
    """The request of a method with these needs; `Unmet` where the scenario lacks one."""
    history = scenario.history() if scenario.history and "history" in needs else None
    if "history" in needs and history is None:
        raise Unmet("it needs a checkpoint from before the forget set was seen, and this task has none")
    if "instructions" in needs and not scenario.instructions:
        raise Unmet("it needs rows of instructions, and this task has none")
    told = scenario.told or MislabelledRows(scenario.forget, scenario.retain)
    held = scenario.validation
    return Request(
        target=start,
        forget=without_references(told.forget),
        retain=without_references(told.retain) if "retain" in needs else (),
        validation=Validation(
            without_references(held.forget), without_references(held.retain), without_references(held.utility)
        ),
        history=history,
        instructions=without_references(scenario.instructions) if "instructions" in needs else (),
        retraining=scenario.retraining,
    )


def start_checkpoint(spec: RunSpec, scenario: Scenario, ledger: Ledger) -> Checkpoint:
    """The checkpoint of the history that a run begins at in the target's place."""
    if scenario.history is None:
        raise Unmet("it begins at a checkpoint from before the forget set was seen, and this task has none")
    moment = choose_moment(scenario.history(), spec.start)
    ledger.past |= {moment.checkpoint.hash}
    ledger.read(moment.checkpoint)
    return moment.checkpoint
