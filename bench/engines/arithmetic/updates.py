"""How far, and in how many directions, unlearning has moved the weights of each decoder block.

The stable rank of a change D of a weight is ``|D|_F^2 / |D|_2^2``: 1 where all of it is one direction, at most the rank.
Streamed: memory is that of the largest tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from bench.assets.sameness import check_match
from bench.assets.tensors import open_tensor_files
from bench.core.errors import Unmet
from bench.core.types import Checkpoint, Json
from bench.engines.arithmetic.layers import linear_layers
from bench.engines.arithmetic.rounding import read_weight
from bench.engines.arithmetic.sums import MEASURED_CHUNK

TOLERANCE = 1e-3
"""Relative error of a largest singular value that is good enough."""
DIGITS = 6


@dataclass
class Moved:
    """The change of some weights, as far as it has been added up."""

    change: float = 0.0
    """Square of its Frobenius norm."""
    weights: float = 0.0
    """Square of the weights' own before."""
    ranks: list[float] = field(default_factory=list)
    """Stable rank of each weight's change, where there is one."""

    def relative_norm(self) -> float | None:
        """``|D|_F / |W|_F`` over all of them; None where every weight was 0."""
        return round_digits(math.sqrt(self.change / self.weights)) if self.weights else None

    def stable_rank(self) -> float | None:
        """Mean of the stable ranks; None where nothing has moved."""
        return round_digits(sum(self.ranks) / len(self.ranks)) if self.ranks else None


def describe_update(before: Checkpoint, after: Checkpoint) -> Json:
    """What ``after - before`` is in the linear layers of the decoder blocks.

    ``relative_norm`` and ``stable_rank`` (the mean over weights) of all of them, and of each block in ``blocks``, as pairs.
    `Unmet` of a model without decoder blocks, and of weights that aren't finite.
    """
    blocks: dict[int, Moved] = {}
    with open_tensor_files([before, after]) as readers:
        check_match(readers)
        for name, layer in linear_layers(readers[0], before.loader).items():
            one, other = (read_weight(reader, name) for reader in readers)
            if not (bool(one.isfinite().all()) and bool(other.isfinite().all())):
                raise Unmet(
                    f"it measures how far weights have moved, and '{name}' has entries that are no finite numbers"
                )
            add_weight(blocks.setdefault(layer.block, Moved()), one, other)
    every = [blocks[number] for number in sorted(blocks)]
    total = Moved(
        sum(block.change for block in every),
        sum(block.weights for block in every),
        [rank for block in every for rank in block.ranks],
    )
    return {
        "relative_norm": total.relative_norm(),
        "stable_rank": total.stable_rank(),
        "blocks": [[block.relative_norm(), block.stable_rank()] for block in every],
    }


def add_weight(block: Moved, before: Tensor, after: Tensor) -> None:
    """Enter one weight, or one for each expert; ``after`` is lost."""
    block.weights += square_norm(before)
    for matrix in each_matrix(after.sub_(before)):
        square = square_norm(matrix)
        block.change += square
        if square:
            block.ranks.append(1 / largest_singular_value(matrix.div_(math.sqrt(square))) ** 2)


def each_matrix(weight: Tensor) -> Iterator[Tensor]:
    """The matrices of a weight: itself, or one for each expert."""
    yield from weight.view(-1, *weight.shape[-2:])


def square_norm(tensor: Tensor) -> float:
    """The square of the Frobenius norm, summed in float64 piece by piece."""
    return math.fsum(float(piece.double().square().sum()) for piece in tensor.view(-1).split(MEASURED_CHUNK))


def largest_singular_value(matrix: Tensor) -> float:
    """``|matrix|_2`` to `TOLERANCE`: the root of its Gram matrix's largest eigenvalue, by ARPACK from a fixed start."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    tall = (matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T).numpy()
    size = tall.shape[1]
    if size == 1:
        return math.sqrt(square_norm(matrix))
    gram = LinearOperator((size, size), matvec=lambda v: tall.T @ (tall @ v), dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    found = eigsh(gram, k=1, which="LA", tol=TOLERANCE**2, v0=start, return_eigenvectors=False)
    return math.sqrt(float(found[0]))


def round_digits(value: float) -> float:
    """A number to `DIGITS` digits."""
    return float(f"{value:.{DIGITS}g}")
