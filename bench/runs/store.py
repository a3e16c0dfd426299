"""The store: checkpoints and responses in folders named by the hash of what made them.

A node is leased by a file with a heartbeat while it is built (`bench.runs.leases`), and published by rename, so that
several processes (on one machine or on a shared file system) neither harm each other nor do the same work twice. The
lease saves work; the rename is what keeps a node whole, so even two builders of the same node end in one good folder.
What is damaged is found by its hash, set aside (`bench.runs.folder`) and built again.

Under torchrun the first process looks, leases and publishes for all; a node that all of them make is `build`'s `shared`.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.core import distributed, stopping
from bench.core.contracts import Node
from bench.core.errors import Busy, say_once
from bench.core.files import read_small, remove_path, write_text
from bench.core.hashing import hash_json
from bench.core.seals import SEAL, is_whole
from bench.core.types import Json, finite_json
from bench.engines.arithmetic.writer import LOCK
from bench.runs.folder import NO_ENTRY, StoreFolder, is_file
from bench.runs.index import INDEX, MOST_BYTES, index_entry, index_text, read_entries
from bench.runs.leases import Owner, Patience, hold_lease, living_holder, read_owner
from bench.runs.nodes import NODE_FILE, hash_node, is_key, node_text, read_info, read_node, stamp_node

POLL_SECONDS = 0.2

T = TypeVar("T")

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

    def __init__(self, root: Path, say: Callable[[str], None] = say_once) -> None:
        """``say`` tells the user what is damaged and who is waited for."""
        self.root, self.say = root, say
        self.folder = StoreFolder(root, lambda text: self.say(text))
        self.checked: dict[str, tuple[Node, list[tuple[Any, ...]]]] = {}
        """Nodes whose files were read, with the stamps that those had."""
        self.leases: dict[str, Owner] = {}
        """Those that this object holds, by the node's key."""
        self.patience = Patience()
        self.alone = False
        """Whether the first process of several builds a node while the others wait."""
        self.closed = False
        """Whether nothing is built, as nodes that are there are asked for."""

    def path(self, key: str) -> Path:
        """Where a node of this key lies once it is published."""
        if not is_key(key):
            raise ValueError(f"{key!r} is no key of a node")
        return self.root / "nodes" / key[:2] / key

    def scratch(self, key: str) -> Path:
        """Where a long build keeps its own resumable state; removed when the node is published.

        Its name is that of the lease, so that a builder who was taken for dead and wakes up finds it gone instead of
        writing between the new one's files.
        """
        return self.own_scratch(key) if self.alone else distributed.call_on_first(lambda: self.own_scratch(key))

    def own_scratch(self, key: str) -> Path:
        """The same, known to the process that has the lease."""
        lease = self.leases.get(key)
        return self.root / "scratch" / (f"{key}-{lease.nonce[:8]}" if lease else key)

    def find(self, key: str) -> Node | None:
        """The published node if its files are those it was published with, else None.

        They are read once, and again when a stamp of one has changed.
        """
        if not is_key(key):
            return None
        path = self.path(key)
        try:
            stamps = stamp_node(path)
            if key in self.checked and self.checked[key][1] == stamps:
                return self.checked[key][0]
            info = read_info(path)
            if info["hash"] != hash_node(path):
                return None
        except (ValueError, RecursionError):
            return None
        except OSError as error:
            if error.errno in NO_ENTRY:
                return None
            raise
        node = Node(key, path, info)
        self.checked[key] = node, stamps
        return node

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
                self.clear_scratch(asked.key)
                return node, False
            with hold_lease(self.folder, asked.key) as holder:
                if isinstance(holder, Owner):
                    with self.holding(asked, holder):
                        if node := self.find(asked.key):
                            return node, False
                        self.set_aside(asked)
                        try:
                            return self.publish(asked, make), True
                        except Exception:
                            if distributed.world() > 1 or self.owns(asked.key):
                                raise
                            continue  # taken for dead and overtaken: the new owner cleared what this one was working on
            if not asked.wait:
                raise Busy(asked.label, asked.key, str(holder))
            stopping.heed(further=None)
            if waited := self.patience.ask(asked.key):
                self.say(f"waited {waited:.0f} s for '{asked.label}': {holder}.")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def holding(self, asked: NodeRequest, lease: Owner) -> Iterator[None]:
        """Prepare the place of a node whose lease this process has: what dead builders left of it is removed."""
        key = asked.key
        self.leases[key] = lease
        try:
            for left in self.folder.make("partial").glob(f"{key}-*"):
                with suppress(OSError):
                    remove_path(left)
            self.take_scratch(asked)
            yield
        finally:
            del self.leases[key]

    def set_aside(self, asked: NodeRequest) -> None:
        """Take a damaged node out of the way; only the lease's holder may, as another one may be putting it there anew."""
        place = self.folder.make("nodes", asked.key[:2]) / asked.key
        self.folder.set_aside(place, f"'{asked.label}' ({asked.key})")

    def clear_scratch(self, key: str) -> None:
        """Remove the resumable state of a published node, whose builder ended before it could."""
        with suppress(OSError):
            left = list((self.root / "scratch").glob(f"{key}-*"))
            if left and living_holder(self.root / "leases" / f"{key}.json") is None:
                for path in left:
                    remove_path(path)

    def take_scratch(self, asked: NodeRequest) -> None:
        """Give the resumable state of earlier builders this lease's name; where there are several, the last one's.

        What is damaged in it is set aside, so that the build goes on from an earlier state or begins again.
        """
        key = asked.key
        place = self.folder.make("scratch")
        left = [path for path in (place / key, *place.glob(f"{key}-*")) if os.path.lexists(path)]
        for path in left:
            if path.is_symlink() or not path.is_dir():
                self.folder.set_aside(path)
        there = sorted((path for path in left if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)
        for path in there[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        for path in there[-1:]:
            path.rename(self.own_scratch(key))
            remove_path(self.own_scratch(key) / LOCK)  # whoever had it open has no lease any more
            for sealed in sorted(self.own_scratch(key).rglob(SEAL)):
                if not is_whole(sealed.parent):
                    self.folder.set_aside(sealed.parent, f"a state of the interrupted '{asked.label}'")

    def owns(self, key: str) -> bool:
        """Whether the lease of a node is still this object's."""
        return key in self.leases and read_owner(self.root / "leases" / f"{key}.json") == self.leases[key]

    def publish(self, asked: NodeRequest, make: Make) -> Node:
        """Build into a temporary folder and publish it by rename; when somebody was quicker, theirs is the node."""
        key = asked.key
        unfinished = self.folder.make("partial") / f"{key}-{uuid.uuid4().hex[:8]}"
        unfinished.mkdir()
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
            write_text(unfinished / NODE_FILE, node_text(info))
            node = self.put(asked, unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.enter([node])
        shutil.rmtree(self.own_scratch(key), ignore_errors=True)
        return node

    def put(self, asked: NodeRequest, unfinished: Path) -> Node:
        """Move a finished folder to its place, unless a good node lies there."""
        key = asked.key
        path = self.folder.make("nodes", key[:2]) / key
        for last in (False, True):
            try:
                unfinished.rename(path)
            except OSError:
                if (node := self.find(key)) is not None:
                    return node
                if last:
                    raise
                self.set_aside(asked)
            else:
                break
        node = Node(key, path, read_info(path))
        self.checked[key] = node, stamp_node(path)
        return node

    def index(self) -> list[Json]:
        """What the index says of each published node, in their order; one read, and a look at the folders' names."""
        there = dict.fromkeys(self.keys())
        known = read_entries(self.index_text())
        lacking = [node for key in there if key not in known and (node := read_node(self.path(key)))]
        self.enter(lacking)
        known |= {node.key: index_entry(node) for node in lacking}
        return [entry for key, entry in known.items() if key in there]

    def index_text(self) -> str:
        """The text of the index, if there is one; what stands in its place is set aside."""
        with suppress(OSError, ValueError):  # somebody else's store, or nothing is published
            self.clear_index()
            return read_small(self.root / INDEX, MOST_BYTES).decode(errors="replace")
        return ""

    def clear_index(self) -> None:
        """Set aside what is no file in the index's place."""
        if not is_file(self.root / INDEX):
            self.folder.set_aside(self.root / INDEX)

    def keys(self) -> Iterator[str]:
        """The names of all nodes' folders, sorted; not whether they are good."""
        nodes = self.root / "nodes"
        for shelf in sorted(list_folder(nodes)):
            for name in sorted(list_folder(nodes / shelf)):
                if is_key(name) and name.startswith(shelf) and len(shelf) == 2:
                    yield name

    def enter(self, nodes: Sequence[Node]) -> None:
        """Add lines to the index in one write, so that processes which add at once don't mix theirs."""
        if not nodes:
            return
        with suppress(OSError):
            self.clear_index()
            text = index_text([index_entry(node) for node in nodes])
            with (self.root / INDEX).open("a+b") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                torn = size and file.read(1) != b"\n"  # by a full disk or a power cut
                file.write((("\n" if torn else "") + text).encode())


def list_folder(folder: Path) -> list[str]:
    """The names in a folder; none where there is no such folder."""
    try:
        return os.listdir(folder)
    except OSError as error:
        if error.errno in NO_ENTRY:
            return []
        raise


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
