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
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.core import distributed
from bench.core.contracts import Node
from bench.core.errors import Busy
from bench.core.files import this_process_space, write_text
from bench.core.hashing import hash_file, hash_json
from bench.core.types import Json, finite_json

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A lease whose heartbeat is older than this is taken over; on the same machine a dead owner is seen at once."""
POLL_SECONDS = 0.2
NODE_FILE = "node.json"

T = TypeVar("T")
INDEX = "index.jsonl"
"""A line for each node that was published, in their order: what estimates read in the place of every node's file."""
INDEXED = ("tokens", "parameters", "train_seconds", "resumed")
"""Fields of a node's ``meta`` that its line of the index repeats."""

Make = Callable[[Path], Json | None]
"""Fills an empty folder, and returns what is to be known of it."""


@dataclass(frozen=True)
class NodeRequest:
    """A node that is to be found or built, apart from how."""

    fields: Json
    label: str
    provenance: Json
    wait: bool = True
    """Whether to wait for another process that is building it."""
    expect: Callable[[], float] | None = None
    """Seconds that it may take; asked only when it is built."""

    @property
    def key(self) -> str:
        """The name of its folder."""
        return hash_json(self.fields)[:32]


class Store:
    """A folder of nodes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checked: dict[str, Node] = {}
        self.alone = False
        """Whether the first process of several builds a node while the others wait."""
        self.closed = False
        """Whether nothing is built, as nodes that are there are asked for."""

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
            is_whole = info["hash"] == hash_node(path)
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        if not is_whole:
            return None
        self.checked[key] = Node(key, path, info)
        return self.checked[key]

    def build(self, asked: NodeRequest, make: Make, shared: bool = False) -> tuple[Node, bool]:
        """The node that is ``asked`` for, and whether it was built now. ``make`` fills an empty folder.

        Raises `Busy` when another process is building it and nobody is to wait. Of several processes under torchrun
        all call this; ``make`` runs on every one of them if it is ``shared``, else on the first.
        """
        if self.closed and not self.has(asked.key):
            raise Busy(asked.label)
        here = partial(self.build_here, asked)
        if distributed.world() == 1:
            return here(make)
        if self.alone:  # the others don't know of it
            assert not shared, "a node that the first process builds on its own can't train or measure"
            return here(make)
        if shared:
            node, built = build_together(here, make)
        else:
            node, built = distributed.call_on_first(lambda: self.build_alone(here, make))
        self.checked[asked.key] = node
        return node, built

    def build_alone(self, here: Building, make: Make) -> tuple[Node, bool]:
        """The first process builds, and what it needs for that it builds on its own as well."""
        self.alone = True
        try:
            return here(make)
        finally:
            self.alone = False

    def has(self, key: str) -> bool:
        """Whether the node is there: one answer for all processes that ask together."""

        def look() -> bool:
            return self.find(key) is not None

        return look() if self.alone else distributed.call_on_first(look)

    def if_published(self, ask: Callable[[], T]) -> T | None:
        """The answer of ``ask`` where every node that it needs is there; None where one would have to be built."""
        self.closed = True
        try:
            return ask()
        except Busy:
            return None
        finally:
            self.closed = False

    def build_here(self, asked: NodeRequest, make: Make) -> tuple[Node, bool]:
        """Find or build a node in this process."""
        while True:
            if node := self.find(asked.key):
                return node, False
            with self.lease(asked.key) as mine:
                if mine:
                    if node := self.find(asked.key):
                        return node, False
                    self.discard(asked.key)
                    return self.publish(asked, make), True
            if not asked.wait:
                raise Busy(asked.label)
            time.sleep(POLL_SECONDS)

    def publish(self, asked: NodeRequest, make: Make) -> Node:
        """Build into a temporary folder and publish it by rename; when somebody was quicker, theirs is the node."""
        key = asked.key
        unfinished = self.root / "partial" / f"{key}-{uuid.uuid4().hex[:8]}"
        unfinished.mkdir(parents=True)
        expected = asked.expect() if asked.expect else 0.0
        began = time.perf_counter()
        try:
            meta = make(unfinished) or {}
            info = {
                "fields": asked.fields,
                "label": asked.label,
                "seconds": round(time.perf_counter() - began, 3),
                "expected_seconds": round(expected, 3),
                "bytes": sum(file.stat().st_size for file in unfinished.rglob("*") if file.is_file()),
                "hash": hash_node(unfinished),
                "provenance": asked.provenance,
                "meta": finite_json(meta),
            }
            write_text(unfinished / NODE_FILE, json.dumps(info, indent=1))
            path = self.path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.rename(path)
                self.checked[key] = Node(key, path, info)
                self.enter([self.checked[key]] if (self.root / INDEX).exists() else self.every_node())
            except OSError:
                if self.find(key) is None:
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self.scratch(key), ignore_errors=True)
        return self.checked[key]

    def index(self) -> list[Json]:
        """A line for each published node (`index_entry`), in one read; damaged lines are passed over.

        A store from before there was an index is read through once, and gets one.
        """
        if not (self.root / INDEX).exists():
            self.enter(self.every_node())
        try:
            lines = (self.root / INDEX).read_text().splitlines()
        except OSError:  # nothing is published, or the store is somebody else's
            return []
        entries: dict[str, Json] = {}
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                entries[entry["key"]] = {"bytes": entry["bytes"], "device": entry["device"], **entry}
        return list(entries.values())

    def every_node(self) -> list[Node]:
        """All published nodes by their own files: slow, and needed once."""
        return [node for folder in sorted((self.root / "nodes").glob("*/*")) if (node := read_node(folder))]

    def enter(self, nodes: Sequence[Node]) -> None:
        """Add lines to the index in one write, so that processes which add at once don't mix theirs."""
        if nodes:
            with suppress(OSError), (self.root / INDEX).open("a") as file:
                file.write("".join(f"{json.dumps(index_entry(node))}\n" for node in nodes))

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
        owner = this_owner()
        if not take_lease(path, owner):
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
            with lease_guard(path.parent):
                if read_owner(path) == owner:
                    path.unlink(missing_ok=True)

    def sweep(self, key: str) -> None:
        """Remove what dead builders of this node left behind; only the lease's holder may."""
        for left in (self.root / "partial").glob(f"{key}-*"):
            shutil.rmtree(left, ignore_errors=True)


Building = Callable[[Make], tuple[Node, bool]]


def build_together(here: Building, make: Make) -> tuple[Node, bool]:
    """A node that every process has a part in; the first one says in which folder, if it is to be made at all."""

    def led(folder: Path) -> Json | None:
        distributed.call_on_first(lambda: folder)
        return distributed.call_on_all(lambda: make(folder))

    said: Any = distributed.call_on_first(lambda: here(led))
    if isinstance(said, Path):  # heard by the others alone
        with suppress(Exception):  # the first process has it as well, and says it to all
            distributed.call_on_all(lambda: make(said))
        said = distributed.call_on_first(lambda: here(led))
    node, built = said
    return node, built


def read_node(folder: Path) -> Node | None:
    """A published folder by its own file, unchecked; None where that is damaged or has just gone."""
    try:
        info = json.loads((folder / NODE_FILE).read_text())
        return Node(folder.name, folder, info | {"meta": dict(info["meta"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def index_entry(node: Node) -> Json:
    """A node's line of the index: key, bytes, device, and of a training run its tokens, parameters and seconds."""
    device = (node.info.get("provenance") or {}).get("device", "cpu")
    known = {name: node.info["meta"][name] for name in INDEXED if name in node.info["meta"]}
    return {"key": node.key, "bytes": node.info.get("bytes", 0), "device": device, **known}


def hash_node(folder: Path) -> str:
    """Hash of a node's files, without the file that states it."""
    return node_content_hash(folder, NODE_FILE)


def node_content_hash(folder: Path, leave_out: str = "") -> str:
    """sha256 over the sorted names and the hashes of everything in a node's ``folder``, level by level.

    `bench.core.hashing.hash_tree` is another one: over the relative names of all files.
    """
    entries = sorted(path for path in folder.iterdir() if path.name != leave_out)
    return hash_json([[path.name, node_content_hash(path) if path.is_dir() else hash_file(path)] for path in entries])


def this_owner() -> Json:
    """Who this process is; the nonce tells apart two leases of the same process."""
    return {
        "host": this_process_space(),
        "pid": os.getpid(),
        "started": process_start_ticks(os.getpid()),
        "nonce": uuid.uuid4().hex,
    }


def process_start_ticks(pid: int) -> int:
    """When a process of this machine began, in clock ticks since boot; 0: it has gone.

    It tells the old owner from a new process of the same number; ticks don't move when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@contextmanager
def lease_guard(leases: Path) -> Iterator[None]:
    """One process at a time looks at a lease and replaces it: a lock that goes when its process does."""
    with (leases / ".guard").open("a") as file:
        with suppress(OSError):  # a file system without locks: at worst two do the same work
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take_lease(path: Path, owner: Json) -> bool:
    """Create the lease file if nobody alive has it."""
    with lease_guard(path.parent):
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
    if owner["host"] == this_process_space():
        return bool(process_start_ticks(owner["pid"]) != owner["started"])
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
