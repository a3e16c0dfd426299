"""Quantisation as an attack: weights rounded to few bits may be those that the target's are rounded to.

Zhang et al. 2025 (arXiv 2410.16454) find that 4 bits bring back much of what was unlearned, as small changes of weights
fall into the same bins. It unlearns nothing itself; as ``--then quantise`` it follows every method, the target and the
oracle, and what counts is the difference to the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Context, Method, too_small
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Request

LEVELS = ("int8", "int4")
BOOKS = ("nf4", "fp4")
"""Kinds of `bench.engines.arithmetic.rounding`, with scales of rows or groups, and with code books and blocks of 64."""


@dataclass(frozen=True)
class Quantise(Method):
    """Round to nearest the weights of all linear layers of the decoder blocks; embeddings, norms and head stay.

    ``int8`` and ``int4``: ``s round(w / s)`` with ``s = max |w| / 127`` (or 7) over an output's weights or a group of them.
    ``nf4`` and ``fp4``: the entries of bitsandbytes' code books times the largest ``|w|`` of a block of 64. The quantisation
    is simulated: weights are written back in their own type and computed with as before, where bitsandbytes keeps codes;
    its ``load_in_8bit`` rounds activations too, which this doesn't.
    """

    kind: str = "int4"
    """``int8``, ``int4``, ``nf4`` or ``fp4``."""
    group: int = 0
    """Weights of an output that share a scale of int8 or int4; 0: all of them."""

    summary: ClassVar[str] = (
        "round the weights to 8 or 4 bits, an attack that may undo small changes (Zhang et al. 2025)"
    )
    paper: ClassVar[str] = "arXiv 2410.16454"
    in_all: ClassVar[bool] = False
    attack: ClassVar[bool] = True

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = too_small("quantise", self, {"group": 0})
        if self.kind not in (*LEVELS, *BOOKS):
            found.append(unknown_name("value of quantise.kind", self.kind, (*LEVELS, *BOOKS)))
        if self.kind in BOOKS and self.group > 0:
            found.append(f"quantise.group goes with int8 and int4: leave it out, as {self.kind} has blocks of 64.")
        return found

    def named(self) -> str:
        """The kind, and the group where there is one: ``int4-128``."""
        return f"{self.kind}-{self.group}" if self.group else self.kind

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The rounded checkpoint.

        Notes ``rounding``, where ``differs`` are shares of the rounded entries that aren't what the first target's are rounded
        to (near 0 the attack must succeed), as values and as codes whatever their scales; and the ``update`` that is attacked.
        """
        about = {"kind": self.kind, "group": self.group, "simulated": True, "dtype": request.target.dtype}
        if request.first:
            about["differs"] = ctx.compare_rounded(request.first, request.target, self.kind, self.group)
            ctx.note(update=ctx.describe_update(request.first, request.target))
        ctx.note(rounding=about)
        return ctx.quantise(request.target, self.kind, self.group)
