"""Nodes of two small files, other processes that build or hold them, and leases of other machines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.core.contracts import Node
from bench.core.hashing import hash_json
from bench.core.types import Json
from bench.runs.store import NodeRequest, Store
from tests.processes import environment

FIELDS: Json = {"kind": "test"}
KEY = hash_json(FIELDS)[:32]


def two_files(text: str = "weights") -> Callable[[Path], Json]:
    def make(folder: Path) -> Json:
        (folder / "a").write_text(text)
        (folder / "deep" / "deeper").mkdir(parents=True)
        (folder / "deep" / "deeper" / "b").write_text(text)
        return {"made": text}

    return make


def never(folder: Path) -> Json:
    raise AssertionError("the node is there already")


def build(store: Store, make: Callable[[Path], Json | None], wait: bool = True) -> tuple[Node, bool]:
    return store.build(NodeRequest(FIELDS, "test", {"commit": None}, wait), make)


def python(code: str, *words: str | int | Path) -> subprocess.Popen[str]:
    """Another process with this checkout's packages."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """One line of what it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they printed, once all have ended well."""
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


Wreck = Callable[[Path], object]


def loop(place: Path) -> None:
    place.symlink_to(place)


def full_folder(place: Path) -> None:
    place.mkdir()
    (place / "something").write_text("")


def link_to_no_end(place: Path) -> None:
    place.symlink_to("/dev/zero")


def dead_link(place: Path) -> None:
    place.symlink_to("nowhere")


def listener(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:  # by a short name, as that of a socket is cut
        made.bind(f"/proc/self/fd/{(handle := os.open(place.parent, os.O_RDONLY))}/{place.name}")
        os.close(handle)


WRONG_KINDS: tuple[Wreck, ...] = (Path.mkdir, full_folder, loop, link_to_no_end, dead_link, os.mkfifo, listener)
"""What makes something that is no file; it is to be tried in the place of every file."""


def leased_elsewhere(root: Path, host: str = "another-machine", pid: int = 4711) -> Path:
    """A lease that a process of another machine took."""
    path = root / "leases" / f"{KEY}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host, "pid": pid, "started": 1, "nonce": "theirs"}))
    return path
