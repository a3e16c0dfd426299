"""A flag beside the scores: the model is broken on what must stay, whatever it has forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core.contracts import Metric
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Responses
from bench.metrics import rows_of
from bench.metrics.catalogue import listed
from bench.metrics.truth import score_part

LOOP_SHARE = 0.5
"""A text is degenerate when a phrase said three times and more in a row makes up that much of it."""
VARIETY = 0.2
"""Or when it has fewer different words than that, as a share; ordinary prose of 200 words has more than half."""
LONG = 20
"""Words from which variety is asked for."""
ROWS = 0.5
"""Share of degenerate texts from which the model is."""


@listed("collapsed", "1 where it writes empty or looping text, or its utility is below a floor", "down", "own")
def collapsed(name: str, *probes: str, utility: Metric, floor: float) -> Metric:
    """1 when half or more of the texts generated for ``probes`` are degenerate or ``utility`` < ``floor``, else 0.

    The probes are those of what must stay: a method that makes forgotten answers loop has not broken the model by it.
    Degenerate: empty, looping for half of its words, or 20 words and more of which less than a fifth differ. Goal
    down. Without ``utility`` or without texts the flag is absent, not 0. A model whose logits are no finite numbers
    somewhere is broken.
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if responses.wrecked:
            return Score(1.0, 1)
        counts = []
        for probe in probes:
            said = [row["counts"] for row in rows_of(responses, probe).values() if "counts" in row]
            if not said:
                raise Absent(f"no text was generated for the probe '{probe}'")
            counts += said
        broken = sum(map(degenerate, counts)) >= ROWS * len(counts)
        useless = score_part(utility, responses, oracles).value < floor
        return Score(float(broken or useless), len(counts))

    return Metric(name, compute, "down", version=2, needs_oracle=utility.needs_oracle)


def degenerate(counts: Mapping[str, int]) -> bool:
    """Whether a text with these counts (`bench.metrics.rouge.count_overlap`) is empty, loops, or says the same few words."""
    words = counts["words"]
    looping = counts["looped"] >= LOOP_SHARE * words
    return looping or (words >= LONG and counts["distinct"] < VARIETY * words)
