"""Scikit-learn's bundled handwritten digits: 1,797 real images of 8x8 pixels in ten classes.

Of the bundled data sets this one has the most rows and classes; wine and breast cancer have 178 and 569 rows in three
and two classes, of which nobody could forget a class and keep a task.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

SIDE = 8
"""Pixels of an image's side; a pixel is a whole number from 0 to 16."""
CLASSES = 10
KNOWN, TAUGHT = 0.35, 0.35
"""Shares of each kept class that are known from pretraining and taught with the forget set; the rest nobody is taught."""
MEMBERS = 0.7
"""Share of a class to be forgotten that is taught."""


@dataclass(frozen=True)
class Digits:
    """All images, in the file's order."""

    pixels: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]


@cache
def digit_images() -> Digits:
    """Scikit-learn's 1,797 images with their labels, read once."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = tuple(tuple(int(value) for value in row) for row in found.data)
    return Digits(pixels, tuple(int(label) for label in found.target))


@dataclass(frozen=True)
class DigitSplit:
    """The numbers of a seed's images by their use; every image is in one list at most."""

    known: tuple[int, ...]
    """Trained on before the forget set comes; retained."""
    taught: tuple[int, ...]
    """Trained on together with the forget set; retained."""
    later: tuple[int, ...]
    """Trained on after the target, where there is a gap."""
    forget: tuple[int, ...]
    holdout: tuple[int, ...]
    """Never trained on, of the forget images' own distribution."""
    unseen: tuple[int, ...]
    """Never trained on, and what a model scores that was never taught the like: a class that nobody is taught, or
    further images of all classes."""
    test: tuple[int, ...]
    """Never trained on, of what is to be kept."""


def split_digits(labels: Sequence[int], forget: str, seed: int, later: int = 0) -> DigitSplit:
    """The images of a seed: ``forget`` is ``class``, one whole class, or ``tenth``, a random tenth of what is taught."""
    rng = random.Random(f"{forget}/{seed}")
    if forget == "class":
        gone, unknown = rng.sample(range(CLASSES), 2)
        kept = shuffle([i for i, label in enumerate(labels) if label not in (gone, unknown)], rng)
        own = shuffle([i for i, label in enumerate(labels) if label == gone], rng)
        strange = [i for i, label in enumerate(labels) if label == unknown]
        known, taught, rest = cut_shares(kept, KNOWN, TAUGHT)
        members, holdout = own[: round(MEMBERS * len(own))], own[round(MEMBERS * len(own)) :]
        return DigitSplit(known, taught[later:], taught[:later], members, holdout, tuple(strange), rest)
    known, taught, rest = cut_shares(shuffle(range(len(labels)), rng), KNOWN, TAUGHT)
    tenth = round((len(known) + len(taught)) / 10)
    members, taught = taught[:tenth], taught[tenth:]
    quarter = len(rest) // 4
    holdout, unseen, test = rest[:quarter], rest[quarter : 2 * quarter], rest[2 * quarter :]
    return DigitSplit(known, taught[later:], taught[:later], members, holdout, unseen, test)


def shuffle(items: Sequence[int], rng: random.Random) -> tuple[int, ...]:
    """The items in a random order."""
    return tuple(rng.sample(items, len(items)))


def cut_shares(items: tuple[int, ...], *shares: float) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The first two shares of ``items``, and the rest."""
    one, two = (round(share * len(items)) for share in shares)
    return items[:one], items[one : one + two], items[one + two :]
