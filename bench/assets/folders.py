"""The one reader of a checkpoint folder: which files hold its weights, and what it says of a folder that can't be used.

`bench eval` and `run` (`bench.assets.models`), `bench msa` and the arithmetic (`bench.assets.tensors`) all read a folder
with it, and so say the same of it. Reads headers and small files only. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.assets.headers import FLOATS, SIZES, TensorEntry, read_header
from bench.core.errors import UserError
from bench.core.types import Json

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
ADAPTERS = (ADAPTER, "adapter_model.safetensors", "adapter_model.bin")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
"""A file of a checkpoint in several, with its number and how many there are."""
WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "DeepSpeed or Lightning",
}
"""Part of a tensor's name that no model has -> what puts it there."""
PREFIXES = {"module.": "DataParallel or DDP", "base_model.model.": "peft", "base_model.": "peft"}
"""Beginning of every tensor's name -> what puts it there."""
TUNED = re.compile(r"\.(lora_[A-Z]\w*|lora_magnitude_vector|base_layer|modules_to_save|original_module)(\.|$)")
"""In the name of a tensor of a model that peft still holds its adapter in."""
PACKED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|weight_packed|weight_scale(_inv)?|weight_blocks|\w+_blocks|"
    r"weight\.(absmax|nested_absmax|quant_map|quant_state\.\w+))$"
)
"""The name of a tensor of quantised weights: GPTQ, AWQ, bitsandbytes, compressed-tensors, fp8, mxfp4."""
QUANTISED = ("quantization_config", "compression_config")
"""Settings of a config.json ..."""
QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""... and files that a quantised model has."""
POINTER = b"version https://git-lfs"
"""A file that Git LFS hasn't fetched begins with this."""
SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
"""Files beside the weights."""


@dataclass(frozen=True)
class FolderContent:
    """What lies in a checkpoint folder, as far as headers say it."""

    entries: dict[str, TensorEntry]
    files: list[Json]
    """Of each file with weights its name, size, time, and the sha256 of its header."""
    config: Json
    """Empty where there is none."""


def read_folder(folder: Path, name: str) -> FolderContent:
    """The tensors of a folder by name; `UserError` with one sentence for a folder that can't be used as a model.

    The files are those that transformers would load: ``model.safetensors``, or what the index names, else every
    safetensors file. ``name`` is what the user calls the folder.
    """
    try:
        files = weight_files(folder, name)
        check_files(folder, name)
        small = [path for pattern in SMALL for path in folder.glob(pattern)]
        check_pointers([*small, *(folder / file for file in files)], name)
        config = read_config(folder, name)
        check_not_quantised(folder, config, name)
        entries: dict[str, TensorEntry] = {}
        described: list[Json] = []
        for file in files:
            header, found = read_weights(folder / file, name)
            if twice := sorted(found.keys() & entries.keys()):
                raise UserError(
                    f"'{name}' holds the tensor '{twice[0]}' in two files, {entries[twice[0]].file} and {file}: keep one "
                    "set of weights in the folder."
                )
            about = (folder / file).stat()
            seen = {"name": file, "bytes": about.st_size, "mtime_ns": about.st_mtime_ns}
            described.append(seen | {"header": hashlib.sha256(header).hexdigest()})
            entries.update(found)
        check_entries(entries, name)
        check_index(read_weight_map(folder, name), entries, name)
    except OSError as error:
        raise UserError(
            f"'{name}' can't be read ({Path(str(error.filename)).name}: {error.strerror}): allow it, or copy the model again."
        ) from None
    return FolderContent(entries, described, config)


def weight_files(folder: Path, name: str = "") -> list[str]:
    """Names of the files that hold the weights; `UserError` where some are missing or it isn't clear which they are."""
    name = name or folder.name
    if not folder.is_dir():
        raise UserError(f"There is no folder '{name}': give the folder of a checkpoint.")
    present = sorted(path.name for path in folder.glob("*.safetensors"))
    whole = [file for file in present if not file.startswith("adapter_")]
    refuse_adapter(folder, bool(whole), name)
    if not whole and not (folder / INDEX).is_file():
        raise UserError(no_weights(folder, name))
    indexed = sorted(set(read_weight_map(folder, name).values()))
    if odd := [file for file in indexed if Path(file).name != file or not file.endswith(".safetensors")]:
        raise UserError(
            f"{INDEX} of '{name}' names the file {odd[0]!r}, which is no safetensors file of that folder: copy or fetch "
            "the whole model again."
        )
    expected = indexed or ([WHOLE] if WHOLE in present else shards_expected(whole))
    if missing := [file for file in expected if not (folder / file).is_file()]:
        raise UserError(f"The folder of '{name}' lacks {', '.join(missing)}: copy or fetch the whole model again.")
    if indexed and WHOLE in present and WHOLE not in indexed:
        raise UserError(
            f"'{name}' holds two sets of weights, {WHOLE} and the files that {INDEX} names: remove the one that isn't "
            "the model."
        )
    return expected


def shards_expected(files: list[str]) -> list[str]:
    """The files, and those that must be there since their names say that they are one of so many."""
    found = [match for file in files if (match := SHARD.fullmatch(file))]
    more = {f"{m[1]}-{i + 1:05d}-of-{m[3]}.safetensors" for m in found for i in range(min(int(m[3]), 10_000))}
    return sorted({*files, *more})


def refuse_adapter(folder: Path, whole: bool, name: str) -> None:
    """`UserError` for a folder with a peft adapter in it, beside whole weights or instead of them."""
    found = [file for file in ADAPTERS if (folder / file).exists()]
    found += sorted(path.name for path in folder.glob("adapter_*.safetensors") if path.name not in found)
    if not found:
        return
    try:
        base = json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    of = f" of {base!r}" if isinstance(base, str) and base else ""
    merge = "merge it into its model first (peft's merge_and_unload, then save_pretrained) and name the folder of that"
    if whole:
        raise UserError(
            f"'{name}' holds a peft adapter{of} ({', '.join(found)}) beside a model's weights: {merge}; or, if the weights "
            "are merged already, remove the adapter's files."
        )
    raise UserError(f"'{name}' holds a peft adapter{of} only ({', '.join(found)}), which is no whole model: {merge}.")


def no_weights(folder: Path, name: str) -> str:
    """A sentence about a folder without safetensors."""
    if any(any(folder.glob(pattern)) for pattern in PICKLES):
        return (
            f"The model '{name}' has pickled weights only, and those can run code when loaded: save it again with "
            "`save_pretrained`, which writes safetensors."
        )
    if any(folder.glob("*.gguf")):
        return f"The model '{name}' has GGUF weights only: name a folder with the model's *.safetensors."
    return f"The folder of '{name}' holds no *.safetensors: name a folder made by `save_pretrained`."


def read_index(folder: Path) -> list[str]:
    """The files that the folder's index of shards names, whether they are there or not; none without an index."""
    return sorted(set(read_weight_map(folder).values()))


def read_weight_map(folder: Path, name: str = "") -> dict[str, str]:
    """Tensor -> file, as the folder's index of shards has it; empty without an index."""
    index = folder / INDEX
    if not index.is_file():
        return {}
    try:
        found: Any = json.loads(index.read_text())["weight_map"]
        if found and all(isinstance(file, str) for file in found.values()):
            return dict(found)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    check_pointers([index], name or folder.name)
    raise UserError(
        f"{INDEX} of '{name or folder.name}' can't be read as an index of safetensors (a weight_map from tensors to files): "
        "copy or fetch the whole model again."
    )


def check_index(places: dict[str, str], entries: dict[str, TensorEntry], name: str) -> None:
    """`UserError` for a tensor that the index looks for where it isn't."""
    for tensor, file in sorted(places.items()):
        if tensor not in entries or entries[tensor].file != file:
            where = f"lies in {entries[tensor].file}" if tensor in entries else "isn't there"
            raise UserError(
                f"{INDEX} of '{name}' says that the tensor '{tensor}' is in {file}, and it {where}: copy or fetch the whole "
                "model again."
            )


def read_weights(file: Path, name: str) -> tuple[bytes, dict[str, TensorEntry]]:
    """A file's header and tensors; `UserError` for a file that is cut short or damaged."""
    try:
        return read_header(file)
    except UserError as error:
        reason = str(error).removesuffix(" copy it again.").rstrip(",;:")
        raise UserError(
            f"The weights '{file.name}' of '{name}' are damaged ({reason}): copy or fetch the whole model again."
        ) from None


def read_config(folder: Path, name: str = "") -> Json:
    """The folder's config.json; empty where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        check_pointers([path], name or folder.name)
        raise UserError(
            f"The config.json of '{name or folder.name}' is not readable JSON with a model's settings: copy or fetch the "
            "whole model again."
        )
    return config


def check_files(folder: Path, name: str) -> None:
    """`UserError` for a folder, or a link to nothing, where a model has a file."""
    for path in sorted(folder.iterdir()):
        if any(path.match(pattern) for pattern in (*SMALL, "*.safetensors")) and not path.is_file():
            what = "a folder" if path.is_dir() else "a link to a file that isn't there"
            raise UserError(f"'{path.name}' of '{name}' is {what}: copy or fetch the whole model again.")


def check_pointers(files: Iterable[Path], name: str) -> None:
    """`UserError` for a file that Git LFS has yet to fetch."""
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                begins = file.read(len(POINTER))
            if begins == POINTER:
                raise UserError(
                    f"'{path.name}' of '{name}' is a Git LFS pointer and not the file itself: run `git lfs pull` in that "
                    "folder, or fetch the model again."
                )


def check_not_quantised(folder: Path, config: Json, name: str) -> None:
    """`UserError` for a model that says of itself that its weights are quantised."""
    for part in (config, *(part for part in config.values() if isinstance(part, dict))):
        for key in QUANTISED:
            if part.get(key) is not None:
                about = part[key] if isinstance(part[key], dict) else {}
                raise UserError(quantised(name, str(about.get("quant_method") or key)))
    for file in QUANTISED_FILES:
        if (folder / file).is_file():
            raise UserError(quantised(name, file))


def quantised(name: str, why: str) -> str:
    """A sentence about quantised weights."""
    return (
        f"'{name}' is quantised ({why}), and its weights are no numbers to evaluate or sum: use the model that it was "
        "made from, or save it in float32, bfloat16 or float16 first."
    )


def check_entries(entries: dict[str, TensorEntry], name: str) -> None:
    """`UserError` for tensors that aren't a plain model's: quantised, wrapped by a trainer or by peft, of odd types."""
    if not entries:
        raise UserError(f"The weights of '{name}' hold no tensor: copy or fetch the whole model again.")
    for tensor, entry in entries.items():
        whole_numbers = tensor.endswith(".weight") and len(entry.shape) > 1 and entry.dtype not in FLOATS
        if PACKED.search(f".{tensor}") or whole_numbers and entry.dtype in SIZES or entry.dtype.startswith("F8"):
            raise UserError(quantised(name, f"the tensor '{tensor}' is {entry.dtype}"))
        if entry.dtype not in SIZES:
            raise UserError(
                f"The tensor '{tensor}' of '{name}' has the type {entry.dtype}, which can't be summed or copied "
                f"({', '.join(SIZES)}): save the model in float32, bfloat16 or float16."
            )
        if TUNED.search(f".{tensor}"):
            raise UserError(
                f"The tensors of '{name}' are those of a model with a peft adapter in it ('{tensor}'): merge the adapter "
                "first (peft's merge_and_unload, then save_pretrained) and name the folder of that."
            )
        if wrapper := next((part for part in tensor.split(".") if part in WRAPPERS), ""):
            raise UserError(wrapped(tensor, f"{wrapper}.", WRAPPERS[wrapper], name))
    for prefix, cause in PREFIXES.items():
        if all(tensor.startswith(prefix) for tensor in entries):
            raise UserError(wrapped(next(iter(entries)), prefix, cause, name))


def wrapped(tensor: str, prefix: str, cause: str, name: str) -> str:
    """A sentence about names that a wrapper left in the weights."""
    return (
        f"The tensors of '{name}' have names with '{prefix}' in them ('{tensor}'), which {cause} puts there, so that no model "
        f"would take them: save the model inside the wrapper (unwrapped.save_pretrained), or rename them without '{prefix}'."
    )
