"""Opening a causal language model and its tokenizer: what a folder can have wrong is one sentence, never a random weight.

Everything that transformers reports or raises on opening becomes a `UserError`: our sentence first, the library's
reason behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.distributed import DistributedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import logging

from bench.assets.folders import INDEX, read_folder
from bench.assets.tensors import CONSTANTS
from bench.core import distributed
from bench.core.contracts import Opened
from bench.core.errors import UserError, shorten_reason
from bench.core.types import Checkpoint
from bench.engines.coding import Texts, embedding_rows
from bench.engines.parts import put_parts_back, shard_model
from bench.engines.positions import forget_longer_texts, learnt_places
from bench.engines.templates import QUESTION

logging.set_verbosity_error()
logging.disable_progress_bar()

T = TypeVar("T")
TRIED_TOKENS = 24
"""Tokens of the text that both ways of attention are tried with."""
ATTENTION_TOLERANCE = {torch.float32: 1e-2}
"""How far their log-probs may lie apart, in nats; in other dtypes 1, in the mean over what is likely, as rounding alone
moves the unlikely by more."""
MASKS = re.compile(r"\.att(entio)?n\.bias$")
"""Causal masks that older versions of transformers stored; like `CONSTANTS` they follow from the config."""
_tried: set[str] = set()
"""Configurations whose attention was tried in this process."""


def open_causal_lm(checkpoint: Checkpoint, device: str) -> Opened:
    """A causal language model of transformers, from safetensors only, and its tokenizer.

    The attention is the best one that the architecture supports. Raises `UserError` where a weight would be missing,
    left over or of another size, where the architecture isn't a causal one of the library's own, and where model or
    tokenizer can't be read.
    """
    folder = Path(checkpoint.path)
    config = read_architecture(folder)  # before the tokenizer, which is opened by the model's config
    tokenizer = open_tokenizer(Path(checkpoint.tokenizer or checkpoint.path))
    model = load_weights(folder, config, getattr(torch, checkpoint.dtype)).to(device).eval()
    return check_opened(model, tokenizer, folder)


def open_in_parts(checkpoint: Checkpoint, device: str) -> Opened:
    """The same model in parts, one with each process, which reads no more of the files than its own (`split_on_loading`).

    Every process must call it; what fails on one of them fails on all.
    """
    folder = Path(checkpoint.path)

    def load() -> tuple[Any, Any]:
        config = read_architecture(folder)
        tokenizer = open_tokenizer(Path(checkpoint.tokenizer or checkpoint.path))
        return load_weights(folder, config, getattr(torch, checkpoint.dtype), device).eval(), tokenizer

    opened = check_opened(*distributed.call_on_all(load), folder)
    put_parts_back(opened.model)
    return opened


def check_opened(model: Any, tokenizer: Any, folder: Path) -> Opened:
    """The model as it is to be used, once its attention has been tried."""
    forget_longer_texts(model)
    check_attention(model, folder.name)
    return Opened(model, tokenizer, Texts(tokenizer, embedding_rows(model)))


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder; `UserError` where it can't be read, or fails on its first text."""
    remedy = "save it again with `save_pretrained`, which writes a tokenizer.json"

    def open_it() -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer.decode(list(tokenizer.encode(QUESTION)), skip_special_tokens=True)
        return tokenizer

    return explain(open_it, f"The tokenizer of '{folder.name}' can't be opened: {remedy}")


def load_weights(folder: Path, config: Any, dtype: torch.dtype, parts_on: str = "") -> Any:
    """The model of ``config`` in a folder, every tensor of it from the folder's files; `UserError` where one isn't.

    ``parts_on``: the device on which each process has its part of it.
    """
    kind: Any = AutoModelForCausalLM
    how: dict[str, Any] = {}
    if parts_on:
        kind, how = split_on_loading(folder, config, parts_on), {"distributed_config": DistributedConfig()}
    with with_whole_index(folder) as place:
        model, report = explain(
            lambda: kind.from_pretrained(
                place,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **how,
            ),
            f"The model in '{folder.name}' can't be opened: copy or save the whole folder again",
        )
    check_report(folder.name, type(model).__name__.removeprefix("FSDP"), report)
    check_names(folder, model.base_model_prefix)
    read_small_json(folder / "generation_config.json")  # the library takes its defaults for one that it can't read
    check_ends(folder.name, getattr(model.generation_config, "eos_token_id", None))
    return model


def split_on_loading(folder: Path, config: Any, device: str) -> Any:
    """The architecture of ``config``, split over the processes after it is made without memory and before it is filled.

    These are the library's own hooks; it then reads of every tensor the rows of this process alone. Its own plans are for
    the families that name one, on the best device of the machine. Where files hold tensors that it would cut or join along
    their rows, every process reads all of them, and the model is split later.
    """
    architecture: Any = explain(
        lambda: type(meta_model(config)), f"The model in '{folder.name}' can't be made as its config.json says"
    )

    class InParts(architecture):
        @classmethod
        def prepare_distribute_model(cls, distributed_config: Any, device_map: Any = None) -> tuple[Any, Any, None]:
            return distributed_config, {"": device}, None

        @classmethod
        def maybe_distribute_model(cls, model: Any, *_: Any) -> Any:
            model.__class__ = architecture
            del model.config.distributed_config
            check_shapes(model, folder)
            if can_be_read_in_parts(model):
                shard_model(model, device)
                type(model).__module__ = architecture.__module__
            return model

    # the library tells by name and module whether a class is its own, and how its files name the tensors
    InParts.__name__, InParts.__module__ = architecture.__name__, architecture.__module__
    return InParts


def meta_model(config: Any) -> Any:
    """The model of a config without memory for its weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def can_be_read_in_parts(model: Any) -> bool:
    """Whether rows of the model's tensors are rows of the files' ones, or whole ones of them, stacked: experts.

    Of those every process needs one at least, since the library stacks no fewer.
    """
    made = [each for each in get_model_conversion_mapping(model) if isinstance(each, WeightConverter)]
    stacked = [len(tensor) for tensor in model.parameters() if made and tensor.dim() > 2]
    return all(-(-rows // distributed.world()) * (distributed.world() - 1) < rows for rows in stacked) and all(
        (isinstance(step, MergeModulelist) and step.dim == 0) or (isinstance(step, Concatenate) and step.dim > 0)
        for each in made
        for step in each.operations
    )


def check_shapes(model: Any, folder: Path) -> None:
    """`UserError` for a tensor of another shape than the model's, by the headers: a process would see its own rows alone."""
    stored, prefix = read_folder(folder, folder.name).entries, model.base_model_prefix
    wrong = set()
    for name, tensor in model.state_dict().items():
        entry = stored.get(name) or stored.get(name.removeprefix(f"{prefix}."))
        if entry and entry.shape != tuple(tensor.shape):
            wrong.add((name, entry.shape, tuple(tensor.shape)))
    check_mismatched(folder.name, wrong)


def read_small_json(path: Path) -> None:
    """`UserError` for a file that is there and no JSON."""
    if path.is_file():
        remedy = "take the file that was saved with the weights, or remove it"
        explain(lambda: json.loads(path.read_text()), f"'{path.name}' of '{path.parent.name}' can't be read: {remedy}")


def check_names(folder: Path, prefix: str) -> None:
    """`UserError` for a tensor that is there with and without the library's own prefix: only one of both is loaded."""
    names = read_folder(folder, folder.name).entries
    if twice := next((name for name in sorted(names) if f"{prefix}.{name}" in names), ""):
        raise UserError(
            f"'{folder.name}' holds a tensor both as '{twice}' and as '{prefix}.{twice}', and a model has one place for "
            "them: save the model again, with one set of weights."
        )


def check_ends(name: str, given: Any) -> None:
    """`UserError` for an end of texts that is no token's number nor a list of them."""
    if given is not None and not all(type(end) is int for end in (given if isinstance(given, list) else [given])):
        raise UserError(
            f"The eos_token_id of '{name}' is {given!r} in its generation_config.json or config.json, which is no token's "
            "number: take the files that were saved with the weights."
        )


@contextmanager
def with_whole_index(folder: Path) -> Iterator[Path]:
    """The folder, or a passing one of links with an index that transformers reads where it would miss ``metadata``."""
    index = folder / INDEX
    if (
        (folder / "model.safetensors").is_file()
        or not index.is_file()
        or "metadata" in (read := json.loads(index.read_text()))
    ):
        yield folder
        return
    with TemporaryDirectory(prefix="msa-bench-index-") as made:
        for file in folder.iterdir():
            (Path(made) / file.name).symlink_to(file.resolve())
        (Path(made) / INDEX).unlink()
        (Path(made) / INDEX).write_text(json.dumps({"metadata": {}, **read}))
        yield Path(made)


@torch.no_grad()
def check_attention(model: Any, name: str) -> None:
    """`UserError` where the library's attention gives other logits than its plain one; tried once for a configuration.

    Such a model has no right values here: one of the library's two ways is wrong, and nobody says which.
    """
    used, config = model.config._attn_implementation, model.config.to_json_string()
    if config in _tried:
        return
    tokens = int(min(TRIED_TOKENS, learnt_places(model.config)))
    ids = torch.arange(tokens, device=model.device)[None] % embedding_rows(model)
    fast = explain(
        lambda: model(input_ids=ids).logits.float().log_softmax(-1),
        f"The model in '{name}' can't be computed as its config.json says: take the config.json that was saved with the weights",
    )
    if used == "eager":
        _tried.add(config)
        return
    model.config._attn_implementation = "eager"  # the library's own setter leaves some families as they are
    plain = explain(
        lambda: model(input_ids=ids, use_cache=False).logits.float().log_softmax(-1),
        f"The model in '{name}' can't be computed in eager attention, which its own is compared with: take another version of "
        "transformers",
    )
    model.config._attn_implementation = used
    away = (fast - plain).abs()
    apart = float(away.max() if model.dtype in ATTENTION_TOLERANCE else (plain.exp() * away).sum(-1).max())
    if apart > ATTENTION_TOLERANCE.get(model.dtype, 1):
        raise UserError(
            f"'{name}' ({model.config.model_type}) can't be measured: this version of transformers computes it in two ways, "
            f"{used} and eager attention, and they are {apart:.2g} nats apart; another version may have mended it."
        )
    _tried.add(config)


def read_architecture(folder: Path) -> Any:
    """The folder's config; `UserError` unless it is of a causal language model that the library knows itself."""
    config = explain(
        lambda: AutoConfig.from_pretrained(folder, trust_remote_code=False),
        f"The architecture of '{folder.name}' can't be opened with this version of transformers and without code of the "
        "model's own: take a model of a family that transformers has, a newer transformers, or the config.json that was saved "
        "with the weights",
    )
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"'{folder.name}' is an encoder-decoder ({kind}): only causal language models are supported, which write "
            "on from a prompt."
        )
    bidirectional = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or bidirectional:
        raise UserError(
            f"'{folder.name}' ({kind}) is no causal language model: take a model that transformers opens as "
            "AutoModelForCausalLM and that sees only what stands before a token."
        )
    ask_plainly(config)
    return config


def ask_plainly(config: Any) -> None:
    """Take back what a config wants of a pass beside its logits, and an attention that this machine may not have."""
    config.return_dict, config.output_attentions, config.output_hidden_states = True, False, False
    config._attn_implementation = None


def check_report(name: str, kind: str, report: dict[str, Any]) -> None:
    """`UserError` with the first tensor that is of another size, missing or left over in the library's loading report."""
    check_mismatched(name, report["mismatched_keys"])
    unexpected = [
        tensor for tensor in report["unexpected_keys"] if not (CONSTANTS.search(tensor) or MASKS.search(tensor))
    ]
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"'{name}' lacks {count(missing)} of {kind}, the first is '{missing[0]}': a file wasn't copied, or the names "
            "were changed when a wrapped model was saved; such weights would start at random, so save or copy the whole "
            "model again." + describe_surplus(unexpected)
        )
    if surplus := sorted(unexpected):
        raise UserError(
            f"'{name}' holds {count(surplus)} that {kind} has no place for by its config.json, the first is "
            f"'{surplus[0]}': the config is another model's, or a head or adapter was saved with it; take the config.json "
            "that was saved with the weights, or save the plain model again."
        )
    if report["error_msgs"]:
        raise UserError(f"'{name}' can't be read whole ({shorten_reason(report['error_msgs'][0])}): copy it again.")


def check_mismatched(name: str, mismatched: Collection[Any]) -> None:
    """`UserError` with the first tensor that is stored in another shape than the config's: name, stored, expected."""
    if mismatched:
        tensor, stored, expected = min(mismatched)
        raise UserError(
            f"Tensor '{tensor}' of '{name}' has the shape {tuple(stored)}, and by its config.json it has "
            f"{tuple(expected)}: the config is another model's, or the vocabulary was resized after it was written; take "
            "the config.json that was saved with the weights."
        )


def describe_surplus(names: Any) -> str:
    """A further sentence about the names that were found in the place of those that are missing."""
    return f" Its files hold '{min(names)}' in their place." if names else ""


def count(names: list[str]) -> str:
    """How many tensors: ``1 tensor``, ``3 tensors``."""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


def explain(open_it: Callable[[], T], sentence: str) -> T:
    """The value of ``open_it``; what a library raises there becomes a `UserError`, the sentence first, the reason behind it."""
    try:
        return open_it()
    except (MemoryError, torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:  # anything at all: files of strangers meet dozens of parsers here
        raise UserError(f"{sentence} ({type(error).__name__}: {shorten_reason(error)}).") from error
