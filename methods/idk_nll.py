"""IdkNLL: a refusal is taught as the answer to each forget question, and no forget answer is ever seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bench.core.contracts import Context
from bench.core.types import Example, Request
from bench.engines.training.losses import NextToken
from bench.engines.training.refusals import RefusalMethod


@dataclass(frozen=True)
class IdkNLL(RefusalMethod):
    """Next-token loss on refusals to the forget questions, plus the next-token loss on retain rows (TOFU, arXiv 2401.06121,
    section 3: "preference optimization").

    Each row weighs the same here. TOFU's code takes the mean over all answer tokens of both kinds in one batch, in which
    longer answers weigh more.
    """

    summary: ClassVar[str] = (
        "teaches refusals to the forget questions (TOFU's preference optimisation, Maini et al. 2024)"
    )
    paper: ClassVar[str] = "arXiv 2401.06121"
    name: ClassVar[str] = "idk-nll"

    def loss(self) -> NextToken:
        """The loss on refusals."""
        return NextToken()

    def forget_rows(self, request: Request, ctx: Context) -> Sequence[Example]:
        """The questions with a refusal in the place of their answer."""
        return [
            replace(row, payload={**{k: v for k, v in row.payload.items() if k != "alternate"}, "answer": said})
            for row in super().forget_rows(request, ctx)
            for said in [row.payload["alternate"]]
        ]
