"""What a loss reads of the target, as it was before training: log-probs that are computed once, or the target itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core import distributed
from bench.core.contracts import Batch, Coder, Row, Stream, spread
from bench.core.errors import Unmet, UserError
from bench.core.types import Checkpoint
from bench.engines.coding import answer_log_probs
from bench.engines.devices import Held, send, send_numbers
from bench.engines.loaders import open_checkpoint
from bench.engines.parts import is_in_parts

REFERENCE_TOKENS, REFERENCE_ROWS = 4096, 32
"""Bounds on a batch of the reference's log-probs: padded positions, and on a CPU rows."""


class Target:
    """The model as it was before training, called as the model is and never trained.

    A copy of the weights; of a model with adapters the model itself without them, as training leaves the rest alone.
    """

    def __init__(self, model: Any) -> None:
        """Raises `UserError` for a model in parts, which nobody holds a copy of."""
        self.adapted = hasattr(model, "disable_adapter")
        if not self.adapted and is_in_parts(model):
            raise UserError(
                "This method reads the target itself beside the model, and torchrun's processes hold no second one: run it "
                "in one process, or train adapters with --lora."
            )
        self.held = model if self.adapted else copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, *args: Any, **named: Any) -> Any:
        """What the model gives."""
        if not self.adapted:
            return self.held(*args, **named)
        training = self.held.training
        self.held.eval()
        try:
            with self.held.disable_adapter():
                return self.held(*args, **named)
        finally:
            self.held.train(training)

    def squared_distance(self, model: Any) -> Tensor:
        """``|theta - theta_D|^2`` over all weights, tied ones once, in float32; `Unmet` with adapters."""
        if self.adapted:
            raise Unmet("it reads how far the weights have moved, and with --lora adapters move in their place")
        pairs = zip(model.parameters(), self.held.parameters(), strict=True)
        return torch.stack([(now.float() - then.float()).square().sum() for now, then in pairs]).sum()


@dataclass
class Reference:
    """What the loss of a stream reads of the target."""

    sums: Tensor | None = None
    """(N,) of each row of the stream."""
    tokens: Sequence[Tensor] = ()
    """Of each row the log-probs of its answer's tokens."""
    target: Target | None = None
    beside: Any = None
    """Another checkpoint's model."""
    alternate: Reference | None = None
    """The same of the rows' other answers."""

    def attach(self, batch: Batch, rows: Sequence[int]) -> None:
        """Lay what belongs to these rows beside their batch."""
        batch.target, batch.beside = self.target, self.beside
        if self.sums is not None:
            batch.reference = self.sums[send_numbers(rows, self.sums.device)]
        elif self.tokens:
            mask = batch.answer_mask()
            batch.reference = spread(send(torch.cat([self.tokens[row] for row in rows]), mask.device), mask)
        if batch.alternate and self.alternate:
            self.alternate.attach(batch.alternate, rows)


def read_target(
    model: nn.Module, coder: Coder, streams: Sequence[Stream], encoded: Sequence[Sequence[Row]], device: torch.device
) -> list[Reference]:
    """The references of the streams, from the model as it is now."""
    wanted = {stream.loss.reference for stream in streams}
    target = Target(model) if "model" in wanted else None
    references = [
        read_rows(model, coder, rows, device, stream.loss.reference, target)
        for stream, rows in zip(streams, encoded, strict=True)
    ]
    opened: dict[str, Any] = {}
    for stream, reference in zip(streams, references, strict=True):
        if stream.beside and stream.beside.hash not in opened:
            opened[stream.beside.hash] = open_beside(stream.beside, device)
        reference.beside = opened[stream.beside.hash] if stream.beside else None
    return references


def open_beside(checkpoint: Checkpoint, device: torch.device) -> Any:
    """The model of another checkpoint, never trained; `UserError` where several processes work together."""
    if distributed.world() > 1:
        raise UserError(
            "This method reads another checkpoint beside the model, and torchrun's processes hold no second one: run it in "
            "one process."
        )
    return open_checkpoint(checkpoint, str(device)).model.eval().requires_grad_(False)


def read_rows(
    model: nn.Module, coder: Coder, rows: Sequence[Row], device: torch.device, wanted: str, target: Target | None
) -> Reference:
    """The reference of some rows, and of their other answers."""
    others = [other for row in rows if (other := row.alternate)]
    alternate = read_rows(model, coder, others, device, wanted, target) if others and wanted else None
    if wanted == "model":
        return Reference(target=target, alternate=alternate)
    if wanted == "sums":
        return Reference(reference_log_probs(model, coder, rows, device), alternate=alternate)
    if wanted == "tokens":
        return Reference(tokens=reference_token_log_probs(model, coder, rows, device), alternate=alternate)
    return Reference()


def reference_log_probs(model: nn.Module, coder: Coder, rows: Sequence[Row], device: torch.device) -> Tensor:
    """Summed answer log-probs of ``rows`` under the model as it is now, (N,) in nats: computed once, no second model."""
    each = reference_values(model, coder, rows, device, sums=True)
    return torch.tensor([value for (value,) in each], dtype=torch.float32, device=device)


def reference_token_log_probs(
    model: nn.Module, coder: Coder, rows: Sequence[Row], device: torch.device
) -> list[Tensor]:
    """Of each row the log-probs of its answer's tokens under the model as it is now, in nats."""
    return [
        torch.tensor(values, dtype=torch.float32) for values in reference_values(model, coder, rows, device, sums=False)
    ]


@torch.no_grad()
def reference_values(
    model: nn.Module, coder: Coder, rows: Sequence[Row], device: torch.device, sums: bool
) -> list[list[float]]:
    """Of each row its answer's log-probs under the model as it is now: their sum alone, or one for each token.

    Several processes take a batch each, in step, as they gather the weights together.
    """
    was_training = model.training
    model.eval()
    if not is_in_parts(model):
        model.to(device)
    batches = batch_consecutive(rows, REFERENCE_ROWS if device.type == "cpu" else len(rows))
    held: Held[tuple[int, int]] = Held()
    for first in range(0, len(batches), distributed.world()):
        number = min(first + distributed.rank(), len(batches) - 1)  # without one of its own it does the last one again
        answers = answer_log_probs(model, coder.collate(batches[number], device))
        keys = [(number, place) for place in range(len(batches[number]))]
        if sums:
            held.add(keys, [1] * len(keys), answers.sums.float())
        else:
            held.add(keys, answers.mask.sum(-1).tolist(), answers.values[answers.mask].float())
    model.train(was_training)
    each = distributed.gather(held.fetch())
    found = distributed.call_on_first(lambda: {key: values for part in each for key, values in part.items()})
    return [found[number, place] for number, batch in enumerate(batches) for place in range(len(batch))]


def batch_consecutive(rows: Sequence[Row], most: int) -> list[list[Row]]:
    """The rows in their order, in batches of at most ``most`` rows and `REFERENCE_TOKENS` padded positions."""
    batches: list[list[Row]] = []
    longest = 0
    for row in rows:
        longest = max(longest, row.length)
        if not batches or len(batches[-1]) == most or (len(batches[-1]) + 1) * longest > REFERENCE_TOKENS:
            batches.append([])
            longest = row.length
        batches[-1].append(row)
    return batches
