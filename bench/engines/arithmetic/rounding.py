"""Simulated quantisation: weights rounded to what few bits can hold, and written back in their own type.

Round to nearest, without calibration. The rounded model computes the same function as one that keeps the codes and
multiplies them back when they are used, up to the type that it computes in; the knowledge that comes back with it is
the finding of arXiv 2410.16454. Streamed: memory is that of the largest tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.assets.sameness import check_match
from bench.assets.tensors import TensorFiles, open_tensor_files
from bench.core.errors import Unmet, raise_problems
from bench.core.types import Checkpoint, Json
from bench.engines.arithmetic import writer
from bench.engines.arithmetic.chunks import TYPES, Buffers, Chunk
from bench.engines.arithmetic.layers import LinearLayer, linear_layers
from bench.engines.arithmetic.sums import identify_inputs, plan_files, write_outputs
from bench.engines.arithmetic.writer import Output, Written

LEVELS = {"int8": 127, "int4": 7}
"""Kind -> whole numbers on each side of 0 that an entry is rounded to, in units of its row's or group's scale."""
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Code book of QLoRA's 4-bit normal float (arXiv 2305.14314), as bitsandbytes has it."""
FP4 = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
"""Sizes in the code book of bitsandbytes' 4-bit float, which come with both signs."""
BOOKS = {"nf4": NF4, "fp4": FP4}
"""Kind -> its code book, whose entries are in units of the largest size in a block."""
BLOCK = 64
"""Consecutive entries of a layer's weight, output by output, that share a scale of a code book; bitsandbytes' default."""
KINDS = (*LEVELS, *BOOKS)
TILE = 1 << 16
"""Entries that are rounded at a time, or one row where that is longer."""


def write_rounded(checkpoint: Checkpoint, kind: str, group: int, out: Path, *, scratch: Path | None = None) -> Written:
    """Write the checkpoint with the linear layers of its decoder blocks rounded, and all else as it is to the bit.

    ``kind`` is one of `KINDS`; ``group``: entries of an output's weights that share a scale of ``int8`` or ``int4``, 0 for
    all of them. Each value is rounded to float32, and from there to the tensor's own type. As of `combine`, the same call
    goes on after a kill. `Unmet` of a model without decoder blocks, and of weights that aren't finite.
    """
    with open_tensor_files([checkpoint]) as (reader,):
        layers = linear_layers(reader, checkpoint.loader)

        def kernel(buffers: Buffers, chunk: Chunk, which: Sequence[int]) -> Iterator[Tensor]:
            if chunk.name not in layers:
                yield buffers.read(reader, chunk)
                return
            weight = buffers.read_wide(reader, chunk, torch.float32, "weight").view(reader.shape(chunk.name))
            yield round_weight(weight, kind, group, layers[chunk.name], f"'{chunk.name}' of '{reader.label}'")

        made_from = identify_inputs([reader], "") | {"what": "round", "kind": kind, "group": group}
        output = Output(out, plan_files(reader, ""), made_from, scratch)
        raise_problems(writer.check_places([output.out, output.work], [reader.folder]))
        write_outputs([output], kernel, reader, whole=True)
        return output.written()


def count_differing(one: Checkpoint, other: Checkpoint, kind: str, group: int) -> Json:
    """Compare two models as they are after rounding; nothing is written.

    ``values``: share of the rounded entries that differ, as numbers of the tensors' own types; ``codes``: share of those
    that are rounded to another code, whatever the scales are, which say how much of a change has survived; ``entries``.
    """
    entries = values = codes = 0
    with open_tensor_files([one, other]) as readers:
        check_match(readers)
        for name, layer in linear_layers(readers[0], one.loader).items():
            sides = [read_weight(reader, name) for reader in readers]
            types = [TYPES[reader.entries[name].dtype] for reader in readers]
            tiles = [cut_into_tiles(outputs_first(side, layer), kind, group) for side in sides]
            for pair in zip(*tiles, strict=True):
                a, b = (
                    encode(tile, kind, f"'{name}' of '{reader.label}'")
                    for tile, reader in zip(pair, readers, strict=True)
                )
                entries += a.codes.numel()
                codes += int((a.codes != b.codes).sum())
                values += int((a.values().to(types[0]).double() != b.values().to(types[1]).double()).sum())
    return {"values": values / entries, "codes": codes / entries, "entries": entries}


def read_weight(reader: TensorFiles, name: str) -> Tensor:
    """One whole weight in float32."""
    return reader.get(name).float()


# --- one weight


def round_weight(weight: Tensor, kind: str, group: int, layer: LinearLayer, where: str = "the weight") -> Tensor:
    """A float32 weight, rounded; in its own place, where the outputs come first."""
    rows = outputs_first(weight, layer)
    for tile in cut_into_tiles(rows, kind, group):
        tile.copy_(encode(tile, kind, where).values())
    return rows.mT.contiguous() if layer.inputs_first else rows


def outputs_first(weight: Tensor, layer: LinearLayer) -> Tensor:
    """A weight as (..., outputs, inputs), in one piece: the weight itself where it lies so."""
    return weight.mT.contiguous() if layer.inputs_first else weight


def cut_into_tiles(rows: Tensor, kind: str, group: int) -> Iterator[Tensor]:
    """A weight (..., outputs, inputs) as views (N, T): each row of one has its own scale, the last ones may be shorter."""
    if kind in BOOKS:
        flat = rows.view(-1)
        whole = flat.numel() - flat.numel() % BLOCK
        yield from flat[:whole].view(-1, BLOCK).split(max(1, TILE // BLOCK))
        if whole < flat.numel():
            yield flat[None, whole:]
        return
    size = group or rows.shape[-1]
    for part in rows.view(-1, rows.shape[-1]).split(max(1, TILE // size)):
        yield from part.split(size, dim=1)


@dataclass(frozen=True)
class Encoded:
    """A tile as few bits hold it: an entry is its code times its row's scale."""

    codes: Tensor
    """(N, T), whole numbers or entries of a code book, float64."""
    scales: Tensor
    """(N, 1), float64."""

    def values(self) -> Tensor:
        """What is left of the tile, float32."""
        return (self.codes * self.scales).float()


def encode(tile: Tensor, kind: str, where: str) -> Encoded:
    """The nearest codes of a tile's entries, with a tie between whole numbers to the even one.

    In float64, so that a row's largest entry stays what it is to the bit and rounding twice is rounding once.
    """
    exact = tile.double()
    largest = exact.abs().amax(1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise Unmet(f"it rounds weights, and {where} has entries that are no finite numbers")
    scales = largest / LEVELS.get(kind, 1)
    units = exact.div_(scales.where(scales > 0, 1.0))
    return Encoded(units.round_() if kind in LEVELS else nearest_codes(units, BOOKS[kind]), scales)


def nearest_codes(units: Tensor, book: Sequence[float]) -> Tensor:
    """The entries of a code book that are nearest; of a book of sizes alone with the sign of the unit.

    A tie goes to the lower entry, or to the smaller size; bitsandbytes' kernels may take the other neighbour.
    """
    codes = torch.tensor(book).double()  # as float32 holds them
    middles = (codes[1:] + codes[:-1]) / 2
    if book[0] < 0:
        return codes[torch.bucketize(units, middles)]
    return codes[torch.bucketize(units.abs(), middles)].copysign(units)
