"""Leases: who is building a node, seen from this process and from others, on this machine and on others.

A lease is a file with a heartbeat. On one machine its owner lives as long as the owner's process does. Of another host
nothing is known but the file, and its owner has gone when *this process* has seen it unchanged for `STALE_SECONDS` by
its own monotonic clock: no clock of another machine is compared with ours. Losing a lease wrongly costs work alone, as
nodes are published by rename.

One thread a process beats for all its leases. It is started before there is a lease, as a process that has no memory
left can start none, and would hold for ever what it had taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import uuid
from _thread import start_new_thread
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.core.errors import UserError
from bench.core.files import read_small, remove_path, this_process_space
from bench.runs.folder import NO_ENTRY, StoreFolder, is_file, is_locked, take_lock

HEARTBEAT_SECONDS = 5.0
BIRTH_SECONDS = 30.0
"""A thread that hasn't begun by then found no memory and is dead."""
STALE_SECONDS = 60.0
"""A lease of another host that this process has seen unchanged for so long is taken over."""
MOST_BYTES = 1 << 16
GUARD, AT_WORK = ".guard", ".at-work"
"""What is locked while a lease is looked at and replaced; and what every command at work holds, for `bench prune`."""
PATIENCE_SECONDS = 8.0
"""Whoever waits says so after this time, then at twice the time each time, at least `SELDOM_SECONDS` later."""
SELDOM_SECONDS = 60.0


@dataclass(frozen=True)
class Owner:
    """Who holds a lease."""

    host: str
    pid: int
    started: int
    """When the process began, in clock ticks since boot: it tells it from a later one of the same number."""
    nonce: str = ""
    """Tells apart two leases of one process."""

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == this_process_space()


@dataclass(frozen=True)
class Holder:
    """A living owner of a lease that this process waits for."""

    owner: Owner
    lease: Path
    silent: float
    """Seconds that this process has seen the lease unchanged."""
    moved: bool = False
    """Whether this process has seen its heartbeat."""

    def __str__(self) -> str:
        """Who it is, and how to take over where that is wise."""
        pid = self.owner.pid
        if not self.owner.is_here:
            other = f"process {pid} on another host"
            if self.silent > 2 * HEARTBEAT_SECONDS:
                return (
                    f"{other} has it, and its heartbeat has stood still for {self.silent:.0f} s; it is taken over after "
                    f"{STALE_SECONDS:.0f} s, and at once if you delete '{self.lease}'"
                )
            if self.moved:
                return f"{other} is at it and alive, its heartbeat {self.silent:.0f} s ago; it is only waited for"
            return f"{other} has it; it is taken over if its heartbeat stands still for {STALE_SECONDS:.0f} s"
        if process_state(pid) in ("T", "t"):
            return (
                f"process {pid} on this machine is at it and is stopped: `kill -CONT {pid}` lets it go on, and deleting "
                f"'{self.lease}' takes over"
            )
        return f"process {pid} on this machine is at it; deleting '{self.lease}' takes over"


class Heart:
    """The thread that touches every lease of this process, and none of another owner."""

    def __init__(self) -> None:
        self.leases: dict[str, tuple[Path, Owner]] = {}
        """Of each lease that this process has, or is about to take, by its nonce."""
        self.lock = threading.Lock()
        """Held while one is touched, so that nothing is touched that was given back."""
        self.lives = False

    def start(self) -> None:
        """Start the thread unless it lives; MemoryError where it can't begin.

        `threading.Thread.start` would wait for ever for a thread that dies of want of memory at its birth.
        """
        with self.lock:
            if self.lives:
                return
            begun = threading.Event()
            start_new_thread(self.beat, (begun,))
            if not begun.wait(BIRTH_SECONDS):
                raise MemoryError("can't start new thread")
            self.lives = True

    def add(self, path: Path, owner: Owner) -> None:
        """Beat for a lease as well, once it is this owner's."""
        with self.lock:
            self.leases[owner.nonce] = path, owner

    def drop(self, owner: Owner) -> None:
        """Beat no more for a lease."""
        with self.lock:
            self.leases.pop(owner.nonce, None)

    def beat(self, begun: threading.Event) -> None:
        """The thread's whole life: a beat that fails is made up for by the next one."""
        begun.set()
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            try:
                for nonce in list(self.leases):
                    self.touch(nonce)
            except MemoryError:
                continue

    def touch(self, nonce: str) -> None:
        """Touch a lease, if it is still its owner's."""
        with self.lock, suppress(OSError):  # a file system that is full, or away for a while
            path, owner = self.leases.get(nonce, (None, None))
            if path is not None and read_owner(path) == owner:
                os.utime(path)


_heart = Heart()
_seen: dict[Path, tuple[object, float, bool]] = {}
"""What this process last saw of leases of other hosts, since when by its own clock, and whether that was a heartbeat."""


def start_heart() -> None:
    """Start this process's heartbeat, if it has none: early, as long as there is memory for it."""
    _heart.start()


def renew_heart() -> None:
    """In a forked child: neither the thread nor the leases are its own."""
    global _heart
    _heart = Heart()


os.register_at_fork(after_in_child=renew_heart)


@contextmanager
def hold_lease(folder: StoreFolder, key: str) -> Iterator[Owner | Holder]:
    """Hold a node's lease, with a heartbeat; yields this owner, or who has it instead."""
    path = folder.make("leases") / f"{key}.json"
    owner = Owner(this_process_space(), os.getpid(), process_start_ticks(os.getpid()), uuid.uuid4().hex)
    heart = _heart
    heart.start()
    heart.add(path, owner)
    try:
        holder = take_lease(folder, path, owner)
        try:
            yield holder or owner
        finally:
            heart.drop(owner)
            if holder is None:
                give_back(folder, path, owner)
    finally:
        heart.drop(owner)


def give_back(folder: StoreFolder, path: Path, owner: Owner) -> None:
    """Remove a lease that is still this owner's."""
    with lease_guard(folder):
        if read_owner(path) == owner:
            path.unlink(missing_ok=True)


@contextmanager
def lease_guard(folder: StoreFolder) -> Iterator[Path]:
    """One process at a time looks at a lease and replaces it: a lock that goes when its process does.

    Yields the leases' folder, which `bench prune` locks as well as long as it has the guard.
    """
    leases = folder.make("leases")
    handle = folder.open_lock(leases / GUARD)
    try:
        wait_for_prune(folder, handle, fcntl.LOCK_EX, leases)
        yield leases
    finally:
        os.close(handle)


def wait_for_prune(folder: StoreFolder, handle: int, kind: int, pruned: Path) -> None:
    """Take a lock, however long `bench prune` has it, which holds ``pruned`` then; do without it after anybody else."""
    said = False
    while not take_lock(handle, kind) and is_locked(pruned):
        if not said:
            folder.say(
                f"`bench prune` is at work in the store '{folder.root}': this command goes on when that has ended."
            )
        said = True


def take_lease(folder: StoreFolder, path: Path, owner: Owner) -> Holder | None:
    """Create the lease file if nobody alive has it; else who does."""
    with lease_guard(folder):
        holder = living_holder(path)
        if holder is not None:
            return holder
        if is_file(path):
            path.unlink(missing_ok=True)
        else:
            folder.set_aside(path)
        try:
            with path.open("x") as file:
                json.dump(asdict(owner), file)
        except FileExistsError:  # only where there are no locks
            return Holder(read_owner(path) or owner, path, 0.0)
        return None


def living_holder(path: Path) -> Holder | None:
    """Who holds a lease; None when nobody does, or the owner has gone."""
    owner = read_owner(path)
    if owner is None:
        return None
    if owner.is_here:
        if (
            owner.pid == os.getpid() and owner.nonce not in _heart.leases
        ):  # a lease that this process could not give back
            return None
        return Holder(owner, path, 0.0) if process_start_ticks(owner.pid) == owner.started else None
    silent, moved = watch_lease(path, owner)
    return Holder(owner, path, silent, moved) if silent <= STALE_SECONDS else None


def watch_lease(path: Path, owner: Owner) -> tuple[float, bool]:
    """For how many seconds this process has seen the lease as it is, by its own clock, and whether its heart has beaten."""
    try:
        now, stamp = time.monotonic(), (owner, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return float("inf"), False
    before, since, moved = _seen.get(path, (None, now, False))
    if before != stamp:
        moved = isinstance(before, tuple) and before[0] == owner
        _seen[path] = stamp, now, moved
        return 0.0, moved
    return now - since, moved


def read_owner(path: Path) -> Owner | None:
    """Who holds a lease; None when the file is gone or says nothing of use."""
    try:
        said = json.loads(read_small(path, MOST_BYTES))
        owner = Owner(**{name: said[name] for name in ("host", "pid", "started", "nonce") if name in said})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    except OSError as error:
        if error.errno in NO_ENTRY:
            return None
        raise
    kinds = (owner.host, str), (owner.pid, int), (owner.started, int), (owner.nonce, str)
    return owner if all(type(value) is kind for value, kind in kinds) and owner.pid > 0 else None


def process_start_ticks(pid: int) -> int:
    """When a process of this machine began, in clock ticks since boot; 0: it has gone.

    It tells the old owner from a new process of the same number; ticks don't move when the clock is set.
    """
    fields = process_fields(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def process_state(pid: int) -> str:
    """The letter of a process's state, ``T`` for a stopped one; empty: it has gone."""
    return (process_fields(pid) or [""])[0]


def process_fields(pid: int) -> list[str]:
    """What the kernel says of a process after its name; nothing of one that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def release_dead(folder: StoreFolder, processes: Collection[int]) -> None:
    """Give back what processes of this machine, which were ended, held: their leases, with the unfinished nodes of those.

    Resumable states stay, for whoever goes on from there.
    """
    if not any(has_died(path, processes) for path in (folder.root / "leases").glob("*.json")):
        return
    with lease_guard(folder) as leases:
        for path in leases.glob("*.json"):
            if has_died(path, processes):
                for left in (folder.root / "partial").glob(f"{path.stem}-*"):
                    remove_path(left)
                path.unlink(missing_ok=True)


def has_died(path: Path, processes: Collection[int]) -> bool:
    """Whether a lease is of one of these processes of this machine, and that has gone."""
    owner = read_owner(path)
    return owner is not None and owner.is_here and owner.pid in processes and living_holder(path) is None


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Let `bench prune` know, as long as this process lives, that nodes of this store are in use."""
    handle = None
    with suppress(OSError, UserError):  # a store that is only read
        folder = StoreFolder(root)
        handle = folder.open_lock(folder.make() / AT_WORK)
        wait_for_prune(folder, handle, fcntl.LOCK_SH, root / AT_WORK)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


@dataclass
class Patience:
    """When to say that one is waiting: after `PATIENCE_SECONDS`, and then ever more seldom."""

    waits: dict[str, list[float]] = field(default_factory=dict)
    """What is waited for -> since when, last asked when, next said when."""

    def ask(self, what: str) -> float:
        """How long ``what`` has been waited for, in seconds, where it is time to say so; else 0."""
        now = time.monotonic()
        since, asked, due = self.waits.get(what, [now, now, now + PATIENCE_SECONDS])
        if now - asked > SELDOM_SECONDS:  # another wait
            since, due = now, now + PATIENCE_SECONDS
        waited = now - since if now >= due else 0.0
        self.waits[what] = [since, now, now + max(waited, SELDOM_SECONDS) if waited else due]
        return waited
