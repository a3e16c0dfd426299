"""The tensors of a checkpoint folder, read by byte range: nothing is ever mapped.

A mapped file counts as resident memory page by page as it is read, which for four models is four models; plain reads
into a buffer that is used again count once. Loads no torch.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.assets.configs import ties_head
from bench.assets.folders import read_folder
from bench.assets.headers import FLOATS, SIZES, TORCH
from bench.core.errors import UserError, raise_problems
from bench.core.types import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

CONSTANTS = re.compile(r"\.(rotary_emb\.(original_)?inv_freq|att(entio)?n\.masked_bias)$")
"""Floating-point buffers that follow from the config: copied from the first term, and others may lack them."""
HEAD = "lm_head.weight"
HEADS = re.compile(r"(^|\.)(lm_head|embed_out|output|output_projection)\.weight$")
EMBEDDINGS = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|tokens_embed|embeddings|embed)\.weight$"
)
LAYER = re.compile(r"(^|\.)\d+\.")
"""In the name of a tensor that is one of a layer's."""
COMPARED = 1 << 19
"""Entries compared at a time."""


class TensorFiles:
    """The tensors of a checkpoint folder by name, whichever file they lie in; reads are safe from several threads.

    The files are those that transformers would load: ``model.safetensors``, else what the index names, else every
    safetensors file. A head that the config ties to the embedding, and that was stored all the same, is left out.
    Raises `UserError` for a folder without usable safetensors, and for a truncated or damaged file.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        self._handles: dict[str, int] = {}
        self._lock = threading.Lock()
        self.folder = folder
        self.label = label or folder.name
        content = read_folder(folder, str(folder))
        self.entries, self.files, self.config = content.entries, content.files, content.config
        for copy in self._tied_copies():
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

    def _tied_copies(self) -> list[str]:
        """Names of tensors outside the layers that are copies of the embedding which the config ties the head to.

        The head has another name in every family, so that it is known by its shape and its entries.
        """
        embedding = next(filter(EMBEDDINGS.search, self.entries), "")
        if not embedding:
            return []
        shape = self.entries[embedding].shape
        alike = [name for name, entry in self.entries.items() if entry.shape == shape and not LAYER.search(name)]
        alike.remove(embedding)
        return (
            [name for name in alike if self._same_entries(embedding, name)] if alike and ties_head(self.config) else []
        )

    def _same_entries(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers, once the wider type is rounded to the narrower."""
        types = [self.entries[name].dtype for name in (one, other)]
        if not FLOATS.keys() >= set(types):
            return False
        narrow = min(types, key=lambda dtype: (FLOATS[dtype], dtype))
        for begin in range(0, self.entries[one].count, COMPARED):
            count = min(COMPARED, self.entries[one].count - begin)
            read: list[bytes] = []
            for name, dtype in zip((one, other), types, strict=True):
                buffer = bytearray(count * SIZES[dtype])
                self.read(name, begin * SIZES[dtype], memoryview(buffer))
                read.append(round_entries(buffer, dtype, narrow))
            if read[0] != read[1]:
                return False
        return True


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


def round_entries(entries: bytearray, dtype: str, narrow: str) -> bytes:
    """The bytes of floating-point entries in a type as wide or narrower, rounded to nearest even."""
    if dtype == narrow:
        return bytes(entries)
    import torch

    held = torch.frombuffer(entries, dtype=getattr(torch, TORCH[dtype]))
    return held.to(getattr(torch, TORCH[narrow])).view(torch.uint8).numpy().tobytes()
