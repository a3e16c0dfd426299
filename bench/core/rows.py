"""The shapes of rows of responses, by kind of probe: what `bench.core.types.Responses` holds for one example.

Rows of ``logprob`` probes are ``{role: [Text, ...]}``, an entry for each text of the role. Rows of ``classes`` probes hold
the label as a one-token ``answer``, so that what reads logprob's rows reads these, and ``classes``, each class's log-prob.
Rows of ``divergence`` probes are ``{label of the other checkpoint: [KL in nats per answer token]}``. Rows of ``lm-eval`` are
lm-eval's numbers by name (``acc``: 0 or 1), those of ``reference`` and ``gradnorm`` hold one number: ``loss``, the mean
answer loss under the reference model in nats per token, and ``norm`` of the loss's gradient. Rows of ``judge`` probes hold
``grades``: option -> the judge's number (`bench.engines.measuring.judges.judge_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict


class Text(TypedDict):
    """One scored text: per answer token, and empty for a text without tokens."""

    logp: Sequence[float]
    """Log-prob in nats."""
    hit: Sequence[int]
    """1 where the token was the most likely one, else 0."""
    eos: bool
    """Whether the last token is the end of sequence."""
    mu: NotRequired[Sequence[float]]
    """Mean of log p under the vocabulary distribution; where the probe asks for ``vocabulary``."""
    sigma: NotRequired[Sequence[float]]
    """Deviation of log p under the vocabulary distribution."""
    zlib: NotRequired[int]
    """Bytes of the text after zlib; where the probe asks for it."""


class Generated(TypedDict, total=False):
    """A row of a ``generate`` probe."""

    prompt: str
    reference: str
    text: str
    """The greedy answer; sampled ones are ``texts``, and have no counts."""
    texts: Sequence[str]
    counts: Mapping[str, int]
    """What `bench.metrics.rouge.count_overlap` says of the text and its reference."""
    counts_whole: Mapping[str, int]
    """The counts against the whole reference, where the probe cuts it."""
    matches: Sequence[Mapping[str, int]]
    """`bench.metrics.answers.match` of each text, where the example has the references ``accepted``."""


class Accepted(TypedDict):
    """A row of a ``judge`` probe whose examples have accepted answers."""

    grades: Sequence[Mapping[str, float]]
    """For each text: accepted answer -> the judge's number."""
    accepts: float
    """The number from which an answer counts as given."""
