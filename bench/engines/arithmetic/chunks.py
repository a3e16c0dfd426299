"""Chunks of tensors, the buffers that they are read and computed in, and the threads that work on them.

A chunk with its buffers fits a core's cache. Each thread has buffers of its own and takes one chunk after the other, so
that memory is a few megabytes a thread, whatever the model's size.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.assets.headers import FLOATS, SIZES, TORCH
from bench.assets.tensors import TensorFiles

MOST_THREADS = 4
TYPES = {name: getattr(torch, TORCH[name]) for name in FLOATS}
"""The format's names of floating-point types -> torch's types."""


@dataclass(frozen=True)
class Chunk:
    """Some entries of one tensor, one after the other in its memory."""

    name: str
    begin: int
    count: int


class Buffer(NamedTuple):
    """Space for some entries, as a tensor and as its bytes."""

    tensor: Tensor
    octets: memoryview


class Buffers:
    """One thread's buffers by their use, made when first needed and used again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], dict[int, Buffer]] = {}

    def take(self, use: str, count: int, dtype: torch.dtype) -> Buffer:
        """A buffer for ``count`` entries; what was in it is lost."""
        try:
            return self._kept[use, dtype][count]
        except KeyError:
            return self._make(use, count, dtype)

    def _make(self, use: str, count: int, dtype: torch.dtype) -> Buffer:
        kept = self._kept.setdefault((use, dtype), {})
        if count > max(kept, default=0):
            kept.clear()  # views of the smaller buffer would keep it in memory
            space = torch.empty(count, dtype=dtype)
        else:
            space = kept[max(kept)].tensor[:count]
        kept[count] = Buffer(space, octets(space))
        return kept[count]

    def like(self, use: str, tensor: Tensor) -> Tensor:
        """A buffer for as many entries of the same type."""
        return self.take(use, tensor.numel(), tensor.dtype).tensor

    def read(self, reader: TensorFiles, chunk: Chunk, use: str = "read") -> Tensor:
        """The chunk as it lies in the file."""
        dtype = reader.entries[chunk.name].dtype
        buffer = self.take(use, chunk.count, TYPES[dtype])
        reader.read(chunk.name, chunk.begin * SIZES[dtype], buffer.octets)
        return buffer.tensor

    def read_wide(self, reader: TensorFiles, chunk: Chunk, dtype: torch.dtype, use: str) -> Tensor:
        """The chunk in float32 or float64."""
        if TYPES[reader.entries[chunk.name].dtype] == dtype:
            return self.read(reader, chunk, use)
        return self.take(use, chunk.count, dtype).tensor.copy_(self.read(reader, chunk))

    def round_to(self, tensor: Tensor, dtype: torch.dtype) -> memoryview:
        """The bytes of the tensor's entries in ``dtype``, rounded to nearest even."""
        if tensor.dtype == dtype and tensor.is_contiguous():
            return octets(tensor)
        buffer = self.take("rounded", tensor.numel(), dtype)
        buffer.tensor.copy_(tensor.flatten())
        return buffer.octets


def octets(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, to be read or written in place."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def cut_into_chunks(counts: Mapping[str, int], size: int) -> Iterator[Chunk]:
    """Tensors (name -> entries) as chunks of ``size`` entries, in order; with 0 each tensor in one chunk."""
    for name, count in counts.items():
        for begin in range(0, count, size or max(1, count)):
            yield Chunk(name, begin, min(size or count, count - begin))


def run_in_threads(
    chunks: Iterable[Chunk],
    work: Callable[[Buffers, int, Chunk], None],
    give_up: Callable[[], None] = lambda: None,
    threads: int = 0,
) -> None:
    """Do ``work(buffers, number, chunk)`` for every chunk, each thread taking the next one; 0 threads: `count_cores`.

    The first failure is raised when all have stopped; ``give_up`` wakes those that wait for one another. One thread is
    the caller's, in which torch may use as many as it likes.
    """
    left, lock, failures = enumerate(chunks), threading.Lock(), list[BaseException]()

    def serve() -> None:
        buffers = Buffers()
        try:
            while not failures:
                with lock:
                    taken = next(left, None)
                if taken is None:
                    return
                work(buffers, *taken)
        except BaseException as failure:  # noqa: B036 - raised again by the thread that waits
            failures.append(failure)
            give_up()

    threads = threads or count_cores()
    if threads == 1:
        serve()
    else:
        with one_torch_thread(), ThreadPoolExecutor(threads) as pool:
            try:
                wait([pool.submit(serve) for _ in range(threads)])
            except BaseException as interruption:
                failures.append(interruption)
                give_up()
    if failures:
        raise failures[0]


def count_cores() -> int:
    """Threads to use: as many as torch may use in the caller's thread, up to `MOST_THREADS`; two where there are two cores.

    Reading, writing and hashing are most of the work, and none of torch's.
    """
    return min(MOST_THREADS, max(torch.get_num_threads(), min(2, len(os.sched_getaffinity(0)))))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Threads that start in here each compute alone; the caller's setting is what it was afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
