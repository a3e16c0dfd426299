"""The bundled images, who is to forget what, and the graph: counts by hand, and a formula beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.lab.digits import CLASSES, DigitSplit, digit_images, split_digits
from bench.lab.graph import find_nearest, neighbour_graph


def parts(made: DigitSplit) -> list[int]:
    return [number for numbers in vars(made).values() for number in numbers]


def test_the_images_are_the_bundled_ones() -> None:
    data = digit_images()
    assert len(data.pixels) == len(data.labels) == len(set(data.pixels)) == 1797
    assert {len(row) for row in data.pixels} == {64} and {p for row in data.pixels for p in row} == set(range(17))
    assert min(Counter(data.labels).values()) == 174 and len(Counter(data.labels)) == CLASSES


@pytest.mark.parametrize("seed", range(5))
def test_a_class_is_forgotten_and_another_one_taught_to_nobody(seed: int) -> None:
    labels = digit_images().labels
    made = split_digits(labels, "class", seed, later=10)
    assert sorted(parts(made)) == list(range(1797)), "every image is in one list"
    (gone,) = {labels[i] for i in made.forget}
    (unknown,) = {labels[i] for i in made.unseen}
    kept = {labels[i] for name in ("known", "taught", "later", "test") for i in getattr(made, name)}
    assert {gone} == {labels[i] for i in made.holdout}
    assert kept == set(range(CLASSES)) - {gone, unknown} and gone != unknown
    assert len(made.forget) == round(0.7 * labels.count(gone))
    assert len(made.known) == len(made.taught) + 10 and len(made.later) == 10


def test_a_tenth_of_what_is_trained_on() -> None:
    """35% of 1797 are known, 35% taught: 629 each; a tenth of the 1258 is 126; of the 539 others a quarter is 134."""
    made = split_digits(digit_images().labels, "tenth", 0)
    assert sorted(parts(made)) == list(range(1797))
    assert (len(made.known), len(made.taught), len(made.forget)) == (629, 503, 126)
    assert (len(made.holdout), len(made.unseen), len(made.test)) == (134, 134, 271)
    assert len({digit_images().labels[i] for i in made.forget}) == CLASSES


def test_seeds_and_kinds_are_splits_of_their_own() -> None:
    labels = digit_images().labels
    made = [split_digits(labels, kind, seed) for kind in ("class", "tenth") for seed in range(3)]
    assert len(set(made)) == 6 and split_digits(labels, "tenth", 2) == made[-1]


def test_the_nearest_by_distance_and_the_first_of_equals() -> None:
    pixels = np.array(digit_images().pixels)
    for node in (0, 5, 1796):
        apart = ((pixels - pixels[node]) ** 2).sum(axis=1)
        others = sorted((distance, other) for other, distance in enumerate(apart.tolist()) if other != node)[:4]
        assert set(np.flatnonzero(find_nearest(4)[node]).tolist()) == {other for _, other in others}


def test_the_adjacency_is_normalised_by_both_degrees() -> None:
    """D^-1/2 (A + I) D^-1/2: an entry is 1 / sqrt(d_i d_j), and A X is that times the pixels."""
    made = neighbour_graph(3)
    degree = [len(beside) for beside in made.neighbours]
    pixels = np.array(digit_images().pixels) / 16
    for node in (0, 700):
        beside, weights = made.neighbours[node], made.weights[node]
        assert node in beside and all(node in made.neighbours[other] for other in beside), "in both directions"
        assert weights == pytest.approx([(degree[node] * degree[other]) ** -0.5 for other in beside])
        assert made.smoothed[node] == pytest.approx(np.array(weights) @ pixels[list(beside)], abs=1e-6)


def test_nodes_without_their_edges_stand_alone() -> None:
    whole, without = neighbour_graph(3), neighbour_graph(3, [0, 9])
    assert without.neighbours[0] == (0,) and without.weights[0] == (1.0,)
    assert without.smoothed[9] == pytest.approx(np.array(digit_images().pixels[9]) / 16)
    for node in range(1797):
        if node not in (0, 9):
            assert without.neighbours[node] == tuple(n for n in whole.neighbours[node] if n not in (0, 9))
