"""`bench doctor`: what this machine has and lacks, and the remedy."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.core.errors import UserError
from bench.core.files import read_toml
from bench.core.machine import cores_and_load
from bench.core.places import can_write, nearest_existing, why_full
from bench.core.profile import profile_file, read_profile
from bench.runs.prune import say_bytes, survey
from bench.runs.store import Store

MODULES = read_toml(Path(__file__).with_suffix(".toml"))
NEEDED: dict[str, str] = MODULES["needed"]
"""Module -> oldest version that is meant to work."""
DISTRIBUTIONS: dict[str, str] = MODULES["distributions"]
DISK_GB = 5


def examine(store: Path) -> tuple[list[str], bool]:
    """Lines to print, and whether everything needed is there."""
    ok = sys.version_info >= (3, 11)
    lines = [f"python {sys.version.split()[0]}: {'ok' if ok else 'needs 3.11 or newer'}"]
    for module, oldest in NEEDED.items():
        found = installed_version(module)
        good = found is not None and is_new_enough(found, oldest)
        ok = ok and good
        remedy = "" if good else f"  -> pip install '{DISTRIBUTIONS.get(module, module)}>={oldest}'"
        lines.append(f"{module} {found or 'missing'}: {'ok' if good else f'needs {oldest} or newer'}{remedy}")
    for module, use in MODULES["optional"].items():
        lines.append(f"{module} {installed_version(module) or 'missing'} (optional: {use})")
    lines += [
        describe_cores(),
        describe_memory(),
        describe_gpu(),
        describe_disk(store),
        describe_store(store, Path("runs")),
    ]
    hub = "offline (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else "used when asked for"
    login = "key in the environment" if os.environ.get("WANDB_API_KEY") else "offline unless you logged in"
    return [*lines, f"hub: {hub}", f"W&B: {login}", *describe_cluster()], ok


def installed_version(module: str) -> str | None:
    """A module's version; None when it is not installed."""
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except (ImportError, ValueError):  # hidden, or blocked by something on the path
        return None
    try:
        return version(DISTRIBUTIONS.get(module, module))
    except PackageNotFoundError:
        return "unknown"


def is_new_enough(found: str, oldest: str) -> bool:
    """Whether version ``found`` is at least ``oldest``."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split("+")[0].split(".") if part.isdigit()]

    return found == "unknown" or numbers(found) >= numbers(oldest)


def describe_cores() -> str:
    """How many cores this process may use, and how busy they are."""
    usable, load = cores_and_load()
    return f"cores: {usable} usable, load {load:.1f}{' (busy: timings will be long)' if load > usable else ''}"


def describe_memory() -> str:
    """A line about the machine's memory, and whether it is enough for the lab."""
    try:
        import psutil
    except ImportError:
        return "memory: unknown without psutil"
    free = psutil.virtual_memory().available / 1e9
    return f"memory: {free:.1f} GB free{'' if free > 2 else '  -> the lab needs about 1 GB a worker; use --jobs 1'}"


def describe_gpu() -> str:
    """Whether there is an NVIDIA GPU; asks the driver, not torch."""
    has = shutil.which("nvidia-smi") is not None
    return f"gpu: {'nvidia-smi found; use --device cuda' if has else 'none found; the lab needs none'}"


def describe_cluster() -> list[str]:
    """Whether SLURM is there, with its partitions, and what the user's profile says to it."""
    from bench.runs.cluster import commands
    from bench.runs.cluster.asking import Flags

    if shutil.which("sbatch") is None:
        there = "no sbatch on the PATH; only --executor slurm needs it"
    else:
        try:
            there = f"sbatch found; partitions {', '.join(commands.find_partitions())}"
        except commands.Silent as silence:
            there = f"sbatch found  -> the controller doesn't answer ({silence})"
    try:
        Flags.of(())  # what `run` would refuse
        flags = " ".join(f"{key}={value}" for key, value in read_profile("slurm").items())
        profile = f"{profile_file()}: {f'[slurm] {flags}' if flags else 'nothing for [slurm]'}"
    except UserError as error:
        profile = f"{error}"
    return [f"SLURM: {there}", f"profile: {profile}"]


def describe_disk(store: Path) -> str:
    """Free disk where the store is, and whether it can be written."""
    free = shutil.disk_usage(nearest_existing(store)).free / 1e9
    wrong = "" if free > DISK_GB else f"less than {DISK_GB} GB"
    if full := why_full(nearest_existing(store)):
        wrong = full
    elif not can_write(store):
        wrong = "not a folder that you may write to"
    remedy = (
        f"  -> {wrong}; {'make room or ' if full else ''}choose another place with --store or MSA_BENCH_STORE"
        if wrong
        else ""
    )
    return f"store: {store} ({free:.0f} GB free){remedy}"


def describe_store(store: Path, records: Path) -> str:
    """How large the store is, and what `bench prune` would free, by the store's index and the names of its files."""
    if not (store / "nodes").is_dir():
        return "store holds: nothing yet"
    folders = [records] if records.is_dir() else []
    found = survey(Store(store), folders)
    size = f"store holds: {found.summary}"
    if not folders:
        return f"{size}; `python -m bench prune --out FOLDER` lists what the records of a folder don't need"
    return f"{size}; `python -m bench prune` would free {say_bytes(found.freed)}"
