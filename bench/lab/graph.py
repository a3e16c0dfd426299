"""A graph of the handwritten digits.

It joins each image with its nearest ones by pixels, as Franceschi et al. 2019 (arXiv 1903.11960) make graphs of this
and other data. No dependency ships a larger real graph: networkx has a karate club of 34 members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lab.digits import digit_images


@dataclass(frozen=True)
class NeighbourGraph:
    """A X and A, where X are the pixels from 0 to 1 and A is the normalised adjacency with self-loops."""

    smoothed: NDArray[np.float32]  # (N, 64) A X: what a graph convolution's first layer multiplies with its weights
    neighbours: tuple[tuple[int, ...], ...]
    """Of each node, itself among them."""
    weights: tuple[tuple[float, ...], ...]
    """Their entries of A: 1 / sqrt(degree * degree)."""


def neighbour_graph(neighbours: int, without: Sequence[int] = ()) -> NeighbourGraph:
    """Each image beside its nearest ones, in both directions; the nodes ``without`` keep their self-loop alone."""
    pixels = np.array(digit_images().pixels)
    joined = find_nearest(neighbours)
    joined = joined | joined.T
    joined[list(without), :] = joined[:, list(without)] = False
    np.fill_diagonal(joined, True)
    degree = joined.sum(axis=1)
    adjacency = joined / np.sqrt(degree[:, None] * degree[None, :])
    beside = [np.flatnonzero(row) for row in joined]
    return NeighbourGraph(
        (adjacency @ (pixels / 16)).astype(np.float32),
        tuple(tuple(row.tolist()) for row in beside),
        tuple(tuple(adjacency[node, row].tolist()) for node, row in enumerate(beside)),
    )


@cache
def find_nearest(neighbours: int) -> Any:
    """(N, N) booleans: whether a column is among the row's nearest others; of equal distances the first one counts.

    Squared distances are whole numbers, so that the graph is the same on every machine.
    """
    pixels = np.array(digit_images().pixels)
    squares = (pixels**2).sum(axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * pixels @ pixels.T
    np.fill_diagonal(apart, np.iinfo(apart.dtype).max)
    order = np.argsort(apart, axis=1, kind="stable")[:, :neighbours]
    joined = np.zeros(apart.shape, dtype=bool)
    np.put_along_axis(joined, order, True, axis=1)
    return joined
