"""The shapes of rows of responses, by kind of probe: what `bench.core.types.Responses` holds for one example.

Rows of ``logprob`` probes are ``{role: [Text, ...]}``, an entry for each text of the role. Rows of ``classes`` probes hold
the label as a one-token ``answer``, so that what reads logprob's rows reads these, and ``classes``, each class's log-prob.
Rows of ``divergence`` probes are ``{label of the other checkpoint: [KL in nats per answer token]}``, eos included
but for answers of one token. Rows of ``lm-eval`` are
lm-eval's numbers by name (``acc``: 0 or 1), those of ``reference`` and ``gradnorm`` hold one number: ``loss``, the mean
answer loss under the reference model in nats per token, and ``norm`` of the loss's gradient. Rows of ``depth`` hold
a number for each decoder block: ``patching`` or ``lens`` in nats, ``linear`` 0 or 1. Rows of ``judge`` probes hold
``grades``: option -> the judge's number (`bench.engines.measuring.judges.judge_rows`).

`check_row` tells whether a row that was read is of these shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NotRequired, TypedDict


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
    """The greedy answer; sampled ones are ``texts``."""
    texts: Sequence[str]
    counts: Mapping[str, int]
    """What `bench.metrics.rouge.count_overlap` says of the text and its reference."""
    counts_each: Sequence[Mapping[str, int]]
    """The counts of each sampled text, where the probe asks for ``overlap``."""
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


NUMBERS = {int, float, bool}
Check = Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether it is a number."""
    return type(value) in NUMBERS


def is_text(value: Any) -> bool:
    """Whether it is a string."""
    return type(value) is str


def is_list(value: Any) -> bool:
    """Whether it is a list of numbers."""
    return type(value) is list and NUMBERS.issuperset(map(type, value))


def is_table(value: Any) -> bool:
    """Whether it is an object of numbers."""
    return type(value) is dict and NUMBERS.issuperset(map(type, value.values()))


def is_scored(value: Any) -> bool:
    """Whether it is a `Text`."""
    if type(value) is not dict or type(value.get("eos")) is not bool:
        return False
    logp: Any = value.get("logp")
    hit: Any = value.get("hit")
    if not (is_list(logp) and is_list(hit) and len(logp) == len(hit)):
        return False
    return (
        len(value) == 3
        or is_list(value.get("mu", []))
        and is_list(value.get("sigma", []))
        and is_number(value.get("zlib", 0))
    )


def all_of(check: Check) -> Check:
    """Whether it is a list of what fits ``check``."""
    return lambda value: type(value) is list and False not in map(check, value)


FIELDS: tuple[tuple[re.Pattern[str], str, Check], ...] = tuple(
    (re.compile(names), kind, check)
    for names, kind, check in (
        (r"answer|wrong|paraphrase|corrupted|unrelated|options_\w+", "a list of scored texts", all_of(is_scored)),
        (r"classes|oracle-\d+|patching|lens|linear", "a list of numbers", is_list),
        (r"loss|norm|accepts|acc|acc_norm", "a number", is_number),
        (r"prompt|reference|text", "a text", is_text),
        (r"texts", "a list of texts", all_of(is_text)),
        (r"counts|counts_whole", "an object of numbers", is_table),
        (r"matches|counts_each", "a list of objects of numbers", all_of(is_table)),
        (r"grades", "numbers by option", lambda value: is_table(value) or all_of(is_table)(value)),
    )
)
"""Names in rows, what stands under them, and whether a value is that. A task may have others, which say what they are."""


@lru_cache(1024)
def field_named(name: str) -> tuple[str, Check]:
    """What stands under a name, and whether a value is that."""
    return next(((kind, check) for names, kind, check in FIELDS if names.fullmatch(name)), ("", lambda _: True))


def check_row(row: Mapping[str, Any]) -> None:
    """ValueError names the first member of a row that is of another kind than its name tells."""
    for name, value in row.items():
        kind, check = field_named(name)
        if not check(value):
            raise ValueError(f"{name} is not {kind}")
