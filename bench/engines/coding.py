"""Coders turn examples into batches; here is the coder of texts.

Training, losses and influence weights see rows with a length, batches that know the log-probs of their answers, and no
more: `bench.core.contracts` has the protocols. A loader (`bench.engines.loaders`) names the coder of its models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.contracts import AnswerLogProbs, Batch
from bench.core.errors import UserError
from bench.engines.devices import send_numbers
from bench.engines.templates import Encoded, encode, name_of


def answer_log_probs(model: nn.Module, batch: Batch) -> AnswerLogProbs:
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
    reference: Tensor | None = None  # (B,) summed answer log-probs under the reference, in nats

    def answer_log_probs(self, model: nn.Module) -> AnswerLogProbs:
        """Log p(answer token | everything before it); the head is computed only where some row has an answer."""
        first, last = self.predicting.start, self.predicting.stop
        keep = torch.arange(first, last, device=self.input_ids.device)
        logits = model(input_ids=self.input_ids, logits_to_keep=keep, use_cache=False).logits  # (B, K, V)
        labels = self.input_ids[:, first + 1 : last + 1]  # (B, K)
        position = keep + 1
        mask = (position >= self.starts[:, None]) & (position < self.lengths[:, None])
        nll = nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
        return AnswerLogProbs(-nll.view_as(labels) * mask, mask)


def collate_texts(rows: Sequence[Encoded], device: str | torch.device = "cpu") -> TextBatch:
    """Rows of any length as one batch; the padding id is 0 and never looked at."""
    width = max(row.length for row in rows)
    return TextBatch(
        send_numbers(([*row.prompt, *row.answer, *([0] * (width - row.length))] for row in rows), device),
        send_numbers((len(row.prompt) for row in rows), device),
        send_numbers((row.length for row in rows), device),
        range(min(len(row.prompt) for row in rows) - 1, width - 1),
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
        return text

    def collate(self, rows: Sequence[Encoded], device: str | torch.device = "cpu") -> TextBatch:
        """Rows as one batch, padded on the right."""
        return collate_texts(rows, device)

    def save_pretrained(self, folder: Path) -> None:
        """Write the tokenizer beside the weights."""
        self.tokenizer.save_pretrained(folder)
