"""IdkDPO, and direct preference optimisation (DPO) in general: another answer is preferred to the forget answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import not_positive
from bench.engines.training.alternates import Preference
from bench.engines.training.refusals import RefusalMethod


@dataclass(frozen=True)
class IdkDPO(RefusalMethod):
    """``-(2 / beta) log sigmoid(beta m)`` on pairs of refusal and forget answer, plus ``retain_weight`` times the loss on
    retain rows (TOFU, arXiv 2401.06121, section 3; the loss is `bench.engines.training.alternates.Preference`).

    With a ``.jsonl`` file of questions, each with another answer, it is DPO in general. The reference is the target,
    never the retrained model. TOFU's code
    has no factor 2 / beta, and reads a variable there that nothing sets, so that it has never run: ``forget_weight`` =
    beta / 2 is its loss.
    """

    beta: float = 0.1
    """Inverse temperature of the preference; TOFU's and open-unlearning's .1."""

    summary: ClassVar[str] = "prefers refusals to the forget answers (DPO; TOFU, Maini et al. 2024)"
    paper: ClassVar[str] = "arXiv 2401.06121"
    name: ClassVar[str] = "idk-dpo"
    together: ClassVar[int] = 3

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return super().problems() + not_positive(self.name, self, "beta")

    def loss(self) -> Preference:
        """The loss on pairs."""
        return Preference(self.beta)
