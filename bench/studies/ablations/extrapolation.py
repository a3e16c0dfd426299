"""What the methods would cost at sizes far beyond what was measured: arithmetic with the assumptions of ``cost.toml``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.files import read_toml
from bench.core.typed_toml import as_typed
from bench.engines.training.flops import PER_ENTRY
from bench.records.markdown import format_duration, format_scaled, markdown_table
from bench.runs.estimate import BYTES_PER_PARAMETER
from bench.studies.ablations.costing import WEIGHT_BYTES, CostRules


@dataclass(frozen=True)
class MethodLoad:
    """The work of a method in passes and checkpoints, whatever the size of the model."""

    forget_sets: int = 0
    """Sets of as many rows as there are to forget that every pass goes over."""
    retain_sets: int = 0
    terms: int = 0
    """Checkpoints that the arithmetic reads."""
    kept: int = 0
    """Checkpoints beside the target and its own result: theta_0, and the tuned ones."""


@dataclass(frozen=True)
class Workload:
    """Data, machine and methods of the extrapolation."""

    sizes: Mapping[str, float]
    """Name -> parameters."""
    forget_rows: int
    retain_rows: int
    row_tokens: int
    passes: int
    utilisation: float
    """Share of the peak that training reaches."""
    peak_flops: float
    """Of one card, each second."""
    card_bytes: float
    disk_bytes: float
    """Read or written each second."""
    merge_bytes: int
    """Bytes of a weight in the checkpoints that are merged."""
    loads: Mapping[str, MethodLoad]

    def tokens(self, load: MethodLoad) -> int:
        """Tokens that a method trains on, counted each time."""
        rows = load.forget_sets * self.forget_rows + load.retain_sets * self.retain_rows
        return self.passes * rows * self.row_tokens

    def flops(self, load: MethodLoad, parameters: float, per_parameter: float) -> float:
        """FLOPs of training, at so many for each parameter and token, and of the arithmetic."""
        return parameters * (per_parameter * self.tokens(load) + PER_ENTRY * load.terms)

    def gpu_seconds(self, flops: float) -> float:
        """Seconds on one card, if it could hold the model."""
        return flops / (self.utilisation * self.peak_flops)

    def disk_seconds(self, load: MethodLoad, parameters: float) -> float:
        """Seconds of the merge: every term read and the result written."""
        return (load.terms + 1) * self.merge_bytes * parameters / self.disk_bytes if load.terms else 0.0


DATA = read_toml(Path(__file__).with_name("cost.toml"))
TEXTS: Mapping[str, Any] = DATA["texts"]
WORKLOAD: Workload = as_typed(Workload, DATA["workload"], "cost.toml: workload")


def extrapolation_section(rule: CostRules) -> str:
    """The extrapolation with its assumptions, Markdown."""
    work = WORKLOAD
    sizes, body = [], []
    for name, n in work.sizes.items():
        training, merged = BYTES_PER_PARAMETER * n, format_scaled(work.merge_bytes * n, "B")
        cards = str(math.ceil(training / work.card_bytes))
        sizes.append([name, format_scaled(training, "B"), cards, format_scaled(WEIGHT_BYTES * n, "B"), merged])
        for method, load in work.loads.items():
            flops = work.flops(load, n, rule.per_parameter)
            kept = [format_scaled(load.kept * width * n, "B") for width in (WEIGHT_BYTES, work.merge_bytes)]
            merge = format_duration(work.disk_seconds(load, n)) if load.terms else "—"
            cells = [format_scaled(work.tokens(load), ""), format_scaled(flops, "FLOP")]
            time = format_duration(work.gpu_seconds(flops))
            body.append([name, method, *cells, time, " / ".join(kept) if load.kept else "0", merge])
    head = ["size", "method", "tokens", "FLOPs", "H100 time", "kept beside (float32 / bfloat16)", "merge on disk"]
    memory = ["size", "memory for training", "80 GB cards for it", "a checkpoint, float32", "bfloat16"]
    parts = [TEXTS["larger"], assumptions_list(rule), markdown_table(memory, sizes), markdown_table(head, body)]
    return "\n\n".join(parts)


def assumptions_list(rule: CostRules) -> str:
    """Every constant of the extrapolation in words, a list in Markdown."""
    constants = vars(WORKLOAD) | {
        "per_parameter": f"{rule.per_parameter:.3g}",
        "peak": format_scaled(WORKLOAD.peak_flops, "FLOP/s"),
        "disk": format_scaled(WORKLOAD.disk_bytes, "B/s"),
        "training_bytes": BYTES_PER_PARAMETER,
        "weight_bytes": WEIGHT_BYTES,
    }
    return "\n".join(f"- {text.format(**constants)}" for text in TEXTS["assumptions"])
