"""Scoring texts under a causal model: every distinct token position once, logits only where a token is predicted.

Texts that begin alike share their beginning: they are laid out as a tree of tokens, where the answers to one question
hang from one prompt and the questions of one chat template from one system prompt. A row of a batch is such a tree in
depth-first order; each token sees its ancestors only, and its position is its depth. The last token of a text predicts
nothing and isn't computed. A row without branches is an ordinary causal sequence, padded on the right where nothing
looks. Nothing compares ids with the padding token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.engines.coding import embedding_rows
from bench.engines.devices import factor_of, send_numbers
from bench.engines.positions import plain_reach
from bench.engines.templates import Encoded

LOGITS_BYTES = 128_000_000
"""Bound on the float32 logits of one batch; on a GPU several times as many (`bench.engines.devices.factor_of`)."""
BATCH_TOKENS = 2048
"""Bound on the padded positions of one batch; on a GPU as many times."""
FULL, WASTE = 1024, 0.15
"""From so many positions on a batch ends where a further row would make more than this share of it padding."""
ROW_TOKENS = (256, 768)
"""Smallest and largest size of a shared row; between them twice the model's width, as attention grows with the row."""
TREE_TOLERANCE = {torch.float32: 1e-3}
"""How far a tree's log-probs may lie from a plain pass before the model is scored text by text; other dtypes: 0.1."""


@dataclass
class TreeRow:
    """Some texts as one tree of tokens in depth-first order."""

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    """Index of the token before, -1 for the first."""
    depths: list[int] = field(default_factory=list)
    texts: list[Encoded] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    """For each text the nodes that predict its answer tokens, in order."""
    predicting: dict[int, None] = field(default_factory=dict)
    """Nodes that predict something, in order of first use."""

    @property
    def branches(self) -> bool:
        """Whether some token doesn't follow the one before it in the row."""
        return any(parent != i - 1 for i, parent in enumerate(self.parents))

    def add(self, text: Encoded, shared: int = 0, path: Sequence[int] = (), whole: bool = False) -> list[int]:
        """Hang ``text`` from the first ``shared`` nodes of the previous text's ``path``; returns its own path.

        A ``whole`` text has its last token in the row too, which predicts nothing.
        """
        tokens = (*text.prompt, *text.answer)
        own = tokens[shared : None if whole else -1]
        first = len(self.ids)
        behind = range(first, first + len(own))
        nodes = [*path[:shared], *behind]
        if own:
            self.parents += [nodes[shared - 1] if shared else -1, *behind[:-1]]
        self.depths += range(shared, shared + len(own))
        self.ids += own
        self.texts.append(text)
        self.paths.append(nodes[len(text.prompt) - 1 : len(tokens) - 1])
        self.predicting.update(dict.fromkeys(self.paths[-1]))
        return nodes


@dataclass(frozen=True)
class Positions:
    """A model's logits at the answer positions of ``texts``, each distinct position once."""

    texts: list[Encoded]
    at: list[list[int]]
    """For each text, the rows of ``logits`` that predict its answer tokens."""
    logits: Tensor  # (P, V), float32


def tree_rows(texts: Iterable[Encoded], budget: int) -> Iterator[TreeRow]:
    """Distinct texts with an answer, sorted by their tokens, in rows of at most ``budget`` tokens where they share one.

    A text longer than ``budget`` has a row for itself and for those that continue its beginning.
    """
    row, path, before = TreeRow(), list[int](), tuple[int, ...]()
    for text in sorted(texts, key=lambda text: (*text.prompt, *text.answer)):
        tokens = (*text.prompt, *text.answer)[:-1]
        shared = common_prefix(before, tokens)
        if row.ids and len(row.ids) + len(tokens) - shared > budget and shared < len(tokens):
            yield row
            row, path, shared = TreeRow(), [], 0
        path, before = row.add(text, shared, path), tokens
    if row.ids:
        yield row


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def budget_of(model: Any) -> int:
    """Tokens of a shared row for this model."""
    least, most = ROW_TOKENS
    return max(least, min(most, 2 * int(getattr(model.config, "hidden_size", least))))


def batch_rows(rows: Iterable[TreeRow], vocabulary: int, times: int = 1) -> Iterator[list[TreeRow]]:
    """Rows of similar size, bounded by ``times`` the padded positions and the bytes of their logits."""
    batch: list[TreeRow] = []
    for row in sorted(rows, key=lambda row: (row.branches, len(row.ids))):
        grown = [*batch, row]
        padded = len(grown) * max(len(r.ids) for r in grown)
        logits = sum(len(r.predicting) for r in grown) * vocabulary * 4
        mixed = batch and batch[0].branches != row.branches
        wasteful = padded > FULL and padded - sum(len(r.ids) for r in grown) > WASTE * padded
        if batch and (mixed or wasteful or padded > times * BATCH_TOKENS or logits > times * LOGITS_BYTES):
            yield batch
            grown = [row]
        batch = grown
    if batch:
        yield batch


def plan_batches(model: Any, texts: Iterable[Encoded], trees: bool = True) -> list[list[TreeRow]]:
    """The batches in which ``texts`` go through ``model``; without ``trees`` each text is a row of its own.

    A text whose positions would change with the texts beside it is a batch of its own (`bench.engines.positions`).
    """
    distinct, reach = [text for text in dict.fromkeys(texts) if text.answer], plain_reach(model)
    beside = [text for text in distinct if text.length <= reach]
    rows = tree_rows(beside, budget_of(model)) if trees else (row_alone(model, text) for text in beside)
    alone = [[row_alone(model, text)] for text in distinct if text.length > reach]
    return [*batch_rows(rows, embedding_rows(model), factor_of(model)), *alone]


def row_alone(model: Any, text: Encoded) -> TreeRow:
    """A row of one text; the whole of it where the model's positions depend on its length."""
    row = TreeRow()
    row.add(text, whole=text.length > plain_reach(model))
    return row


def forward_rows(model: Any, batch: Sequence[TreeRow], device: str) -> Positions:
    """One forward pass; the head runs on the predicting positions alone, whatever comes after it in the model."""
    width = max(len(row.ids) for row in batch)
    ids = send_numbers((row.ids + [0] * (width - len(row.ids)) for row in batch), device)
    flat = predicting_places(batch)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if any(row.branches for row in batch):
        mask, positions = ancestry(batch, width, model.dtype, device)
        inputs |= {"attention_mask": mask, "position_ids": positions}
    keep = send_numbers(flat, device)
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[keep][None],))
    try:
        logits = model(**inputs).logits[0].float()  # (P, V)
    finally:
        hook.remove()
    number = {place: k for k, place in enumerate(flat)}
    found = [
        (text, [number[i * width + node] for node in path])
        for i, row in enumerate(batch)
        for text, path in zip(row.texts, row.paths, strict=True)
    ]
    return Positions([text for text, _ in found], [at for _, at in found], logits)


def predicting_places(batch: Sequence[TreeRow]) -> list[int]:
    """Where something is predicted, counted through the padded batch row by row, in the order of `Positions.logits`."""
    width = max(len(row.ids) for row in batch)
    return [i * width + node for i, row in enumerate(batch) for node in row.predicting]


def ancestry(batch: Sequence[TreeRow], width: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    """Attention mask, additive (B, 1, T, T), and positions (B, T). Padding sees itself, lest a row be empty.

    In depth-first order a node's descendants follow it without a gap: node i sees j where j <= i < end of j.
    """
    positions = send_numbers((row.depths + [0] * (width - len(row.depths)) for row in batch), device)
    ends = send_numbers((ends_of(row.parents) + [*range(len(row.ids) + 1, width + 1)] for row in batch), device)
    place = torch.arange(width, device=device)
    sees = (place[None, None, :] <= place[None, :, None]) & (place[None, :, None] < ends[:, None, :])  # (B, T, T)
    mask = torch.zeros(sees.shape, dtype=dtype, device=device).masked_fill_(~sees, torch.finfo(dtype).min)
    return mask[:, None], positions


def ends_of(parents: Sequence[int]) -> list[int]:
    """For each node the place behind its last descendant."""
    ends = [node + 1 for node in range(len(parents))]
    for node in reversed(range(len(parents))):
        if parents[node] >= 0:
            ends[parents[node]] = max(ends[parents[node]], ends[node])
    return ends


@torch.no_grad()
def takes_trees(model: Any, texts: Sequence[Encoded], device: str) -> bool:
    """Whether ``model`` gives the same log-probs in a tree as text by text, tried on the first texts that share a row.

    Models with a window, a recurrence or a mask of their own may not, or raise an error of their own; they are scored
    text by text.
    """
    if has_window(model.config) or "position_ids" not in parameters_of(model):
        return False
    reach = plain_reach(model)
    distinct = [text for text in dict.fromkeys(texts) if text.answer and text.length <= reach]
    row = next((row for row in tree_rows(distinct, budget_of(model)) if row.branches), None)
    if row is None:
        return True
    try:
        shared = answer_logps(forward_rows(model, [row], device))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model's own code makes of a mask that it doesn't know
        return False
    tried = [*row.texts[:1], *row.texts[-2:]]  # the last ones have the most branches before them
    alone = {text: answer_logps(forward_rows(model, [row_alone(model, text)], device))[text] for text in tried}
    apart = max(float((shared[text] - alone[text]).abs().max()) for text in tried)
    return apart <= TREE_TOLERANCE.get(model.dtype, 0.1)


def has_window(config: Any) -> bool:
    """Whether some layer sees a number of places back and not everything.

    Places are then counted by where a token lies, which a tree and padding behind a shared beginning change.
    """
    config = config.get_text_config()
    local = ("sliding_window", "attention_chunk_size", "window_size")
    kinds = str(getattr(config, "layer_types", "")) + str(getattr(config, "attention_types", ""))
    return any(getattr(config, name, None) for name in local) or any(
        w in kinds for w in ("sliding", "local", "chunked")
    )


def parameters_of(model: Any) -> frozenset[str]:
    """Names of the arguments that the model's forward pass takes."""
    kind: Any = type(model)
    return forward_parameters(kind)


@cache
def forward_parameters(kind: Any) -> frozenset[str]:
    """Names of the arguments of a class's forward pass: looked up once, as every generated token asks for it."""
    return frozenset(inspect.signature(kind.forward).parameters)


def answer_logps(positions: Positions) -> dict[Encoded, Tensor]:
    """Log-probs of each text's answer tokens, nats."""
    logps = positions.logits.log_softmax(-1)
    return {
        text: logps[torch.tensor(at), torch.tensor(text.answer)]
        for text, at in zip(positions.texts, positions.at, strict=True)
    }
