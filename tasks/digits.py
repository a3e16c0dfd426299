"""Handwritten digits and a small convolutional network: forget one whole class, or a random tenth of the images.

The images are real (scikit-learn's bundled 1,797 of 8x8 pixels), the network and its history are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Outline, TaskContext, TaskInputs
from bench.core.types import Checkpoint, Example
from bench.lab.classes import ClassesTask, ExampleMaker, make_fresh_network
from bench.lab.digits import CLASSES, digit_images


@dataclass(frozen=True)
class Digits(ClassesTask):
    """Two convolutions and a hidden layer, trained on some images, then on further ones together with the forget set."""

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = "8x8 handwritten digits and a small CNN; forget a class, or a tenth of the images"

    def start(self, work: TaskContext) -> Checkpoint:
        """The checkpoint of the network before any training, a node."""
        return make_fresh_network(work, "ConvNet", {"width": self.width})

    def rows_for(self, forget: Sequence[int]) -> ExampleMaker:
        """An image stays what it is, whatever is to be forgotten."""

        def images(numbers: Sequence[int], whole: bool = False) -> tuple[Example, ...]:
            return tuple(image_example(number) for number in numbers)

        return images

    def outline(self, setting: TaskInputs) -> Outline:
        """Two convolutions, a hidden layer of 2x2 pixels, the head."""
        w = self.width
        return self.sized(10 * w + (18 * w + 2) * w + (8 * w + 1) * 4 * w + (4 * w + 1) * CLASSES)


def image_example(number: int) -> Example:
    """One image of the data set."""
    data = digit_images()
    payload = {"pixels": list(data.pixels[number]), "answer": str(data.labels[number]), "template": "image"}
    return Example(f"image-{number}", payload)
