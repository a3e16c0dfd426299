"""Which code and which versions made a result. No host name, no path."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from bench.core.types import Json

PACKAGES = (
    "msa-bench",
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "lm-eval",
    "rouge-score",
    "scipy",
    "numpy",
)
CODE = ("bench", "methods", "tasks")
"""What makes a checkout dirty: changes in documents don't change a result."""


def get_provenance(device: str = "cpu") -> Json:
    """Versions, commit, dirty flag, threads, device kind and, where torch is loaded, instruction set of this process."""
    return {**_provenance_of(device), **get_instruction_set()}


def say_when() -> str:
    """The time now, in UTC, as a record says when it was made; texts of two times compare as the times do."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def get_instruction_set() -> Json:
    """``instruction_set``: what torch computes with on this processor, such as ``AVX2``; empty where torch isn't loaded.

    The same seed gives other weights on another one, as sums are taken in another order.
    """
    torch = sys.modules.get("torch")
    return {"instruction_set": torch.backends.cpu.get_cpu_capability()} if torch else {}


@cache
def _provenance_of(device: str) -> Json:
    """The part that stays the same while a process lives."""
    commit, dirty = commit_of_checkout()
    return {
        "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}},
        "commit": commit,
        "dirty": dirty,
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
        "device": device,
        "machine": platform.machine(),
    }


def installed_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_of_checkout() -> tuple[str | None, bool | None]:
    """Commit of the checkout this code runs from and whether its code differs; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    commit = run_git(root, "rev-parse", "HEAD")
    if commit is None or not (root / ".git").exists():
        return None, None
    changes = run_git(root, "status", "--porcelain", "--", *CODE)
    return commit, changes is None or bool(changes) or not all(map(partial(lies_in, root), CODE))


def lies_in(root: Path, package: str) -> bool:
    """Whether a package is imported from this checkout and not from another folder of its name."""
    found = find_spec(package)
    return bool(found and found.origin and Path(found.origin).resolve().is_relative_to(root))


def run_git(root: Path, *arguments: str) -> str | None:
    """Output of a git command, or None when there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
