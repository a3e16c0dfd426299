"""Small classifiers in plain torch: a convolutional network for images, a graph convolution for nodes, their coders.

A checkpoint's ``config.json`` names the network and its sizes, and says what its coder needs; data are never among the
weights, so that arithmetic sums weights alone. To a loss a label is a one-token answer: log p(label), K = 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.core.contracts import AnswerLogits, AnswerLogProbs, AnswerStates, Opened, Target
from bench.core.errors import Unmet
from bench.core.types import Checkpoint
from bench.engines.devices import send, send_numbers
from bench.lab.digits import CLASSES, SIDE
from bench.lab.graph import NeighbourGraph, neighbour_graph

WEIGHTS = "model.safetensors"


class Network(nn.Module):
    """A network with its sizes, whose weights and config are written to a folder."""

    adaptable: ClassVar[list[str]] = []
    """The layers that low-rank adapters go on: all but the head."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.sizes = sizes

    def save_pretrained(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Weights and config; ``state_dict`` are the weights of a network that is in parts
        (`bench.engines.training.gathering`).
        """
        weights = self.state_dict() if state_dict is None else state_dict
        save_file(dict(weights), folder / WEIGHTS, metadata={"format": "pt"})
        dtype = str(next(self.parameters()).dtype).removeprefix("torch.")
        config = {"architectures": [type(self).__name__.removeprefix("FSDP")], "dtype": dtype, **self.sizes}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


class ConvNet(Network):
    """Two 3x3 convolutions of ``width`` and 2 ``width`` channels, each with ReLU and 2x2 pooling, and a hidden layer."""

    adaptable = ["first", "second", "hidden"]

    def __init__(self, width: int) -> None:
        super().__init__(width=width)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * (SIDE // 4) ** 2, 4 * width)
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, C), of images (B, 1, 8, 8)."""
        pool = nn.functional.max_pool2d
        seen = pool(self.first(images.to(self.head.weight.dtype)).relu(), 2)
        seen = pool(self.second(seen).relu(), 2)  # (B, 2W, 2, 2)
        scores: Tensor = self.head(self.hidden(seen.flatten(1)).relu())
        return scores


class GraphNet(Network):
    """``A relu(A X W1 + b1) W2 + b2`` (Kipf and Welling 2017, arXiv 1609.02907), A the normalised adjacency.

    ``neighbours``: of each node in the graph that it was made for (`bench.lab.graph.neighbour_graph`).
    """

    adaptable = ["first"]

    def __init__(self, width: int, neighbours: int) -> None:
        super().__init__(width=width, neighbours=neighbours)
        self.first = nn.Linear(SIDE * SIDE, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, smoothed: Tensor, adjacency: Tensor) -> Tensor:
        """Logits of some nodes, (B, C): A X of all that stand beside them, (M, 64), and their rows of A, (B, M)."""
        dtype = self.head.weight.dtype
        scores: Tensor = self.head(adjacency.to(dtype) @ self.first(smoothed.to(dtype)).relu())
        return scores


NETWORKS: dict[str, type[Network]] = {"ConvNet": ConvNet, "GraphNet": GraphNet}
"""By the name in a config."""


def save_fresh_network(network: str, sizes: Mapping[str, int], seed: int, folder: Path) -> None:
    """A network with fresh weights that depend on ``seed`` alone, written to ``folder``."""
    torch.manual_seed(seed)
    NETWORKS[network](**sizes).save_pretrained(folder)


def coder_of(network: str, sizes: Mapping[str, int]) -> ImageCoder | NodeCoder:
    """The coder of a network's examples."""
    return NodeCoder(sizes["neighbours"]) if network == "GraphNet" else ImageCoder()


def open_network(checkpoint: Checkpoint, device: str) -> Opened:
    """The network that the folder's config names, its weights from safetensors, in the checkpoint's dtype."""
    config = json.loads((Path(checkpoint.path) / "config.json").read_text())
    (name,) = config.pop("architectures")
    config.pop("dtype")
    network = NETWORKS[name](**config)
    network.load_state_dict(load_file(Path(checkpoint.path) / WEIGHTS))
    network.to(device, getattr(torch, checkpoint.dtype)).eval()
    return Opened(network, coder=coder_of(name, config), adaptable=network.adaptable)


@dataclass
class ClassBatch:
    """The inputs of a network for some rows, and the right class of each."""

    inputs: tuple[Tensor, ...]
    labels: Tensor  # (B,)
    reference: Tensor | None = None  # (B,) or (B, 1) log-probs of the labels under the target, in nats
    target: Target | None = None
    beside: Callable[..., Any] | None = None
    alternate: ClassBatch | None = None

    def class_log_probs(self, model: Any) -> Tensor:
        """Log p of every class, (B, C), nats and float32."""
        return model(*self.inputs).float().log_softmax(-1)

    def answer_log_probs(self, model: Any) -> AnswerLogProbs:
        """Log p of the label, (B, 1)."""
        values = self.class_log_probs(model).gather(1, self.labels[:, None])
        return AnswerLogProbs(values, torch.ones_like(values, dtype=torch.bool))

    def answer_logits(self, model: Any) -> AnswerLogits:
        """The logits of the classes, (B, C)."""
        return AnswerLogits(self.answer_mask(), model(*self.inputs).float(), self.labels)

    def answer_mask(self) -> Tensor:
        """Every label, (B, 1)."""
        return torch.ones_like(self.labels, dtype=torch.bool)[:, None]

    def answer_states(self, model: Any, blocks: Sequence[int]) -> AnswerStates:
        """`Unmet`: a small network has no decoder blocks."""
        raise Unmet("it reads the hidden states of decoder blocks, and this model has none")


@dataclass(frozen=True)
class CodedImage:
    """An image as the coder keeps it: pixels and class."""

    pixels: tuple[int, ...]
    label: int
    length: int = 1
    alternate: None = None


class ImageCoder:
    """The coder of images: payloads with ``pixels`` (64 whole numbers from 0 to 16) and ``answer``, the class."""

    def encode(self, payload: Mapping[str, Any]) -> CodedImage:
        """Pixels and class of a payload."""
        return CodedImage(tuple(payload["pixels"]), int(payload["answer"]))

    def collate(self, rows: Sequence[CodedImage], device: Any = "cpu") -> ClassBatch:
        """Images (B, 1, 8, 8) with values from 0 to 1."""
        pixels = send(torch.tensor([row.pixels for row in rows], dtype=torch.float32) / 16, device)
        return ClassBatch((pixels.view(-1, 1, SIDE, SIDE),), send_numbers((row.label for row in rows), device))

    def save_pretrained(self, folder: Path) -> None:
        """Write nothing: a coder of images has no state."""


@dataclass(frozen=True)
class CodedNode:
    """A node as the coder keeps it: its number, its class and its graph."""

    number: int
    label: int
    graph: int
    """Which of its coder's graphs it is looked at in."""
    length: int = 1
    alternate: None = None


class NodeCoder:
    """The coder of nodes: payloads with ``node``, ``answer`` and, where edges are gone, ``without``: the nodes cut off.

    Features and edges come with the batch, of the nodes that its own ones stand beside: what lies two edges away is in
    their A X. Rows of several graphs may share a batch.
    """

    def __init__(self, neighbours: int) -> None:
        self.neighbours = neighbours
        self.graphs: list[NeighbourGraph] = []
        self._places: dict[tuple[int, ...], int] = {}

    def encode(self, payload: Mapping[str, Any]) -> CodedNode:
        """Node, class, and what its graph lacks."""
        without = tuple(payload.get("without", ()))
        if without not in self._places:
            self._places[without] = len(self.graphs)
            self.graphs.append(neighbour_graph(self.neighbours, without))
        return CodedNode(payload["node"], int(payload["answer"]), self._places[without])

    def collate(self, rows: Sequence[CodedNode], device: Any = "cpu") -> ClassBatch:
        """A X of each distinct neighbour, and the rows of A over them."""
        beside = [self.graphs[row.graph].neighbours[row.number] for row in rows]
        keys = [(row.graph, node) for row, nodes in zip(rows, beside, strict=True) for node in nodes]
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        adjacency = np.zeros((len(rows), len(places)), dtype=np.float32)
        entries = [weight for row in rows for weight in self.graphs[row.graph].weights[row.number]]
        adjacency[np.repeat(np.arange(len(rows)), list(map(len, beside))), [places[key] for key in keys]] = entries
        smoothed = np.stack([self.graphs[graph].smoothed[node] for graph, node in places])
        inputs = send(torch.from_numpy(smoothed), device), send(torch.from_numpy(adjacency), device)
        return ClassBatch(inputs, send_numbers((row.label for row in rows), device))

    def save_pretrained(self, folder: Path) -> None:
        """Write nothing: the network's config says which graph it is."""
