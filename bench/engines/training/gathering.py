"""Writing a model in parts or with adapters as a whole one, tensor by tensor: nobody holds more of it whole than a tensor.

The files are to the bit those that `save_pretrained` writes of a whole model: the same names, order and headers. Every
process takes part in gathering each tensor, and the first one writes it to its place.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from bench.assets.folders import INDEX
from bench.assets.headers import TORCH
from bench.core import distributed
from bench.engines.arithmetic.writer import Shard, lay_out_shard
from bench.engines.parts import base_of

NAMES = {getattr(torch, theirs): name for name, theirs in TORCH.items()}
"""torch's types -> the format's names of them."""
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """A tensor of a model, in parts or whole."""

    tensor: Tensor
    layer: Any = None
    """The adapted layer that it is the weight of, if it is one."""

    @property
    def outline(self) -> Tensor:
        """Its type and shape without its numbers."""
        return torch.empty(self.tensor.shape, dtype=self.tensor.dtype, device="meta")

    def gather(self) -> Tensor:
        """The whole tensor, on the first process with its adapter merged, on the others an outline; all must call it."""
        part = self.tensor.detach()
        whole: Tensor = part.full_tensor() if isinstance(part, DTensor) else part
        if not distributed.is_first():
            return self.outline
        if self.layer is None:
            return whole
        return merge_adapter(self.layer, whole.clone() if whole is part else whole)


def write_whole(model: nn.Module, folder: Path) -> None:
    """Write a model in parts to ``folder``, adapters merged. Every process must call it, and returns when it is there.

    The model stays as it was, which merging adapters in place and back would not leave it.

    Where the library stores several tensors of a model as one, all are gathered first.
    """
    base, sources = base_of(model), list_sources(model)
    outlines = {name: source.outline for name, source in sources.items()}
    if isinstance(base, PreTrainedModel):
        for name in getattr(base, "_keys_to_ignore_on_save", None) or ():
            outlines.pop(name, None)
        outlines = remove_tied_weights_from_state_dict(outlines, base)
    whole = as_stored(base, outlines)
    problem: OSError | None = None
    with ExitStack() as stack:
        files: dict[str, tuple[Shard, BinaryIO]] = {}
        if distributed.is_first():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                base.save_pretrained(folder, state_dict={})
                files = begin_files(base, whole, folder, stack)
            except OSError as error:  # the others are on their way to gather: it is said when all are through
                problem = error
        for names in list_groups(base, outlines, whole):
            tensors = {name: sources[name].gather() for name in names}
            if distributed.is_first() and problem is None:
                try:
                    put(files, as_stored(base, tensors))
                except OSError as error:
                    problem = error
            del tensors
    distributed.call_on_first(lambda: raise_problem(problem))


def list_groups(base: nn.Module, outlines: Tensors, whole: Tensors) -> list[list[str]]:
    """Names of tensors that are stored apart from the others: each alone, or where one is stored by parts of several, all."""
    alone = [part for name, outline in outlines.items() for part in as_stored(base, {name: outline}).items()]
    found = {name: about(part) for name, part in alone}
    separable = found == {name: about(part) for name, part in whole.items()}
    return [[name] for name in outlines] if separable else [list(outlines)]


def list_sources(model: nn.Module) -> dict[str, Source]:
    """The tensors of a model by the names that they have without adapters."""
    base = base_of(model)
    layers = {f"{name}.base_layer.weight": layer for name, layer in base.named_modules() if hasattr(layer, "lora_A")}
    return {
        name.replace(".base_layer.", "."): Source(tensor, layers.get(name))
        for name, tensor in base.state_dict(keep_vars=True).items()
        if ".lora_" not in name
    }


def merge_adapter(layer: Any, weight: Tensor) -> Tensor:
    """The whole weight with the layer's adapter in it, by the layer's own arithmetic; the layer stays as it was."""
    inner = layer.get_base_layer()
    part = inner.weight
    inner.weight = nn.Parameter(weight, requires_grad=False)
    layer.merge()
    merged: Tensor = inner.weight.data
    inner.weight = part
    layer.merged_adapters.clear()
    return merged


def as_stored(base: nn.Module, tensors: Tensors) -> Tensors:
    """Tensors as the library stores them: under the names of the files, merged experts apart."""
    return dict(revert_weight_conversion(base, tensors)) if isinstance(base, PreTrainedModel) else tensors


def about(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """Type, as the format names it, and shape."""
    return NAMES[tensor.dtype], tuple(tensor.shape)


def begin_files(base: nn.Module, whole: Tensors, folder: Path, stack: ExitStack) -> dict[str, tuple[Shard, BinaryIO]]:
    """Open the files with their headers, and write their index where there are several: tensor -> its file."""
    most = inspect.signature(PreTrainedModel.save_pretrained).parameters["max_shard_size"].default
    split = split_torch_state_dict_into_shards(whole, filename_pattern="model{suffix}.safetensors", max_shard_size=most)
    found: dict[str, tuple[Shard, BinaryIO]] = {}
    for file, names in split.filename_to_tensors.items():
        shard = lay_out_shard(file, {name: about(whole[name]) for name in names})
        handle = stack.enter_context((folder / file).open("wb"))
        handle.write(shard.header)
        handle.truncate(shard.bytes)
        found |= {name: (shard, handle) for name in names}
    if split.is_sharded:
        parameters = sum(each.numel() for name, each in base.named_parameters() if ".lora_" not in name)
        index = {
            "metadata": {"total_parameters": parameters, **split.metadata},
            "weight_map": split.tensor_to_filename,
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return found


def put(files: Mapping[str, tuple[Shard, BinaryIO]], tensors: Tensors) -> None:
    """Write whole tensors to their places."""
    for name, tensor in tensors.items():
        shard, handle = files[name]
        handle.seek(shard.entries[name].begin)
        handle.write(tensor.contiguous().cpu().flatten().view(torch.uint8).numpy())


def raise_problem(problem: Exception | None) -> None:
    """Raise what went wrong, if something did."""
    if problem is not None:
        raise problem
