"""Node classification by a small graph convolution: forget nodes, and with ``edges=remove`` their edges too.

A node is a handwritten digit, joined with the digits whose pixels are nearest (`bench.lab.graph` says why this graph):
96% of its edges join images of one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.core.contracts import Outline, TaskContext, TaskInputs
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Example
from bench.lab.classes import ClassesTask, ExampleMaker, make_fresh_network
from bench.lab.digits import CLASSES, SIDE, digit_images

EDGES = ("keep", "remove")
MOST_NEIGHBOURS = 50


@dataclass(frozen=True)
class Graph(ClassesTask):
    """Two graph convolutions, trained on the classes of some nodes, then of further ones together with the forget set.

    With ``edges=keep`` the graph is the same to everybody, and what is forgotten are the nodes' classes. With
    ``edges=remove`` the nodes come with their edges when the target is trained, and go with them: what came before, the
    oracles, the retain rows and every probe, the target's own too, know the graph without.
    """

    width: int = 64
    """Hidden size."""
    edges: str = "keep"
    """What becomes of the forgotten nodes' edges: ``keep`` or ``remove``."""
    neighbours: int = 8
    """Nearest images that each one is joined with, in both directions."""

    name: ClassVar[str] = "graph"
    summary: ClassVar[str] = (
        "nodes of a nearest-neighbour graph and a small graph convolution; forget a class's nodes, or a tenth"
    )
    rate: ClassVar[float] = 1e-2

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = [] if self.edges in EDGES else [unknown_name("value of graph.edges", self.edges, EDGES)]
        if not 1 <= self.neighbours <= MOST_NEIGHBOURS:
            found.append(f"graph.neighbours is a number from 1 to {MOST_NEIGHBOURS}, not {self.neighbours}.")
        return found + super().problems()

    def start(self, work: TaskContext) -> Checkpoint:
        """The checkpoint of the network before any training, a node."""
        return make_fresh_network(work, "GraphNet", {"width": self.width, "neighbours": self.neighbours})

    def rows_for(self, forget: Sequence[int]) -> ExampleMaker:
        """A node in the whole graph, or in the one that the forgotten nodes' edges are gone from."""
        gone = {"without": sorted(forget)} if self.edges == "remove" else {}

        def nodes(numbers: Sequence[int], whole: bool = False) -> tuple[Example, ...]:
            return tuple(node_example(number, {} if whole else gone) for number in numbers)

        return nodes

    def outline(self, setting: TaskInputs) -> Outline:
        """Sizes of the two-layer network's work."""
        return self.sized((SIDE * SIDE + 1) * self.width + (self.width + 1) * CLASSES)


def node_example(number: int, graph: dict[str, list[int]]) -> Example:
    """One node and its class; ``graph`` says what is missing there."""
    payload = {"node": number, "answer": str(digit_images().labels[number]), "template": "node"}
    return Example(f"node-{number}", payload | graph)
