"""The tensors of a checkpoint folder, read by byte range: the headers are parsed here and nothing is ever mapped.

A mapped file counts as resident memory page by page as it is read, which for four models is four models; plain reads
into a buffer that is used again count once. Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UserError, raise_problems
from bench.core.types import Checkpoint, Json

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types that are summed, with the bytes of one entry."""
COPIED = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
"""Types that are copied from the first term: positions, masks, counters."""
SIZES = FLOATS | COPIED
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"} | {
    name: f"{'u' if name[0] == 'U' else ''}int{8 * size}" for name, size in COPIED.items() if name != "BOOL"
}
"""The format's names of the types -> torch's."""
CONSTANTS = re.compile(r"\.(rotary_emb\.(original_)?inv_freq|att(entio)?n\.masked_bias)$")
"""Floating-point buffers that follow from the config: copied from the first term, and others may lack them."""
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
MOST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
COMPARED = 1 << 20
"""Bytes compared at a time."""
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies."""

    file: str
    dtype: str
    """The format's name: ``BF16``, ``F32``, ``I64`` ..."""
    shape: tuple[int, ...]
    begin: int
    """Byte of the file that it begins at."""

    @property
    def count(self) -> int:
        """The number of the tensor's entries."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes that it takes."""
        return self.count * SIZES[self.dtype]


class TensorFiles:
    """The tensors of a checkpoint folder by name, whichever file they lie in; reads are safe from several threads.

    The files are those that transformers would load: ``model.safetensors``, else what the index names, else every
    safetensors file. A head that the config ties to the embedding, and that was stored all the same, is left out.
    Raises `UserError` for a folder without usable safetensors, and for a truncated or damaged file.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        self._handles: dict[str, int] = {}
        self.folder = folder
        self.label = label or folder.name
        self.entries: dict[str, TensorEntry] = {}
        self.files: list[Json] = []
        self._lock = threading.Lock()
        for file in weight_files(folder):
            header, entries = read_header(folder / file)
            for name, entry in entries.items():
                if entry.dtype not in SIZES:
                    raise UserError(
                        f"{folder.name}/{file}: tensor '{name}' has the type {entry.dtype}, which can't be summed or "
                        f"copied ({', '.join(SIZES)})."
                    )
            if twice := sorted(entries.keys() & self.entries.keys()):
                raise UserError(
                    f"'{folder.name}' holds the tensor '{twice[0]}' in two files, {self.entries[twice[0]].file} and "
                    f"{file}: keep one set of weights in the folder."
                )
            about = (folder / file).stat()
            seen = {"name": file, "bytes": about.st_size, "mtime_ns": about.st_mtime_ns}
            self.files.append(seen | {"header": hashlib.sha256(header).hexdigest()})
            self.entries.update(entries)
        self.config = read_config(folder)
        if "quantization_config" in self.config:
            raise UserError(f"'{folder.name}' is quantised: save it in float32, bfloat16 or float16 first.")
        if copy := self._tied_copy():
            del self.entries[copy]
        self.names = sorted(self.entries)

    @property
    def bytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(entry.bytes for entry in self.entries.values())

    def read(self, name: str, begin: int, into: memoryview) -> None:
        """Fill ``into`` with the tensor's bytes from its byte ``begin`` on."""
        entry = self.entries[name]
        handle, place = self._handle(entry.file), entry.begin + begin
        while into:
            got = os.preadv(handle, [into], place)
            if not got:
                raise UserError(f"{self.folder.name}/{entry.file} became shorter while it was read: start again.")
            into, place = into[got:], place + got

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, as its file's header has it."""
        return self.entries[name].shape

    def get(self, name: str) -> Tensor:
        """One whole tensor, in memory of its own."""
        import torch

        entry = self.entries[name]
        raw = torch.empty(entry.bytes, dtype=torch.uint8)
        self.read(name, 0, memoryview(raw.numpy()))
        return raw.view(getattr(torch, TORCH[entry.dtype])).view(entry.shape)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def _handle(self, file: str) -> int:
        handle = self._handles.get(file)
        if handle is None:
            with self._lock:
                if (handle := self._handles.get(file)) is None:
                    handle = self._handles[file] = os.open(self.folder / file, os.O_RDONLY)
        return handle

    def _tied_copy(self) -> str:
        """The head's name, if it is a separate copy of the embedding that the config ties it to."""
        ties = {**self.config, **(self.config.get("text_config") or {})}.get("tie_word_embeddings") is True
        embedding = next(filter(EMBEDDINGS.search, self.entries), "")
        if not ties or HEAD not in self.entries or not embedding:
            return ""
        head, other = self.entries[HEAD], self.entries[embedding]
        if (head.dtype, head.shape) != (other.dtype, other.shape):
            return ""
        one, two = bytearray(COMPARED), bytearray(COMPARED)
        for begin in range(0, head.bytes, COMPARED):
            size = min(COMPARED, head.bytes - begin)
            for name, buffer in ((HEAD, one), (embedding, two)):
                self.read(name, begin, memoryview(buffer)[:size])
            if one[:size] != two[:size]:
                return ""
        return HEAD


@contextmanager
def open_tensor_files(checkpoints: Sequence[Checkpoint]) -> Iterator[list[TensorFiles]]:
    """The tensor files of ``checkpoints``, closed at the end; the problems of all folders are reported together."""
    readers: list[TensorFiles] = []
    problems: list[str] = []
    try:
        for checkpoint in checkpoints:
            try:
                readers.append(TensorFiles(Path(checkpoint.path), checkpoint.label))
            except UserError as error:
                problems += [problem for problem in error.problems if problem not in problems]
        raise_problems(problems)
        yield readers
    finally:
        for reader in readers:
            reader.close()


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights."""
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}': give the folder of a checkpoint.")
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    if files := read_index(folder):
        for file in files:
            if Path(file).name != file or not (folder / file).is_file():
                raise UserError(f"{folder.name}/{INDEX} names {file}, which isn't there: copy the missing files.")
        return files
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if whole := [name for name in files if not name.startswith("adapter_")]:
        return whole
    remedy = "give a folder that holds *.safetensors."
    if files:
        remedy = (
            "it holds a peft adapter only: merge it into its model first (peft's merge_and_unload, save_pretrained)."
        )
    elif any(next(folder.glob(pattern), None) for pattern in PICKLES):
        remedy = "it holds pickles: convert them first (transformers' from_pretrained, then save_pretrained)."
    raise UserError(f"No safetensors in '{folder.name}': weights are read from safetensors only; {remedy}")


def read_index(folder: Path) -> list[str]:
    """The files that the folder's index of shards names, whether they are there or not; none without an index."""
    index = folder / INDEX
    if not index.is_file():
        return []
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{folder.name}/{INDEX} can't be read as an index of safetensors: copy it again.") from None


def read_header(path: Path) -> tuple[bytes, dict[str, TensorEntry]]:
    """A safetensors file's header as bytes, and its tensors; they must fill the rest of the file.

    The file is 8 bytes with the header's length (little-endian), the header (JSON: name -> dtype, shape, and where its
    bytes begin and end behind the header), then the bytes.
    """
    where = f"{path.parent.name}/{path.name}"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise UserError(f"{where} is no whole safetensors file ({size} bytes): it is truncated, copy it again.")
        header = file.read(length)
    damaged = UserError(f"{where} has a damaged safetensors header: copy it again.")
    try:
        described: dict[str, Any] = json.loads(header)
        described.pop("__metadata__", None)
        entries: dict[str, TensorEntry] = {}
        spans: list[tuple[int, int, str]] = []
        for name, about in described.items():
            begin, end = map(int, about["data_offsets"])
            spans.append((begin, end, name))
            entries[name] = TensorEntry(
                path.name, str(about["dtype"]), tuple(map(int, about["shape"])), 8 + length + begin
            )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    last = 0
    for begin, end, name in sorted(spans):
        known = entries[name].dtype in SIZES
        if begin != last or (known and entries[name].bytes != end - begin):
            raise damaged
        last = end
    if 8 + length + last != size:
        raise UserError(
            f"{where} is {'truncated' if 8 + length + last > size else 'damaged'}: {size} bytes, "
            f"and its header speaks of {8 + length + last}; copy it again."
        )
    return header, entries


def read_config(folder: Path) -> Json:
    """The folder's config.json; empty where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except ValueError:
        raise UserError(f"{folder.name}/config.json is no JSON: copy it again.") from None
    return config if isinstance(config, dict) else {}


def check_match(readers: Sequence[TensorFiles]) -> None:
    """Raise `UserError` when a term's tensors have other names, shapes or tokens than the first term's."""
    first = readers[0]
    problems = [problem for reader in readers[1:] for problem in [describe_mismatch(first, reader)] if problem]
    raise_problems(list(dict.fromkeys(problems)))


def describe_mismatch(first: TensorFiles, other: TensorFiles) -> str:
    """The first difference that forbids a sum, as a sentence; empty when there is none."""
    one, two = (tensors_to_compare(reader) for reader in (first, other))
    if odd := sorted(one.keys() ^ two.keys()):
        tied = f" ('{HEAD}' is there when a model's head isn't tied to its embedding)" if odd == [HEAD] else ""
        return (
            f"'{first.label}' and '{other.label}' don't hold the same tensors: {len(odd)} differ, "
            f"the first is '{odd[0]}'{tied}."
        )
    for name, entry in one.items():
        if entry.shape != two[name].shape:
            return (
                f"Tensor '{name}' has shape {entry.shape} in '{first.label}' and {two[name].shape} in "
                f"'{other.label}'. A resized embedding is the usual cause: use checkpoints with one vocabulary."
            )
        if (entry.dtype in FLOATS) != (two[name].dtype in FLOATS):
            return (
                f"Tensor '{name}' is {entry.dtype} in '{first.label}' and {two[name].dtype} in '{other.label}': "
                "one of them is quantised or isn't the same model."
            )
    return describe_other_tokens(first, other)


def tensors_to_compare(reader: TensorFiles) -> dict[str, TensorEntry]:
    """The tensors that all terms must have, by name."""
    return {name: reader.entries[name] for name in reader.names if not CONSTANTS.search(name)}


def describe_other_tokens(first: TensorFiles, other: TensorFiles) -> str:
    """A sentence about a token that has one id in the one tokenizer and another in the other; empty when none has."""
    files = [reader.folder / "tokenizer.json" for reader in (first, other)]
    if not all(file.is_file() for file in files):
        return ""
    one, two = (file.read_bytes() for file in files)
    if one == two:
        return ""
    ids, others = token_ids(one), token_ids(two)
    for token, number in ids.items():
        if others.get(token, number) != number:
            return (
                f"Token {token!r} is number {number} in '{first.label}' and {others[token]} in '{other.label}': their "
                "vocabularies differ, so that a row of the one embedding isn't that of the other."
            )
    return ""


def token_ids(tokenizer: bytes) -> dict[str, int]:
    """Token -> id of a tokenizer.json, without the added tokens; empty when it has no such table."""
    try:
        vocabulary = json.loads(tokenizer)["model"]["vocab"]
    except (ValueError, KeyError, TypeError):
        return {}
    if isinstance(vocabulary, dict):
        return vocabulary
    return {pair[0]: number for number, pair in enumerate(vocabulary)}
