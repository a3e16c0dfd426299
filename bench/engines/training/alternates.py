"""Another answer for the same prompt: the rows that have one, and the preference for it over their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import Batch, References
from bench.core.errors import Unmet
from bench.core.types import Example

if TYPE_CHECKING:
    from torch import Tensor, nn


def question_rows(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The rows that ask something; `Unmet` where none does, as another answer needs a question."""
    if not any("prompt" in row.payload for row in rows):
        raise Unmet("it teaches another answer to each question, and the rows of this task are no texts")
    asked = tuple(row for row in rows if row.payload.get("prompt"))
    if not asked:
        raise Unmet("it teaches another answer to each question, and what this task forgets are passages without one")
    return asked


def answered_otherwise(row: Example, answers: Sequence[str]) -> tuple[Example, ...]:
    """The row once for each of ``answers``, which stands beside its own as ``alternate``."""
    return tuple(
        replace(row, id=f"{row.id}-other{number}", payload={**row.payload, "alternate": answer})
        for number, answer in enumerate(answers)
    )


@dataclass(frozen=True)
class Preference:
    """``-(2 / beta) log sigmoid(beta m)``, m = log-ratio of the other answer minus log-ratio of the row's own (DPO).

    A log-ratio is ``log p - log p_ref``, summed over an answer's tokens, with the target as reference, whose log-probs
    are computed once before training (Rafailov et al. 2023, arXiv 2305.18290; the factor as in open-unlearning). TOFU's
    own code has no factor: a forget weight of ``beta / 2`` is that. At the first step the loss is ``(2 / beta) log 2``;
    as beta -> 0 its gradient becomes that of ``log p(own) - log p(other)``.
    """

    beta: float

    reference: ClassVar[References] = "sums"
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each pair of answers, (B,), in nats."""
        from torch.nn.functional import softplus

        other = batch.alternate
        assert other is not None, "every row of a preference has another answer"
        assert batch.reference is not None and other.reference is not None, "training computes both references"
        own_ratio = batch.answer_log_probs(model).sums - batch.reference
        other_ratio = other.answer_log_probs(model).sums - other.reference
        return 2 / self.beta * softplus(-self.beta * (other_ratio - own_ratio))
