"""How long, how much memory and how much disk: estimates from a model's shape and the rates that this store has seen.

A rate is floating-point operations per second of one worker, 6 per parameter and token for training. The first run
of a store uses a stated default; later ones the median of what its own training nodes measured. Nothing here loads a
model: parameters are counted in the headers of its files, and models that aren't fetched are known by name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.core.compute import Way
from bench.core.contracts import Recipe, Stream
from bench.core.types import Checkpoint, Json
from bench.loaders import LOADERS

DEFAULT_RATE = {5_000_000: 25e9, 10**15: 55e9}
"""Training operations per second of one AVX2 core, up to so many parameters, when nothing has been measured yet: small
matrices are slower."""
GPU_PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 362e12, "A6000": 155e12, "4090": 165e12}
"""Dense bfloat16 operations per second, as the vendor states them."""
OTHER_PEAK = 100e12
"""Of a GPU that isn't in the table."""
GPU_SHARE = {"bfloat16": 0.35, "float32": 0.03}
"""Share of `GPU_PEAK` that training reaches, a guess: float32 without tensor cores peaks at a sixteenth of bfloat16."""
ALIKE = 8
"""Rates are taken from models whose size is within this factor."""
BYTES_PER_PARAMETER = 16
"""Float32 weights, gradients and AdamW's two moments."""
PROCESS_BYTES = 700_000_000
"""Resident memory of a worker before it holds a model: Python, torch, transformers; on a GPU the context and kernels."""
MEASURE_BYTES = 1_000_000_000
"""What a measurement holds beside models: several arrays the size of `bench.scoring`'s bound on a batch's logits, and
the activations of its positions."""
LOGITS = 3
"""Float32 arrays of rows x tokens x vocabulary that a step holds: logits, their log-softmax, and a gradient."""
RESUMABLE = 3
"""States of an interrupted training on disk: the Trainer keeps two, and writes the next before it drops the oldest."""


# The model


@dataclass(frozen=True)
class Shape:
    """The size of a transformer, as far as memory depends on it."""

    hidden: int
    layers: int
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int
    heads: int
    groups: int
    """Key and value heads."""
    parameters: int
    """A tied head once."""
    gated: bool = True
    """Whether the feed-forward layer has a gate (SwiGLU), and so three matrices."""

    @property
    def block(self) -> int:
        """Parameters of one layer, from its matrices."""
        return (2 + 2 * self.groups / self.heads) * self.hidden**2 + (2 + self.gated) * self.hidden * self.inner  # type: ignore[return-value]

    @property
    def kept(self) -> int:
        """Numbers that a layer keeps for the backward pass, for each token.

        Counted in transformers' Llama under SDPA, whose scores are never kept: both norms keep their input, the
        normalised input and what the matrices read (6 hidden); attention keeps q, k and v, k and v once more when
        heads share them, and its output twice (6 hidden at most); the feed-forward layer keeps gate, up, the activation
        and the product (4 inner, 2 without a gate). The terms are those of Korthikanti et al. 2022 (arXiv 2205.05198,
        section 4.1), less dropout and scores.
        """
        return 12 * self.hidden + (4 if self.gated else 2) * self.inner

    @property
    def outputs(self) -> int:
        """Numbers that the linear layers of a layer put out, for each token."""
        return 3 * self.hidden + 2 * self.hidden * self.groups // self.heads + (1 + self.gated) * self.inner

    def adapters(self, rank: int) -> int:
        """Parameters of low-rank adapters on every linear layer but the head: rank x (inputs + outputs)."""
        shared = self.hidden * self.groups // self.heads
        attention = 2 * 2 * self.hidden + 2 * (self.hidden + shared)
        return rank * self.layers * (attention + (2 + self.gated) * (self.hidden + self.inner))


SHAPES = {
    "smollm2-135m-instruct-q4": Shape(576, 30, 1536, 49152, 9, 3, 134_515_008),
    "smollm2-135m-instruct": Shape(576, 30, 1536, 49152, 9, 3, 134_515_008),
    "pythia-160m": Shape(768, 12, 3072, 50304, 12, 12, 162_322_944, gated=False),
    "olmo-2-1b": Shape(2048, 16, 8192, 100352, 16, 16, 1_484_916_736),
    "olmo-2-7b": Shape(4096, 32, 11008, 100352, 32, 32, 7_298_617_344),
    "llama-3.2-1b-instruct": Shape(2048, 16, 8192, 128256, 32, 8, 1_235_814_400),
    "meta-llama/Llama-3.2-1B": Shape(2048, 16, 8192, 128256, 32, 8, 1_235_814_400),
    "llama-3.1-8b-instruct": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "meta-llama/Llama-3.1-8B": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "meta-llama/Meta-Llama-3-8B": Shape(4096, 32, 14336, 128256, 32, 8, 8_030_261_248),
    "llama-2-7b": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "llama-2-7b-chat": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "muse-books-llama2-7b": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
    "muse-books-llama2-7b-retrain": Shape(4096, 32, 11008, 32000, 32, 32, 6_738_415_616),
}
"""By name: what can be said of a model before it is fetched."""
NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocabulary": ("vocab_size",),
    "heads": ("num_attention_heads", "n_head"),
}
"""What configs of transformers call them."""


def known_shape(name: str) -> Shape | None:
    """The shape of a model by its name, with or without a revision; None for one that nobody has entered here."""
    from bench.models import canonical

    return SHAPES.get(canonical(name.partition("@")[0]))


def download_bytes(name: str) -> int:
    """What fetching a model takes: its weights in 16 bits, as nearly all are published; 0 where nobody knows."""
    shape = known_shape(name)
    return 2 * shape.parameters if shape else 0


def shape_in(folder: Path) -> Shape | None:
    """The shape of a model that lies in a folder; None where its config has no such numbers."""
    try:
        config = json.loads((folder / "config.json").read_text())
        config = config.get("text_config", config)
        found = {name: next(int(config[key]) for key in keys if config.get(key)) for name, keys in NAMES.items()}
    except (OSError, ValueError, StopIteration):
        return None
    inner = next((config[key] for key in ("intermediate_size", "n_inner", "ffn_dim") if config.get(key)), 0)
    gated = any("gate" in name for name in tensors(folder))
    return Shape(
        **found,
        inner=inner or 4 * found["hidden"],
        groups=config.get("num_key_value_heads") or found["heads"],
        parameters=parameters_in(folder),
        gated=gated,
    )


def parameters_in(folder: Path) -> int:
    """Parameters of the weights in a folder, from the headers of its files; a head that is tied counts once."""
    total = 0
    tied = is_tied(folder)
    for name, shape in tensors(folder).items():
        size = 1
        for side in shape:
            size *= side
        total += 0 if tied and name == "lm_head.weight" else size
    return total


def is_tied(folder: Path) -> bool:
    """Whether head and embedding are one tensor, as the config says it."""
    try:
        return bool(json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"))
    except (OSError, ValueError):
        return False


def tensors(folder: Path) -> dict[str, Sequence[int]]:
    """Name and shape of every tensor in a folder's safetensors; no weight is read."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():  # what else lies beside the shards is no part of the model
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = [file.name for file in sorted(folder.glob("*.safetensors"))]
    found: dict[str, Sequence[int]] = {}
    for name in names:
        with (folder / name).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        found |= {key: entry["shape"] for key, entry in header.items() if key != "__metadata__"}
    return found


def weight_count(checkpoint: Checkpoint) -> int:
    """Parameters of a checkpoint (`parameters_in`)."""
    return parameters_in(Path(checkpoint.path))


def training_bytes(shape: Shape, way: Way, tokens: float, streams: int = 1) -> int:
    """Memory of a process that trains, at its largest: the first backward pass after gradients exist.

    Weights, gradients and AdamW's two moments in the weights' dtype; autocast's bfloat16 copies of the weights, which the
    backward pass needs; gradients of embedding and head before they are added to those that are there; `Shape.kept` of
    every layer, or with checkpointing each layer's input and one layer's `kept`; `LOGITS`. ``tokens``: of a row, as
    padded; ``streams``: those whose losses are added up before the backward pass. Adapters are float32 whatever the
    weights are, and were measured to take each adapted layer's output once more. A process of several holds its part of
    what is trained, and one block and what is outside the blocks whole.
    """
    positions = way.micro * tokens * streams
    weights = shape.parameters * way.width
    ends = 0 if way.lora else 2 * shape.vocabulary * shape.hidden * way.width
    trained = shape.adapters(way.lora) * BYTES_PER_PARAMETER if way.lora else shape.parameters * way.width * 3
    copies = 2 * shape.parameters if way.autocast else 0
    if way.world > 1:
        outside = shape.parameters - shape.layers * shape.block
        whole = (outside + shape.block) * way.width
        weights, trained = weights // way.world + whole, trained // way.world
    half = way.autocast or way.dtype == "bfloat16"
    layer = (shape.kept + (shape.outputs if way.lora else 0)) * (2 if half else 4)
    if way.autocast:  # the norms are computed in float32
        layer += 2 * 4 * shape.hidden
    stream = shape.hidden * (2 if way.dtype == "bfloat16" else 4)
    layers = shape.layers * stream + layer if way.checkpointing else shape.layers * layer
    logits = LOGITS * 4 * shape.vocabulary
    return int(PROCESS_BYTES + weights + trained + ends + copies + positions * (layers + logits))


def measuring_bytes(shape: Shape, way: Way, oracles: int) -> int:
    """Memory of a process that measures: the model, and the oracles that it is compared with two at a time.

    The next one is loaded before the last one has gone. A gradient's norm needs as much as one more model.
    """
    models = 1 + min(2, max(1, oracles))
    return PROCESS_BYTES + MEASURE_BYTES + models * shape.parameters * way.width


def merging_bytes(shape: Shape) -> int:
    """Memory of weight arithmetic: of the largest tensor a term, the float32 sum and the result, and not of the model."""
    return PROCESS_BYTES + 3 * 4 * shape.vocabulary * shape.hidden


def state_bytes(shape: Shape, way: Way) -> int:
    """Disk of one resumable state: weights and two moments of what is trained."""
    return shape.adapters(way.lora) * 12 if way.lora else 3 * way.width * shape.parameters


@dataclass(frozen=True)
class Size:
    """A plan's work on a real model, as far as memory and disk depend on it."""

    shape: Shape
    tokens: float
    """Of a row, mean; the longest is covered by gradients, which are whole only when most activations have gone."""
    streams: int
    """Most streams of rows whose losses are added up before a backward pass."""
    oracles: int
    checkpoints: int
    """Written at most; what the store has already isn't written again."""
    trains: bool = True

    def worker(self, way: Way) -> int:
        """Bytes of memory of one worker, at its largest."""
        return max(self.parts(way).values())

    def parts(self, way: Way) -> dict[str, int]:
        """The same for each thing that a worker does."""
        training = training_bytes(self.shape, way, self.tokens, self.streams)
        return {
            **({"training": training} if self.trains else {}),
            "measuring": measuring_bytes(self.shape, way, self.oracles),
            "merging": merging_bytes(self.shape),
        }

    def disk(self, way: Way, workers: int) -> int:
        """Bytes that the store grows by, with the resumable states of ``workers`` trainings at a time."""
        states = RESUMABLE * state_bytes(self.shape, way) * workers if self.trains else 0
        return self.checkpoints * self.shape.parameters * way.width + states


# Time


def known_rate(root: Path, parameters: int, device: str = "cpu", dtype: str = "float32", gpu: str = "") -> float:
    """Training rate of this store's nodes of models of about this size on such a device, or the default."""
    rates = seen_rates(root, parameters, device)
    if rates:
        return median(rates)
    if device == "cpu":
        return next(rate for size, rate in DEFAULT_RATE.items() if parameters <= size)
    return GPU_SHARE[dtype] * next((peak for name, peak in GPU_PEAK.items() if name in gpu), OTHER_PEAK)


def seen_rates(root: Path, parameters: int, device: str = "cpu") -> list[float]:
    """Operations per second of this store's training nodes of models of about this size."""
    rates = []
    for info in made(root):
        meta, where = info["meta"], (info.get("provenance") or {}).get("device", "cpu")
        size = meta.get("parameters", 0)
        if (
            meta.get("train_seconds", 0) > 1
            and not meta.get("resumed")
            and str(where).split(":")[0] == device.split(":")[0]
            and parameters / ALIKE < size < parameters * ALIKE
        ):
            rates.append(6 * meta["tokens"] * size / meta["train_seconds"])
    return rates


def made(root: Path, most: int | None = 500) -> Iterator[Json]:
    """What the files of a store's nodes say; those that are damaged or have just gone are passed over."""
    for file in sorted((root / "nodes").glob("*/*/node.json"))[:most]:
        try:
            info = json.loads(file.read_text())
            info["meta"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        yield info


def train_seconds(root: Path, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe) -> float:
    """Expected seconds of a training run, by the loader's rough size of an example."""
    size, tokens = LOADERS[start.loader].size, 0.0
    for stream in streams:
        sizes = [size(example.payload) for example in stream.examples]
        tokens += recipe.steps * min(stream.batch, len(sizes)) * sum(sizes) / max(1, len(sizes))
    parameters = weight_count(start)
    return 6 * tokens * parameters / known_rate(root, parameters)
