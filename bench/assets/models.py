"""The real models that have a name here, and finding a model's folder. Loads no torch.

A model is a known name, a hub id (``owner/name``) or a local folder. Names and ids are looked up among the fetched
models (`bench.assets.fetch`); nothing is downloaded here. ``NAME@REVISION`` is a model as it was earlier. Weights are read
from safetensors only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench.assets.folders import INDEX, SMALL, WHOLE, read_folder
from bench.assets.known_models import KNOWN, PYTHIA, PYTHIA_REVISIONS, PYTHIA_STEP
from bench.core.errors import UserError, unknown_name
from bench.core.files import read_small
from bench.core.hashing import hash_checkpoint, hash_file
from bench.core.places import default_root, is_path_like, missing_folder
from bench.core.types import Json

FETCHED = "fetch.json"
"""In the folder of a fetched model: where it came from, and its hash and those of its small files then."""
GENERATION = "generation_config.json"
"""It decides where an answer stops, and isn't in a model's hash."""
MOST_BYTES = 1 << 20
"""Of such a file."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = re.compile(r"[A-Za-z0-9][\w.-]*")
"""A branch, tag or commit of a hub model: ``NAME@REVISION`` is that model as it was then."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class LocalModel:
    """A model that lies ready."""

    name: str
    """Known name, hub id, or a local folder's own name; fit for a record, as it holds no path."""
    path: Path
    hash: str
    """`bench.core.hashing.hash_checkpoint` of the folder."""


def default_models_dir() -> Path:
    """Where fetched models are kept: beside the store's nodes."""
    return default_root() / "models"


def canonical_name(name: str) -> str:
    """A known model's own name for its hub id, with or without a revision; any other name as it is."""
    base, at, revision = name.partition("@")
    return next((model.name for model in KNOWN.values() if model.hub and model.hub == base), base) + at + revision


def hub_id(name: str) -> str:
    """The hub id of a known name or of a hub id; empty for a model that isn't on the hub."""
    known = KNOWN.get(canonical_name(name))
    return known.hub if known else name if HUB_ID.fullmatch(name) else ""


def published_revisions(name: str) -> tuple[str, ...]:
    """The revisions of a model that are known without asking the hub, oldest first."""
    known = KNOWN.get(canonical_name(name))
    return known.revisions if known else PYTHIA_REVISIONS if PYTHIA.fullmatch(name) else ()


def tokens_a_step(name: str) -> int | None:
    """Tokens of one step of a model's pretraining, where the names of its revisions don't count them."""
    return PYTHIA_STEP if PYTHIA.fullmatch(hub_id(name)) else None


def folder_name(name: str) -> str:
    """The folder of a fetched model below the models folder."""
    return canonical_name(name).replace("/", "--")


def model_of_folder(folder: Path) -> str:
    """The model, with its revision, that a folder below the models folder is for; undoes `folder_name`."""
    return folder.name.replace("--", "/")


def check_model_name(name: str) -> None:
    """`UserError` unless this can be fetched: a known name or a hub id, maybe with a revision."""
    base, at, revision = name.partition("@")
    if base not in KNOWN and not HUB_ID.fullmatch(base):
        raise UserError(unknown_name("model", base, KNOWN, "models") + " A hub id (owner/name) works as well.")
    if at and not REVISION.fullmatch(revision):
        raise UserError(f"'{revision}' is no revision of '{base}': name a branch, a tag or a commit.")
    if at and not hub_id(base):
        raise UserError(f"The model '{base}' comes from no hub, so it has no revisions: leave out '{revision}'.")


def command_to_fetch(name: str) -> str:
    """The command that fetches a model or a data set, maybe with a revision."""
    base, at, revision = name.partition("@")
    return f"python -m bench fetch {base}" + (f" --revision {revision}" if at else "")


def resolve_model(name_or_folder: str, models_dir: Path, own_tokenizer: bool = True) -> LocalModel:
    """The model's folder and content hash; `UserError` with the remedy when it can't be used.

    A known name comes first, then a local folder, then a fetched hub id. The hash is computed from the bytes each
    time; of a fetched model it must be the one it was fetched with. A folder needs a tokenizer unless the caller has
    another one (``own_tokenizer`` false).
    """
    name = canonical_name(name_or_folder)
    folder = models_dir / folder_name(name)
    base, at, revision = name.partition("@")
    local = Path(name_or_folder).expanduser()
    if name not in KNOWN and local.is_dir():
        check_model_folder(local, name_or_folder, own_tokenizer)
        return LocalModel(local.resolve().name, local.resolve(), hash_checkpoint(local))
    if base in KNOWN or HUB_ID.fullmatch(base):
        check_model_name(name)
        if folder.is_dir():
            return verify_fetched_model(name, folder)
        remedy = f"run `{command_to_fetch(name)}` first."
        if at:
            raise UserError(f"The revision '{revision}' of '{base}' isn't fetched yet: {remedy}")
        if name in KNOWN:
            raise UserError(f"The model '{name}' isn't fetched yet: {remedy}")
        raise UserError(f"There is no folder '{name}', and the hub model of that name isn't fetched: {remedy}")
    if is_path_like(name_or_folder) or local.is_file():
        raise UserError(missing_folder(name_or_folder))
    raise UserError(unknown_name("model", base, KNOWN, "models") + " A local folder or a hub id works as well.")


def verify_fetched_model(name: str, folder: Path) -> LocalModel:
    """A fetched model, its hash and its files beside the weights checked against those in its ``fetch.json``."""
    check_model_folder(folder, name)
    found, about = hash_checkpoint(folder), read_fetched(folder)
    kept, now = about.get("files"), hash_small_files(folder)
    odd: list[str] = []
    if isinstance(kept, dict):  # fetches of earlier versions don't say
        odd = [file for file in sorted({*kept, GENERATION}) if kept.get(file) != now.get(file)]
    if odd or found != about.get("hash"):
        which = f", as {', '.join(odd)} shows" if odd else ""
        raise UserError(
            f"The fetched model '{name}' is damaged (its files are not those that were fetched{which}): "
            f"run `{command_to_fetch(name)}` to fetch it again."
        )
    return LocalModel(name, folder, found)


def hash_small_files(folder: Path) -> dict[str, str]:
    """The hash of each file beside the weights, by name: some that aren't in the model's own hash matter as well."""
    files = sorted(
        {file for pattern in SMALL for file in folder.glob(pattern) if file.name != FETCHED and file.is_file()}
    )
    return {file.name: hash_file(file) for file in files}


def read_fetched_hash(folder: Path) -> str:
    """The hash of what was fetched into a folder, as its `FETCHED` has it; empty where that says none."""
    return str(read_fetched(folder).get("hash", ""))


def read_fetched(folder: Path) -> Json:
    """What the `FETCHED` of a folder says; nothing where it is damaged."""
    try:
        about = json.loads(read_small(folder / FETCHED, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def check_model_folder(folder: Path, name: str, own_tokenizer: bool = True) -> None:
    """`UserError` unless the folder holds a whole model in safetensors, with its config and its tokenizer."""
    read_folder(folder, name)
    if not (folder / "config.json").is_file():
        raise UserError(f"The folder of '{name}' lacks config.json: copy or fetch the whole model again.")
    if not any((folder / file).is_file() for file in (WHOLE, INDEX)):
        raise UserError(
            f"The folder of '{name}' lacks {INDEX}, and without it transformers finds no weights in files of other names "
            f"than {WHOLE}: copy or fetch the whole model again."
        )
    if own_tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        raise UserError(f"The folder of '{name}' has no tokenizer: save the tokenizer into the same folder.")
