"""Checkpoint folders with something wrong in them: what can be done to a sound one, and how hypothesis draws it.

A `Change` is plain data, so that a folder that broke something can be written down as an example. What doesn't apply to
a folder (a file that an earlier change took away, a tensor that isn't there any more) does nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

Change = tuple[Any, ...]
"""The name of a function of `CHANGES`, then its arguments."""

WEIGHTS = "model.safetensors"
JSONS = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
FILES = (WEIGHTS, *JSONS, "chat_template.jinja")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 4096\n"
TYPES = ("float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "float8_e4m3fn", "complex64")
CONTENTS = {
    "nothing": b"",
    "zeros": bytes(64),
    "object": b"{}",
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "text": b'"text"',
    "latin": b'{"model_type": "llam\xe4"}',
    "utf-16": '{"model_type": "llama"}'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf{}",
    "page": b"<!DOCTYPE html><html>404</html>",
    "deep": b"[" * 100_000,
    "pointer": POINTER.encode(),
    "huge header": (1 << 62).to_bytes(8, "little") + b"{}",
    "no tensors": (2).to_bytes(8, "little") + b"{}",
    "header is a list": (2).to_bytes(8, "little") + b"[]",
    "deep header": (100_000).to_bytes(8, "little") + b"[" * 100_000,
}
"""What a file may hold instead of its own content."""
TEMPLATES = (
    "",
    " ",
    "{{",
    "{% for m in messages %}",
    "{{ nothing.at.all }}",
    "{{ raise_exception('no') }}",
    "{{ 1 // 0 }}",
    "{{ messages[0]['content'] }}",
    "{{ messages[-1]['content'] }}{{ messages[-1]['content'] }}",
    "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
    "{% for m in messages %}{{ m['content'][:9] }}{% endfor %}",
    "{% for m in messages %}{{ m['content'] | tojson }}{% endfor %}",
    "{% for m in messages %}{{ m['content'][0]['text'] }}{% endfor %}",
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    "{% for m in messages %}{{ m['content'] }}{{ strftime_now('%d %b %Y') }}{% endfor %}",
    "{% for m in messages %}{{ m['content'] }}{% generation %}x{% endgeneration %}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ bos_token }}{{ m['content'] }}{{ eos_token }}{% endfor %}",
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] }}<|eos|>{% endfor %}",
)
BESIDE: Mapping[str, Any] = {
    "adapter_config.json": {"base_model_name_or_path": "meta-llama/Llama-2-7b-hf", "peft_type": "LORA"},
    "quantize_config.json": {"bits": 4},
    "added_tokens.json": {"<|eos|>": 7, "<new>": 300},
    "special_tokens_map.json": {"eos_token": "e", "pad_token": {"content": "<|bos|>"}},
    "vocab.json": {"a": 0, "b": 1},
    "preprocessor_config.json": {"size": 3},
    "trainer_state.json": [1],
    "tokenizer.model": "no sentencepiece",
    "merges.txt": "a b",
    "pytorch_model.bin": "a pickle",
    "adapter_model.safetensors": "no weights",
    "modeling_own.py": "raise SystemExit(3)",
    "more.safetensors": "no weights",
    "model-00001-of-00002.safetensors": "no weights",
    "README.md": "# A model",
}
"""Files that a folder may have beside its own."""


# ---- what is done to a folder


def delete(folder: Path, name: str) -> None:
    """Take a file away."""
    (folder / name).unlink(missing_ok=True)


def truncate(folder: Path, name: str, share: float) -> None:
    """Keep this share of a file's bytes."""
    if (folder / name).is_file():
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])


def overwrite(folder: Path, name: str, content: str) -> None:
    """Put one of `CONTENTS` into a file."""
    if not (folder / name).is_dir():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(CONTENTS[content])


def become_folder(folder: Path, name: str) -> None:
    """A folder where a file should be."""
    if not (folder / name).is_dir():
        delete(folder, name)
        (folder / name).mkdir()


def become_link(folder: Path, name: str, to: str) -> None:
    """A link to what may not be there, or to itself."""
    if not (folder / name).is_dir():
        delete(folder, name)
        (folder / name).symlink_to(to)


def flip(folder: Path, name: str, place: float, bit: int) -> None:
    """Flip a bit: of a safetensors file in its header, of another anywhere."""
    if not (folder / name).is_file() or not (data := bytearray((folder / name).read_bytes())):
        return
    end = min(len(data), 8 + int.from_bytes(data[:8], "little")) if name == WEIGHTS else len(data)
    data[min(end - 1, int(place * end))] ^= 1 << bit
    (folder / name).write_bytes(data)


def change_header(folder: Path, tensor: int, key: str, value: Any) -> None:
    """Put something else into the header: a tensor's dtype, shape or data_offsets, or the whole entry (no key)."""
    data = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else b""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = sorted(header)[tensor % len(header)]
        header[name] = {**header[name], key: value} if key else value
    except (ValueError, TypeError, ZeroDivisionError):
        return
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor], list[str]], None]) -> None:
    """Read the weights, change them, write them; nothing where they can't be read any more."""
    try:
        tensors = load_file(folder / WEIGHTS)
        change(tensors, sorted(tensors))
    except Exception:  # an earlier change has made it no weights
        return
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})


def drop(folder: Path, tensor: int) -> None:
    """Leave a tensor out."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        del tensors[names[tensor % len(names)]]

    change_tensors(folder, change)


def rename(folder: Path, tensor: int, to: str) -> None:
    """Give a tensor, or all of them (-1), another name; ``{}`` stands for the old one."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        for name in names if tensor < 0 else [names[tensor % len(names)]]:
            tensors[to.format(name)] = tensors.pop(name)

    change_tensors(folder, change)


def duplicate(folder: Path, tensor: int, to: str) -> None:
    """A copy of a tensor under another name; ``{}`` stands for the old one."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        name = names[tensor % len(names)]
        tensors[to.format(name)] = tensors[name].clone()

    change_tensors(folder, change)


def retype(folder: Path, tensor: int, dtype: str) -> None:
    """Another type for a tensor, or for all (-1)."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        for name in names if tensor < 0 else [names[tensor % len(names)]]:
            tensors[name] = tensors[name].to(getattr(torch, dtype))

    change_tensors(folder, change)


def reshape(folder: Path, tensor: int, how: str) -> None:
    """Another shape for a tensor."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        name = names[tensor % len(names)]
        old = tensors[name]
        shapes = {
            "flat": lambda: old.flatten(),
            "turned": lambda: old.t(),
            "one more": lambda: old[None],
            "shorter": lambda: old[:-1],
            "longer": lambda: torch.cat([old, old[:1]]),
            "empty": lambda: old[:0],
            "scalar": lambda: old.flatten()[0],
        }
        tensors[name] = shapes[how]().clone()

    change_tensors(folder, change)


def fill(folder: Path, tensor: int, entries: int, value: float) -> None:
    """Another value for the first entries of a tensor."""

    def change(tensors: dict[str, torch.Tensor], names: list[str]) -> None:
        tensors[names[tensor % len(names)]].view(-1)[:entries] = value

    change_tensors(folder, change)


def set_json(folder: Path, name: str, path: tuple[str | int, ...], value: Any) -> None:
    """Put a value at a place of a JSON file: keys, and numbers for the so-manieth key or item."""

    def put(part: Any, left: tuple[str | int, ...]) -> Any:
        if not left:
            return value
        if isinstance(part, list) and part:
            at = len(left[0]) if isinstance(left[0], str) else left[0]
            return [put(item, left[1:]) if i == at % len(part) else item for i, item in enumerate(part)]
        if isinstance(part, dict) and (part or isinstance(left[0], str)):
            key = left[0] if isinstance(left[0], str) else sorted(part)[left[0] % len(part)]
            return {**part, key: put(part.get(key), left[1:])}
        return value

    if whole := read_object(folder / name):
        (folder / name).write_text(json.dumps(put(whole, path)))


def drop_key(folder: Path, name: str, key: int) -> None:
    """Take a key out of a JSON file."""
    if whole := read_object(folder / name):
        whole.pop(sorted(whole)[key % len(whole)])
        (folder / name).write_text(json.dumps(whole))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty where an earlier change has made it none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def set_template(folder: Path, name: str, text: str) -> None:
    """A chat template, in its own file or as one of several by name."""
    if name.endswith(".jinja"):
        (folder / name).parent.mkdir(exist_ok=True)
        if not (folder / name).is_dir():
            (folder / name).write_text(text)
    else:
        set_json(folder, "tokenizer_config.json", ("chat_template",), [{"name": name, "template": text}])


def add(folder: Path, name: str) -> None:
    """Add one of the files in `BESIDE`."""
    content = BESIDE[name]
    if not (folder / name).exists():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def split(folder: Path, kind: str) -> None:
    """Two files and an index in place of one file; ``kind`` says what is wrong with the index."""
    try:
        tensors = load_file(folder / WEIGHTS)
        names = sorted(tensors)
    except Exception:
        return
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, held in parts.items():
        save_file({name: tensors[name].contiguous() for name in held}, folder / file, {"format": "pt"})
    places: Any = {name: file for file, held in parts.items() for name in held}
    first, second = parts
    index: dict[str, Any] = {"metadata": {"total_size": 1}, "weight_map": places}
    if kind == "lacks a tensor":
        places.pop(names[0])
    elif kind == "another file":
        places[names[0]] = second if places[names[0]] == first else first
    elif kind == "lost file":
        (folder / second).unlink()
    elif kind == "outside":
        places[names[0]] = f"../{first}"
    elif kind == "one more":
        places["more.weight"] = first
    elif kind == "no metadata":
        del index["metadata"]
    elif kind == "metadata is a text":
        index["metadata"] = "text"
    elif kind == "map is a list":
        index["weight_map"] = list(places)
    elif kind == "a file is a number":
        places[names[0]] = 7
    elif kind == "twice":
        save_file(tensors, folder / second, {"format": "pt"})
    if kind != "whole too":
        delete(folder, WEIGHTS)
    if kind != "no index":
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SPLITS = (
    "right",
    "lacks a tensor",
    "another file",
    "lost file",
    "outside",
    "one more",
    "no metadata",
    "metadata is a text",
    "map is a list",
    "a file is a number",
    "twice",
    "whole too",
    "no index",
)


def swap(folder: Path, name: str, model: str) -> None:
    """Put another model's file in the place of this one's; the other models lie beside the folder's sound one."""
    source = folder.parent / model / name
    if source.is_file() and not (folder / name).is_dir():
        delete(folder, name)
        shutil.copyfile(source, folder / name)


CHANGES: Mapping[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        *(delete, truncate, overwrite, become_folder, become_link, flip, change_header, drop, rename, duplicate),
        *(retype, reshape, fill, set_json, drop_key, set_template, add, split, swap),
    )
}


def wreck(folder: Path, changes: tuple[Change, ...]) -> Path:
    """Do all ``changes`` to a folder, in order."""
    for name, *arguments in changes:
        CHANGES[name](folder, *arguments)
    return folder


# ---- how they are drawn

NUMBERS = (-1, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 32, 64, 299, 300, 301)
WORDS = ("", "a", "no", "llama", "gpt2", "t5", "bert", "mamba", "eager", "sdpa", "flash_attention_2", "float16", "auto")
WORDS += (
    "<|eos|>",
    "<|bos|>",
    "e",
    "dynamic",
    "linear",
    "yarn",
    "longrope",
    "llama3",
    "default",
    "silu",
    "relu",
    "\ud800",
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from((0.0, 0.5, -1.5, 1e-6, 1e300, float("nan"), float("inf"), 10**30, -(2**63))),
    st.sampled_from(WORDS),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS[:8]), inner, max_size=2),
    max_leaves=4,
)
SIZED = ("hidden_size", "intermediate_size", "num_hidden_layers", "head_dim", "vocab_size", "num_attention_heads")
"""Settings that aren't given huge numbers here: a test shouldn't take a machine's memory."""
CONFIG = (
    *("attention_bias", "bos_token_id", "dtype", "eos_token_id", "hidden_act", "max_position_embeddings", "mlp_bias"),
    *("model_type", "architectures", "num_key_value_heads", "pad_token_id", "pretraining_tp", "rms_norm_eps"),
    *("rope_parameters", "tie_word_embeddings", "use_cache", "transformers_version", "attention_dropout"),
    *("text_config", "quantization_config", "compression_config", "rope_scaling", "rope_theta", "sliding_window"),
    *("layer_types", "auto_map", "is_encoder_decoder", "is_decoder", "torch_dtype", "_attn_implementation"),
    *("attn_implementation", "id2label", "num_labels", "vision_config", "pruned_heads", "output_attentions"),
    *(
        "return_dict",
        "use_return_dict",
        "output_hidden_states",
        "problem_type",
        "tokenizer_class",
        "base_model_tp_plan",
    ),
)
TOKENS = (
    *("bos_token", "eos_token", "pad_token", "unk_token", "tokenizer_class", "chat_template", "added_tokens_decoder"),
    *("additional_special_tokens", "extra_special_tokens", "model_max_length", "padding_side", "add_bos_token"),
    *(
        "add_eos_token",
        "auto_map",
        "backend",
        "legacy",
        "clean_up_tokenization_spaces",
        "model_input_names",
        "truncation_side",
    ),
)
GENERATION = (
    *("eos_token_id", "bos_token_id", "pad_token_id", "max_new_tokens", "do_sample", "temperature", "top_p"),
    "cache_implementation",
)
NAMES = (
    "{}.extra",
    "module.{}",
    "_orig_mod.{}",
    "base_model.model.{}",
    "{}_scale",
    "x",
    "",
    "lm_head.bias",
    "model.{}",
)
NAMES += ("model.layers.2.mlp.up_proj.weight", "model.rotary_emb.inv_freq", "{}.lora_A.weight", "a{{b", "../{}", "{}\n")

some_file = st.sampled_from(FILES)
some_tensor = st.integers(0, 20)
one_or_all = st.integers(-1, 20)
share = st.sampled_from((0.0, 0.01, 0.1, 0.5, 0.9, 0.999)) | st.floats(0, 0.999)
path = st.lists(st.integers(0, 8), min_size=1, max_size=4).map(tuple)
set_config = st.one_of(
    st.tuples(st.sampled_from(CONFIG), VALUES), st.tuples(st.sampled_from(SIZED), SCALARS.filter(lambda v: not big(v)))
).map(lambda pair: ("set_json", "config.json", (pair[0],), pair[1]))


def big(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) > 1000


ROPES = (
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
    {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16, "rope_theta": 1e4},
    {"rope_type": "llama3", "factor": 2.0, "original_max_position_embeddings": 16, "rope_theta": 1e4}
    | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [2.0, 3.0], "rope_theta": 1e4}
    | {"factor": 2.0, "original_max_position_embeddings": 16},
)
PLAUSIBLE: tuple[tuple[str, str, Any], ...] = (
    *(("config.json", "rope_parameters", rope) for rope in ROPES),
    *(("config.json", "max_position_embeddings", places) for places in (8, 40, 70)),
    *(
        ("config.json", "model_type", kind)
        for kind in ("mistral", "qwen2", "phi3", "gemma", "olmo", "olmo2", "granite")
    ),
    *(("config.json", "model_type", kind) for kind in ("mixtral", "cohere", "stablelm", "smollm3", "glm", "nemotron")),
    *(("config.json", "sliding_window", window) for window in (1, 4, 64)),
    *(("config.json", "layer_types", [kind, "full_attention"]) for kind in ("sliding_attention", "full_attention")),
    *(("config.json", "num_attention_heads", heads) for heads in (2, 8)),
    *(("config.json", "hidden_act", act) for act in ("gelu", "relu", "gelu_pytorch_tanh")),
    *(("config.json", "num_hidden_layers", layers) for layers in (1, 3)),
    *(("config.json", "vocab_size", rows) for rows in (200, 299, 301)),
    ("config.json", "rms_norm_eps", 0.5),
    ("config.json", "tie_word_embeddings", True),
    ("config.json", "attention_bias", True),
    ("config.json", "dtype", "bfloat16"),
    ("config.json", "dtype", "float16"),
    ("config.json", "attention_dropout", 0.5),
    ("config.json", "is_decoder", True),
    ("config.json", "eos_token_id", [2, 5]),
    ("generation_config.json", "eos_token_id", [2, 400, -1]),
    ("generation_config.json", "repetition_penalty", 9.0),
    ("tokenizer_config.json", "eos_token", "e"),
    ("tokenizer_config.json", "eos_token", "<new>"),
    ("tokenizer_config.json", "bos_token", None),
    ("tokenizer_config.json", "pad_token", None),
    ("tokenizer_config.json", "model_max_length", 4),
    ("tokenizer_config.json", "truncation_side", "left"),
    ("tokenizer_config.json", "add_eos_token", True),
    ("tokenizer_config.json", "tokenizer_class", "LlamaTokenizer"),
    ("tokenizer_config.json", "tokenizer_class", "GPT2Tokenizer"),
    ("tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast"),
    ("tokenizer_config.json", "clean_up_tokenization_spaces", True),
    ("tokenizer.json", "normalizer", {"type": "Lowercase"}),
    ("tokenizer.json", "normalizer", {"type": "Prepend", "prepend": "\u2581"}),
    ("tokenizer.json", "pre_tokenizer", {"type": "WhitespaceSplit"}),
    ("tokenizer.json", "post_processor", None),
    ("tokenizer.json", "decoder", None),
    ("tokenizer.json", "truncation", {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}),
    ("tokenizer.json", "added_tokens", []),
)
"""Settings that a model may well have: file, key, value."""
set_plausible = st.sampled_from(PLAUSIBLE).map(lambda each: ("set_json", each[0], (each[1],), each[2]))

CHANGE: st.SearchStrategy[Change] = st.one_of(
    set_plausible,
    set_plausible,
    st.tuples(st.just("delete"), some_file),
    st.tuples(st.just("truncate"), some_file, share),
    st.tuples(st.just("overwrite"), some_file, st.sampled_from(sorted(CONTENTS))),
    st.tuples(st.just("overwrite"), st.sampled_from(sorted(BESIDE)), st.sampled_from(sorted(CONTENTS))),
    st.tuples(st.just("become_folder"), st.sampled_from((*FILES, *BESIDE))),
    st.tuples(st.just("become_link"), some_file, st.sampled_from(("nowhere", "config.json", "tokenizer.json", "."))),
    st.tuples(st.just("flip"), some_file, st.floats(0, 1), st.integers(0, 7)),
    st.tuples(
        st.just("change_header"), some_tensor, st.sampled_from(("dtype", "shape", "data_offsets", "", "more")), VALUES
    ),
    st.tuples(
        st.just("change_header"), some_tensor, st.just("dtype"), st.sampled_from(("F16", "I32", "F8_E4M3", "F4"))
    ),
    st.tuples(st.just("drop"), some_tensor),
    st.tuples(st.just("rename"), one_or_all, st.sampled_from(NAMES)),
    st.tuples(st.just("duplicate"), some_tensor, st.sampled_from(NAMES)),
    st.tuples(st.just("retype"), one_or_all, st.sampled_from(TYPES)),
    st.tuples(
        st.just("reshape"),
        some_tensor,
        st.sampled_from(("flat", "turned", "one more", "shorter", "longer", "empty", "scalar")),
    ),
    st.tuples(
        st.just("fill"),
        some_tensor,
        st.sampled_from((1, 5, 10**6)),
        st.sampled_from((0.0, 0.5, 1e38, -1e38, 1e5, float("nan"), float("inf"), float("-inf"))),
    ),
    set_config,
    set_config,
    st.tuples(st.just("set_json"), st.just("tokenizer_config.json"), st.tuples(st.sampled_from(TOKENS)), VALUES),
    st.tuples(st.just("set_json"), st.just("generation_config.json"), st.tuples(st.sampled_from(GENERATION)), VALUES),
    st.tuples(
        st.just("set_json"),
        st.just("config.json"),
        st.tuples(
            st.just("rope_parameters"),
            st.sampled_from(
                ("rope_type", "rope_theta", "factor", "original_max_position_embeddings", "partial_rotary_factor")
            ),
        ),
        SCALARS,
    ),
    st.tuples(st.just("set_json"), st.just("tokenizer.json"), path, VALUES),
    st.tuples(st.just("drop_key"), st.sampled_from(JSONS), st.integers(0, 30)),
    st.tuples(
        st.just("set_template"),
        st.sampled_from(("chat_template.jinja", "default", "tool", "additional_chat_templates/tool.jinja")),
        st.sampled_from(TEMPLATES),
    ),
    st.tuples(st.just("add"), st.sampled_from(sorted(BESIDE))),
    st.tuples(st.just("split"), st.sampled_from(SPLITS)),
    st.tuples(st.just("swap"), some_file, st.sampled_from(("wider", "gpt2", "words"))),
)
SOME_CHANGES: st.SearchStrategy[tuple[Change, ...]] = st.lists(CHANGE, min_size=1, max_size=3).map(tuple)
