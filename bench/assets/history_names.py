"""What names of revisions and folders say of a checkpoint: step, tokens seen, stage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from bench.assets.models import published_revisions, tokens_a_step
from bench.core.errors import UserError, report_mistake

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", re.IGNORECASE)

REVISION = re.compile(
    r"(?:(?P<stage>stage(?P<number>\d+)(?:-ingredient\d+)?)-)?(?:global_)?step-?(?P<step>\d+)"
    r"(?:-tokens(?P<tokens>\d+(?:\.\d+)?[KMBT]))?"
)
"""OLMo-2, OLMo, Pythia; SmolLM writes ``step-125000``, BLOOM ``global_step1000``."""

NUMBERED = re.compile(r"ckpt_(\d+)")
"""Amber and its like number their checkpoints; the number isn't a step."""

TRAINER = re.compile(r"checkpoint-(\d+)")


# Numbers and names


def parse_tokens(text: str) -> int:
    """``500B``, ``4.2T``, ``800M`` or a plain number, exactly."""
    found = read_tokens(text)
    if found is None:
        raise UserError(f"'{text}' is no number of tokens: write it as 500B, 4.2T, 800M or 2097152.")
    return found


def read_tokens(text: str) -> int | None:
    """The number, if the text is one and whole."""
    found = NUMBER.fullmatch(text.strip())
    if not found:
        return None
    number = Decimal(found[1]) * UNITS[found[2].upper()]
    return int(number) if number == number.to_integral_value() else None


def format_tokens(tokens: int | None) -> str:
    """A number of tokens in the unit that OLMo's names have: ``3985B``, ``800M``; ``?`` where nobody knows."""
    if tokens is None:
        return "?"
    unit = next((unit for unit in "BMK" if tokens >= UNITS[unit]), "")
    number = tokens / UNITS[unit]
    return f"{number:.0f}{unit}" if number >= 1000 or number == int(number) else f"{number:.4g}{unit}"


class ParsedName(NamedTuple):
    """The step, tokens and stage that a revision's name states."""

    step: int
    """Within its stage."""
    tokens: int | None
    stage: str


def parse_revision(name: str) -> ParsedName | None:
    """Read the name of a revision or folder; None for a name that isn't understood.

    ``stage1-step119000-tokens500B``, ``stage2-ingredient1-step11000-tokens47B``, ``step1000-tokens4B``, ``step143000``,
    ``ckpt_358`` (a number, not a step), ``checkpoint-500``.
    """
    if found := REVISION.fullmatch(name):
        tokens = parse_tokens(found["tokens"]) if found["tokens"] else None
        return ParsedName(int(found["step"]), tokens, found["stage"] or "pretraining")
    if found := NUMBERED.fullmatch(name):
        return ParsedName(int(found[1]), None, "pretraining")
    if found := TRAINER.fullmatch(name):
        return ParsedName(int(found[1]), None, "training")
    return None


def count_from_first_weights(
    parsed: Sequence[ParsedName],
    known: Iterable[ParsedName] = (),
    stated: Sequence[tuple[int | None, int | None]] = (),
) -> list[ParsedName]:
    """The parsed names with steps and tokens counted from the first weights: those of a later stage start again.

    A stage begins where the latest name of the stage before it ends, among these names and ``known`` ones. The
    ingredients of a stage are trained side by side, so all of them begin there. ``stated`` has for each of ``parsed``
    the step and the tokens that are counted from the first weights already; None: as its name says.
    """
    names = [*parsed, *known]
    fixed = [*(stated or [(None, None)] * len(parsed)), *[(None, None)] * (len(names) - len(parsed))]
    found = list(names)
    begin = ParsedName(0, 0, "")
    for number in sorted({stage_number(each.stage) for each in names}):
        ends = []
        for index, (each, (step, tokens)) in enumerate(zip(names, fixed, strict=True)):
            if stage_number(each.stage) != number:
                continue
            if tokens is None and begin.tokens is not None and each.tokens is not None:
                tokens = begin.tokens + each.tokens
            found[index] = ParsedName(begin.step + each.step if step is None else step, tokens, each.stage)
            if number or step is None:  # a stated step outside the numbered stages says nothing of where they begin
                ends.append(found[index])
        begin = max((*ends, begin), key=lambda end: end.step)
    return found[: len(parsed)]


def published_stages(model: str) -> list[ParsedName]:
    """The stages of a model, and where they end, by the published names of its revisions."""
    return [parsed for name in published_revisions(model) if (parsed := parse_revision(name))]


def tokens_at(model: str, name: str, placed: ParsedName) -> int | None:
    """Tokens as the name counts them; where it names a step, else by the model's tokens a step."""
    each = tokens_a_step(model) if REVISION.fullmatch(name) else None
    return placed.step * each if each and placed.tokens is None else placed.tokens


def stage_number(stage: str) -> int:
    """1 for ``stage1``, 2 for ``stage2-ingredient3``; 0 for a stage without a number."""
    found = re.match(r"stage(\d+)", stage)
    return int(found[1]) if found else 0


def counted(value: Any, where: str) -> int | None:
    """A number of tokens, as a number or as ``4B``; anything else is reported as a mistake."""
    if value is None:
        return None
    number = read_tokens(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if number is None:
        report_mistake(f"{where}: its tokens are {json.dumps(value)}; write 500B, 4.2T, 800M or a whole number.")
    return number
