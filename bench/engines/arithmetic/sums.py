"""The arithmetic engine: weighted sums of checkpoints, and other maps over their tensors, streamed from file to file.

Everything goes in chunks of some hundred thousand entries (`bench.engines.arithmetic.chunks`): read by byte range, widened
to float32 (float64 tensors to float64), computed, rounded once, written at its place and hashed. A few threads take one
chunk after the other. Memory is a few megabytes a thread, whatever the model's size, except where `transform` is asked
for whole tensors.

An entry of a sum is ``((c_1 x_1) + c_2 x_2) + ...`` with the coefficient rounded to float32, and every product and every
sum rounded to float32: no fused multiply-add, so that a coefficient of its own for each entry gives the same bits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.assets.headers import FLOATS, SIZES
from bench.assets.sameness import check_match
from bench.assets.tensors import CONSTANTS, TensorFiles, open_tensor_files
from bench.core.contracts import Term
from bench.core.errors import UserError, raise_problems, unknown_name
from bench.core.types import Checkpoint, Json
from bench.core.versions import ARITHMETIC
from bench.engines.arithmetic import writer
from bench.engines.arithmetic.chunks import TYPES, Buffers, Chunk, cut_into_chunks, run_in_threads
from bench.engines.arithmetic.writer import DTYPES, Output, Shard, Sink, Written

SHARD_BYTES = 2_000_000_000
"""A result is written in files of about this size; a killed call goes on behind the last whole one."""
CHUNK = 1 << 18
"""Entries of a chunk: with its buffers it fits a core's share of the cache. With half of it two threads took a quarter
more time, since they wait for Python's lock between operations."""
LEAST_CHUNK = 1 << 16
"""Entries, where one pass makes many results and a chunk has as many buffers; shorter ones keep threads waiting for Python."""
MEASURED_CHUNK = 1 << 17
"""Entries of a distance's chunk, whose length shows in the last bits of its sum."""

Coefficients = Sequence[float | tuple[float, float]]
"""For each checkpoint a coefficient, or a coefficient and what is multiplied with an entry's weight."""
Terms = Sequence[Term | tuple[float, Checkpoint]]
Function = Callable[[str, list[Tensor]], Tensor]
"""(name, one float32 tensor for each checkpoint) -> float32 tensor of the same shape."""
Kernel = Callable[[Buffers, Chunk, Sequence[int]], Iterable[Tensor]]
"""(buffers, chunk, numbers of results) -> one floating-point tensor for each of those results."""


def combine(
    terms: Terms, out: Path, *, weights: Checkpoint | None = None, dtype: str = "", scratch: Path | None = None
) -> Written:
    """Write ``sum_i c_i * theta_i`` to the folder ``out``.

    Accumulated in float32 (where a float64 tensor takes part, in float64) and rounded once, to nearest even, to the
    first term's type or to ``dtype`` (``float32``, ``bfloat16``, ``float16``). A tied head is stored and summed once.
    Integer and bool tensors, and buffers that follow from the config, are copied from the first term, whatever the
    others hold. Config and tokenizer come from the first term too.

    ``weights`` holds a float32 tensor for each that is summed, and makes a term's coefficient elementwise (`Term`); all
    ones give, to the bit, the sum with the coefficients ``coefficient + weighted``.

    It is written in ``scratch`` (default ``OUT.partial``) and renamed at the end; after a kill the same call goes on
    behind the last finished shard. Raises `UserError` when names, shapes or vocabularies don't match, and when ``out``
    is an input, lies in one or holds one.
    """
    coefficients, checkpoints, weighted = zip(*(Term(*term) for term in terms), strict=True)
    row = list(zip(coefficients, weighted, strict=True))
    return combine_grid(checkpoints, [row], [out], weights=weights, dtype=dtype, scratches=[scratch])[0]


def combine_grid(
    checkpoints: Sequence[Checkpoint],
    grid: Sequence[Coefficients],
    outs: Sequence[Path],
    *,
    weights: Checkpoint | None = None,
    dtype: str = "",
    scratches: Sequence[Path | None] = (),
    notes: Sequence[Json] = (),
    keep_existing: bool = False,
) -> tuple[Written, ...]:
    """Several sums of the same checkpoints in one pass over them: row k of ``grid`` goes to the folder ``outs[k]``.

    Each is, to the bit, what `combine` writes. ``notes`` are written beside the weights, with the files' sha256. With
    ``keep_existing`` a folder that isn't empty is refused (`UserError`), but for one that holds this very result already
    by its note and its files: it stays, and `Written.kept` says so. Where an input has another time than when that was
    made, it is computed again, without being written, and stays if its bytes are the same (`Written.compared`).
    """
    assert checkpoints and len(grid) == len(outs), "a row of coefficients for each output"
    rows = [[pair if isinstance(pair, tuple) else (float(pair), 0.0) for pair in row] for row in grid]
    with open_tensor_files([*checkpoints, *([weights] if weights else [])]) as readers:
        terms, weighing = readers[: len(checkpoints)], readers[-1] if weights else None
        check_match(terms)
        if weighing:
            check_weights(terms[0], weighing)
        shards = plan_files(terms[0], dtype)
        inputs = identify_inputs(readers, dtype)
        outputs = [
            Output(
                out,
                shards,
                inputs | {"coefficients": row},
                scratches[k] if scratches else None,
                notes[k] if notes else None,
            )
            for k, (row, out) in enumerate(zip(rows, outs, strict=True))
        ]
        raise_problems(writer.check_places([p for o in outputs for p in (o.out, o.work)], [r.folder for r in readers]))

        def sums_of(chosen: Sequence[Output]) -> Sums:
            return Sums(terms, [row for output, row in zip(outputs, rows, strict=True) if output in chosen], weighing)

        if keep_existing:
            raise_problems([problem for output in outputs if (problem := output.check_existing())])
            unsure = [output for output in outputs if output.times_differ]
            check_recomputed(unsure, sums_of(unsure), terms[0])
        due = [output for output in outputs if not output.kept]
        sums = sums_of(due)
        write_outputs(due, sums, terms[0], dtype, unsound=sums.unsound)
        return tuple(output.written() for output in outputs)


def transform(
    checkpoints: Sequence[Checkpoint],
    out: Path,
    function: Function,
    *,
    whole: bool = False,
    dtype: str = "float32",
    scratch: Path | None = None,
) -> Written:
    """Write what ``function`` makes of the checkpoints' tensors to the folder ``out``, as `combine` writes a sum.

    ``function(name, tensors)`` gets a float32 tensor from each checkpoint and gives one of the same shape: flat chunks,
    from several threads at once and in any order, or with ``whole`` one whole tensor after the other. It may change
    what it gets, and must not keep it. Tensors that a sum would copy are copied. Not resumable: nobody knows whether
    two functions are the same.
    """
    with open_tensor_files(checkpoints) as readers:
        check_match(readers)

        def apply(buffers: Buffers, chunk: Chunk, which: Sequence[int]) -> Iterator[Tensor]:
            shape = readers[0].shape(chunk.name) if whole else (chunk.count,)
            given = [buffers.read_wide(each, chunk, torch.float32, f"given {i}") for i, each in enumerate(readers)]
            made = function(chunk.name, [tensor.view(shape) for tensor in given])
            assert made.shape == shape, f"the function gave {tuple(made.shape)} for {shape}"
            yield made

        output = Output(out, plan_files(readers[0], dtype), None, scratch)
        raise_problems(writer.check_places([output.out, output.work], [reader.folder for reader in readers]))
        write_outputs([output], apply, readers[0], dtype, whole)
        return output.written()


def write_scrambled(
    before: Checkpoint, tuned: Checkpoint, kind: str, seed: int, out: Path, *, scratch: Path | None = None
) -> Written:
    """Write ``before + c`` in float32, where c has lost what the vector ``tuned - before`` says: an ablation's control.

    Tensor by tensor, c is the vector with its entries permuted (``kind`` is ``shuffled``) or normal entries with the
    vector's Euclidean norm (``random``). The draws follow from ``seed`` and the tensor's name alone.
    """
    if kind not in SCRAMBLES:
        raise UserError(unknown_name("control", kind, SCRAMBLES))

    def control(name: str, tensors: list[Tensor]) -> Tensor:
        start, end = tensors
        word = hashlib.sha256(f"{seed} {kind} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(word[:8], "little") >> 1)
        return start.add_(SCRAMBLES[kind](end.sub_(start), generator))

    return transform([before, tuned], out, control, whole=True, scratch=scratch)


def shuffle_entries(vector: Tensor, generator: torch.Generator) -> Tensor:
    """A vector with its entries in a random order."""
    return vector.flatten()[torch.randperm(vector.numel(), generator=generator)].view(vector.shape)


def draw_entries(vector: Tensor, generator: torch.Generator) -> Tensor:
    """Normal entries as many as the vector's, scaled to its Euclidean norm."""
    drawn = torch.randn(vector.shape, generator=generator)
    length = drawn.double().norm()
    return drawn.mul_(float(vector.double().norm() / length)) if length else drawn


SCRAMBLES: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "shuffled": shuffle_entries,
    "random": draw_entries,
}
"""Kind of control -> what it makes of a tensor's vector."""


def distance(one: Checkpoint, other: Checkpoint) -> float:
    """Euclidean distance of all floating-point weights, summed in float64; tied weights once. Writes nothing."""
    return math.sqrt(add_up(one, other, lambda a, b: (square(a.sub_(b)),))[0])


def relative_distance(before: Checkpoint, after: Checkpoint) -> float | None:
    """``|after - before| / |before|`` over the weights of `distance`; None where these are all 0."""
    whole, moved = add_up(before, after, lambda a, b: (square(a), square(b.sub_(a))))
    return math.sqrt(moved / whole) if whole else None


def square(values: Tensor) -> float:
    """The sum of the squares of a vector's entries."""
    return float(values @ values)


def add_up(one: Checkpoint, other: Checkpoint, measure: Callable[[Tensor, Tensor], Sequence[float]]) -> list[float]:
    """Sums over all floating-point weights of what ``measure`` says of each piece of both, in float64, which it may overwrite."""
    with open_tensor_files([one, other]) as readers:
        check_match(readers)
        counts = {name: readers[0].entries[name].count for name in readers[0].names if is_summed(readers[0], name)}
        parts: dict[int, Sequence[float]] = {}

        def work(buffers: Buffers, number: int, chunk: Chunk) -> None:
            a, b = (buffers.read_wide(each, chunk, torch.float64, f"side {i}") for i, each in enumerate(readers))
            parts[number] = measure(a, b)

        run_in_threads(cut_into_chunks(counts, MEASURED_CHUNK), work)
    return [math.fsum(each) for each in zip(*parts.values(), strict=True)] or [0.0, 0.0]


# --- what is written, and how


def is_summed(reader: TensorFiles, name: str) -> bool:
    """Whether a tensor takes part in the arithmetic; else it is copied."""
    return reader.entries[name].dtype in FLOATS and not CONSTANTS.search(name)


def plan_files(first: TensorFiles, dtype: str) -> tuple[Shard, ...]:
    """The files of a result with the names and shapes of ``first``."""
    if dtype and dtype not in DTYPES:
        raise UserError(unknown_name("dtype", dtype, DTYPES))
    own = {name: first.entries[name] for name in first.names}
    types = {name: DTYPES[dtype] if dtype and is_summed(first, name) else entry.dtype for name, entry in own.items()}
    return writer.plan_shards({name: (types[name], entry.shape) for name, entry in own.items()}, SHARD_BYTES)


def identify_inputs(readers: Sequence[TensorFiles], dtype: str) -> Json:
    """All that the bytes of a sum follow from, its coefficients apart."""
    return {
        "what": "combine",
        "engine": ARITHMETIC,
        "inputs": [[reader.files, reader.names] for reader in readers],
        "companions": writer.companions_of(readers[0].folder),
        "dtype": dtype,
        "shard_bytes": SHARD_BYTES,
    }


def check_weights(first: TensorFiles, weights: TensorFiles) -> None:
    """Raise `UserError` unless there is a float32 weight for every entry that is summed."""
    for name in first.names:
        if not is_summed(first, name):
            continue
        if name not in weights.entries:
            raise UserError(
                f"'{weights.label}' has no weights for the tensor '{name}': it must hold one for every entry."
            )
        entry, shape = weights.entries[name], first.entries[name].shape
        if entry.shape != shape:
            raise UserError(f"The weights of '{name}' have shape {entry.shape} in '{weights.label}', not {shape}.")
        if entry.dtype != "F32":
            raise UserError(f"The weights of '{name}' are {entry.dtype} in '{weights.label}': they must be float32.")


class Sums:
    """Weighted sums of one chunk, a row of coefficients each."""

    def __init__(
        self, terms: Sequence[TensorFiles], rows: Sequence[Sequence[tuple[float, float]]], weights: TensorFiles | None
    ) -> None:
        self.terms, self.rows, self.weights = terms, rows, weights
        self.double = {name for reader in terms for name, entry in reader.entries.items() if entry.dtype == "F64"}
        """Names of the tensors that are summed in float64."""
        self.totals = [f"total {k}" for k in range(len(rows))]
        """Names of the sums' buffers."""
        self.unsound: dict[str, set[str]] = {}
        """Label of a term -> tensors of it with NaN or infinite entries, as far as they were read."""

    def __call__(self, buffers: Buffers, chunk: Chunk, which: Sequence[int]) -> Sequence[Tensor]:
        """The sums of the rows ``which``.

        Nobody reads a term's entries after the last row, so that its product is made in their place: those of the first
        term are read into the last row's total right away.
        """
        dtype = torch.float64 if chunk.name in self.double else torch.float32
        weights = buffers.read_wide(self.weights, chunk, dtype, "weights") if self.weights else None
        totals = [buffers.take(self.totals[k], chunk.count, dtype).tensor for k in which]
        for i, reader in enumerate(self.terms):
            entries = buffers.read_wide(reader, chunk, dtype, "entries" if i else self.totals[which[-1]])
            for k, total in zip(which, totals, strict=True):
                factor = self.factor(buffers, weights, *self.rows[k][i])
                if i == 0:
                    multiply(entries, factor, total)
                elif k == which[-1]:
                    total.add_(multiply(entries, factor, entries))
                else:
                    total.add_(multiply(entries, factor, buffers.like("product", entries)))
        if not math.isfinite(float(totals[-1].sum())):  # an entry that is no number makes every sum none
            self.find_unsound(buffers, chunk, dtype)
        return totals

    def find_unsound(self, buffers: Buffers, chunk: Chunk, dtype: torch.dtype) -> None:
        """Note the terms whose entries in this chunk aren't all finite."""
        for reader in self.terms:
            if not buffers.read_wide(reader, chunk, dtype, "looked at").isfinite().all():
                self.unsound.setdefault(reader.label, set()).add(chunk.name)

    def factor(self, buffers: Buffers, weights: Tensor | None, coefficient: float, weighted: float) -> float | Tensor:
        """One coefficient, or one for each entry: computed in float64 and rounded to the sum's type."""
        if weights is None or not weighted:
            return coefficient
        exact = buffers.take("factor", weights.numel(), torch.float64).tensor.copy_(weights)
        return buffers.like("factors", weights).copy_(exact.mul_(weighted).add_(coefficient))


def multiply(entries: Tensor, factor: float | Tensor, into: Tensor) -> Tensor:
    """``entries * factor`` in ``into``; in its own place times 1 is what it was."""
    if into is entries and not isinstance(factor, Tensor) and factor == 1:
        return entries
    return torch.mul(entries, factor, out=into)  # type: ignore[arg-type, unused-ignore]


def write_outputs(
    outputs: Sequence[Output],
    kernel: Kernel,
    first: TensorFiles,
    dtype: str = "",
    whole: bool = False,
    unsound: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Fill ``outputs``, all laid out alike, shard by shard, and publish them; ``first`` gives what is copied.

    ``unsound`` is what the kernel notes of its terms: label -> tensors with entries that are no finite numbers.
    """
    chunk = 0 if whole else chunk_size(len(outputs))
    with writer.under_way(outputs):
        for shard in outputs[0].shards if outputs else ():
            which = [k for k, output in enumerate(outputs) if shard in output.missing]
            sinks = [outputs[k].sink(shard) for k in which]
            try:
                write_shard(sinks, which, kernel, first, chunk)
            finally:
                for sink in sinks:
                    sink.close()
            for k, sink in zip(which, sinks, strict=True):
                outputs[k].note_unsound(unsound or {})
                outputs[k].finish(sink)
        for output in outputs:
            output.publish(first.folder, dtype)


def check_recomputed(outputs: Sequence[Output], kernel: Kernel, first: TensorFiles) -> None:
    """Raise `UserError` unless computing ``outputs`` gives the files in their ``done``; nothing is written."""
    for shard in outputs[0].shards if outputs else ():
        sinks = [writer.HashOnly(shard) for _ in outputs]
        write_shard(sinks, range(len(outputs)), kernel, first, chunk_size(len(outputs)))
        pairs = zip(outputs, sinks, strict=True)
        raise_problems([output.refusal for output, sink in pairs if output.done[shard.file] != sink.sha256()])


def chunk_size(results: int) -> int:
    """Entries of a chunk, in a pass that makes so many results."""
    return max(LEAST_CHUNK, CHUNK // max(1, results // 2))


def write_shard(sinks: Sequence[Sink], which: Sequence[int], kernel: Kernel, first: TensorFiles, chunk: int) -> None:
    """Every chunk of one shard, into the sink of each result."""
    if not sinks:
        return
    places = sinks[0].shard.entries

    def work(buffers: Buffers, number: int, piece: Chunk) -> None:
        entry = places[piece.name]
        begin = piece.begin * SIZES[entry.dtype]
        if is_summed(first, piece.name):
            for sink, tensor in zip(sinks, kernel(buffers, piece, which), strict=True):
                sink.put(number, piece.name, begin, buffers.round_to(tensor, TYPES[entry.dtype]))
        else:
            copy = buffers.take("copy", piece.count * SIZES[entry.dtype], torch.uint8).octets
            first.read(piece.name, begin, copy)
            for sink in sinks:
                sink.put(number, piece.name, begin, copy)

    def give_up() -> None:
        for sink in sinks:
            sink.give_up()

    chunks = cut_into_chunks({name: entry.count for name, entry in places.items()}, chunk)
    run_in_threads(chunks, work, give_up, 0 if chunk else 1)
