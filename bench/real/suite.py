"""The complete suites of the benchmarks, as `bench eval` asks them of any model: probes, metrics, and what can't be had.

A suite reads the benchmark's own data in the hub's layout. A configuration is required only by the metrics that read
it: where it is missing they are absent, with the reason. The real tiers of the tasks are made of the same parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.core.contracts import Metric
from bench.core.types import Probe


@dataclass(frozen=True)
class Suite:
    """The probes and metrics of a benchmark, and the metrics that its data can't give."""

    probes: tuple[Probe, ...]
    """The id of every example ends in ``-<row>``, the row's number in its configuration."""
    metrics: tuple[Metric, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Names of the suite's metrics that these data can't give, with the reason."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a reader must know of the data: rows of each configuration, which benchmark it is or isn't."""
