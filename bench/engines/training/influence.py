"""Influence weights: how much each parameter matters to the forget rows, beside what it matters to the retain rows.

With F the mean squared gradient of the rows' losses (the diagonal of the empirical Fisher information) or the size of
their mean gradient, a parameter's weight is ``2 F_forget / (F_forget + F_retain)``: 1 where both sides need it
equally, 0 where the forget rows don't, at most 2. PerTA (arXiv 2601.22030) scales task vectors by such estimates. Each row
counts the same; gradients are of the mean answer loss, one row at a time, so that the squares are of single rows.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError
from bench.core.types import Checkpoint, Example, Json

if TYPE_CHECKING:
    from torch import Tensor

INFLUENCE_VERSION = 1
"""Raise it when the same rows give other weights."""
KINDS = ("fisher", "gradient")
SAMPLED = 100_000
"""Entries that ranks and quantiles are computed from, where there are more."""
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def write_weights(
    opened: Any, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str, out: Path
) -> None:
    """Write the weights as safetensors to ``out``, float32, with the names and shapes of the checkpoint's own tensors."""
    import torch
    from safetensors.torch import save_file

    from bench.assets.tensors import TensorFiles
    from bench.engines.arithmetic.sums import transform
    from bench.engines.loaders import checkpoint_at

    files = TensorFiles(Path(checkpoint.path))
    sides = []
    for side, rows in (("forget", forget), ("retain", retain)):
        folder = out / side
        folder.mkdir()
        found = estimate_influence(opened, rows, kind)
        for name in files.names:
            if name not in found:  # a buffer has no gradient: no influence on either side, and so the weight 1
                found[name] = torch.zeros(files.shape(name))
        save_file({name: found[name].contiguous() for name in files.names}, folder / "model.safetensors")
        sides.append(checkpoint_at(folder, side))
    transform(sides, out / "weights", lambda name, tensors: influence_ratio(*tensors))
    for file in (out / "weights").iterdir():
        file.rename(out / file.name)
    for made in ("forget", "retain", "weights"):
        shutil.rmtree(out / made)


def influence_ratio(forget: Tensor, retain: Tensor) -> Tensor:
    """``2 f / (f + r)``, entry by entry: between 0 and 2; 1 where neither side has any influence."""
    import torch

    total = forget + retain
    return torch.where(total > 0, 2 * forget / total, torch.ones_like(total))


def estimate_influence(opened: Any, rows: Sequence[Example], kind: str) -> dict[str, Tensor]:
    """Per parameter: the mean squared gradient (``fisher``) or the size of the mean gradient (``gradient``)."""
    import torch

    from bench.engines.training.losses import NextToken

    assert kind in KINDS
    model = opened.model
    device = next(model.parameters()).device
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in model.named_parameters()}
    for row in rows:
        model.zero_grad(set_to_none=True)
        NextToken()(model, opened.coder.collate([opened.coder.encode(row.payload)], device)).sum().backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                grad = p.grad.float()
                sums[name] += grad.square() if kind == "fisher" else grad
    model.zero_grad(set_to_none=True)
    if not all(bool(total.isfinite().all()) for total in sums.values()):  # a weight of 1 would be made of it
        raise UserError(
            "The influence of the rows can't be estimated: the model's gradients on them are no finite numbers, so that its "
            "weights hold some or its training has diverged; a lower learning rate may help."
        )
    return {name: (total / len(rows)).abs().cpu() for name, total in sums.items()}


def describe_weights(weights: Checkpoint) -> Json:
    """Mean and quantiles of influence weights, and the bytes that they take."""
    import torch

    values = torch.cat([entries for _, entries in sample_entries(weights)])
    at = torch.quantile(values.double()[: 1 << 24], torch.tensor(QUANTILES, dtype=torch.float64))
    return {
        "bytes": sum(file.stat().st_size for file in Path(weights.path).glob("*.safetensors")),
        "mean": round(float(values.double().mean()), 6),
        "quantiles": {f"{share:g}": round(float(value), 6) for share, value in zip(QUANTILES, at, strict=True)},
    }


def rank_correlation(one: Checkpoint, other: Checkpoint) -> float | None:
    """Spearman's rank correlation of two sets of weights, over at most `SAMPLED` entries drawn alike from both.

    None where all weights of a set are equal.
    """
    import torch
    from scipy.stats import spearmanr

    a, b = (torch.cat([entries for _, entries in sample_entries(checkpoint)]) for checkpoint in (one, other))
    if a.min() == a.max() or b.min() == b.max():
        return None
    return round(float(spearmanr(a.numpy(), b.numpy()).statistic), 6)


def sample_entries(checkpoint: Checkpoint, most: int = SAMPLED) -> Iterator[tuple[str, Tensor]]:
    """Entries of each floating-point tensor, or a seeded sample of them in proportion to its size."""
    import torch

    from bench.assets.tensors import TensorFiles

    files = TensorFiles(Path(checkpoint.path))
    total = sum(torch.Size(files.shape(name)).numel() for name in files.names)
    for name in files.names:
        tensor = files.get(name)
        if not tensor.is_floating_point():
            continue
        flat = tensor.flatten().float()
        if total > most:
            count = max(1, round(most * flat.numel() / total))
            flat = flat[torch.tensor(sorted(random.Random(name).sample(range(flat.numel()), count)))]
        yield name, flat


def write_shuffled(weights: Checkpoint, seed: int, out: Path) -> None:
    """Write the weights with each tensor's entries in random places: the control of what the estimate knows."""
    import torch

    from bench.engines.arithmetic.sums import shuffle_entries, transform

    def shuffle(name: str, tensors: Sequence[Tensor]) -> Tensor:
        rng = torch.Generator().manual_seed(random.Random(f"{seed}/{name}").getrandbits(62))
        return shuffle_entries(tensors[0], rng)

    transform([weights], out, shuffle, whole=True)


def compare_rounding(tuned: Checkpoint, before: Checkpoint, exact: Checkpoint, exact_before: Checkpoint) -> Json:
    """Compare a rounded vector ``tuned - before`` with the ``exact`` one of the same recipe in float32.

    ``unchanged``: share of entries that are 0 in the rounded vector, and in the exact one; ``relative_error``:
    |rounded - exact| / |exact|, None where nothing was learnt; ``cosine``: between the two.
    """
    from bench.assets.tensors import TensorFiles

    files = [TensorFiles(Path(checkpoint.path)) for checkpoint in (tuned, before, exact, exact_before)]
    count = zero = exact_zero = 0
    dot = rounded_square = exact_square = gap = 0.0
    for name in files[0].names:
        a, a0, b, b0 = (each.get(name).double() for each in files)
        rounded, true = a - a0, b - b0
        count += rounded.numel()
        zero += int((rounded == 0).sum())
        exact_zero += int((true == 0).sum())
        dot += float((rounded * true).sum())
        rounded_square += float(rounded.square().sum())
        exact_square += float(true.square().sum())
        gap += float((rounded - true).square().sum())
    return {
        "unchanged": round(zero / count, 6),
        "unchanged_in_float32": round(exact_zero / count, 6),
        "relative_error": round((gap / exact_square) ** 0.5, 6) if exact_square else None,
        "cosine": round(dot / (rounded_square * exact_square) ** 0.5, 6) if rounded_square * exact_square else 0.0,
    }
