"""The command line in real processes, on a library so small that a whole run takes seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.hashing import hash_file
from tests import sharing
from tests.paths import OFFLINE, ROOT
from tests.sharing import made_once
from tests.warm import SCRIPT, start_server

TINY = {
    "width": 16,
    "history_passes": 4.2,
    "target_passes": 5.4,
    "forget_books": 1,
    "retain_books": 2,
    "holdout_books": 1,
    "world_books": 2,
    "further_books": 2,
}
STAGES = ("fresh weights", "history", "target", "oracle-0", "oracle-1", "oracle-2", "theta_1", "msa")
MEASURED = (
    *("measure target", "measure oracle-0", "measure oracle-1", "measure oracle-2", "measure msa", "count FLOPs"),
    "distance of history-10 to target",
    "displacement of the target",
)
"""Labels of the nodes of a run of msa on one seed."""


def tiny_run(methods: str = "msa", command: str = "run") -> list[str]:
    """The words of a tiny command on the library, one seed, without folders."""
    words = [command, "--methods", methods, "--task", "muse-books", "--seeds", "0"]
    words += [word for name, value in TINY.items() for word in ("--set", f"muse-books.{name}={value}")]
    words += ["--set", "msa.steps=2"] if "msa" in methods.split(",") else []
    return words + (["--track", "none", "--jobs", "1"] if command == "run" else [])


def environment(first: Sequence[Path] = ()) -> dict[str, str]:
    """One thread, no network, this checkout's packages; ``first`` goes before them on the path."""
    path = os.pathsep.join(str(folder) for folder in (OFFLINE, *first, ROOT))
    given = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return {**os.environ, **given}


def start(words: Sequence[str], folder: Path, first: Sequence[Path] = (), fresh: bool = True) -> subprocess.Popen[str]:
    """``python -m bench WORDS`` in ``folder``, its output and errors together in a pipe."""
    return subprocess.Popen(
        [python(first, fresh), "-m", "bench", *words],
        cwd=folder,
        env=environment(first),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heeding,
    )


def heeding() -> None:
    """Ctrl-C reaches the command, also where these tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def bench(
    words: Sequence[str], folder: Path, first: Sequence[Path] = (), fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """``python -m bench WORDS`` in ``folder``, to its end.

    It and its workers have their libraries loaded (`tests.warm`), unless they are ``fresh`` or ``first`` hides torch.
    """
    command = [python(first, fresh), "-m", "bench", *words]
    return subprocess.run(command, cwd=folder, env=environment(first), capture_output=True, text=True, timeout=600)


def python(first: Sequence[Path], fresh: bool) -> str:
    """The Python of a command: a warm one would not see what ``first`` has in torch's place."""
    fresh = fresh or any((folder / "torch").exists() for folder in first)
    return FRESH if fresh else str(warm_python())


FRESH = sys.executable
SERVERS: list[subprocess.Popen[bytes]] = []
"""Those that this process has started; they end with the test run."""


@cache
def warm_python() -> Path:
    """In the place of ``python``, warm; its server is started by the first that asks and serves all of this test run."""
    folder = made_once("warm", lambda folder: SERVERS.append(start_server(folder, environment(), sharing.owner())))
    return folder / SCRIPT


@dataclass(frozen=True)
class Place:
    """A folder with ``store`` and ``out`` in it."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def words(self) -> list[str]:
        return ["--store", str(self.store), "--out", str(self.out)]

    def run(self, methods: str = "msa", *more: str, first: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
        return bench([*tiny_run(methods), *self.words, *more], self.folder, first)

    def start(self, methods: str = "msa", *more: str, fresh: bool = True) -> subprocess.Popen[str]:
        return start([*tiny_run(methods), *self.words, *more], self.folder, fresh=fresh)

    def copy(self, to: Path) -> Place:
        """The same store and records elsewhere, to be harmed."""
        shutil.copytree(self.folder, to, dirs_exist_ok=True)
        return Place(to)

    def files(self) -> dict[str, Path]:
        """The file of each method's record."""
        found = (self.out / "lab" / "muse-books" / "lab").glob("*.json")
        return {file.name.rpartition("-")[0]: file for file in found}

    def records(self) -> dict[str, Any]:
        """Each method's record as JSON."""
        return {method: json.loads(file.read_text()) for method, file in self.files().items()}

    def nodes(self) -> list[str]:
        """The labels of all published nodes."""
        files = (self.store / "nodes").glob("*/*/node.json")
        return sorted(json.loads(file.read_text())["label"] for file in files)


def result_of(record: Any) -> dict[str, Any]:
    """What must be the same, to the bit, however often a run was broken off: scores and hashes of what was made."""
    parts = ("status", "reason", "label", "scores", "metrics", "absent", "floors", "facts", "lineage")
    return {part: record[part] for part in parts}


def contents(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` and its hash."""
    return {str(file.relative_to(folder)): hash_file(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def without_torch(folder: Path) -> Path:
    """A folder that, first on the path, makes any import of torch an error."""
    package = folder / "forbidden" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise AssertionError("torch was imported")\n')
    return package.parent


def plug_in(folder: Path, code: str, named: dict[str, str], module: str, kind: str = "methods") -> Path:
    """An installed distribution of methods, or of another kind, as a folder for the path: name -> class in ``code``."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {module}:{owner}" for name, owner in named.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[msa_bench.{kind}]", *lines, ""]))
    return folder
