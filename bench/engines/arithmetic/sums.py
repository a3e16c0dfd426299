"""The arithmetic engine: weighted sums of checkpoints, and other maps over their tensors, streamed from file to file.

Everything goes in pieces of some ten thousand entries that stay in a core's cache: read by byte range, widened to
float32 (float64 tensors to float64), computed, rounded once, written at its place and hashed. A few threads take one
piece after the other. Memory is a few megabytes a thread, whatever the model's size, except where `transform` is asked
for whole tensors.

An entry of a sum is ``((c_1 x_1) + c_2 x_2) + ...`` with the coefficient rounded to float32, and every product and every
sum rounded to float32: no fused multiply-add, so that a coefficient of its own for each entry gives the same bits.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.assets.tensors import CONSTANTS, FLOATS, SIZES, TORCH, TensorFiles, check_match, opened
from bench.core.contracts import Term
from bench.core.errors import Absent, UserError, collect, unknown
from bench.core.types import Checkpoint, Json
from bench.core.versions import ARITHMETIC
from bench.engines.arithmetic.writer import (
    DTYPES,
    Blind,
    Output,
    Shard,
    Sink,
    Written,
    check_places,
    companions_of,
    plan_shards,
    under_way,
)

SHARD_BYTES = 2_000_000_000
"""A result is written in files of about this size; a killed call goes on behind the last whole one."""
CHUNK = 1 << 17
"""Entries of a piece: with its buffers it fits a core's cache."""
LEAST_CHUNK = 1 << 14
"""Entries, where one pass makes many results and a piece has as many buffers."""
MOST_THREADS = 4

TYPES = {name: getattr(torch, TORCH[name]) for name in FLOATS}


Coefficients = Sequence[float | tuple[float, float]]
"""For each checkpoint a coefficient, or a coefficient and what is multiplied with an entry's weight."""
Terms = Sequence[Term | tuple[float, Checkpoint]]
Function = Callable[[str, list[Tensor]], Tensor]
"""(name, one float32 tensor for each checkpoint) -> float32 tensor of the same shape."""


def as_terms(terms: Terms) -> tuple[Term, ...]:
    """``(coefficient, checkpoint)`` pairs as terms."""
    return tuple(term if isinstance(term, Term) else Term(*term) for term in terms)


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
    whole = as_terms(terms)
    grid = [[(term.coefficient, term.weighted) for term in whole]]
    checkpoints = [term.checkpoint for term in whole]
    return combine_grid(checkpoints, grid, [out], weights=weights, dtype=dtype, scratches=[scratch])[0]


def combine_grid(
    checkpoints: Sequence[Checkpoint],
    grid: Sequence[Coefficients],
    outs: Sequence[Path],
    *,
    weights: Checkpoint | None = None,
    dtype: str = "",
    scratches: Sequence[Path | None] = (),
    notes: Sequence[Json] = (),
    careful: bool = False,
) -> tuple[Written, ...]:
    """Several sums of the same checkpoints in one pass over them: row k of ``grid`` goes to the folder ``outs[k]``.

    Each is, to the bit, what `combine` writes. ``notes`` are written beside the weights, with the files' sha256. If
    ``careful``, a folder that isn't empty is refused (`UserError`), but for one that holds this very result already by
    its note and its files: it stays, and `Written.kept` says so. Where an input has another time than when that was
    made, it is computed again, without being written, and stays if its bytes are the same (`Written.compared`).
    """
    assert checkpoints and len(grid) == len(outs), "a row of coefficients for each output"
    rows = [[pair if isinstance(pair, tuple) else (float(pair), 0.0) for pair in row] for row in grid]
    with opened([*checkpoints, *([weights] if weights else [])]) as readers:
        terms, weighing = readers[: len(checkpoints)], readers[-1] if weights else None
        check_match(terms)
        if weighing:
            check_weights(terms[0], weighing)
        shards = plan(terms[0], dtype)
        outputs = [
            Output(
                out,
                shards,
                identity("combine", readers, dtype) | {"coefficients": row},
                scratches[k] if scratches else None,
                notes[k] if notes else None,
            )
            for k, (row, out) in enumerate(zip(rows, outs, strict=True))
        ]
        collect(check_places([p for o in outputs for p in (o.out, o.work)], [r.folder for r in readers]))
        if careful:
            collect([problem for output in outputs if (problem := output.occupied())])
            doubtful = [(output, row) for output, row in zip(outputs, rows, strict=True) if output.doubtful]
            again([output for output, _ in doubtful], Sums(terms, [row for _, row in doubtful], weighing), terms[0])
        due = [(output, row) for output, row in zip(outputs, rows, strict=True) if not output.kept]
        write([output for output, _ in due], Sums(terms, [row for _, row in due], weighing), terms[0], dtype)
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

    ``function(name, tensors)`` gets a float32 tensor from each checkpoint and gives one of the same shape: flat pieces,
    from several threads at once and in any order, or with ``whole`` one whole tensor after the other. It may change
    what it gets, and must not keep it. Tensors that a sum would copy are copied. Not resumable: nobody knows whether
    two functions are the same.
    """
    with opened(checkpoints) as readers:
        check_match(readers)
        output = Output(out, plan(readers[0], dtype), None, scratch)
        collect(check_places([output.out, output.work], [reader.folder for reader in readers]))
        write([output], Mapped(readers, function, whole), readers[0], dtype, whole)
        return output.written()


def scrambled(
    before: Checkpoint, tuned: Checkpoint, kind: str, seed: int, out: Path, *, scratch: Path | None = None
) -> Written:
    """Write ``before + c`` in float32, where c has lost what the vector ``tuned - before`` says: an ablation's control.

    Tensor by tensor, c is the vector with its entries permuted (``kind`` is ``shuffled``) or normal entries with the
    vector's Euclidean norm (``random``). The draws follow from ``seed`` and the tensor's name alone.
    """
    if kind not in SCRAMBLES:
        raise UserError(unknown("control", kind, SCRAMBLES))

    def control(name: str, tensors: list[Tensor]) -> Tensor:
        start, end = tensors
        word = hashlib.sha256(f"{seed} {kind} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(word[:8], "little") >> 1)
        return start.add_(SCRAMBLES[kind](end.sub_(start), generator))

    return transform([before, tuned], out, control, whole=True, scratch=scratch)


def shuffled(vector: Tensor, generator: torch.Generator) -> Tensor:
    """The same entries in another order."""
    return vector.flatten()[torch.randperm(vector.numel(), generator=generator)].view(vector.shape)


def random(vector: Tensor, generator: torch.Generator) -> Tensor:
    """Normal entries, scaled to the vector's Euclidean norm."""
    drawn = torch.randn(vector.shape, generator=generator)
    length = drawn.double().norm()
    return drawn.mul_(float(vector.double().norm() / length)) if length else drawn


SCRAMBLES: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {"shuffled": shuffled, "random": random}
"""Kind of control -> what it makes of a tensor's vector."""


# --- geometry


@dataclass(frozen=True)
class Geometry:
    """Two vectors of weights: lengths, distance and inner product, over all floating-point weights, tied ones once."""

    one: float
    """Euclidean length."""
    other: float
    distance: float
    dot: float

    @property
    def cosine(self) -> float:
        """Of the angle between them; raises `Absent` when one of them is zero."""
        if not self.one or not self.other:
            raise Absent("the angle to a vector of length zero isn't defined")
        return self.dot / (self.one * self.other)


def geometry(one: Checkpoint, other: Checkpoint, origin: Checkpoint | None = None) -> Geometry:
    """Of ``one`` and ``other``, seen from ``origin`` (default: from zero), in float64."""
    start = [(-1.0, origin)] if origin else []
    return seen([[(1.0, one), *start], [(1.0, other), *start], [(1.0, one), (-1.0, other)]])


def distance(one: Checkpoint, other: Checkpoint) -> float:
    """Euclidean distance of all floating-point weights, summed in float64; tied weights once."""
    return math.sqrt(products([[(1.0, one), (-1.0, other)]])[0][0])


def cosine(a1: Checkpoint, a0: Checkpoint, b1: Checkpoint, b0: Checkpoint) -> float:
    """Cosine of the angle between the vectors ``a1 - a0`` and ``b1 - b0``, in float64.

    Raises `Absent` when one of them is zero.
    """
    a, b = [(1.0, a1), (-1.0, a0)], [(1.0, b1), (-1.0, b0)]
    return seen([a, b, [*a, *((-sign, checkpoint) for sign, checkpoint in b)]]).cosine


def seen(vectors: Sequence[Sequence[tuple[float, Checkpoint]]]) -> Geometry:
    """The geometry of the first two vectors; the third is their difference."""
    table = products(vectors)
    one, other, apart = (math.sqrt(table[i][i]) for i in range(3))
    return Geometry(one, other, apart, table[0][1])


def products(vectors: Sequence[Sequence[tuple[float, Checkpoint]]]) -> list[list[float]]:
    """Inner products of vectors, each a weighted sum of checkpoints, in float64 and without writing anything."""
    checkpoints = list({checkpoint.path: checkpoint for vector in vectors for _, checkpoint in vector}.values())
    places = {checkpoint.path: place for place, checkpoint in enumerate(checkpoints)}
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i, len(vectors))]
    with opened(checkpoints) as readers:
        check_match(readers)
        names = [name for name in readers[0].names if summed(readers[0], name)]
        pieces = list(cut({name: readers[0].entries[name].count for name in names}, CHUNK))
        found: list[list[float]] = [[]] * len(pieces)

        def work(lane: Lane, number: int, piece: Piece) -> None:
            entries = [lane.wide(reader, piece, torch.float64, f"entries {i}") for i, reader in enumerate(readers)]
            made = []
            for k, vector in enumerate(vectors):
                total = lane.room(f"vector {k}", piece.count, torch.float64).tensor.zero_()
                for coefficient, checkpoint in vector:
                    total.add_(entries[places[checkpoint.path]], alpha=coefficient)
                made.append(total)
            found[number] = [float(made[i] @ made[j]) for i, j in pairs]

        in_threads(enumerate(pieces), work)
    sums = {pair: math.fsum(of_piece[k] for of_piece in found) for k, pair in enumerate(pairs)}
    return [[sums[min(i, j), max(i, j)] for j in range(len(vectors))] for i in range(len(vectors))]


# --- what is written, and how


def summed(reader: TensorFiles, name: str) -> bool:
    """Whether a tensor takes part in the arithmetic; else it is copied."""
    return reader.entries[name].dtype in FLOATS and not CONSTANTS.search(name)


def plan(first: TensorFiles, dtype: str) -> tuple[Shard, ...]:
    """The files of a result with the names and shapes of ``first``."""
    if dtype and dtype not in DTYPES:
        raise UserError(unknown("dtype", dtype, DTYPES))
    own = {name: first.entries[name] for name in first.names}
    types = {name: DTYPES[dtype] if dtype and summed(first, name) else entry.dtype for name, entry in own.items()}
    return plan_shards({name: (types[name], entry.shape) for name, entry in own.items()}, SHARD_BYTES)


def identity(what: str, readers: Sequence[TensorFiles], dtype: str) -> Json:
    """What the bytes of a result follow from, its coefficients apart."""
    return {
        "what": what,
        "engine": ARITHMETIC,
        "inputs": [[reader.files, reader.names] for reader in readers],
        "companions": companions_of(readers[0].folder),
        "dtype": dtype,
        "shard_bytes": SHARD_BYTES,
    }


def check_weights(first: TensorFiles, weights: TensorFiles) -> None:
    """Raise `UserError` unless there is a float32 weight for every entry that is summed."""
    for name in first.names:
        if not summed(first, name):
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


@dataclass(frozen=True)
class Piece:
    """Some entries of one tensor, one after the other in its memory."""

    name: str
    begin: int
    count: int


class Room(NamedTuple):
    """Space for some entries, as a tensor and as its bytes."""

    tensor: Tensor
    octets: memoryview


class Lane:
    """One thread's buffers, made when first needed and used again."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, torch.dtype], dict[int, Room]] = {}

    def room(self, use: str, count: int, dtype: torch.dtype) -> Room:
        """Room for ``count`` entries; what was in it is lost."""
        try:
            return self._rooms[use, dtype][count]
        except KeyError:
            return self._more(use, count, dtype)

    def _more(self, use: str, count: int, dtype: torch.dtype) -> Room:
        rooms = self._rooms.setdefault((use, dtype), {})
        if count > max(rooms, default=0):
            rooms.clear()  # views of the smaller buffer would keep it in memory
            space = torch.empty(count, dtype=dtype)
        else:
            space = rooms[max(rooms)].tensor[:count]
        rooms[count] = Room(space, octets(space))
        return rooms[count]

    def like(self, use: str, tensor: Tensor) -> Tensor:
        """Room for as many entries of the same type."""
        return self.room(use, tensor.numel(), tensor.dtype).tensor

    def read(self, reader: TensorFiles, piece: Piece, use: str = "read") -> Tensor:
        """The piece as it lies in the file."""
        dtype = reader.entries[piece.name].dtype
        room = self.room(use, piece.count, TYPES[dtype])
        reader.read(piece.name, piece.begin * SIZES[dtype], room.octets)
        return room.tensor

    def wide(self, reader: TensorFiles, piece: Piece, dtype: torch.dtype, use: str) -> Tensor:
        """The piece in float32 or float64."""
        if TYPES[reader.entries[piece.name].dtype] == dtype:
            return self.read(reader, piece, use)
        return self.room(use, piece.count, dtype).tensor.copy_(self.read(reader, piece))

    def rounded(self, tensor: Tensor, dtype: torch.dtype) -> memoryview:
        """The bytes of the tensor's entries in ``dtype``, rounded to nearest even."""
        if tensor.dtype == dtype and tensor.is_contiguous():
            return octets(tensor)
        room = self.room("rounded", tensor.numel(), dtype)
        room.tensor.copy_(tensor.flatten())
        return room.octets


class Sums:
    """Weighted sums of one piece, a row of coefficients each."""

    def __init__(
        self, terms: Sequence[TensorFiles], rows: Sequence[Sequence[tuple[float, float]]], weights: TensorFiles | None
    ) -> None:
        self.terms, self.rows, self.weights = terms, rows, weights
        self.double = {name for reader in terms for name, entry in reader.entries.items() if entry.dtype == "F64"}
        """Names of the tensors that are summed in float64."""
        self.places = [f"total {k}" for k in range(len(rows))]
        """Names of the sums' buffers."""

    def __call__(self, lane: Lane, piece: Piece, which: Sequence[int]) -> Sequence[Tensor]:
        """The sums of the rows ``which``. What is read last or alone is multiplied in place."""
        dtype = torch.float64 if piece.name in self.double else torch.float32
        weights = lane.wide(self.weights, piece, dtype, "weights") if self.weights else None
        totals = [lane.room(self.places[k], piece.count, dtype).tensor for k in which]
        for i, reader in enumerate(self.terms):
            entries = lane.wide(reader, piece, dtype, "entries" if i else self.places[which[-1]])
            for k, total in zip(which, totals, strict=True):
                factor = self.factor(lane, weights, *self.rows[k][i])
                last = k == which[-1]
                into = (entries if last else lane.like("product", entries)) if i else total
                if into is not entries or isinstance(factor, Tensor) or factor != 1:  # times 1 is what it was
                    torch.mul(entries, factor, out=into)
                if i:
                    total.add_(into)
        return totals

    def factor(self, lane: Lane, weights: Tensor | None, coefficient: float, weighted: float) -> Any:
        """One coefficient, or one for each entry: computed in float64 and rounded to the sum's type."""
        if weights is None or not weighted:
            return coefficient
        exact = lane.room("factor", weights.numel(), torch.float64).tensor.copy_(weights)
        return lane.like("factors", weights).copy_(exact.mul_(weighted).add_(coefficient))


class Mapped:
    """A function's value on one piece of every checkpoint, or on a whole tensor of each."""

    def __init__(self, readers: Sequence[TensorFiles], function: Function, whole: bool) -> None:
        self.readers, self.function, self.whole = readers, function, whole

    def __call__(self, lane: Lane, piece: Piece, which: Sequence[int]) -> Iterator[Tensor]:
        """The one value."""
        shape = self.readers[0].entries[piece.name].shape if self.whole else (piece.count,)
        given = [lane.wide(reader, piece, torch.float32, f"given {i}") for i, reader in enumerate(self.readers)]
        made = self.function(piece.name, [tensor.view(shape) for tensor in given])
        assert made.shape == shape, f"the function gave {tuple(made.shape)} for {shape}"
        yield made


Compute = Callable[[Lane, Piece, Sequence[int]], Iterable[Tensor]]
"""(buffers, piece, numbers of results) -> one floating-point tensor for each of those results."""


# --- the pieces, and who does them


def write(
    outputs: Sequence[Output], compute: Compute, first: TensorFiles, dtype: str = "", whole: bool = False
) -> None:
    """Fill ``outputs``, all laid out alike, shard by shard, and publish them; ``first`` gives what is copied."""
    chunk = 0 if whole else chunk_of(len(outputs))
    with under_way(outputs):
        for shard in outputs[0].shards if outputs else ():
            which = [k for k, output in enumerate(outputs) if shard in output.missing]
            sinks = [outputs[k].sink(shard) for k in which]
            try:
                write_shard(sinks, which, compute, first, chunk)
            finally:
                for sink in sinks:
                    sink.close()
            for k, sink in zip(which, sinks, strict=True):
                outputs[k].finish(sink)
        for output in outputs:
            output.publish(first.folder, dtype)


def again(outputs: Sequence[Output], compute: Compute, first: TensorFiles) -> None:
    """Raise `UserError` unless computing ``outputs`` gives the files in their ``done``; nothing is written."""
    for shard in outputs[0].shards if outputs else ():
        sinks = [Blind(shard) for _ in outputs]
        write_shard(sinks, range(len(outputs)), compute, first, chunk_of(len(outputs)))
        pairs = zip(outputs, sinks, strict=True)
        collect([output.refusal() for output, sink in pairs if output.done[shard.file] != sink.sha256()])


def chunk_of(results: int) -> int:
    """Entries of a piece, in a pass that makes so many results."""
    return max(LEAST_CHUNK, CHUNK // max(1, results // 2))


def write_shard(sinks: Sequence[Sink], which: Sequence[int], compute: Compute, first: TensorFiles, chunk: int) -> None:
    """Every piece of one shard, into the sink of each result."""
    if not sinks:
        return
    places = sinks[0].shard.entries

    def work(lane: Lane, number: int, piece: Piece) -> None:
        entry = places[piece.name]
        begin = piece.begin * SIZES[entry.dtype]
        if summed(first, piece.name):
            for sink, tensor in zip(sinks, compute(lane, piece, which), strict=True):
                sink.put(number, piece.name, begin, lane.rounded(tensor, TYPES[entry.dtype]))
        else:
            copy = lane.room("copy", piece.count * SIZES[entry.dtype], torch.uint8).octets
            first.read(piece.name, begin, copy)
            for sink in sinks:
                sink.put(number, piece.name, begin, copy)

    def give_up() -> None:
        for sink in sinks:
            sink.give_up()

    pieces = cut({name: entry.count for name, entry in places.items()}, chunk)
    in_threads(enumerate(pieces), work, give_up, 1 if not chunk else 0)


def cut(counts: Mapping[str, int], chunk: int) -> Iterator[Piece]:
    """Tensors as pieces of ``chunk`` entries, in order; with 0 each in one piece."""
    for name, count in counts.items():
        for begin in range(0, count, chunk or max(1, count)):
            yield Piece(name, begin, min(chunk or count, count - begin))


def octets(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, to be read or written in place."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def in_threads(
    pieces: Iterable[tuple[int, Piece]],
    work: Callable[[Lane, int, Piece], None],
    give_up: Callable[[], None] = lambda: None,
    threads: int = 0,
) -> None:
    """Do ``work`` for every piece, each thread taking the next one; 0: as many threads as `cores` says.

    The first failure is raised when all have stopped; ``give_up`` wakes those that wait for one another. One thread is
    the caller's, in which torch may use as many as it likes.
    """
    left, lock, failures = iter(pieces), threading.Lock(), list[BaseException]()

    def serve() -> None:
        lane = Lane()
        try:
            while not failures:
                with lock:
                    taken = next(left, None)
                if taken is None:
                    return
                work(lane, *taken)
        except BaseException as failure:  # noqa: B036 - raised again by the thread that waits
            failures.append(failure)
            give_up()

    threads = threads or cores()
    if threads == 1:
        serve()
    else:
        with one_torch_thread():
            crew = [threading.Thread(target=serve) for _ in range(threads)]
            for thread in crew:
                thread.start()
            try:
                for thread in crew:
                    thread.join()
            except BaseException as interruption:
                failures.append(interruption)
                give_up()
                for thread in crew:
                    thread.join()
    if failures:
        raise failures[0]


def cores() -> int:
    """Threads to use: as many as torch may use in the caller's thread, up to `MOST_THREADS`."""
    return max(1, min(MOST_THREADS, torch.get_num_threads()))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Threads that start in here each compute alone; the caller's setting is what it was afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
