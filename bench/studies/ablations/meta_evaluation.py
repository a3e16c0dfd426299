"""Which metrics can be trusted: models that know and models that don't, and unlearned ones before and after attacks.

The protocol is open-unlearning's meta-evaluation (arXiv 2506.12618) and its symmetric form (arXiv 2605.24614), with pools
that the lab can train: those that know are the target and the oracle taught the forget set in wording that no probe has;
those that don't are the oracles, the oracle taught wrong answers to the forget rows, and the oracle taught retain rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from bench.core import registry
from bench.core.contracts import Recipe, Scenario, TaskInputs
from bench.core.errors import Unmet
from bench.core.provenance import get_provenance
from bench.core.record import RunSpec, Step
from bench.core.types import Checkpoint, Example, Json, Responses
from bench.metrics import score_all
from bench.runs.context import Work
from bench.runs.method_context import Ledger
from bench.runs.responses import measure_node
from bench.runs.runner import oracles_there, prepare, unlearn
from bench.runs.setting import Paths
from bench.runs.store import Store
from bench.studies.ablations.base import AblationPlace, Point, spec_of

KNOWS = "knows"
POOLS = {"paraphrases": KNOWS, "wrong": "doesn't", "retain": "doesn't"}
"""Rows that the oracle is taught -> the pool that it then belongs to."""
RATES = (2e-4, 4e-4)
STEPS = (50, 100)
"""Each rate with each number of steps, the same for every pool; the published pools are five rates by 5 and 10 passes."""
BATCH, TEXT_BATCH = 32, 4
METHODS = ("msa", "task-arithmetic", "npo", "simnpo", "undial")
"""Unlearned models whose scores are looked at under attack, at their defaults."""
RELEARNING_RATE = 8e-4
"""The peak of the target's own; the published one is twice the target's, for the same single pass."""
LEAST_KNOWN, MOST_KNOWN = 0.8, 0.2
"""Scores of forgetting, in wording that wasn't taught, of a model that knows and of one that doesn't."""


def asks(place: AblationPlace, seed: int) -> Json:
    """What is made of a seed, with the versions of all that takes part."""
    models = [{"taught": taught, "lr": lr, "steps": steps} for taught in POOLS for lr in RATES for steps in STEPS]
    rows: dict[str, tuple[Step, ...]] = {"target": (), "retrain": (Step("retrain", {}),)}
    rows |= {name: (place.step(name),) for name in METHODS}
    attacks = attacks_at(place)

    def run_of(*steps: Step) -> Json:
        return replace(spec_of(place, Point({}, steps), seed, ""), lean=False).to_json()

    return {
        "models": models,
        "rows": {
            name: {"before": run_of(*steps)} | {attack: run_of(*steps, step) for attack, step in attacks.items()}
            for name, steps in rows.items()
        },
        "unmet": {} if "quantise" in attacks else {"quantise": "the method quantise isn't installed"},
    }


def attacks_at(place: AblationPlace) -> dict[str, Step]:
    """One pass over all forget rows, as published, and rounding to 4 bits where that is installed."""
    rows = registry.load_task(place.task, place.tier)(**place.params).outline(TaskInputs(place.tier)).forget
    taught = {"teach": "all", "steps": -(-rows // BATCH), "points": "", "lr": RELEARNING_RATE, "batch": BATCH}
    found = {"relearn": place.step("relearn", **taught)}
    if "quantise" in registry.components("methods"):
        found["quantise"] = place.step("quantise", kind="int4")
    return found


def run(seed: int, asked: Json, store: Path) -> Json:
    """Train the pools and the unlearned models, measure all of them, and put the attacks to the latter."""
    specs = {name: {at: RunSpec.from_json(spec) for at, spec in run.items()} for name, run in asked["rows"].items()}
    first = specs["target"]["before"]
    here = Bench(first, Work(Store(store), seed, get_provenance("cpu")))
    rows, unmet = here.attacked_rows(specs)
    return {
        "unmet": asked["unmet"] | unmet,
        "metrics": {m.name: {"goal": m.goal, "unit": m.unit} for m in here.scenario.metrics},
        "absent": here.absent,
        "forgetting": list(here.scenario.forgetting),
        "models": here.pool_models(asked["models"]),
        "rows": rows,
    }


class Bench:
    """One seed's scenario, and what is known of the models that were measured on it."""

    def __init__(self, spec: RunSpec, work: Work) -> None:
        """Prepare the scenario of ``spec``, its target and its oracles."""
        self.work, self.scenario = work, prepare(spec, Paths(), work)
        self.target = self.scenario.target()
        self.oracles = [oracle() for oracle in self.scenario.oracles]
        self.known = [measure_node(o, self.scenario, self.oracles, None, work).responses for o in self.oracles]
        self.absent: dict[str, str] = {}
        """Metric -> why some model has none."""

    def scores(self, checkpoint: Checkpoint, descends: bool = False) -> dict[str, float]:
        """Every score of a checkpoint; one that descends from the first oracle is compared with the others alone."""
        found, known = measure_node(checkpoint, self.scenario, self.oracles, None, self.work).responses, self.known
        if descends:
            found, known = without_oracle(found, self.oracles[0], self.scenario), self.known[1:]
        scored = score_all(self.scenario.metrics, found, known)
        self.absent |= scored.absent
        return {name: score.value for name, score in sorted(scored.scores.items())}

    def utility(self, scores: Json) -> float:
        """The mean of the scores on what must stay."""
        return fmean(scores[name] for name in self.scenario.utility)

    def pool_models(self, asked: Sequence[Json]) -> list[Json]:
        """The models of both pools with their scores; one that isn't what its pool says has a sentence in ``left_out``."""
        ready = [("target", KNOWS, self.target), *((o.label, "doesn't", o) for o in self.oracles)]
        found = [self.entry(checkpoint, pool, {"taught": name}) for name, pool, checkpoint in ready]
        for about in asked:
            checkpoint = self.taught(**about)
            found.append(self.entry(checkpoint, POOLS[about["taught"]], about))
        return found

    def entry(self, checkpoint: Checkpoint, pool: str, about: Json) -> Json:
        """A model of a pool, and whether it is one."""
        scores = self.scores(checkpoint, descends="lr" in about)
        return {
            **about,
            "pool": pool,
            "scores": scores,
            "utility": self.utility(scores),
            "left_out": fault_in_pool(pool, [scores[name] for name in self.scenario.forgetting]),
        }

    def taught(self, taught: str, lr: float, steps: int) -> Checkpoint:
        """The oracle after further training on rows of that kind; a cached node."""
        from bench.engines.training.losses import descent, make_streams

        rows = taught_rows(taught, self.scenario, self.work.seed)
        streams = make_streams(rows, descent(), BATCH, TEXT_BATCH)
        label = f"oracle taught {taught}, lr {lr:g}, {steps} steps"
        return self.work.on_behalf_of("pools").train(self.oracles[0], streams, Recipe(steps, lr), label)

    def attacked_rows(self, specs: dict[str, dict[str, RunSpec]]) -> tuple[list[Json], dict[str, str]]:
        """Scores of each row before and after each attack; the attacks that this task or model can't have, with the reason."""
        rows, unmet = list[Json](), dict[str, str]()
        for name, runs in specs.items():
            found: Json = {"row": name}
            for at, spec in runs.items():
                try:
                    found[at] = self.scores(self.unlearned(spec), descends=name == "retrain")
                except Unmet as need:
                    unmet[at if at != "before" else name] = str(need)
            if "before" in found:
                rows.append(found | {"utility": self.utility(found["before"])})
        return rows, unmet

    def unlearned(self, spec: RunSpec) -> Checkpoint:
        """What the steps of a run make of the target."""
        ledger = Ledger({row.id for row in self.scenario.retain}, set(), forget={r.id for r in self.scenario.forget})
        return unlearn(spec, self.scenario, self.target, oracles_there(self.scenario, self.work), self.work, ledger)


def without_oracle(responses: Responses, oracle: Checkpoint, scenario: Scenario) -> Responses:
    """The responses without the divergences from one of the oracles."""
    asked = {probe.name for probe in scenario.probes if probe.kind == "divergence"}
    rows = {
        probe: {
            key: {label: found for label, found in row.items() if label != oracle.label} for key, row in rows.items()
        }
        for probe, rows in responses.rows.items()
        if probe in asked
    }
    return replace(responses, rows={**responses.rows, **rows})


def fault_in_pool(pool: str, forgetting: Sequence[float]) -> str:
    """Why a model is not what its pool says, by its scores of forgetting in wording that wasn't taught; empty: it is."""
    if pool == KNOWS and (known := min(forgetting)) < LEAST_KNOWN:
        return (
            f"it was taught the answers and gives only {known:.2f} of them in other wording ({LEAST_KNOWN:g} is asked)"
        )
    if pool != KNOWS and (known := max(forgetting)) > MOST_KNOWN:
        return f"it was never told the answers and gives {known:.2f} of them ({MOST_KNOWN:g} is the most)"
    return ""


def taught_rows(taught: str, scenario: Scenario, seed: int) -> tuple[Example, ...]:
    """The rows of a pool.

    ``paraphrases``: the facts to be forgotten in the wording of validation, which no probe has. ``wrong``: the forget rows,
    each with the first of its wrong answers. ``retain``: as many retain rows as there are forget rows.
    """
    from bench.engines.training.losses import sample_like

    if taught == "paraphrases":
        asked = {row.payload["prompt"] for probe in scenario.probes for row in probe.examples}
        rows = tuple(row for row in scenario.validation.forget if row.payload["prompt"] not in asked)
    elif taught == "wrong":
        rows = tuple(with_wrong_answer(row) for row in scenario.forget if row.references.get("wrong"))
    else:
        rows = sample_like(scenario.retain, scenario.forget, seed)
    if not rows:
        raise Unmet(f"the task has no rows to make a pool of: {taught}")
    return rows


def with_wrong_answer(row: Example) -> Example:
    """A row whose answer is the first of its wrong ones, without references."""
    return replace(row, payload={**row.payload, "answer": row.references["wrong"][0]}, references={})
