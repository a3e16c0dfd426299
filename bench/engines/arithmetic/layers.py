"""The linear layers of a checkpoint's decoder blocks, told by the names and shapes of its tensors. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.assets.headers import FLOATS
from bench.assets.tensors import TensorFiles
from bench.core.errors import Unmet

BLOCK = re.compile(r"(?:^|\.)(\d+)\.")
"""The number of the block in a tensor's name: the first one there."""
OTHER_TOWERS = re.compile(r"(^|\.)(vision|visual|audio|speech|image)[^.]*\.")
"""Of what reads images or sounds for a language model."""
NOT_LINEAR = re.compile(r"(norm|(^|\.)ln_)[^.]*\.([^.]*\.)*weight$|(^|\.)(gate|router)\.weight$")
"""Norms, some of which have a row for each head, and the routers of experts, which bitsandbytes leaves alone too."""
EXPERTS = re.compile(r"(^|\.)experts\.")
CONV1D = re.compile(r"\.(c_attn|q_attn|c_proj|c_fc)\.weight$")
OF_CONV1D = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Types of models with transformers' ``Conv1D``, whose weight is (inputs, outputs); in others these names are linear layers."""
INPUTS_FIRST = (
    "gpt_oss",
    "llama4",
    "llama4_text",
    "qwen3_vl_moe",
    "aria",
    "aria_text",
    "openai_privacy_filter",
)
"""Types of models whose fused experts are (experts, inputs, outputs) in their files; in others (experts, outputs, inputs)."""


@dataclass(frozen=True)
class LinearLayer:
    """Where a linear layer stands, and how its weight lies in the file."""

    block: int
    """Decoder block, from 0."""
    inputs_first: bool
    """Whether its last two axes are (inputs, outputs), and not (outputs, inputs)."""


def linear_layers(reader: TensorFiles, loader: str = "causal-lm") -> Mapping[str, LinearLayer]:
    """Name -> the linear layer with this weight, in the reader's order; `Unmet` for a model without decoder blocks.

    A weight of two axes is one layer, and one of three, of fused experts, one for each expert. Embeddings, head, norms,
    convolutions and routers are none.
    """
    kind = str(reader.config.get("model_type", ""))
    found = {name: describe_layer(name, kind) for name in reader.names if is_linear(reader, name)}
    if not found or loader != "causal-lm":
        raise Unmet("it looks at the linear layers of decoder blocks, and this model has none")
    return found


def is_linear(reader: TensorFiles, name: str) -> bool:
    """Whether a tensor is the weight of linear layers inside a decoder block."""
    entry = reader.entries[name]
    if entry.dtype not in FLOATS or not BLOCK.search(name) or OTHER_TOWERS.search(name) or NOT_LINEAR.search(name):
        return False
    if len(entry.shape) == 3:
        return bool(EXPERTS.search(name))
    return len(entry.shape) == 2 and name.endswith(".weight")


def describe_layer(name: str, kind: str) -> LinearLayer:
    """What a name says of a linear layer in a model of the type ``kind``."""
    block = BLOCK.search(name)
    assert block, f"{name} lies in no block"
    fused = EXPERTS.search(name) and not name.endswith(".weight")
    inputs_first = kind in INPUTS_FIRST if fused else kind in OF_CONV1D and bool(CONV1D.search(name))
    return LinearLayer(int(block[1]), inputs_first)
