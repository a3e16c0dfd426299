"""FLAT: raise the probability of a refusal and lower that of the forget answer, by the variational form of a divergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, ClassVar

from bench.core.contracts import AnswerLogProbs, Batch, References
from bench.core.errors import unknown_name
from bench.engines.training.refusals import RefusalMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


def total_variation(good: Tensor, forget: Tensor) -> Tensor:
    """``tanh(P_f) / 2 - tanh(P_g) / 2``."""
    return (forget.tanh() - good.tanh()) / 2


def kullback_leibler(good: Tensor, forget: Tensor) -> Tensor:
    """``exp(P_f - 1) - P_g``."""
    return (forget - 1).exp() - good


def jensen_shannon(good: Tensor, forget: Tensor) -> Tensor:
    """``log(1 + e^-P_g) + P_f + log(1 + e^-P_f) - 2 log 2``."""
    from torch.nn.functional import softplus

    return softplus(-good) + forget + softplus(-forget) - 2 * log(2)


def pearson(good: Tensor, forget: Tensor) -> Tensor:
    """``P_f^2 / 4 + P_f - P_g``."""
    return forget**2 / 4 + forget - good


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "tv": total_variation,
    "kl": kullback_leibler,
    "js": jensen_shannon,
    "pearson": pearson,
}
"""Name -> loss of the mean token probabilities P_g of the refusal and P_f of the forget answer."""


@dataclass(frozen=True)
class FLATLoss:
    """``-g(P_g) + f*(g(P_f))``, P the mean probability of an answer's tokens: of the refusal and of the forget answer
    (Wang et al. 2024, arXiv 2410.11143; f* the conjugate and g the activation of the divergence).

    The authors' code takes the mean over every position, with 0 where there is no answer, so that its value depends on
    the padding; here it is over answer tokens. The gradient goes through probabilities, not log-probs: it vanishes for a
    refusal that the model would never give.
    """

    divergence: str

    reference: ClassVar[References] = ""
    version: ClassVar[int] = 1

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each pair of answers, (B,), without a unit."""
        assert batch.alternate is not None, "every row has a refusal beside its answer"
        good, forget = (mean_probability(each.answer_log_probs(model)) for each in (batch.alternate, batch))
        return DIVERGENCES[self.divergence](good, forget)


def mean_probability(answers: AnswerLogProbs) -> Tensor:
    """The mean probability of each answer's tokens, (B,)."""
    return (answers.values.exp() * answers.mask).sum(-1) / answers.mask.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class FLAT(RefusalMethod):
    """FLAT on pairs of refusal and forget answer (Wang et al. 2024, arXiv 2410.11143), which needs no retain rows.

    The paper's has none; a ``retain_weight`` above 0 adds the loss on them, a variant of ours.
    """

    divergence: str = "tv"
    """``tv`` (total variation, the paper's choice), ``kl``, ``js`` (Jensen-Shannon) or ``pearson``."""
    retain_weight: float = 0.0
    """Weight of the retain rows' loss; the paper has none."""

    summary: ClassVar[str] = "loss adjustment with refusals and forget data alone (FLAT, Wang et al. 2024)"
    paper: ClassVar[str] = "arXiv 2410.11143"
    name: ClassVar[str] = "flat"
    optional: ClassVar[frozenset[str]] = frozenset({"retain"})
    variants: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        known = self.divergence in DIVERGENCES
        return super().problems() + ([] if known else [unknown_name("flat.divergence", self.divergence, DIVERGENCES)])

    def named(self) -> str:
        """The variant that these parameters make."""
        made = [f"{self.divergence}-divergence"] if self.divergence != "tv" else []
        return "+".join(filter(None, [*made, "retain" if self.retain_weight else "", super().named()]))

    def loss(self) -> FLATLoss:
        """The loss on pairs."""
        return FLATLoss(self.divergence)
