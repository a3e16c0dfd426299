"""`bench fetch --check`: what is fetched is as it was fetched, and a data set's tables are as published.

Counts and identities are in `bench.assets.data_sets`. Anything that differs makes the data a subset, which is what scores on them
are called; nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.assets.data_sets import DATA_SETS, FILES, DataSet, TableFacts, data_folder, find_data_set, find_fetched_data
from bench.assets.git import git_blob
from bench.assets.known_models import KNOWN
from bench.assets.models import FETCHED, HUB_ID, command_to_fetch, folder_name, model_of_folder, resolve_model
from bench.core.errors import Absent, UserError, unknown_name
from bench.core.hashing import hash_json

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """A table as it is on this machine."""

    rows: int
    identity: str


@dataclass(frozen=True)
class Verdict:
    """The line that is printed of a table, and whether it is as published."""

    text: str
    good: bool
    """Nothing differs from what is published, as far as that is known."""
    whole: bool = False
    """The content is known and is the published one."""


def verify_fetched(names: Sequence[str], data: str, store: Path, say: Say) -> bool:
    """Verify models and data sets by name, or all that are fetched, or a folder as the data set of that name.

    Whether all is as it was fetched and published; what differs is said. `UserError` for what isn't there.
    """
    if data:
        known = find_data_set(names[0]) if len(names) == 1 else None
        if known is None:
            raise UserError(f"--data goes with the name of one data set: {', '.join(DATA_SETS)}.")
        folder = Path(data).expanduser()
        if not folder.is_dir():
            raise UserError(f"--data {data}: there is no such folder.")
        return check_tables(known, folder, say)
    wanted = list(names) or everything(store)
    if not wanted:
        say("Nothing is fetched yet: `python -m bench fetch NAME` fetches a model or a data set.")
    return all(
        [check_data(name, store, say) if find_data_set(name) else check_model(name, store, say) for name in wanted]
    )


def everything(store: Path) -> list[str]:
    """Every fetched model and data set."""
    made = [path.parent for kind in ("models", "data") for path in sorted((store / kind).glob(f"*/{FETCHED}"))]
    return [model_of_folder(folder) for folder in made]


def check_model(name: str, store: Path, say: Say) -> bool:
    """A fetched model's hash against the one it was fetched with."""
    if name.partition("@")[0] not in KNOWN and not HUB_ID.fullmatch(name.partition("@")[0]):
        raise UserError(unknown_name("model or data set", name, [*KNOWN, *DATA_SETS], "models"))
    there = (store / "models" / folder_name(name)).is_dir()
    try:
        found = resolve_model(name, store / "models")
    except UserError as error:
        if not there:
            raise
        say(f"{name}  differs: {error}")
        return False
    say(f"{name}  as fetched, hash {found.hash[:12]}")
    return True


def check_data(name: str, store: Path, say: Say) -> bool:
    """A fetched data set's hash, and its tables."""
    known = find_data_set(name)
    assert known is not None
    try:
        place = find_fetched_data(name, store / "data")
    except UserError as error:
        say(f"{name}  differs: {error}")
        return False
    if place is None:
        remedy = f"run `{command_to_fetch(name)}`, or" if known.source else "it comes from no hub:"
        raise UserError(f"The data set '{name}' isn't fetched: {remedy} name its folder with --data.")
    say(f"{name}  as fetched, hash {place.hash[:12]}")
    return check_tables(known, data_folder(name, store / "data") / FILES, say)


def check_tables(known: DataSet, folder: Path, say: Say) -> bool:
    """Every table of a data set against what is published of it."""
    width = max(map(len, known.tables))
    verdicts = []
    for name, published in known.tables.items():
        verdicts.append(verdict(known, folder, name, published))
        say(f"{name:{width}}  {verdicts[-1].text}")
    odd, total = sum(not one.good for one in verdicts), len(verdicts)
    if odd:
        say(f"{known.name}: {odd} of {total} tables are not as published. This is a subset, and so are scores on it.")
    elif all(one.whole for one in verdicts):
        say(f"{known.name}: all {total} tables are as published.")
    else:
        unsure = sum(not one.whole for one in verdicts)
        say(
            f"{known.name}: nothing differs, but the published content of {unsure} of {total} tables is not known here."
        )
    return not odd


def verdict(known: DataSet, folder: Path, name: str, published: TableFacts) -> Verdict:
    """Compare one table with what is published of it."""
    try:
        found = restor_table(folder, name) if known.name == "restor" else hub_table(folder, name, published)
    except UserError as error:
        return Verdict(f"differs: {error}", False)
    if found is None:
        return Verdict("not here", False)
    if published.rows is not None and found.rows != published.rows:
        return Verdict(f"differs: {found.rows} rows where {published.rows} are published", False)
    if not published.identity:
        known_of_it = "as many as published" if published.rows is not None else "their number is not known here"
        return Verdict(f"{found.rows} rows  {known_of_it}; the published content is not known here", True)
    if found.identity != published.identity:
        return Verdict(f"differs: {found.rows} rows with other content than published", False)
    return Verdict(f"{found.rows} rows  as published", True, True)


def hub_table(folder: Path, name: str, table: TableFacts) -> Found | None:
    """A table in the hub's layout: the digest of the fields that are read; None where there is none."""
    from bench.assets.hub_tables import check_rows, missing_fields, read_table

    config, _, split = name.partition("/")
    try:
        rows = read_table(str(folder), config, split or "train")
    except Absent:
        return None
    if missing := missing_fields(rows, table.fields):
        raise UserError(f"it lacks the field {' and '.join(missing)}")
    rows = check_rows(rows, name, table.fields, table.lists)
    return Found(len(rows), hash_json([[row[field] for field in table.fields] for row in rows]))


def restor_table(folder: Path, name: str) -> Found | None:
    """RESTOR's questions by their digest, or a corpus by the git blob of its file; None where it isn't there."""
    from bench.real.restor.corpus import corpus_file, datasets_folder, hash_corpus, load_corpus, read_restor

    place = datasets_folder(folder)
    if name == "questions":
        questions = read_restor(folder).questions
        return Found(len(questions), hash_corpus(questions))
    if not (file := corpus_file(place, name)).is_file():
        return None
    return Found(len(load_corpus(place, name)), git_blob(file))
