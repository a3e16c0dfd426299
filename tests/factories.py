"""Synthetic records that look like the real ones: three tasks of the lab, three seeds, every score of the issue."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench.core import registry
from bench.core.hashing import hash_json
from bench.core.record import Record, RunSpec, Score, Step
from bench.core.types import Json
from bench.studies.ablations import catalogue
from bench.studies.ablations.base import AblationPlace, Finding, Point, Study, with_framing_points
from bench.studies.ablations.run import is_grid

METHODS = ("ga", "graddiff", "msa", "npo", "retrain", "target", "task-arithmetic")
GOALS: dict[str, str | float] = {
    "forget_Q_A_ROUGE": "oracle",
    "forget_accuracy": "oracle",
    "retain_accuracy": "up",
    "world_accuracy": "up",
    "forget_Q_A_Prob": "oracle",
    "forget_truth_ratio": "oracle",
    "forget_quality": "up",
    "mia_loss": "oracle",
    "mia_min_k": "oracle",
    "privleak": 0.0,
    "kl_forget": "down",
    "kl_retain": "down",
    "kl_world": "down",
    "kl_forget_floors": "down",
    "kl_retain_floors": "down",
    "kl_world_floors": "down",
    "collapsed": "down",
}
HEADLINE = ("forget_accuracy", "retain_accuracy", "world_accuracy", "kl_forget", "mia_min_k", "privleak")
FLOORS = {name: 0.02 for name in GOALS if not name.endswith("_floors") and name != "collapsed"} | {
    "kl_forget": 0.2,
    "kl_retain": 0.05,
    "kl_world": 0.04,
    "privleak": 6.0,
    "collapsed": 0.0,
}
TYPICAL: dict[str, dict[str, float]] = {
    "target": {"forget": 0.98, "retain": 0.99, "world": 0.99, "kl": 3.6, "auc": 0.99},
    "retrain": {"forget": 0.05, "retain": 0.99, "world": 0.99, "kl": 0.2, "auc": 0.48},
    "msa": {"forget": 0.09, "retain": 0.96, "world": 0.98, "kl": 1.5, "auc": 0.66},
    "task-arithmetic": {"forget": 0.1, "retain": 0.95, "world": 0.97, "kl": 1.8, "auc": 0.85},
    "npo": {"forget": 0.04, "retain": 0.99, "world": 0.97, "kl": 3.4, "auc": 0.3},
    "graddiff": {"forget": 0.03, "retain": 0.97, "world": 0.9, "kl": 7.0, "auc": 0.05},
    "ga": {"forget": 0.0, "retain": 0.35, "world": 0.3, "kl": 14.0, "auc": 0.02},
}
PARAMS: dict[str, dict[str, Any]] = {
    "msa": {"alpha": 0.75, "beta": 0.25, "steps": 120},
    "npo": {"beta": 1.0, "lr": 0.0002, "steps": 60},
}


def record(
    method: str = "npo",
    seed: int = 0,
    scores: Mapping[str, float] | None = None,
    *,
    task: str = "tofu",
    params: Mapping[str, Any] | None = None,
    goals: Mapping[str, str | float] = GOALS,
    floors: Mapping[str, float] = FLOORS,
    **fields: Any,
) -> Record:
    """One record; without ``scores`` plausible ones. ``fields`` replaces whole fields of the record or of its spec."""
    spec: dict[str, Any] = {"task_params": {"gap": 0}, "tier": "lab", "model": "lab", "limit": None}
    spec |= {name: fields.pop(name) for name in list(fields) if name in RunSpec.__dataclass_fields__}
    steps = (
        () if method == "target" else (Step(method, PARAMS.get(method, {"lr": 0.001}) if params is None else params),)
    )
    values = typical(method, seed) if scores is None else scores
    known: dict[str, Any] = {
        "status": "done",
        "label": f"{task} ({spec['tier']})",
        "scores": {name: score(name, value) for name, value in values.items()},
        "metrics": {n: {"version": 1, "goal": goals[n], "unit": "", "needs_oracle": False} for n in values},
        "absent": {},
        "floors": floors if method == "retrain" else {},
        "facts": facts(method),
        "lineage": lineage(method, seed, task),
        "cost": {"seconds": {"method": 12.5 + seed, "measure": 3.0}, "tokens_trained": 48000},
        "provenance": {"commit": "0123456789abcdef0123", "dirty": False},
    }
    return Record(spec=RunSpec(task=task, steps=steps, seed=seed, **spec), **(known | fields))


def score(name: str, value: float) -> Score:
    """A score with an interval, where it can have one."""
    plain = name in ("collapsed", "forget_quality", "privleak")
    return Score(value, 150) if plain else Score(value, 150, max(0.0, value - 0.02), value + 0.02)


def study(methods: Sequence[str] = METHODS, seeds: Sequence[int] = (0, 1, 2), task: str = "tofu") -> list[Record]:
    """A whole section of records."""
    return [record(method, seed, task=task) for method in methods for seed in seeds]


def typical(method: str, seed: int) -> dict[str, float]:
    """Made-up scores that keep the shape of real ones: what a method is known for, shaken by the seed."""
    shape = TYPICAL[method]
    rng = random.Random(f"{method}-{seed}")

    def near(value: float, width: float) -> float:
        return min(1.0, max(0.0, value + rng.uniform(-width, width)))

    kl = {
        name: shape["kl"] * share * rng.uniform(0.8, 1.2)
        for name, share in (("forget", 1), ("retain", 0.25), ("world", 0.2))
    }
    auc = near(shape["auc"], 0.04)
    return {
        "forget_accuracy": near(shape["forget"], 0.02),
        "forget_Q_A_ROUGE": near(shape["forget"] * 0.8 + 0.15, 0.03),
        "forget_Q_A_Prob": near(shape["forget"], 0.03),
        "forget_truth_ratio": near(0.6, 0.1),
        "forget_quality": 10 ** -rng.uniform(0, 12),
        "retain_accuracy": near(shape["retain"], 0.01),
        "world_accuracy": near(shape["world"], 0.01),
        "mia_loss": near(auc, 0.02),
        "mia_min_k": auc,
        "privleak": 100 * (auc - 0.48) / -0.52,
        **{f"kl_{name}": value for name, value in kl.items()},
        **{f"kl_{name}_floors": value / FLOORS[f"kl_{name}"] for name, value in kl.items()},
        "collapsed": float(method == "ga"),
    }


def facts(method: str) -> dict[str, Any]:
    """What the runner notes beside the scores."""
    return {
        "headline": list(HEADLINE),
        "forgetting": ["forget_accuracy", "kl_forget"],
        "utility": ["retain_accuracy", "world_accuracy"],
        "retain_rows": {"target": 0, "retrain": 1350, "msa": 150, "npo": 1350, "graddiff": 1350}.get(method, 0),
        "history_used": method == "msa",
        "source": ["lab-tofu: tuned on seed 100"] if method in ("msa", "npo") else [],
    }


def lineage(method: str, seed: int, task: str) -> dict[str, Any]:
    """Hashes that say which checkpoints and responses belong to the record."""
    oracles = [hash_json(["oracle", task, seed, number])[:16] for number in range(2)]
    own = oracles[0] if method == "retrain" else hash_json([method, task, seed])[:16]
    return {"target": hash_json(["target", task, seed]), "responses": own, "oracle_responses": oracles}


def place(task: str = "tofu") -> AblationPlace:
    """Where an ablation is run: the task at its defaults."""
    return AblationPlace(task, params=registry.default_params(registry.load_task(task, "lab")))


def finding(at: Mapping[str, Any], seed: int = 0, scores: Mapping[str, float] | None = None, **fields: Any) -> Finding:
    """What one point gave; ``fields`` are the record's, with ``chosen`` and ``tried`` beside them."""
    chosen, tried = fields.pop("chosen", {}), tuple(fields.pop("tried", ()))
    method = fields.pop("method", "msa")
    return Finding(at, seed, record(method, seed, scores, **fields), chosen, tried)


def searched(forget: float, utility: float, loss: float, auc: float, **more: Any) -> Json:
    """A row of a search: its score on forget rows (at a level of .1), utility (the target's is 1) and signals.

    theta_0's own loss on the forget rows is 4 nats.
    """
    signals = {"forget_loss": loss, "theta_0_forget_loss": 4.0, "auc": auc}
    return {
        "params": {},
        "seed": 0,
        "forget": {"qa": forget},
        "level": {"qa": 0.1},
        "retain": utility,
        "world": utility,
        "target": {"retain": 1.0, "world": 1.0},
        "tokens": 100,
        "seconds": 6.0,
        "signals": signals,
    } | more


def ablation_study(name: str, seeds: Sequence[int] = (0, 1), task: str = "tofu") -> Study:
    """A finished ablation of runs with made-up scores, its findings in the order that the command leaves them in."""
    where = place(task)
    found = [
        made_finding(point, seed, where)
        for point in with_framing_points(catalogue.load_ablation_of_runs(name).points(where))
        for seed in seeds
    ]
    return Study(name, where, tuple(seeds), tuple(found), 12.5, f"python -m bench ablate {name}")


def made_finding(point: Point, seed: int, where: AblationPlace) -> Finding:
    """Scores shaken by the coordinates, so that no two points are alike; notes of whatever the method would note."""
    rng = random.Random(f"{seed} {dict(point.at)}")
    method = point.steps[-1].method if point.steps else "target"
    params = dict(point.steps[-1].params) if point.steps else {}
    notes: Json = {}
    if params.get("weights", "uniform") != "uniform":
        correlations = {f"rank_correlation_with_{name}": rng.random() for name in ("target", "last")}
        quantiles = {f"{share:g}": 2 * share for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)}
        notes["influence"] = {"mean": 1.0, "bytes": 4_000_000, "quantiles": quantiles} | correlations
    if params.get("recipe") == "official":
        notes["rounding"] = {"unchanged": 0.5, "unchanged_in_float32": 0.01, "relative_error": 0.6, "cosine": 0.8}
    place = {"step": 300, "tokens": 90_000, "distance_to_target": 3 + rng.random(), "distance_to_last": rng.random()}
    world = {"displacement": 0.14, "about": {"same_answer": 0.004, "same_word": 0.4}}
    told = {"theta_0": place, "notes": notes} | world
    shape = method if method in TYPICAL else "npo"
    tried = tuple(
        searched(
            rng.random(),
            rng.random(),
            8 * rng.random(),
            rng.random(),
            params=dict(choice),
            seed=seed if point.tuned_on is None else point.tuned_on,
        )
        for choice in point.choices
    )
    chosen: Json = {}
    if tried:
        chosen = {"params": tried[0]["params"], "edge": is_grid(point), "of": len(tried)}
    return finding(
        point.at,
        seed,
        typical(shape, int(rng.random() * 1e9)),
        method=method,
        params=params,
        task=where.task,
        task_params={**where.params, **point.task},
        start=point.start,
        lean=True,
        facts=facts(shape) | told,
        cost={"stages": {"theta_1": 5.0, "influence (fisher)": 2.0}},
        chosen=chosen,
        tried=tried,
    )
