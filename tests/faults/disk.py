"""A file system without room or without inodes, or one that is only read: a small tmpfs below the place of a scene."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.campaign import Case, Kind, Skip
from tests.faults.compare import judge, judge_end, judge_facts
from tests.faults.ground import SCENES, copy, read_facts

COMMANDS = ("run", "publish", "tune", "ablate", "books", "eval", "msa", "fetch")
COMMANDS_OF_RUNS = ("run", "books")
ROOMY = "remount,size=1g,nr_inodes=200k"
BLOCK = 4096


def needs_mounts() -> None:
    """A tmpfs can be mounted by root alone."""
    if os.geteuid() != 0:
        raise Skip("a tmpfs is mounted by root alone")
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode:
            raise Skip("this machine mounts no tmpfs")
        subprocess.run(["umount", folder], check=True)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def attempt(case: Case) -> None:
    """A scene's commands where something is full or closed, then the same with room."""
    name = COMMANDS[case.number % len(COMMANDS)]
    way = ("no room", "no inodes", "only read", "only read, a run's nodes gone")[case.number // len(COMMANDS) % 4]
    if way == "only read":
        read_only(case, name)
    elif way.startswith("only read"):
        fail(case, COMMANDS_OF_RUNS[case.number % len(COMMANDS_OF_RUNS)])
    else:
        fill(case, name, way)


def fill(case: Case, name: str, way: str) -> None:
    """Less room, or fewer inodes, than the scene's results take; at any point of its work that is hit first."""
    begun, made = case.ground.folder / "beginnings" / name, case.ground.made(name).folder
    place = case.folder / "place"
    part = case.rng.choice(
        ["", *(each for each in ("store", "out") if (made / each).is_dir() and not (begun / each).is_dir())]
    )
    least, most = (use(folder / part, way) for folder in (begun, made))
    limit = int(least + case.rng.uniform(0.02, 0.97) * (most - least)) + 2
    case.what = f"{name}: {way} in {part or 'the whole place'}: {limit} of {most}"
    options = f"size={limit * BLOCK},nr_inodes=200k" if way == "no room" else f"size=1g,nr_inodes={limit}"
    with mounted(place / part, options):
        copy(begun, place)
        done = case.ground.redo(SCENES[name], place, case.rng.random() < 0.1 or not SCENES[name].warm, case.folder.name)
        judge(case, done, (0, 1, 2))
        for file, fact in read_facts(place).items():
            if str(fact).startswith("unreadable"):
                case.lost(f"{file} is half a file: {fact}")
        subprocess.run(["mount", "-o", ROOMY, str(place / part)], check=True)
        judge_end(case, name, place)


def use(folder: Path, way: str) -> int:
    """Blocks or inodes that a folder takes on a tmpfs."""
    paths = [folder, *folder.rglob("*")] if folder.is_dir() else []
    if way == "no inodes":
        return len(paths)
    return sum(-(-path.lstat().st_size // BLOCK) for path in paths if path.is_file())


def read_only(case: Case, name: str) -> None:
    """A store that is only read is enough where everything is there; an ``--out`` that is only read is refused."""
    place = case.ground.end(name, case.folder / "place")
    there = [each for each in ("store", "out", "results") if (place / each).is_dir()]
    if not there:
        case.tried = 0
        return
    part = case.rng.choice(there)
    case.what = f"{name}: {part} is only read"
    aside = case.folder / "aside"
    shutil.move(place / part, aside)
    with mounted(place / part, "size=1g"):
        copy(aside, place / part)
        subprocess.run(["mount", "-o", "remount,ro", str(place / part)], check=True)
        done = case.ground.redo(SCENES[name], place, mark=case.folder.name)
        judge(case, done, (0,) if part == "store" else (0, 2))
        judge_facts(case, case.ground.made(name).facts, place)
        subprocess.run(["mount", "-o", "remount,rw", str(place / part)], check=True)
        judge_end(case, name, place)


def fail(case: Case, name: str) -> None:
    """A run that was made once can't be made again: it fails, the others' and its own earlier record stay."""
    place, aside = case.folder / "place", case.ground.end(name, case.folder / "aside")
    [record] = (aside / "out").glob("lab/*/lab/msa-*.json")
    lineage = json.loads(record.read_text())["lineage"]
    gone = case.rng.choice(("responses", "result_node"))
    case.what = f"{name}: the store has lost msa's {gone} and is only read"
    copy(aside / "out", place / "out")
    with mounted(place / "store", "size=1g"):
        copy(aside / "store", place / "store")
        shutil.rmtree(place / "store" / "nodes" / lineage[gone][:2] / lineage[gone])
        subprocess.run(["mount", "-o", "remount,ro", str(place / "store")], check=True)
        done = case.ground.redo(SCENES[name], place, mark=case.folder.name)
        judge(case, done, (1,))
        if "FAILED msa seed 0: " not in done[-1].text:
            case.unhelpful(f"a run that failed isn't told as FAILED: {done[-1].text[-300:]!r}")
        if "made again" in done[-1].text:
            case.wrong("a run that failed is told as made again")
        facts = case.ground.made(name).facts
        judge_facts(case, {file: fact for file, fact in facts.items() if file.startswith("out/")}, place, more=True)
        subprocess.run(["mount", "-o", "remount,rw", str(place / "store")], check=True)
        judge_end(case, name, place)


KIND = Kind("disk", short=(6, 14, 17, 24), long=120, attempt=attempt, needs=needs_mounts)
