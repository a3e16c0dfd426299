"""The store: checkpoints and responses in folders named by the hash of what made them.

A node is leased by a file with a heartbeat while it is built, and published by rename, so that several processes (on
one machine or on a shared file system) neither harm each other nor do the same work twice. The lease saves work; the
rename is what keeps a node whole, so even two builders of the same node end in one good folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import Busy
from bench.files import write_text
from bench.hashing import digest, file_hash, folder_hash
from bench.types import Json

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A lease whose heartbeat is older than this is taken over; on the same machine a dead owner is seen at once."""
POLL_SECONDS = 0.2
NODE_FILE = "node.json"


def default_root() -> Path:
    """``MSA_BENCH_STORE``, or a folder in the user's cache."""
    if given := os.environ.get("MSA_BENCH_STORE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "msa-bench"


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

    def path(self, key: str) -> Path:
        """Where a node of this key lies once it is published."""
        return self.root / "nodes" / key[:2] / key

    def scratch(self, key: str) -> Path:
        """Where a long build keeps its own resumable state; removed when the node is published."""
        return self.root / "scratch" / key

    def find(self, key: str) -> Node | None:
        """The published node if its files are those it was published with, else None (and a damaged one is removed)."""
        if key in self.checked and self.checked[key].path.exists():
            return self.checked[key]
        path = self.path(key)
        try:
            info = json.loads((path / NODE_FILE).read_text())
        except (OSError, ValueError):
            info = None
        if info is not None and info["hash"] == content_hash(path):
            self.checked[key] = Node(key, path, info)
            return self.checked[key]
        if path.exists():
            discard(path)
        return None

    def build(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        provenance: Json,
        wait: bool = True,
        expect: float = 0.0,
    ) -> tuple[Node, bool]:
        """The node of ``fields``, and whether it was built now. ``make`` fills an empty folder.

        Raises `Busy` when another process is building it and ``wait`` is false.
        """
        key = digest(fields)[:32]
        while True:
            if node := self.find(key):
                return node, False
            with self.lease(key) as mine:
                if mine:
                    if node := self.find(key):
                        return node, False
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
        """Build into a temporary folder and publish it by rename."""
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
            except OSError:  # somebody else published the same content meanwhile
                if not (path / NODE_FILE).exists():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(self.scratch(key), ignore_errors=True)
        self.checked[key] = Node(key, path, info)
        return self.checked[key]

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
            if read_owner(path) == owner:
                path.unlink(missing_ok=True)

    def sweep(self, key: str) -> None:
        """Remove what dead builders of this node left behind; only the lease's holder may."""
        for left in (self.root / "partial").glob(f"{key}-*"):
            shutil.rmtree(left, ignore_errors=True)


def content_hash(folder: Path) -> str:
    """Hash of a node's files, without the file that states it."""
    files = [path for path in folder.iterdir() if path.name != NODE_FILE] if folder.exists() else []
    return digest(
        [[path.name, folder_hash(path, ("*",)) if path.is_dir() else file_hash(path)] for path in sorted(files)]
    )


def discard(path: Path) -> None:
    """Move a damaged folder out of the way, then delete it: a reader never sees half of it."""
    away = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
    try:
        path.rename(away)
    except OSError:
        return
    shutil.rmtree(away, ignore_errors=True)


def me() -> Json:
    """Who this process is; the nonce tells apart two leases of the same process."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "nonce": uuid.uuid4().hex,
    }


def started(pid: int) -> float:
    """When a process of this machine began, so that a reused process number is not taken for the old owner; 0: gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return 0.0


def take(path: Path, owner: Json) -> bool:
    """Create the lease file if nobody alive has it. `os.link` fails when the name exists, on NFS too."""
    draft = path.with_name(f".{path.name}.{owner['nonce']}")
    draft.write_text(json.dumps(owner))
    try:
        for _ in range(2):
            try:
                os.link(draft, path)
                return True
            except FileExistsError:
                if not retire(path):
                    return False
        return False
    finally:
        draft.unlink(missing_ok=True)


def retire(path: Path) -> bool:
    """Move a dead owner's lease away. True when the name may be free now."""
    owner = read_owner(path)
    if owner is not None and not is_dead(path, owner):
        return False
    away = path.with_name(f".{path.name}.dead-{uuid.uuid4().hex}")
    try:
        path.rename(away)
    except FileNotFoundError:
        return True
    if read_owner(away) != owner:  # somebody else took over between our look and our rename: give it back
        try:
            os.link(away, path)
        except FileExistsError:
            pass
        away.unlink(missing_ok=True)
        return False
    away.unlink(missing_ok=True)
    return True


def is_dead(path: Path, owner: Json) -> bool:
    """Whether the owner of a lease has gone: its process has, or its heartbeat has stopped."""
    if owner["host"] == socket.gethostname():
        return started(owner["pid"]) != owner["started"]
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def read_owner(path: Path) -> Any:
    """Who holds a lease; None when the file is gone or unreadable."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def heartbeat(path: Path, stop: threading.Event) -> None:
    """Touch the lease until told to stop."""
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
