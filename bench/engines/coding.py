"""Coders turn examples into batches; here is the coder of texts.

Training, losses and influence weights see rows with a length, batches that know the log-probs of their answers, and no
more: `bench.core.contracts` has the protocols. A loader (`bench.engines.loaders`) names the coder of its models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.contracts import AnswerLogits, AnswerLogProbs, AnswerStates, Batch, Target
from bench.core.errors import UserError
from bench.engines.devices import send_numbers
from bench.engines.hidden import reading_states
from bench.engines.templates import Encoded, encode, name_of


def answer_log_probs(model: Any, batch: Batch) -> AnswerLogProbs:
    """Log-probs of the answers of ``batch`` under ``model``, as the batch reads them off; a label is a one-token answer."""
    return batch.answer_log_probs(model)


@dataclass
class TextBatch:
    """Rows padded on the right. Under causal attention the padding can't be seen, so there is no mask to get wrong."""

    input_ids: Tensor  # (B, T)
    starts: Tensor  # (B,) index of the first answer token
    lengths: Tensor  # (B,) tokens of prompt and answer
    predicting: range
    """Places at which some row's answer is predicted."""
    places: Tensor  # (N,)
    """Which of the rows' places among these are of their own answers, row after row: numbers, as a mask would be waited for."""
    reference: Tensor | None = None  # (B,) or (B, K) answer log-probs under the target, in nats
    target: Target | None = None
    beside: Callable[..., Any] | None = None
    alternate: TextBatch | None = None

    def answer_log_probs(self, model: Any) -> AnswerLogProbs:
        """Log p(answer token | everything before it); the head is computed only where some row has an answer."""
        keep, labels, mask = self.answer_places()
        logits = model(input_ids=self.input_ids, logits_to_keep=keep, use_cache=False).logits  # (B, K, V)
        own = logits.flatten(0, 1)[self.places].float()
        nll = nn.functional.cross_entropy(own, labels.flatten()[self.places], reduction="none")
        values = nll.new_zeros(mask.numel()).index_copy(0, self.places, -nll)
        return AnswerLogProbs(values.view(mask.shape), mask)

    def answer_places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Places at which some answer is predicted (K,), what stands behind them, and whether it is of the answer, (B, K)."""
        first, last = self.predicting.start, self.predicting.stop
        keep = torch.arange(first, last, device=self.input_ids.device)
        position = keep + 1
        mask = (position >= self.starts[:, None]) & (position < self.lengths[:, None])
        return keep, self.input_ids[:, first + 1 : last + 1], mask

    def answer_mask(self) -> Tensor:
        """Which of `answer_places` are of the answers, (B, K)."""
        return self.answer_places()[2]

    def answer_logits(self, model: Any) -> AnswerLogits:
        """The logits where the answers' tokens are predicted; no other place is copied to float32."""
        keep, labels, mask = self.answer_places()
        logits = model(input_ids=self.input_ids, logits_to_keep=keep, use_cache=False).logits
        return AnswerLogits(mask, logits.flatten(0, 1)[self.places].float(), labels.flatten()[self.places])

    def answer_states(self, model: Any, blocks: Sequence[int]) -> AnswerStates:
        """The outputs of some decoder blocks where the answers' tokens are predicted."""
        keep, _, mask = self.answer_places()
        with reading_states(model, blocks) as states:
            model(input_ids=self.input_ids, logits_to_keep=keep[-1:], use_cache=False)
        own = (states[block][:, keep].flatten(0, 1)[self.places] for block in blocks)
        return AnswerStates(mask, tuple(state.float() for state in own))


def collate_texts(rows: Sequence[Encoded], device: str | torch.device = "cpu") -> TextBatch:
    """Rows of any length as one batch; the padding id is 0 and never looked at."""
    width = max(row.length for row in rows)
    others = [row.alternate for row in rows if row.alternate]
    assert len(others) in (0, len(rows)), "rows with and without another answer can't share a stream"
    first = min(len(row.prompt) for row in rows) - 1
    own = (
        range(i * (width - 1 - first) + len(row.prompt) - 1 - first, i * (width - 1 - first) + row.length - 1 - first)
        for i, row in enumerate(rows)
    )
    return TextBatch(
        send_numbers(([*row.prompt, *row.answer, *([0] * (width - row.length))] for row in rows), device),
        send_numbers((len(row.prompt) for row in rows), device),
        send_numbers((row.length for row in rows), device),
        range(first, width - 1),
        send_numbers((place for places in own for place in places), device),
        alternate=collate_texts(others, device) if others else None,
    )


def embedding_rows(model: Any) -> int:
    """Rows of a language model's embedding: the token ids that it knows are those below."""
    return int(model.get_input_embeddings().weight.shape[0])


def check_ids(tokenizer: Any, ids: Iterable[int], rows: int) -> None:
    """`UserError` for a token id that has no row in an embedding of so many rows."""
    if (largest := max(ids, default=0)) >= rows:
        raise UserError(
            f"Token {tokenizer.convert_ids_to_tokens(largest)!r} of the tokenizer '{name_of(tokenizer)}' has the number "
            f"{largest}, and the model's embedding has {rows} rows: take the tokenizer that the model was trained with."
        )


@dataclass(frozen=True)
class Texts:
    """The coder of texts: a tokenizer and the templates of `bench.engines.templates`."""

    tokenizer: Any
    rows: int | None = None
    """Rows of the model's embedding, where ids are to be checked against them."""

    def encode(self, payload: Mapping[str, Any], answer: str | None = None) -> Encoded:
        """Token ids of a payload with its own answer, or with another one; `UserError` for one the model doesn't know."""
        text = encode(self.tokenizer, payload, answer)
        if self.rows is not None:
            check_ids(self.tokenizer, (*text.prompt, *text.answer), self.rows)
        if answer is None and "alternate" in payload:
            return replace(text, alternate=self.encode(payload, payload["alternate"]))
        return text

    def collate(self, rows: Sequence[Encoded], device: str | torch.device = "cpu") -> TextBatch:
        """Rows as one batch, padded on the right."""
        return collate_texts(rows, device)

    def save_pretrained(self, folder: Path) -> None:
        """Write the tokenizer beside the weights."""
        self.tokenizer.save_pretrained(folder)
