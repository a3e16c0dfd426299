"""The benchmarks' data sets: where they come from, what is published of them, and where a user's rows lie. Loads no torch.

A data set is fetched (`bench.assets.fetch`) into a folder below the store, ``data/NAME/files``; what is known of the fetch stands
beside them in ``fetch.json``, so that the rows' hash has nothing of it. ``NAME@REVISION`` is a data set as it was then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.assets.git import clone_once
from bench.assets.models import command_to_fetch, read_fetched, read_fetched_hash
from bench.core.errors import UserError
from bench.core.files import read_toml
from bench.core.hashing import hash_file, hash_json, hash_tree

FILES = "files"
"""Folder of a fetched data set's rows, beside its `FETCHED`."""


@dataclass(frozen=True)
class TableFacts:
    """Facts published about one table of a data set."""

    rows: int | None
    """None: nobody here knows."""
    identity: str = ""
    """Of the content, as `bench fetch --check` makes it; empty: nobody here knows."""
    fields: tuple[str, ...] = ()
    """The fields of a row that are read, in the order of the identity; texts, except those in ``lists``."""
    lists: tuple[str, ...] = ()
    """Those of the fields that are lists of texts."""


@dataclass(frozen=True)
class DataSet:
    """A data set that can be asked for by name: the name of its task."""

    name: str
    licence: str
    tables: dict[str, TableFacts]
    """``config`` or ``config/split`` of the hub's layout; of RESTOR ``questions`` and the names of its corpora."""
    hub: str = ""
    """Its hub id, where the hub is its source."""
    git: str = ""
    """Its repository, where that is its source."""
    revision: str = ""
    """The commit that is fetched unless another one is asked for."""

    @property
    def source(self) -> str:
        """Where it comes from, as records and messages say it."""
        return f"hub {self.hub}" if self.hub else self.git


@dataclass(frozen=True)
class DataPlace:
    """Where rows lie, and the hash that enters a run's key."""

    path: str
    """A folder, a hub id, ``hub``, or files with commas between them."""
    hash: str = ""
    """Empty for what is read from the hub itself."""


def read_data_sets() -> dict[str, DataSet]:
    """The data sets of ``data/data_sets.toml`` by name, each with what is published of its tables."""
    known = read_toml(Path(__file__).parent / "data" / "data_sets.toml")
    found: dict[str, DataSet] = {}
    for name, about in known["sets"].items():
        tables: dict[str, TableFacts] = {}
        for table, row in about.pop("tables").items():
            fields = known["fields"][row["fields"]] if "fields" in row else ()
            lists = tuple(field for field in fields if field in known["lists"])
            tables[table] = TableFacts(row.get("rows"), row.get("identity", ""), tuple(fields), lists)
        found[name] = DataSet(name, tables=tables, **about)
    return found


DATA_SETS = read_data_sets()
"""Name -> data set."""


def find_data_set(name: str) -> DataSet | None:
    """The data set of a name or of its hub id, with or without a revision; None for anything else."""
    base = name.partition("@")[0]
    return DATA_SETS.get(base) or next((data for data in DATA_SETS.values() if data.hub and data.hub == base), None)


def data_folder(name: str, data_dir: Path) -> Path:
    """Where a data set lies when it is fetched, with its description; its rows are in `FILES` below."""
    known = find_data_set(name)
    assert known is not None
    return data_dir / (known.name + "".join(name.partition("@")[1:]))


def find_fetched_data(name: str, data_dir: Path) -> DataPlace | None:
    """A fetched data set, its hash checked against the one in its `FETCHED`; None when it isn't fetched."""
    folder = data_folder(name, data_dir)
    if not folder.is_dir():
        return None
    found = hash_tree(folder / FILES)
    if found != read_fetched_hash(folder):
        raise UserError(
            f"The fetched data set '{folder.name}' is damaged (its files are not those that were fetched): "
            f"run `{command_to_fetch(folder.name)}` to fetch it again."
        )
    return DataPlace(str(folder / FILES), found)


def is_as_fetched(name: str, folder: str) -> bool:
    """Whether a folder holds what was fetched from a data set's own source, by the hash in the `FETCHED` beside it."""
    about = read_fetched(Path(folder).parent)
    if str(about.get("name")).partition("@")[0] != name or about.get("source") != DATA_SETS[name].source:
        return False
    return bool(about.get("hash") == hash_tree(Path(folder)))


def resolve_data(task: str, data: str, takes_files: bool, data_dir: Path) -> DataPlace:
    """Where the rows of ``--data`` lie for a task; `UserError` with the remedy when they can't be had.

    ``hub`` is the fetched copy where there is one; a git address is cloned. A task that takes files gets them in the
    order given.
    """
    if takes_files:
        return resolve_files(task, data)
    if data.startswith(("git+", "https://")):
        data = str(clone_once(data, data_dir))
    if data and data != "hub":
        folder = Path(data).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"--data {data}: there is no such folder. Name a folder in the benchmark's layout, or 'hub'."
            )
        return DataPlace(str(folder.resolve()), hash_tree(folder))
    known = find_data_set(task)
    if known and (found := find_fetched_data(task, data_dir)):
        return found
    if known and known.git:
        raise UserError(f"{task} is on no hub: run `{command_to_fetch(task)}` first, or name its folder with --data.")
    if known and not known.hub:
        raise UserError(f"{task} is on no hub: name its folder with --data.")
    return DataPlace("hub")


def resolve_files(task: str, data: str) -> DataPlace:
    """Files with commas between them, by their absolute paths; the hash is of their contents in order."""
    paths = [Path(word.strip()).expanduser() for word in data.split(",") if word.strip()]
    if not paths or data == "hub":
        raise UserError(f"{task} needs your files: --data forget.jsonl,retain.jsonl[,holdout.jsonl].")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(*(f"--data: there is no file '{path}'." for path in missing))
    places = [str(path.resolve()) for path in paths]
    if odd := [place for place in places if "," in place]:
        raise UserError(f"--data: '{odd[0]}' has a comma in it, and commas part files: rename it, or its folder.")
    return DataPlace(",".join(places), hash_json([hash_file(path) for path in paths]))


def data_for_suite(task: str, data: str, data_dir: Path) -> str:
    """The rows that a suite of `bench eval` reads: the fetched copy or the hub's id for ``hub``, anything else as it is."""
    known = find_data_set(task)
    if data != "hub" or known is None:
        return data
    found = resolve_data(task, data, False, data_dir)
    return known.hub if found.path == "hub" else found.path
