"""Losses and row groups that several methods share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, Limit, Loss, References, Stream
from bench.core.types import Example

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class NextToken:
    """Mean negative log-likelihood of the answer's tokens; each example weighs the same."""

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Minus the mean log-prob of each answer, (B,), nats per token."""
        from bench.engines.coding import answer_log_probs

        return -answer_log_probs(model, batch).means


@dataclass(frozen=True)
class Ascent:
    """Gradient ascent: the mean answer log-prob, so that minimising it raises the loss on these rows."""

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean log-prob of each answer, (B,), nats per token."""
        from bench.engines.coding import answer_log_probs

        return answer_log_probs(model, batch).means


def descent() -> NextToken:
    """The loss of ordinary training."""
    return NextToken()


@dataclass(frozen=True)
class KeepDistribution:
    """``KL(target || model)``: the mean over an answer's tokens of the divergence of the distributions they are drawn from.

    Zero, with a gradient of zero, at the first step. Over answer tokens alone; TOFU's and OpenUnlearning's code take the mean
    over every position, prompt and padding included.
    """

    reference: ClassVar[References] = "model"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The divergence of each example, (B,), nats per token."""
        assert batch.target is not None, "training lays the target beside the batch of a loss that declares it"
        ours = batch.answer_logits(model)
        theirs = batch.answer_logits(batch.target).values.log_softmax(-1)
        return ours.row_means((theirs.exp() * (theirs - ours.values.log_softmax(-1))).sum(-1))


RETAIN_LOSSES: dict[str, Callable[[], Loss]] = {"nll": NextToken, "kl": KeepDistribution}
"""Name -> loss on retain rows: next-token loss, or the divergence from the target."""


def make_streams(
    examples: Sequence[Example],
    loss: Loss,
    batch: int,
    text_batch: int,
    weight: float = 1.0,
    limit: Limit | None = None,
    sharpness: float = 0.0,
) -> list[Stream]:
    """Passages and everything else as two streams with their own batch sizes; a kind that doesn't occur has none."""
    passages = tuple(example for example in examples if example.payload["template"] == "text")
    others = tuple(example for example in examples if example.payload["template"] != "text")
    both = [
        Stream(rows, size, loss, weight, limit, sharpness) for rows, size in ((passages, text_batch), (others, batch))
    ]
    return [stream for stream in both if stream.examples]


def sample_like(examples: Sequence[Example], like: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """A random sample of ``examples`` with at most as many rows as ``like``, its kinds of rows in their own proportion.

    MSA's retain vector may see no more than this: on the full retain set it would be the oracle.
    """
    total = min(len(like), len(examples))
    pools: dict[str, list[Example]] = {}
    for example in examples:
        pools.setdefault(example.payload["template"], []).append(example)
    chosen: list[Example] = []
    left = len(examples)
    for template, pool in sorted(pools.items()):
        wanted = round((total - len(chosen)) * len(pool) / left)
        chosen += random.Random(f"{seed}/{template}").sample(pool, wanted)
        left -= len(pool)
    return tuple(chosen)


def budget_problems(owner: str, budget: str) -> list[str]:
    """A sentence about a budget that `retain_rows` doesn't know."""
    return [] if budget in ("all", "forget") else [f"{owner}.retain is 'all' or 'forget', not '{budget}'."]


def retain_rows(examples: Sequence[Example], forget: Sequence[Example], budget: str, seed: int) -> tuple[Example, ...]:
    """All retain rows (``all``), or as many as the forget set has (``forget``: MSA's retain budget)."""
    return tuple(examples) if budget == "all" else sample_like(examples, forget, seed)
