"""Norms of the gradients of many texts, several in one pass: a layer's input and the gradient of its output are enough.

A text's gradient of a weight matrix is a sum over positions of outer products, and the norm of that sum follows from
the products of the factors (Goodfellow 2015, arXiv 1510.01799): no text's gradient need be held. Layers that are no
matrix, such as norms, give each text's gradient by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.engines.devices import Held, send_numbers
from bench.engines.measuring import scoring
from bench.engines.positions import plain_reach
from bench.engines.templates import Encoded

BATCH_TOKENS = 512
"""Bound on the padded positions of one pass, whose activations are all kept; a longer text goes alone."""
TOLERANCE = 1e-5
"""Of the norms of a first batch against plain ones, relative; beyond it a model's texts go one by one."""


@dataclass(frozen=True)
class Call:
    """One pass through a layer that has parameters of its own."""

    layer: torch.nn.Module
    given: Tensor
    output: Tensor


@dataclass(frozen=True)
class Products:
    """A matrix for each text: the sum over positions of the outer products of ``rows`` and ``columns``."""

    rows: Tensor
    """(B, T, n); or (B, T), where each stands for a one at that place."""
    columns: Tensor  # (B, T, m)

    def dot(self, other: Products) -> Tensor:
        """The inner product of each text's two matrices, (B,), by way of (B, T, T) or, if that is less, of (B, n, m)."""
        (_, length, height), width = self.columns.shape, self.rows.shape[-1]
        if self is other and self.rows.ndim == 3 and length * (height + width) > height * width:
            return torch.bmm(self.rows.mT, self.columns).flatten(1).norm(dim=1).square()
        alike = torch.bmm(self.columns, other.columns.mT)
        return (dot_rows(self.rows, other.rows).double() * alike.double()).sum((1, 2)).float()


def dot_rows(one: Tensor, other: Tensor) -> Tensor:
    """Inner products of all rows of one with all of the other, (B, T, U)."""
    if one.ndim == other.ndim == 3:
        return torch.bmm(one, other.mT)
    if one.ndim == other.ndim == 2:
        return one[:, :, None] == other[:, None]
    if one.ndim == 3:
        return one.gather(2, other[:, None].expand(-1, one.shape[1], -1))
    return dot_rows(other, one).mT


def gradient_norms(model: Any, texts: Iterable[Encoded], device: str) -> dict[Encoded, float]:
    """For each text the mean over parameter tensors of the 2-norm of the gradient of its mean answer loss.

    Tied tensors count once, tensors that no gradient reaches don't, and no gradient stays on the model. Texts go
    together in float32 where the model's layers let them, which is tried on the first batch.
    """
    held: Held[Encoded] = Held()
    ask = try_together if model.dtype == torch.float32 else no_norms
    for batch in batches(model, dict.fromkeys(texts)):
        norms = ask(model, batch, device) if len(batch) > 1 else None
        if len(batch) > 1:
            ask = no_norms if norms is None else norms_together
        if norms is None:
            norms = torch.stack([norm_alone(model, text, device) for text in batch])
        held.add(batch, [1] * len(batch), norms)
    return {text: norm for text, (norm,) in held.fetch().items()}


def batches(model: Any, texts: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """Texts of similar length, together as far as `BATCH_TOKENS` and the model's positions let them."""
    batch: list[Encoded] = []
    for text in sorted(texts, key=lambda text: text.length):
        if batch and ((len(batch) + 1) * text.length > BATCH_TOKENS or text.length > plain_reach(model)):
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def try_together(model: Any, batch: Sequence[Encoded], device: str) -> Tensor | None:
    """The norms of a batch if its first and its last text have those that they get alone, else none."""
    try:
        found = norms_together(model, batch, device)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a layer's own code makes of this
        return None
    alone = torch.stack([norm_alone(model, batch[k], device) for k in (0, -1)])
    return found if bool(((found[[0, -1]] - alone).abs() <= TOLERANCE * alone).all()) else None


def no_norms(model: Any, batch: Sequence[Encoded], device: str) -> None:
    """Of a model whose texts go one by one."""


@torch.enable_grad()
def norm_alone(model: Any, text: Encoded, device: str) -> Tensor:
    """The norm of one text, from its gradient, as a number on the device."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    seen = scoring.forward_rows(model, [scoring.row_alone(model, text)], device)
    gradients = torch.autograd.grad(sum_losses(seen), parameters, allow_unused=True)
    norms = torch._foreach_norm([gradient for gradient in gradients if gradient is not None], 2, torch.float32)
    return torch.stack(list(norms)).mean()


@torch.enable_grad()
def norms_together(model: Any, texts: Sequence[Encoded], device: str) -> Tensor:
    """The norms of some texts, (B,), from one pass; an error where a layer is none of those that are known here."""
    with calls_of(model) as calls:
        seen = scoring.forward_rows(model, [scoring.row_alone(model, text) for text in texts], device)
    gradients = torch.autograd.grad(sum_losses(seen), [call.output for call in calls])
    head, lengths = model.get_output_embeddings(), [len(at) for at in seen.at]
    products: dict[Tensor, list[Products]] = defaultdict(list)
    sums: dict[Tensor, Tensor] = {}
    for call, gradient in zip(calls, gradients, strict=True):
        layer, given = call.layer, call.given
        if layer is head:  # it has seen the predicting positions alone, those of all texts in one row
            given, gradient = (pad_sequence(part[0].split(lengths), batch_first=True) for part in (given, gradient))
        if type(layer) is torch.nn.Linear:
            products[layer.weight].append(Products(gradient, given))
            own = {"bias": gradient.sum(1)} if layer.bias is not None else {}
        elif type(layer) is torch.nn.Embedding:
            trained = gradient * (given != layer.padding_idx)[..., None] if layer.padding_idx is not None else gradient
            products[layer.weight].append(Products(given, trained))
            own = {}
        else:
            own = dict(own_gradients(layer, given, gradient))
        for name, values in own.items():
            parameter = layer.get_parameter(name)
            sums[parameter] = sums[parameter] + values if parameter in sums else values
    assert products.keys().isdisjoint(sums), "a matrix that another layer has as well"
    norms = [values.flatten(1).norm(dim=1) for values in sums.values()]
    norms += [sum(map(Tensor.float, dots(uses))).clamp(min=0).sqrt() for uses in products.values()]
    return torch.stack(norms).mean(0)


def dots(uses: Sequence[Products]) -> Iterator[Tensor]:
    """The parts of the squared norm of a matrix that is used several times."""
    for one in uses:
        yield from (one.dot(other) for other in uses)


def sum_losses(seen: scoring.Positions) -> Tensor:
    """The sum over texts of the mean loss of their answers."""
    device, lengths = seen.logits.device, list(map(len, seen.at))
    places = send_numbers((k for at in seen.at for k in at), device).split(lengths)
    labels = send_numbers((token for text in seen.texts for token in text.answer), device).split(lengths)
    losses = [
        torch.nn.functional.cross_entropy(seen.logits[at], answer) for at, answer in zip(places, labels, strict=True)
    ]
    return torch.stack(losses).sum()


@contextmanager
def calls_of(model: Any) -> Iterator[list[Call]]:
    """What goes through every layer that has parameters of its own, while a pass runs."""
    calls: list[Call] = []

    def keep(layer: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if len(args) != 1 or kwargs or not isinstance(output, Tensor):
            raise NotImplementedError(f"{type(layer).__name__} takes or gives more than one tensor")
        calls.append(Call(layer, args[0].detach(), output))

    layers = [
        layer
        for layer in model.modules()
        if any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    ]
    hooks = [layer.register_forward_hook(keep, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def own_gradients(layer: torch.nn.Module, given: Tensor, gradient: Tensor) -> Mapping[str, Tensor]:
    """Each text's gradients of a layer's own parameters, (B, ...)."""
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters(recurse=False)}

    def pull(given: Tensor, gradient: Tensor) -> Mapping[str, Tensor]:
        def run(own: Mapping[str, Tensor]) -> Any:
            return torch.func.functional_call(layer, dict(own), (given[None],))

        _, back = torch.func.vjp(run, parameters)
        return dict(back(gradient[None])[0])

    found: Mapping[str, Tensor] = torch.func.vmap(pull)(given, gradient)
    return found
