"""Chunks, buffers and threads: every entry once, views that hold what they say, failures that reach the caller."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from bench.assets.tensors import TensorFiles
from bench.engines.arithmetic import chunks
from bench.engines.arithmetic.chunks import Buffers, Chunk, count_cores, cut_into_chunks, octets, run_in_threads
from tests.weights import folder, vector


def test_tensors_are_cut_in_order_with_a_short_last_chunk() -> None:
    found = list(cut_into_chunks({"a": 5, "b": 0, "c": 2}, 2))
    assert found == [Chunk("a", 0, 2), Chunk("a", 2, 2), Chunk("a", 4, 1), Chunk("c", 0, 2)]
    assert list(cut_into_chunks({"a": 5, "b": 0, "c": 2}, 0)) == [Chunk("a", 0, 5), Chunk("c", 0, 2)]


def test_a_buffer_is_used_again_and_smaller_ones_are_views_of_it() -> None:
    buffers = Buffers()
    large = buffers.take("sum", 8, torch.float32)
    small = buffers.take("sum", 3, torch.float32)
    assert buffers.take("sum", 8, torch.float32) is large and len(small.octets) == 12
    assert small.tensor.data_ptr() == large.tensor.data_ptr()
    others = (buffers.take("read", 8, torch.float32), buffers.take("sum", 8, torch.float64))
    assert large.tensor.data_ptr() not in {other.tensor.data_ptr() for other in others}, "of its use and type alone"
    larger = buffers.take("sum", 9, torch.float32)
    assert buffers.take("sum", 3, torch.float32).tensor.data_ptr() == larger.tensor.data_ptr(), "the old one has gone"
    assert buffers.like("sum", torch.ones(3, 3)).data_ptr() == larger.tensor.data_ptr()


def test_a_chunk_is_read_as_it_lies_there_and_widened_exactly(tmp_path: Path) -> None:
    """bfloat16's 1.5 and -0.25 are the same numbers in float32; entries 1 and 2 of four."""
    made = folder(tmp_path / "one", {"w": vector(9, 1.5, -0.25, 9, dtype=torch.bfloat16), "v": vector(1, 2, 3)})
    reader, buffers = TensorFiles(Path(made.path)), Buffers()
    plain = buffers.read(reader, Chunk("w", 1, 2))
    assert (plain.dtype, plain.tolist()) == (torch.bfloat16, [1.5, -0.25])
    wide = buffers.read_wide(reader, Chunk("w", 1, 2), torch.float32, "wide")
    assert (wide.dtype, wide.tolist()) == (torch.float32, [1.5, -0.25])
    same = buffers.read_wide(reader, Chunk("v", 2, 1), torch.float32, "own")
    assert same.tolist() == [3] and same.data_ptr() == buffers.take("own", 1, torch.float32).tensor.data_ptr()


def test_entries_are_rounded_to_nearest_even_and_nothing_is_copied_without_need() -> None:
    """Between bfloat16's 1 (even) and 1 + 2^-7 the middle goes down; above it, up."""
    buffers, exact = Buffers(), torch.tensor([1 + 2**-8, 1 + 2**-8 + 2**-20])
    rounded = torch.frombuffer(bytearray(buffers.round_to(exact, torch.bfloat16)), dtype=torch.bfloat16)
    assert rounded.tolist() == [1.0, 1 + 2**-7]
    own = buffers.round_to(exact, torch.float32)
    exact[0] = 7
    assert torch.frombuffer(bytearray(own), dtype=torch.float32)[0] == 7, "the tensor's own bytes"
    turned = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).t()
    assert torch.frombuffer(bytearray(buffers.round_to(turned, torch.float32)), dtype=torch.float32).tolist() == [
        1.0,
        3.0,
        2.0,
        4.0,
    ]


def test_bytes_are_the_tensors_own_to_be_written() -> None:
    tensor = torch.zeros(2, 2, dtype=torch.int16)
    octets(tensor)[2] = 5
    assert tensor.tolist() == [[0, 5], [0, 0]]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_chunk_is_done_once_by_its_number_and_threads_share_no_buffers(threads: int) -> None:
    wanted = list(cut_into_chunks({"a": 40, "b": 7}, 3))
    done: list[tuple[int, Chunk]] = []
    owners: dict[int, set[int]] = {}
    lock = threading.Lock()

    def work(buffers: Buffers, number: int, chunk: Chunk) -> None:
        assert torch.get_num_threads() == 1 or threads == 1
        with lock:
            done.append((number, chunk))
            owners.setdefault(id(buffers), set()).add(threading.get_ident())

    before = torch.get_num_threads()
    run_in_threads(wanted, work, threads=threads)
    assert sorted(done, key=lambda pair: pair[0]) == list(enumerate(wanted))
    assert all(len(users) == 1 for users in owners.values()) and torch.get_num_threads() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_failure_is_raised_when_all_have_stopped(threads: int) -> None:
    """The other thread waits for a chunk that will never come, until it is told to give up."""
    gone, calls = threading.Event(), list[int]()

    def work(buffers: Buffers, number: int, chunk: Chunk) -> None:
        calls.append(number)
        if number == 0:
            raise OSError("the disk is full")
        assert gone.wait(20), "nobody woke it"

    with pytest.raises(OSError, match="the disk is full"):
        run_in_threads(cut_into_chunks({"a": 100}, 1), work, gone.set, threads)
    assert gone.is_set() and len(calls) <= threads, "no further chunk is begun"


def test_threads_are_torchs_own_up_to_four_and_two_where_there_are_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, cores, used in ((1, 1, 1), (1, 2, 2), (1, 8, 2), (3, 1, 3), (64, 64, 4)):
        monkeypatch.setattr(torch, "get_num_threads", lambda there=there: there)
        monkeypatch.setattr(chunks.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert count_cores() == used
    assert chunks.MOST_THREADS == 4
