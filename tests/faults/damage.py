"""Damage to files of store and out: bits, lengths, contents, and other things in the place of a file.

What is made of other things (pages, pictures, logs, the index) comes back; a node is set aside and built again, with a
word; a record, a row or a study that is damaged is named and stays as it is until the user takes it away.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.core.errors import UserError
from bench.core.files import this_process_space
from bench.core.types import Json
from bench.records.files import read_record
from tests.faults.campaign import Case, Kind
from tests.faults.compare import judge, judge_end, judge_facts
from tests.faults.ground import SCENES

PLACES = ("run", "publish", "run", "publish", "books", "tune", "ablate", "fetch", "cluster")
"""Scenes in turn; the first four are the short form's."""
DEAD = {"host": this_process_space(), "pid": 2**22 + 1, "started": 1, "nonce": "0"}
"""An owner that is no process."""
PLANTED = ("store/leases/{key}.json", "store/partial/{key}-0a1b2c3d/half.json", "store/scratch/{key}/state.json")
"""What a builder that died leaves behind, of a node that is not there."""


# ---- what is done to a file


def flip_bit(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def truncate(file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(len(data) or 1)])


def empty(file: Path, rng: random.Random) -> None:
    file.write_bytes(b"")


def put_garbage(file: Path, rng: random.Random) -> None:
    file.write_bytes(rng.choice((rng.randbytes(3000), b"{}", b"[]", b"null", b"[" * 100_000, b"\0" * 500, b"\xff\xfe")))


def append(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes() + rng.choice((b"\0", b"x", b"{}", file.read_bytes())))


def put_folder(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.mkdir()
    (file / "inside").write_text("a file")


def put_looping_link(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.symlink_to(file.name)


def put_dangling_link(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.symlink_to("there/is/nothing")


def put_endless_link(file: Path, rng: random.Random) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def put_pipe(file: Path, rng: random.Random) -> None:
    file.unlink()
    os.mkfifo(file)


def remove(file: Path, rng: random.Random) -> None:
    file.unlink()


DAMAGES: Mapping[str, Callable[[Path, random.Random], None]] = {
    "a bit flipped": flip_bit,
    "truncated": truncate,
    "emptied": empty,
    "garbage": put_garbage,
    "appended to": append,
    "a folder": put_folder,
    "a looping link": put_looping_link,
    "a dangling link": put_dangling_link,
    "a link to /dev/zero": put_endless_link,
    "a pipe": put_pipe,
    "removed": remove,
}
CHANGED = ("a bit flipped", "truncated", "garbage", "appended to")
"""Damages that leave something of the user's in the file."""


def attempt(case: Case) -> None:
    """One damage, the scene's commands again, and where these refuse, once more without what they named."""
    rng, name = case.rng, PLACES[case.number % len(PLACES)]
    folder = case.ground.end(name, case.folder / "place")
    sorts = sorts_of_files(name, folder)
    choices = [(sort, way) for sort in sorted(sorts) for way in DAMAGES]
    random.Random(name).shuffle(choices)
    turn, place = divmod(case.number, len(PLACES))
    sort, way = choices[(turn + 17 * place) % len(choices)]
    file = rng.choice(sorts[sort])
    in_store, planted = sort.startswith("store/"), "{key}" in file
    relative = file.format(key=plant(folder, rng)) if planted else file
    without = in_store and (planted or rng.random() < 0.5) and drop_records(folder)
    case.what = f"{name}: {relative}: {way}{', its records gone' if without else ''}"
    DAMAGES[way](folder / relative, rng)
    harmed = content(folder / relative)
    if is_sound_record(folder / relative) and way in CHANGED:
        judge_changed(case, name, folder, relative)
        return
    done = case.ground.redo(SCENES[name], folder, fresh=rng.random() < 0.04, mark=case.folder.name)
    judge(case, done, (0, 1, 2))
    if done[-1].hung:
        return
    if name == "cluster":  # `status` only looks, and damage that could be sound is said of nothing
        judge_facts(case, case.ground.made(name).facts, folder, {relative})
        return
    facts, refused = case.ground.made(name).facts, done[-1].code != 0
    stays = os.path.lexists(folder / relative) and content(folder / relative) == harmed
    root = relative.partition("/")[0]
    if in_store or (not refused and not stays):  # a node that nobody needed may lie there as it is
        judge_facts(case, select(facts, not refused, besides=root if in_store else ""), folder, {relative}, more=True)
    else:
        judge_facts(case, select(facts, False), folder, {relative}, more=True)
    said = "\n".join(each.text for each in done)
    silent = not is_named(relative, said) and not is_derived(relative) and not planted and way != "removed"
    if silent and (refused or (stays and not in_store) or (in_store and not stays)):
        case.unhelpful(f"not a word of {relative}: {done[-1].text[-200:]!r}")
    overwritten = is_user_file(relative) and not (stays or refused or is_derived(relative))
    if overwritten and way in CHANGED and harmed not in everything(folder):
        case.lost(f"what was in {relative} is gone: it was no record, so nobody knows what it was")
    if stays and not in_store:
        delete(folder / relative)
    if in_store:
        drop_records(folder)
    judge_end(case, name, folder, besides=unneeded(folder, relative, harmed))


def is_sound_record(file: Path) -> bool:
    """Whether a file can be read as a record."""
    try:
        return bool(read_record(file).spec.key)
    except UserError:
        return False


def judge_changed(case: Case, name: str, folder: Path, file: str) -> None:
    """A record with another value in it that is sound all the same: of its scores `rescore` says so, which makes them anew."""
    sound, changed = (read_record(root / file) for root in (case.ground.made(name).folder, folder))
    if sound.scores != changed.scores:
        words = ("rescore", "--from", file.partition("/")[0], "--store", "store")
        done = case.ground.run(words, folder, mark=case.folder.name)
        if done.code != 1 or file.partition("/")[2] not in done.text:
            case.wrong(f"rescore doesn't see the changed score: {done.text[-200:]!r}")
    delete(folder / file)
    judge_end(case, name, folder)


def unneeded(folder: Path, name: str, harmed: object) -> Callable[[], set[str]]:
    """What may be missing at the end: the files of a damaged node that nobody has needed."""

    def files() -> set[str]:
        node = re.match(r"store/nodes/../\w+", name)
        if not node or content(folder / name) != harmed:
            return set()
        return {path.relative_to(folder).as_posix() for path in (folder / node[0]).rglob("*")} | {name}

    return files


def select(facts: Json, drawn: bool, besides: str = "") -> Json:
    """The facts to compare: those of pages and pictures only if these are ``drawn``, and none below ``besides``."""
    return {
        name: fact
        for name, fact in facts.items()
        if (drawn or not is_derived(name)) and not (besides and name.startswith(f"{besides}/"))
    }


def sorts_of_files(name: str, folder: Path) -> dict[str, list[str]]:
    """The files that a scene makes by their sort, which is their place without hashes and numbers; and what is planted."""
    sorts: dict[str, list[str]] = {}
    roots = ("results/", "plots/", "page") if name == "publish" else ("store/", "out/")
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder).as_posix()
        if path.is_file() and file.startswith(roots):
            sort = re.sub(r"nodes/../", "nodes/*/", re.sub(r"[0-9a-f]{8,}|\d+", "*", file))
            sorts.setdefault(re.sub(r"(wandb)/.*", r"\1", sort), []).append(file)
    if (folder / "store" / "nodes").is_dir() and name != "publish":
        sorts |= {place: [place] for place in PLANTED}
    return sorts


def plant(folder: Path, rng: random.Random) -> str:
    """Take a node away, as if its builder had died over it, and leave what that would leave; the node's key."""
    nodes = sorted((folder / "store" / "nodes").glob("*/*"))
    node = rng.choice([node for node in nodes if '"label": "measure ' in (node / "node.json").read_text()])
    shutil.rmtree(node)
    for place in PLANTED:
        file = folder / place.format(key=node.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(DEAD))
    return node.name


def drop_records(folder: Path) -> bool:
    """Take the records away, so that they are made again from the store; whether there were any."""
    there = [path for name in ("lab", "tune", "ablations") if (path := folder / "out" / name).is_dir()]
    for path in there:
        shutil.rmtree(path)
    return bool(there)


def is_derived(name: str) -> bool:
    """Whether a file is made of others, or of no use."""
    if re.fullmatch(r"out/tune/[^/]+\.json", name):  # of the rows
        return True
    return Path(name).suffix in (".md", ".png", ".svg", ".log", ".jsonl", ".lock") or "/wandb/" in name or "/." in name


def is_user_file(name: str) -> bool:
    """Whether a damaged file could be somebody's data: JSON among records."""
    return name.startswith(("out/", "results/")) and name.endswith(".json") and "/wandb/" not in name


def is_named(name: str, said: str) -> bool:
    """Whether a file, or the node that it belongs to, is named as damaged or in the way."""
    node = re.match(r"store/nodes/../(\w+)", name)
    words = (node[1], node[1][:8]) if node else (Path(name).name, Path(name).stem)
    return any(word in said for word in words) or (node is not None and "damaged" in said)


def content(path: Path) -> object:
    """What lies at a place: bytes, or what it is instead."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if path.is_file():
        return path.read_bytes()
    return ("folder" if path.is_dir() else "special") if path.exists() else None


def everything(folder: Path) -> list[object]:
    """The contents of all files."""
    return [content(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def delete(path: Path) -> None:
    """What the user does who is told of a damaged file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


KIND = Kind("damage", short=(*range(4), 8, 17, 26), long=630, attempt=attempt)
