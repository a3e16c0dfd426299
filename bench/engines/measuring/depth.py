"""What each decoder block of a model still holds of an answer that it was to forget; for causal models of any family.

Three ways to look, each at the places that predict the answer's tokens:

- Activation patching, for the unlearning depth score (UDS, arXiv 2605.24614): the target's states after a block are
  replaced by the measured model's, and the target goes on from there. What it then loses of the answer's log-prob isn't
  in the measured model's states.
- The logit lens: both models' states are read off through the target's last norm and head.
- A linear probe (Alain and Bengio 2016, arXiv 1610.01644): a multinomial logistic regression on the states.

`bench.metrics.depth` makes scores of it. Each text is a row of its own: in a tree of shared beginnings the place of one
answer may lie before another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.core.types import BROKEN_DOWN, OTHER_BROKEN
from bench.engines.devices import Held, send_numbers
from bench.engines.hidden import decoder_blocks, reading_states, writing_states
from bench.engines.measuring import scoring
from bench.engines.templates import Encoded

LEAST_ROWS = 5
"""Training rows that a class of the linear probe needs; answers of rarer classes aren't asked."""
MOST_STEPS = 5000
"""Of the logistic regression's solver, which is done in far fewer."""


@dataclass(frozen=True)
class Lost:
    """What the target loses of the answers' log-probs with another model's states."""

    nats: dict[Encoded, list[float]]
    """Of each text, block by block: the mean over its answer tokens."""
    broken: str
    """Why they are no measurement: the target's or the measured model's own logits are no finite numbers; else empty."""


@dataclass(frozen=True)
class Read:
    """One batch under one model."""

    seen: scoring.Positions
    places: Tensor
    """(P,) where something is predicted, through the padded batch."""
    states: tuple[Tensor, ...]
    """(P, D) of each block, there."""


def read_batch(model: Any, batch: Sequence[scoring.TreeRow], device: str) -> Read:
    """The states after every decoder block of ``model`` where the answers' tokens are predicted."""
    blocks = range(len(decoder_blocks(model)))
    places = send_numbers(scoring.predicting_places(batch), device)
    with reading_states(model, blocks) as found:
        seen = scoring.forward_rows(model, batch, device)
    return Read(seen, places, tuple(found[block].flatten(0, 1)[places] for block in blocks))


def lose_by_patching(full: Any, source: Any, texts: Sequence[Encoded], device: str) -> Lost:
    """Nats that ``full`` loses when the states after a block are those of ``source``, and it goes on from there."""
    found, sound = Held[Encoded](), list[Tensor]()
    for batch in scoring.plan_batches(full, texts, trees=False):
        own, read = scoring.forward_rows(full, batch, device), read_batch(source, batch, device)
        plain = mean_log_probs(own)
        lost = []
        for block, states in enumerate(read.states):
            with writing_states(full, block, read.places, states):
                lost.append(plain - mean_log_probs(scoring.forward_rows(full, batch, device)))
        found.add(read.seen.texts, [len(lost)] * len(plain), torch.stack(lost, 1).flatten())
        sound.append(are_finite(own, read.seen))
    return Lost(found.fetch(), who_broke(sound))


def lose_in_lens(full: Any, source: Any, texts: Sequence[Encoded], device: str) -> Lost:
    """Nats between the answers read off the states of ``full`` and off those of ``source``, both by the head of ``full``."""
    found, sound = Held[Encoded](), list[Tensor]()
    for batch in scoring.plan_batches(full, texts, trees=False):
        own, theirs = (read_batch(model, batch, device) for model in (full, source))
        ours, others = (
            torch.stack([mean_log_probs(replace(own.seen, logits=read_off(full, at))) for at in read.states], 1)
            for read in (own, theirs)
        )
        found.add(own.seen.texts, [ours.shape[1]] * len(ours), (ours - others).flatten())
        sound.append(are_finite(own.seen, theirs.seen))
    return Lost(found.fetch(), who_broke(sound))


def are_finite(*passes: scoring.Positions) -> Tensor:
    """Whether all logits of each pass are finite, (passes,)."""
    return torch.stack([seen.logits.isfinite().all() for seen in passes])


def who_broke(sound: Sequence[Tensor]) -> str:
    """The reason why nothing can be scored, from `are_finite` of target and measured model in each batch; else empty."""
    target, measured = torch.stack(list(sound)).all(0).tolist() if sound else (True, True)
    return OTHER_BROKEN.format("the target") if not target else "" if measured else BROKEN_DOWN


WAYS: Mapping[str, Callable[[Any, Any, Sequence[Encoded], str], Lost]] = {
    "patching": lose_by_patching,
    "lens": lose_in_lens,
}
"""The option ``by`` of a probe -> what takes the target, the measured model, texts and device."""


def read_off(model: Any, states: Tensor) -> Tensor:
    """Logits (P, V) that the last norm and the head of ``model`` make of states (P, D), whatever they are called there.

    Each state stands in the place of the last block's output in a text of one token, whose id doesn't matter.
    """
    ids = torch.zeros((len(states), 1), dtype=torch.long, device=states.device)
    with writing_states(model, -1, torch.arange(len(states), device=states.device), states):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits[:, 0].float()


def mean_log_probs(seen: scoring.Positions) -> Tensor:
    """The mean log-prob of each text's answer tokens, (texts,), in nats."""
    places = send_numbers((place for at in seen.at for place in at), seen.logits.device)
    labels = send_numbers((token for text in seen.texts for token in text.answer), seen.logits.device)
    each = seen.logits.log_softmax(-1)[places, labels]
    return torch.stack([part.mean() for part in each.split(list(map(len, seen.at)))])


def probe_blocks(
    model: Any, train: Sequence[Encoded], asked: Sequence[Encoded], device: str
) -> dict[Encoded, list[int]]:
    """Of each text, block by block, 1 where a linear probe names the answer's first token from the prompt's last state.

    The probe is trained on the same model's states of other texts. Texts whose first token fewer than `LEAST_ROWS` of
    those share are left out. FloatingPointError where the model has broken down.
    """
    rows = list(dict.fromkeys(first_token(text) for text in train if text.answer))
    counts = Counter(text.answer for text in rows)
    rows = [text for text in rows if counts[text.answer] >= LEAST_ROWS]
    texts = list(dict.fromkeys(first_token(text) for text in asked))
    texts = [text for text in texts if counts[text.answer] >= LEAST_ROWS]
    if not texts or len({text.answer for text in rows}) < 2:
        return {}
    labels, right = ([text.answer[0] for text in each] for each in (rows, texts))
    hits = [
        [int(said == token) for said, token in zip(fit_probe(learnt, labels, tested), right, strict=True)]
        for learnt, tested in zip(states_of(model, rows, device), states_of(model, texts, device), strict=True)
    ]
    found = {text: [block[k] for block in hits] for k, text in enumerate(texts)}
    return {text: found[first_token(text)] for text in asked if first_token(text) in found}


def first_token(text: Encoded) -> Encoded:
    """The text up to its answer's first token."""
    return Encoded(text.prompt, text.answer[:1], eos=False)


def states_of(model: Any, texts: Sequence[Encoded], device: str) -> list[Tensor]:
    """The states at the prompts' last tokens, (N, D) of each block in the order of ``texts``, in float32 on the host."""
    found: dict[Encoded, list[Tensor]] = {}
    for batch in scoring.plan_batches(model, texts, trees=False):
        read = read_batch(model, batch, device)
        if not are_finite(read.seen).all():
            raise FloatingPointError(BROKEN_DOWN)
        blocks = [states.float().cpu() for states in read.states]
        found |= {
            text: [states[at[0]] for states in blocks] for text, at in zip(read.seen.texts, read.seen.at, strict=True)
        }
    return [torch.stack([found[text][block] for text in texts]) for block in range(len(decoder_blocks(model)))]


def fit_probe(states: Tensor, labels: Sequence[int], asked: Tensor) -> list[int]:
    """The class that a multinomial logistic regression on ``states``, each column standardised, gives each of ``asked``.

    Scikit-learn's own penalty (C 1).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_STEPS))
    said: list[int] = made.fit(states.double().numpy(), labels).predict(asked.double().numpy()).tolist()
    return said
