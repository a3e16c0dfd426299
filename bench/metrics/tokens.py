"""Reading the rows of logprob probes: per text its answer tokens' log-probs in nats, their argmax hits, its eos."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.rows import Text
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.scores import mean_metric


def texts(row: Mapping[str, Any], role: str) -> list[Text]:
    """The texts of ``role`` that have answer tokens; a text without any has no score, not a bad one."""
    return [text for text in row.get(role, ()) if text["logp"]]


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean of at least one value, summed exactly."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def harmonic_mean(values: Iterable[float]) -> float:
    """Harmonic mean of at least one value, none below 0; one zero makes it 0."""
    listed = list(values)
    return len(listed) / math.fsum(1 / value for value in listed) if all(listed) else 0.0


def mean_logp(text: Text) -> float:
    """Mean log-prob of the answer tokens, eos included, in nats per token."""
    return mean(text["logp"])


def loss(text: Text) -> float:
    """Mean loss of the answer tokens, eos included, in nats per token."""
    return -mean_logp(text)


def without_eos(text: Text, field: Literal["logp", "hit", "mu", "sigma"]) -> list[float]:
    """``logp`` or ``hit`` of the answer tokens, the last one dropped only where it is the eos.

    The peer drops the last token always, though texts without an eos (MUSE's passages) lose a real one by it.
    """
    values = list(text[field])
    return values[:-1] if text["eos"] else values


def row_metric(
    name: str, probe: str, role: str, value: Callable[[Text], float | None], goal: str | float, unit: str = ""
) -> Metric:
    """The metric whose score is the mean over examples of `row_means`."""
    return mean_metric(name, lambda responses, _: row_means(responses, probe, role, value), goal, unit=unit)


def all_hit(text: Text) -> float:
    """1 where every answer token was the most likely one, else 0."""
    return float(all(text["hit"]))


def row_means(responses: Responses, probe: str, role: str, value: Callable[[Text], float | None]) -> dict[str, float]:
    """Per example id the mean of ``value`` over the texts of ``role``; where it is None for all, the id is left out.

    Raises `Absent` when the probe was not asked, or when no example is left. NaN where a log-prob is no finite number.
    """
    found: dict[str, float] = {}
    for key, row in sorted(rows_of(responses, probe).items()):
        values = [result for text in texts(row, role) if (result := sound_value(value, text)) is not None]
        if values:
            found[key] = mean(values)
    if not found:
        raise Absent(f"no row of the probe '{probe}' has answer tokens in the role '{role}'")
    return found


def sound_value(value: Callable[[Text], float | None], text: Text) -> float | None:
    """The value of a text; NaN where a log-prob of it is no finite number, as its argmax hits would still count."""
    return value(text) if all(map(math.isfinite, text["logp"])) else math.nan
