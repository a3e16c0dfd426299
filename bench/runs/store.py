"""The store: checkpoints and responses in folders named by the hash of what made them.

A node is leased by a file with a heartbeat while it is built, and published by rename, so that several processes (on
one machine or on a shared file system) neither harm each other nor do the same work twice. The lease saves work; the
rename is what keeps a node whole, so even two builders of the same node end in one good folder.

Under torchrun the first process looks, leases and publishes for all; a node that all of them make is `build`'s `shared`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import distributed
from bench.core.errors import Busy
from bench.core.files import write_text
from bench.core.hashing import digest, file_hash
from bench.core.types import Json

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A lease whose heartbeat is older than this is taken over; on the same machine a dead owner is seen at once."""
POLL_SECONDS = 0.2
NODE_FILE = "node.json"


@dataclass(frozen=True)
class Node:
    """A published folder and what is known of how it was made."""

    key: str
    path: Path
    info: Json
    """``fields``, ``label``, ``seconds``, ``bytes``, ``hash``, ``provenance`` and what the build returned as ``meta``."""


class Store:
    """A folder of nodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checked: dict[str, Node] = {}
        self.alone = False
        """Whether the first process of several builds a node while the others wait."""

    def path(self, key: str) -> Path:
        """Where a node of this key lies once it is published."""
        return self.root / "nodes" / key[:2] / key

    def scratch(self, key: str) -> Path:
        """Where a long build keeps its own resumable state; removed when the node is published."""
        return self.root / "scratch" / key

    def find(self, key: str) -> Node | None:
        """The published node if its files are those it was published with, else None."""
        if key in self.checked and self.checked[key].path.exists():
            return self.checked[key]
        path = self.path(key)
        try:
            info = json.loads((path / NODE_FILE).read_text())
            whole = info["hash"] == content_hash(path)
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        if not whole:
            return None
        self.checked[key] = Node(key, path, info)
        return self.checked[key]

    def build(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        provenance: Json,
        wait: bool = True,
        expect: float = 0.0,
        shared: bool = False,
    ) -> tuple[Node, bool]:
        """The node of ``fields``, and whether it was built now. ``make`` fills an empty folder.

        Raises `Busy` when another process is building it and ``wait`` is false. Of several processes under torchrun
        all call this; ``make`` runs on every one of them if it is ``shared``, else on the first.
        """
        key = digest(fields)[:32]

        def here(make: Callable[[Path], Json | None]) -> tuple[Node, bool]:
            return self.build_here(key, fields, make, label, provenance, wait, expect)

        if distributed.world() == 1:
            return here(make)
        if self.alone:  # the others don't know of it
            assert not shared, "a node that the first process builds on its own can't train or measure"
            return here(make)
        if shared:
            node, built = build_together(here, make)
        else:
            node, built = distributed.from_first(lambda: self.build_alone(here, make))
        self.checked[key] = node
        return node, built

    def build_alone(self, here: Building, make: Callable[[Path], Json | None]) -> tuple[Node, bool]:
        """The first process builds, and what it needs for that it builds on its own as well."""
        self.alone = True
        try:
            return here(make)
        finally:
            self.alone = False

    def has(self, key: str) -> bool:
        """Whether the node is there: the same answer for all processes that ask together."""

        def look() -> bool:
            return self.find(key) is not None

        return look() if self.alone else distributed.from_first(look)

    def build_here(
        self,
        key: str,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        provenance: Json,
        wait: bool,
        expect: float,
    ) -> tuple[Node, bool]:
        """`build` by this process."""
        while True:
            if node := self.find(key):
                return node, False
            with self.lease(key) as mine:
                if mine:
                    if node := self.find(key):
                        return node, False
                    self.discard(key)
                    return self.make(key, fields, make, label, provenance, expect), True
            if not wait:
                raise Busy(label)
            time.sleep(POLL_SECONDS)

    def make(
        self,
        key: str,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        provenance: Json,
        expect: float = 0.0,
    ) -> Node:
        """Build into a temporary folder and publish it by rename; when somebody was quicker, theirs is the node."""
        partial = self.root / "partial" / f"{key}-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True)
        began = time.perf_counter()
        try:
            meta = make(partial) or {}
            info = {
                "fields": fields,
                "label": label,
                "seconds": round(time.perf_counter() - began, 3),
                "expected_seconds": round(expect, 3),
                "bytes": sum(file.stat().st_size for file in partial.rglob("*") if file.is_file()),
                "hash": content_hash(partial),
                "provenance": provenance,
                "meta": meta,
            }
            write_text(partial / NODE_FILE, json.dumps(info, indent=1))
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.rename(path)
                self.checked[key] = Node(key, path, info)
            except OSError:
                if self.find(key) is None:
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(self.scratch(key), ignore_errors=True)
        return self.checked[key]

    def discard(self, key: str) -> None:
        """Take a damaged node out of the way, then delete it: a reader never sees half of it. For the lease's holder."""
        away = self.root / "partial" / f"{key}-damaged-{uuid.uuid4().hex[:8]}"
        away.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self.path(key).rename(away)
            shutil.rmtree(away, ignore_errors=True)

    @contextmanager
    def lease(self, key: str) -> Iterator[bool]:
        """Hold the node's lease, with a heartbeat; yields whether it was to be had."""
        path = self.root / "leases" / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = me()
        if not take(path, owner):
            yield False
            return
        self.sweep(key)
        stop = threading.Event()
        beat = threading.Thread(target=heartbeat, args=(path, stop), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            stop.set()
            beat.join()
            with guarded(path.parent):
                if read_owner(path) == owner:
                    path.unlink(missing_ok=True)

    def sweep(self, key: str) -> None:
        """Remove what dead builders of this node left behind; only the lease's holder may."""
        for left in (self.root / "partial").glob(f"{key}-*"):
            shutil.rmtree(left, ignore_errors=True)


Building = Callable[[Callable[[Path], Json | None]], tuple[Node, bool]]


def build_together(here: Building, make: Callable[[Path], Json | None]) -> tuple[Node, bool]:
    """A node that every process has a part in; the first one says in which folder, if it is to be made at all."""

    def led(folder: Path) -> Json | None:
        distributed.from_first(lambda: folder)
        return distributed.together(lambda: make(folder))

    said: Any = distributed.from_first(lambda: here(led))
    if isinstance(said, Path):  # heard by the others alone
        with suppress(Exception):  # the first process has it as well, and says it to all
            distributed.together(lambda: make(said))
        said = distributed.from_first(lambda: here(led))
    node, built = said
    return node, built


def content_hash(folder: Path) -> str:
    """Hash of a node's files, without the file that states it."""
    return node_content_hash(folder, NODE_FILE)


def node_content_hash(folder: Path, leave_out: str = "") -> str:
    """sha256 over the sorted names and the hashes of everything in a node's ``folder``, level by level.

    `bench.core.hashing.tree_hash` is another one: over the relative names of all files.
    """
    entries = sorted(path for path in folder.iterdir() if path.name != leave_out)
    return digest([[path.name, node_content_hash(path) if path.is_dir() else file_hash(path)] for path in entries])


def me() -> Json:
    """Who this process is; the nonce tells apart two leases of the same process."""
    return {"host": here(), "pid": os.getpid(), "started": started(os.getpid()), "nonce": uuid.uuid4().hex}


def here() -> str:
    """Where process numbers mean the same: this machine and, in a container, its own table of processes."""
    return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"


def started(pid: int) -> int:
    """When a process of this machine began, in clock ticks since boot; 0: it has gone.

    It tells the old owner from a new process of the same number; ticks don't move when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@contextmanager
def guarded(leases: Path) -> Iterator[None]:
    """One process at a time looks at a lease and replaces it: a lock that goes when its process does."""
    with (leases / ".guard").open("a") as file:
        with suppress(OSError):  # a file system without locks: at worst two do the same work
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take(path: Path, owner: Json) -> bool:
    """Create the lease file if nobody alive has it."""
    with guarded(path.parent):
        holder = read_owner(path)
        if holder is not None and not is_dead(path, holder):
            return False
        path.unlink(missing_ok=True)
        try:
            with path.open("x") as file:
                json.dump(owner, file)
        except FileExistsError:  # only where there are no locks
            return False
        return True


def is_dead(path: Path, owner: Json) -> bool:
    """Whether the owner of a lease has gone: its process has, or its heartbeat has stopped."""
    if owner["host"] == here():
        return bool(started(owner["pid"]) != owner["started"])
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def read_owner(path: Path) -> Json | None:
    """Who holds a lease; None when the file is gone or says nothing of use."""
    try:
        owner = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return owner if isinstance(owner, dict) and {"host", "pid", "started"} <= owner.keys() else None


def heartbeat(path: Path, stop: threading.Event) -> None:
    """Touch the lease until told to stop."""
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
