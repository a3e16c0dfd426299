"""A record with scores, texts and curves, as trackers are shown them."""

from __future__ import annotations

from bench.core.record import Record, RunSpec, Score, Step
from bench.core.types import Responses

SCORES = {
    "forget_accuracy": ("oracle", 0.04, "forget"),
    "forget_Q_A_Prob": ("oracle", 0.11, "forget"),
    "retain_accuracy": ("up", 0.96, "retain"),
    "world_accuracy": ("up", 0.98, "world"),
    "mia_min_k": ("oracle", 0.52, "privacy"),
    "privleak": (0.0, -7.5, "privacy"),
    "kl_forget": ("down", 1.25, "distance"),
    "restor_accuracy": ("up", 0.5, "recovery"),
    "collapsed": ("down", 0.0, "other"),
}
"""Goal, value, and the group it must be found in."""

TEXTS = Responses(
    checkpoint="c0ffee",
    rows={
        "forget": {f"f{i}": {"text": f"Zürich {i}", "counts": {"lcs": 1}} for i in range(40)},
        "retain": {f"r{i}": {"text": f"said {i}", "prompt": "Where?", "reference": "here"} for i in range(40)},
        "loss": {"f0": {"answer": [{"logp": [-0.5]}]}},
    },
)
CURVES = {
    "target": [{"step": 10 * i, "loss": 3.0 / i} for i in range(1, 6)],
    "unlearn 0": [{"step": i, "loss": 0.5 * i, "lr": 1e-4} for i in range(1, 4)],
}


SAID = {
    "method": TEXTS,
    "target": Responses("7a49e7", {"retain": {f"r{i}": {"text": f"target {i}"} for i in range(40)}}),
    "oracle": Responses("04ac1e", {"retain": {f"r{i}": {"text": f"oracle {i}"} for i in range(1, 40)}}),
}
ORACLES = {"forget_accuracy": [0.02, 0.04], "kl_forget": [0.1, 0.3]}
FLOORS = {"forget_accuracy": 0.02}


def made(*methods: str, seed: int = 0, status: str = "done", **spec: str) -> Record:
    """A record of ``methods`` in order, with every score of `SCORES`."""
    steps = tuple(Step(method, {"lr": 1e-4, "steps": 30}) for method in methods)
    return Record(
        spec=RunSpec(
            "tofu", {"authors": 20}, "lab", spec.get("model", "lab"), steps, seed, study=spec.get("study", "")
        ),
        status=status,
        label="tofu (lab)",
        scores={name: Score(value, 40) for name, (_, value, _) in SCORES.items()},
        floors=FLOORS,
        facts={"oracle_values": ORACLES, "trace": [{"share": 0.0, "scores": {"kl_forget": 2.0}}]},
        metrics={
            name: {"version": 1, "goal": goal, "unit": "", "needs_oracle": False}
            for name, (goal, _, _) in SCORES.items()
        },
        lineage={"target": "abc", "oracle rows": ["r0", "r1"]},
        cost={"seconds": {"train": 12.5, "measure": 2}, "peak_bytes": 1000, "note": "cold"},
        provenance={"commit": "0123abc", "dirty": False},
    )
