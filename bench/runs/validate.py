"""One setting of a search: unlearn and ask the validation rows, without an oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from bench.core import registry, versions
from bench.core.contracts import Scenario
from bench.core.errors import Absent, UserError
from bench.core.files import set_aside, write_text
from bench.core.record import RunSpec
from bench.core.schema import OPEN, Line, Provenance, Real, Whole, read_as
from bench.core.types import Checkpoint, Json, Probe, Responses
from bench.metrics import rows_of
from bench.records.plain import read_plain
from bench.runs import selection
from bench.runs.context import Work
from bench.runs.facts import merged_provenance
from bench.runs.jobs import Job
from bench.runs.method_context import Ledger
from bench.runs.responses import measure_node
from bench.runs.runner import prepare, unlearn
from bench.runs.setting import Paths


class RowShape(TypedDict):
    """A setting's row in its file."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    params: dict[str, Any]
    versions: dict[str, Any]
    seed: Whole
    seconds: Real
    nodes: NotRequired[dict[str, Real]]
    provenance: Provenance
    level: NotRequired[dict[str, Real]]
    forget: NotRequired[dict[str, Real]]
    retain: NotRequired[Real]
    world: NotRequired[Real]
    target: NotRequired[dict[str, Real]]
    tokens: NotRequired[Whole]
    broken: NotRequired[Line]


SCORED = {"level", "target", "forget", "retain", "world", "tokens"}
"""What a row has whose setting gave no wreck."""


def row_file(out: Path, spec: RunSpec) -> Path:
    """Where the row of a search lies."""
    return out / "tune" / "rows" / f"{spec.key}.json"


def is_current(out: Path, job: Job) -> bool:
    """Whether a setting's row is there, made by the versions of now."""
    return (read_row(out, job.spec) or {}).get("versions") == row_versions(job.spec)


def read_row(out: Path, spec: RunSpec) -> Json | None:
    """The row of a setting; None where there is none or a damaged one, which is made again."""
    try:
        row: Json = read_plain(row_file(out, spec))
        read_as(RowShape, row)
    except ValueError:
        return None
    return row if row["seed"] == spec.seed and ("broken" in row or row.keys() >= SCORED) else None


def write_row(out: Path, spec: RunSpec, row: Json, say: Callable[[str], None]) -> None:
    """Write a setting's row; what stands in its place and is no sound row of it is set aside by name, and kept."""
    file = row_file(out, spec)
    if read_row(out, spec) is None:
        set_aside(file, "row of this search", say)
    write_text(file, json.dumps(row, indent=1, allow_nan=False))


def row_versions(spec: RunSpec) -> Json:
    """Versions that a row of a search depends on beside its spec: the rule's, the method's and the engines' versions."""
    method = registry.load_component("methods", spec.steps[-1].method)
    return {
        "rule": selection.VERSION,
        "method": method.version,
        "engines": [versions.TRAINING, versions.ARITHMETIC, versions.MEASURE],
    }


def validate_setting(spec: RunSpec, paths: Paths, work: Work) -> Json:
    """One setting of a search: unlearn and ask the validation rows. No oracle is built, so none can take part."""
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
    own = [node for key, node in sorted(work.nodes.items()) if key not in shared]
    asked = ask_validation(result, scenario, selection.SIDES, work)
    untouched = ask_validation(target, scenario, selection.SIDES, work)
    row: Json = {
        "params": dict(spec.steps[-1].params),
        "versions": row_versions(spec),
        "seed": spec.seed,
        "seconds": round(sum(node.info["seconds"] for node in own), 2),
        "nodes": {node.key: node.info["seconds"] for node in own},
        "tokens": sum(node.info["meta"].get("tokens", 0) for node in own),  # as `facts.measure_cost` counts them
        "provenance": merged_provenance(work),
    }
    try:
        row |= {
            "level": selection.side_scores(untouched, "unseen", scenario.validation),
            "target": selection.kept_scores(untouched, scenario.validation),
        }
    except Absent as reason:
        raise UserError(f"Nothing can be tuned on this target, as {reason}.") from None
    try:
        return row | setting_scores(asked, scenario, work)
    except Absent as reason:
        return row | {"broken": str(reason)}


def setting_scores(asked: Responses, scenario: Scenario, work: Work) -> Json:
    """What the rule reads of a setting's responses; `Absent` where the model that it makes has broken down."""
    return {
        "forget": selection.side_scores(asked, "forget", scenario.validation),
        **selection.kept_scores(asked, scenario.validation),
        "signals": tuning_signals(asked, scenario, work),
    }


def ask_validation(checkpoint: Checkpoint, scenario: Scenario, sides: Sequence[str], work: Work) -> Responses:
    """A checkpoint's responses to the validation rows of some sides."""
    probes = [Probe(f"validation_{side}", scenario.asks, getattr(scenario.validation, side)) for side in sides]
    return measure_node(checkpoint, replace(scenario, probes=tuple(probes)), (), None, work).responses


def tuning_signals(found: Responses, scenario: Scenario, work: Work) -> Json:
    """Mean losses and their AUC, for other rules than `bench.runs.selection`'s; without the oracle.

    ``forget_loss`` and ``theta_0_forget_loss``: of the forget validation rows under the model and under the last
    checkpoint before exposure, nats per answer token. ``auc``: the chance that a forget row has a lower loss than one
    that was never trained on.
    """
    from sklearn.metrics import roc_auc_score

    def losses(responses: Responses, side: str) -> list[float]:
        found = rows_of(responses, f"validation_{side}")
        rows = [found[row.id]["answer"][0]["logp"] for row in getattr(scenario.validation, side)]
        return [-sum(logp) / len(logp) for logp in rows if logp]

    forget, unseen = losses(found, "forget"), losses(found, "unseen")
    labels = [1] * len(forget) + [0] * len(unseen)
    values: Json = {
        "forget_loss": sum(forget) / len(forget),
        "auc": float(roc_auc_score(labels, [-loss for loss in (*forget, *unseen)])),
    }
    if scenario.history is not None:
        last = scenario.history().last.checkpoint
        before = losses(ask_validation(last, scenario, ["forget"], work).named("theta_0"), "forget")
        values["theta_0_forget_loss"] = sum(before) / len(before)
    return values
