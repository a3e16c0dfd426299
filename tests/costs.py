"""Made-up costs, and a study of the ladder with them."""

from __future__ import annotations

from typing import Any

from bench.studies.ablations import catalogue, study
from bench.studies.ablations.base import AblationPlace, Finding, Study
from bench.studies.ablations.costing import (
    HELD_OUT_PARAMETERS,
    METHODS,
)
from tests.factories import record

PARAMETERS = {96: 290_400, 128: 493_696, 192: 1_060_032, 256: 1_839_360}
TOKENS = 100_000
RATE = 20e9
OVERHEAD = 0.5


def costs(parameters: int, counted: bool = True) -> dict[str, Any]:
    """A record's: six operations a parameter and token, a stated rate and overhead, 600 MB of process, 1 MB of tokenizer."""
    training = 6 * parameters * TOKENS
    found: dict[str, Any] = {
        "seconds": {"method": OVERHEAD + training / RATE, "measure": 1.0},
        "tokens_trained": TOKENS,
        "peak_bytes": 600_000_000 + 16 * parameters,
        "bytes_stored": 2 * (4 * parameters + 1_000_000),
        "nodes": ["a", "b"],
    }
    if counted:
        found["flops"] = {"training": training, "arithmetic": 0, "parameters": parameters}
    return found


def made_up(seeds: tuple[int, ...] = (0, 1), counted: bool = True) -> Study:
    """A study as the command leaves it: target, oracle and every method at every width."""
    findings = []
    for width, parameters in PARAMETERS.items():
        for name in ("target", "oracle", *METHODS):
            at = (
                {"row": name, "task.width": width} if name in ("target", "oracle") else {"series": name, "width": width}
            )
            for seed in seeds:
                made = record({"oracle": "retrain"}.get(name, name), seed, cost=costs(parameters, counted))
                findings.append(Finding(at, seed, made))
    return Study("cost", AblationPlace("tofu"), seeds, tuple(findings), command="python -m bench ablate cost")


def real(method: str = "msa", **changed: Any) -> Any:
    """A record of the held-out model: ten thousand tokens, twice as long as the ladder's rate says."""
    seconds = {"method": 2 * (OVERHEAD + 6 * HELD_OUT_PARAMETERS * 10_000 / RATE), "measure": 1.0}
    spent = costs(HELD_OUT_PARAMETERS, counted=False) | {"seconds": seconds, "tokens_trained": 10_000}
    return record(method, 0, tier="real", model="smollm2-135m-instruct-q4", cost=spent | changed)


def derived(made: Study) -> Study:
    return study.with_derived_findings(made, catalogue.load_ablation_of_runs("cost"))
