"""Several processes as one, under ``torchrun``: what they agree on beside what training itself sends.

Messages go through the store of the rendezvous and not through collective operations, so that a process which waits can
give up: a failure anywhere ends the others with a sentence, wherever they stand. They are JSON (`bench.core.messages`), so
that whoever reaches the rendezvous's port can send nothing that runs. Without `join_processes` there is one process,
and everything here is a plain call.
"""

from __future__ import annotations

import ctypes
import os
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from bench.core.errors import UserError
from bench.core.messages import read_message, write_message

T = TypeVar("T")
GRACE_SECONDS = 15.0
"""How long a process that has failed waits for the others to fail or to finish as well, before it ends the command."""
SHORTEST_SECONDS, LONGEST_SECONDS = 0.002, 0.5
"""How often a process that waits for another looks: less often, the longer it waits."""
MMAP_THRESHOLD, RETURNED_BYTES = -3, 1 << 20
"""glibc's number of the setting, and the least size of a piece that goes back when it is freed."""
FAILED = "failed"
"""The key under which a process leaves its last words."""


class OutOfStep(BaseException):
    """A process has failed where the others can't follow: the whole command ends, so nobody may go on after it."""


@dataclass
class Ring:
    """The processes of one command; each numbers what is said in the same order."""

    store: Any
    rank: int
    world: int
    said: int = 0
    """Messages so far: the number of the next one."""

    def next(self, kind: str) -> str:
        """The name of the next message; its kind is in it, so that what is out of step is never taken for an answer."""
        self.said += 1
        return f"{self.said}/{kind}"

    def say(self, name: str, value: Any) -> None:
        """Leave a message for the others."""
        self.store.set(f"{name}/{self.rank}", zlib.compress(write_message(value), 1))

    def hear(self, name: str, rank: int, patience: float = float("inf")) -> Any:
        """The message of another process; `TimeoutError` after ``patience`` seconds."""
        key, began, pause = f"{name}/{rank}", time.monotonic(), SHORTEST_SECONDS
        while not self.store.check([key]):
            if last := self.last_words():
                raise OutOfStep(last)
            if time.monotonic() - began > patience:
                raise TimeoutError(f"process {rank} has said nothing for {patience:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_SECONDS)
        return read_message(zlib.decompress(self.store.get(key)))

    def last_words(self) -> str:
        """The failure that a process left before it gave up; empty while all are there."""
        return str(self.store.get(FAILED).decode()) if self.store.check([FAILED]) else ""


_ring: Ring | None = None


def count_launched() -> int:
    """How many processes ``torchrun`` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(device: str) -> str:
    """Join the other processes, if there are some; returns the device of this one. `leave_processes` leaves them."""
    global _ring
    if count_launched() == 1:
        return device
    import torch
    import torch.distributed as dist

    if device == "cpu":
        return_freed_memory()
    else:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    store, rank, world = next(dist.rendezvous("env://"))
    dist.init_process_group(
        "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
        store=dist.PrefixStore("tensors", store),
        rank=rank,
        world_size=world,
    )
    _ring = Ring(dist.PrefixStore("words", store), rank, world)
    return device


def return_freed_memory() -> None:
    """Let the C library give large pieces of memory back when they are freed, where it is glibc.

    It keeps pieces of up to 32 MB, which is about a transformer's block, and weights that are gathered block by block would in
    the end take as much as if they had never been split.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, RETURNED_BYTES)


def leave_processes() -> None:
    """Leave the other processes; all must have done what they share."""
    global _ring
    if _ring is not None:
        import torch.distributed as dist

        _ring = None
        dist.destroy_process_group()


def torchrun_problems(device: str, jobs: int | None) -> list[str]:
    """Sentences about options of the command line that don't go with ``torchrun``."""
    if count_launched() == 1:
        return []
    found = []
    if jobs not in (None, 1):
        found.append(f"--jobs {jobs}: under torchrun all processes do the same job; leave it out.")
    if ":" in device:
        found.append(f"--device {device}: under torchrun each process takes the GPU of its rank; say cuda.")
    if device == "cuda":
        import torch

        needed, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if needed > there:
            found.append(
                f"torchrun started {needed} processes here, and there are {there} GPUs: one for each is needed."
            )
    return found


def rank() -> int:
    """The number of this process, from 0."""
    return _ring.rank if _ring else 0


def world() -> int:
    """How many processes work together."""
    return _ring.world if _ring else 1


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return rank() == 0


def take_share(items: Sequence[T]) -> Sequence[T]:
    """This process's part: every item belongs to exactly one process."""
    return items[rank() :: world()]


def call_on_first(do: Callable[[], T]) -> T:
    """Call ``do`` on the first process alone; its result, or its error, is everybody's."""
    if _ring is None:
        return do()
    if not is_first():
        failure, value = _ring.hear(_ring.next("first"), 0)
        if failure is not None:
            raise failure
        return cast(T, value)
    try:
        value = do()
    except Exception as error:
        _ring.say(_ring.next("first"), (error, None))
        raise
    _ring.say(_ring.next("first"), (None, value))
    return value


def call_on_all(do: Callable[[], T]) -> T:
    """Call ``do`` on every process; when it fails on one of them, it fails on all."""
    if _ring is None:
        return do()
    name = _ring.next("together")
    own: Exception | None = None
    value, whole = None, ""
    try:
        value = do()
    except Exception as error:
        own, whole = error, traceback.format_exc()
    _ring.say(name, (own, whole, _ring.said))
    try:
        heard = [_ring.hear(name, other, GRACE_SECONDS if own else float("inf")) for other in range(_ring.world)]
    except TimeoutError as silence:
        words = f"Process {rank()} failed, and {silence}:\n{whole}"
        _ring.store.set(FAILED, words)
        raise OutOfStep(words) from None
    if own is not None and (last := _ring.last_words()):  # this failure is what came of that one
        raise OutOfStep(last) from None
    _ring.said = max(said for *_, said in heard)  # one that failed has said less
    if own is not None:
        raise own
    for other, (failure, its_whole, _) in enumerate(heard):
        if isinstance(failure, UserError):
            raise failure
        if failure is not None:
            raise RuntimeError(f"Process {other} failed:\n{its_whole}")
    return cast(T, value)


def gather(value: T) -> list[T]:
    """Collect a value of every process: on the first the values of all, in their order; on the others their own alone."""
    if _ring is None:
        return [value]
    name = _ring.next("gathered")
    if not is_first():
        _ring.say(name, value)
        return [value]
    found = [value]
    for other in range(1, _ring.world):
        found.append(_ring.hear(name, other))
        _ring.store.delete_key(f"{name}/{other}")  # large, and nobody else's business
    return found


def sum_over_processes(number: float) -> float:
    """The sum of ``number`` over all processes."""
    if _ring is None:
        return number
    import torch
    import torch.distributed as dist

    tensor = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(tensor)
    return tensor.item()
