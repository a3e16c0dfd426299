"""What a store holds and nobody needs: `bench prune` lists and removes it, and `bench doctor` says how much it is.

A node is needed when a record names it or its checkpoint, and so is what a needed node was made of. Every node stays while
a command is at work in the store, a node is leased or a cluster has jobs, as it may be about to be named, and while
something among the records can't be read, as that may name it; what is removed then is what dead processes left. In the
store links are removed, never followed; among the records they are followed, and what lies behind them is only read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.core import versions
from bench.core.errors import UserError
from bench.core.files import DAMAGED, read_small, remove_path, write_text
from bench.core.machine import format_bytes
from bench.core.places import readable_problems
from bench.core.record import RunSpec
from bench.core.texts import one_line
from bench.core.types import Json
from bench.records.bundles import BUNDLE, unpack_bundle
from bench.records.files import load_records, remedy_for
from bench.records.plain import list_json, why_not
from bench.records.tables import find_all_older
from bench.runs.executors import explain_jobs
from bench.runs.folder import is_file, lock_folder, take_lock
from bench.runs.index import INDEX, index_text
from bench.runs.leases import AT_WORK, STALE_SECONDS, lease_guard, living_holder
from bench.runs.nodes import is_key, read_node
from bench.runs.plan import with_versions
from bench.runs.store import Store

MOST_BYTES = 1 << 28
"""Of a file among the records that is searched for names of nodes."""
ENGINES = {
    "train": versions.TRAINING,
    "combine": versions.ARITHMETIC,
    "scrambled": versions.ARITHMETIC,
    "responses": versions.MEASURE,
}
"""Kind of a node -> the version of the engine that makes such nodes now."""
PRUNED = ".pruned-"
"""How a folder begins in which a prune gathers what it removes; one that is there was broken off."""
POLL_SECONDS = 1.0
PARTS = ("nodes", "partial", "scratch", "leases", DAMAGED)
"""Folders of a store that a prune looks into; where there is none of them there is nothing to prune."""
NO_NAMES = ("wandb", "tensorboard", "trackers", "logs", "plots")
"""Folders directly below a folder of records that name no node."""
BUSY = "a command is at work in this store, or a node is being built: every node stays for now"
SHARED_KINDS = ("flops", "distance", "relative distance")
"""Kinds of nodes that runs share by their rows or their checkpoints and that no record names: they stay while any
node is needed."""
MOST_NAMES = 20
"""Names of a group that are listed."""


@dataclass(frozen=True)
class Waste:
    """Things of one kind that may go."""

    what: str
    paths: Sequence[Path]
    bytes: int

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}: {len(self.paths):,}, {say_bytes(self.bytes)}"


@dataclass(frozen=True)
class Survey:
    """What a store holds, and what of it may go."""

    nodes: int
    bytes: int
    waste: Sequence[Waste]
    remarks: Sequence[str] = field(default_factory=tuple)
    """What stays for the moment, and why."""

    @property
    def freed(self) -> int:
        """Bytes that would be free."""
        return sum(group.bytes for group in self.waste)

    @property
    def summary(self) -> str:
        """How large the store is, in a few words."""
        return f"{self.nodes:,} nodes, {say_bytes(self.bytes)}"


def store_problems(store: Store) -> list[str]:
    """A sentence where there is no store to look at."""
    problems = readable_problems("--store", store.root)
    if problems or any(os.path.lexists(store.root / name) for name in PARTS):
        return problems
    there = f"'{store.root}' is no store" if store.root.is_dir() else f"There is no store '{store.root}'"
    return [f"{there}: `python -m bench run` makes one, --store or MSA_BENCH_STORE names its folder."]


def list_names(store: Store, group: Waste) -> Iterator[str]:
    """The names of a group's things, a line each: all of records, of others the first `MOST_NAMES` and how many more."""
    inside = [path for path in group.paths if path.is_relative_to(store.root)]
    yield from (one_line(str(path)) for path in group.paths if path not in inside)
    for path in inside[:MOST_NAMES]:
        node = read_node(path) if path.parents[1] == store.root / "nodes" else None
        yield one_line(f"{node.info['label']} ({path.name})" if node else path.relative_to(store.root).as_posix())
    if len(inside) > MOST_NAMES:
        yield f"and {len(inside) - MOST_NAMES:,} more"


def say_bytes(size: int) -> str:
    """A number of bytes, small ones in MB."""
    return format_bytes(size) if size >= 1e8 else f"{size / 1e6:.1f} MB"


def survey(store: Store, folders: Sequence[Path], alone: bool | None = None) -> Survey:
    """What ``store`` holds and what of it may go, as the records in ``folders`` need it; removes nothing.

    ``alone``: whether nobody else is at work in the store; None: to be found out.
    """
    entries, root = store.index(), store.root
    if alone is None:
        alone = True
        if is_file(root / AT_WORK):
            with nobody_at_work(store) as alone:
                pass
    live, dead = list_leases(store)
    old = older_records(folders)
    busy = "" if alone and not live else BUSY
    keys = list(store.keys())
    named, hidden = search_records(folders, old, {*keys, *(name for entry in entries for name in entry["gives"])})
    remarks = [remark for remark in (busy, *map(explain_jobs, folders), explain_hidden(hidden)) if remark]
    groups = [Waste("records of older code", old, sum(map(tree_bytes, old)))]
    if not remarks:
        groups += unneeded_nodes(store, entries, keys, named)
    groups += [
        measured("leases whose owners have gone", dead),
        measured("unfinished nodes", [path for path in list_real(root / "partial") if key_of(path) not in live]),
        measured(
            "states of interrupted work", [path for path in list_real(root / "scratch") if key_of(path) not in live]
        ),
        measured("damaged, set aside", [p for folder in list_real(root, DAMAGED) for p in list_real(folder)]),
        measured("left by a prune that was broken off", list_real(root, PRUNED)),
    ]
    size = sum(entry["bytes"] for entry in entries)
    return Survey(len(entries), size, [group for group in groups if group.paths], remarks)


def prune(store: Store, folders: Sequence[Path], say: Callable[[str], object]) -> Survey:
    """Remove what `survey` finds, and return that; ``say`` tells what takes time."""
    watch_other_hosts(store, say)
    away = store.root / f"{PRUNED}{uuid.uuid4().hex[:8]}"
    with nobody_at_work(store) as alone, lease_guard(store.folder) as leases, lock_folder(leases):
        found = survey(store, folders, alone)
        store.folder.make()
        away.mkdir()
        for number, path in enumerate(path for group in found.waste for path in group.paths):
            with suppress(FileNotFoundError):
                if path.is_relative_to(store.root):
                    path.rename(away / str(number))
                else:  # a record
                    path.unlink()
        if is_file(store.root / INDEX):
            write_text(store.root / INDEX, index_text(store.index()))
    remove_path(away)
    return found


@contextmanager
def nobody_at_work(store: Store) -> Iterator[bool]:
    """Keep new commands from starting in the store; yields whether none was at work (`leases.at_work`)."""
    handle = None
    with suppress(OSError, UserError):  # a store that is only read
        if store.root.is_dir():
            handle = store.folder.open_lock(store.root / AT_WORK)
    try:
        yield handle is None or take_lock(handle, fcntl.LOCK_EX, 0.0)
    finally:
        if handle is not None:
            os.close(handle)


def unneeded_nodes(store: Store, entries: Sequence[Json], keys: Sequence[str], named: Collection[str]) -> list[Waste]:
    """Nodes that no record needs: those that an older engine made, the others, and those that can't be read."""
    owner = {name: entry["key"] for entry in entries for name in (entry["key"], *entry["gives"])}
    by_key = {entry["key"]: entry for entry in entries}
    left = [owner[name] for name in named if name in owner]
    needed = set[str]()
    while left:
        key = left.pop()
        if key not in needed:
            needed.add(key)
            left += [owner[name] for name in by_key[key]["uses"] if name in owner]
    free = {
        key: entry
        for key, entry in by_key.items()
        if key not in needed and not (needed and entry["kind"] in SHARED_KINDS)
    }
    older = {key for key, entry in free.items() if (entry["version"] or 0) < ENGINES.get(entry["kind"], 0)}
    unread = [key for key in keys if key not in by_key and key not in named]
    groups = ("nodes of older engines", older), ("nodes that no record names", free.keys() - older)
    found = [Waste(what, real_paths(store, some), sum(free[key]["bytes"] for key in some)) for what, some in groups]
    return [*found, measured("nodes that can't be read", real_paths(store, unread))]


def real_paths(store: Store, keys: Iterable[str]) -> list[Path]:
    """The folders of nodes that lie in the store itself and not behind a link."""
    paths = [store.path(key) for key in sorted(keys)]
    return [path for path in paths if not path.parent.is_symlink() and not path.parents[1].is_symlink()]


def search_records(
    folders: Sequence[Path], without: Collection[Path], known: Collection[str]
) -> tuple[set[str], list[tuple[Path, ValueError]]]:
    """The known names that stand in JSON files and bundles below ``folders``, whole records or not; and what can't
    be read there.
    """
    found, names, hidden = set[str](), frozenset(known), list[tuple[Path, ValueError]]()
    for folder in folders:
        files, closed = list_json(folder, NO_NAMES, (".json", BUNDLE))
        hidden += closed
        for path in files:
            if path in without:
                continue
            try:
                content = unpack_bundle(path) if path.name.endswith(BUNDLE) else read_small(path, MOST_BYTES)
                found |= set(content.decode(errors="replace").split('"')) & names
            except ValueError as reason:
                if path.is_file():  # it is too large; a folder or a pipe names nothing
                    hidden.append((path, reason))
            except OSError as error:
                if error.errno != errno.ENOENT or path.is_symlink():  # else it has gone meanwhile
                    hidden.append((path, why_not(error)))
    return found, hidden


def explain_hidden(hidden: Sequence[tuple[Path, ValueError]]) -> str:
    """A sentence about what can't be read among the records and may name nodes; empty where there is nothing."""
    if not hidden:
        return ""
    path, reason = hidden[0]
    more = f" (and {len(hidden) - 1:,} more)" if len(hidden) > 1 else ""
    return (
        f"{one_line(str(path))} can't be read ({one_line(str(reason))}){more} and may name nodes, so that every node stays: "
        f"{remedy_for(reason, 'mend or remove it')}, then prune again"
    )


def older_records(folders: Sequence[Path]) -> list[Path]:
    """Files of records of older code: a component has a later version now, or the tables have newer code's records instead.

    None of what is only read: that is a published folder, and whatever lies behind links to folders.
    """
    mine = [folder for folder in folders if not (folder / "responses").is_dir()]
    places = [place for folder in mine for place in (folder, folder / "ablations" / "runs") if place.is_dir()]
    now: dict[tuple[object, ...], dict[str, int]] = {}
    found = []
    for place in places:
        records = load_records(place).records
        replaced = find_all_older(records)
        for record in records:
            spec = record.spec
            about = (spec.task, spec.tier, tuple(step.method for step in spec.steps))
            if about not in now:
                now[about] = versions_now(spec)
            file = place / record.name
            is_older = record.name in replaced or any(
                now[about].get(name, version) > version for name, version in spec.versions.items()
            )
            if is_older and file.is_file() and file.parent.resolve() == place.resolve() / Path(record.name).parent:
                found.append(file)
    return found


def versions_now(spec: RunSpec) -> dict[str, int]:
    """The versions of what takes part in a run, as they are now; none where something of it has gone."""
    try:
        return dict(with_versions(spec).versions)
    except UserError:
        return {}


def list_leases(store: Store) -> tuple[set[str], list[Path]]:
    """The keys of nodes whose leases are held, and the leases whose owners have gone."""
    live, dead = set[str](), []
    for path in list_real(store.root / "leases"):
        if is_key(path.stem) and path.suffix == ".json":
            if living_holder(path) is None:
                dead.append(path)
            else:
                live.add(path.stem)
    return live, dead


def watch_other_hosts(store: Store, say: Callable[[str], object]) -> None:
    """Look at the leases of other hosts until each has changed or has been silent for long enough to be dead."""
    paths = [path for path in list_real(store.root / "leases") if is_key(path.stem)]
    silent = [path for path in paths if (holder := living_holder(path)) and not holder.owner.is_here]
    if silent:
        say(f"{len(silent)} leases are of other hosts: watching for {STALE_SECONDS:.0f} s which of them are alive")
    until = time.monotonic() + STALE_SECONDS + POLL_SECONDS
    while silent and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        silent = [path for path in silent if (holder := living_holder(path)) and holder.silent]


def key_of(path: Path) -> str:
    """The key of the node that a folder below ``partial`` or ``scratch`` belongs to."""
    return path.name.partition("-")[0]


def list_real(folder: Path, start: str = "") -> list[Path]:
    """What lies in a folder that is no link, sorted; of it what begins with ``start``."""
    if folder.is_symlink() and start == "":
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(start))
    except OSError:
        return []


def measured(what: str, paths: Sequence[Path]) -> Waste:
    """Things with their size on disk."""
    return Waste(what, paths, sum(map(tree_bytes, paths)))


def tree_bytes(path: Path) -> int:
    """Bytes of a file or of all files in a folder; links aren't followed."""
    total = 0
    with suppress(OSError):
        total = path.lstat().st_size
        for folder, _, files in os.walk(path) if path.is_dir() and not path.is_symlink() else ():
            for name in files:
                with suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size
    return total
