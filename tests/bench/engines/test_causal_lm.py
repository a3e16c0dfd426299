"""Opening: every weight comes from the files and every tokenizer is whole, or one sentence names what isn't."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM, T5Config

from bench.assets.folders import INDEX, WHOLE
from bench.core.errors import UserError
from bench.engines import causal_lm
from bench.engines.causal_lm import check_attention, load_weights, open_tokenizer, read_architecture
from bench.engines.loaders import checkpoint_at, open_checkpoint
from tests.tiny import bits, llama, saved, subword_llama, subword_tokenizer, tokenizer

Tensors = dict[str, torch.Tensor]
LAST = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer of its own."""
    words = subword_tokenizer(["Black cats sit on the mat."])
    folder = tmp_path_factory.mktemp("sound") / "model"
    saved(subword_llama(words), words, folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound one, to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "mine"))


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    made = change(load_file(folder / WHOLE))
    save_file({name: tensor.contiguous() for name, tensor in made.items()}, folder / WHOLE, {"format": "pt"})


def change_json(path: Path, **settings: Any) -> None:
    """Change settings; None takes one away."""
    made = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in made.items() if value is not None}))


def weights(folder: Path) -> Any:
    return load_weights(folder, read_architecture(folder), torch.float32)


def refusal(folder: Path) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(UserError) as caught:
        open_checkpoint(checkpoint_at(folder, "mine"))
    assert len(caught.value.problems) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "buffer",
    [
        "attn.masked_bias",
        "attn.bias",
        "attn.attention.bias",
        "attn.attention.masked_bias",
        "self_attn.rotary_emb.inv_freq",
    ],
)
def test_masks_and_frequencies_of_older_versions_are_no_surplus(folder: Path, sound: Path, buffer: str) -> None:
    change_weights(folder, lambda w: {**w, f"model.layers.0.{buffer}": torch.zeros(2)})
    mine, right = (open_checkpoint(checkpoint_at(place, "mine")).model for place in (folder, sound))
    assert bits(mine) == bits(right)


def test_a_generation_config_that_can_not_be_read_is_named(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")
    assert "'generation_config.json' of" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {k: v for k, v in w.items() if k != LAST}, f"lacks 1 tensor of LlamaForCausalLM, the first is '{LAST}'"),
        (lambda w: {"student." + k: v for k, v in w.items()}, r"lacks 21 tensors.*Its files hold 'student\.lm_head.weight'"),
        (lambda w: {**w, "score.weight": w["lm_head.weight"][:2].clone()}, "holds 1 tensor that .* no place for.*'score.weight'"),
        (lambda w: {**w, "model.norm.weight": w["model.norm.weight"][:-1]}, r"norm.weight' .*shape \(15,\).*\(16,\)"),
        (lambda w: {**w, "lm_head.weight": w["lm_head.weight"].T}, r"'lm_head.weight' .*shape \(16, 277\)"),
    ],
    ids=["missing", "prefix", "surplus", "shape", "transposed"],
)  # fmt: skip
def test_a_weight_that_is_not_loaded_as_it_is_named(folder: Path, change: Any, said: str) -> None:
    change_weights(folder, change)
    with pytest.raises(UserError, match=said):
        open_checkpoint(checkpoint_at(folder, "mine"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 1}, "holds 9 tensors that LlamaForCausalLM has no place for"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors.*'model\.layers\.2"),
        ({"vocab_size": 304}, r"shape \(277, 16\), and by its config.json it has \(304, 16\)"),
        ({"num_key_value_heads": 4}, r"k_proj.*shape \(8, 16\)"),
        ({"hidden_act": "soft"}, "can't be opened.*soft"),
        ({"dtype": "float7"}, "^The architecture of 'mine'.*float7"),
        ({"model_type": None}, "^The architecture of 'mine' can't be opened"),
    ],
)
def test_a_config_of_another_model_is_refused(folder: Path, settings: dict[str, Any], said: str) -> None:
    change_json(folder / "config.json", **settings)
    with pytest.raises(UserError, match=said):
        open_checkpoint(checkpoint_at(folder, "mine"))


@pytest.mark.parametrize(
    ("kind", "auto", "said"),
    [
        ("llama99", {}, "^The architecture of 'mine' can't be opened with this version of transformers.*llama99"),
        ("foo", {"AutoConfig": "x.C", "AutoModelForCausalLM": "y.M"}, "without code of the model's own"),
        ("t5", {}, "'mine' is an encoder-decoder"),
        ("bert", {}, "no causal language model"),
        ("llava", {}, "no causal language model|can't be opened"),
    ],
)  # fmt: skip
def test_only_causal_models_of_the_library_are_opened(folder: Path, kind: str, auto: dict[str, str], said: str) -> None:
    made = {"t5": T5Config(), "bert": BertConfig()}.get(kind, LlamaConfig()).to_dict()
    (folder / "config.json").write_text(json.dumps(made | {"model_type": kind} | ({"auto_map": auto} if auto else {})))
    with pytest.raises(UserError, match=said):
        open_checkpoint(checkpoint_at(folder, "mine"))


def test_code_beside_a_model_that_the_library_has_is_left_alone(folder: Path, sound: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    (folder / "modeling_mine.py").write_text("raise SystemExit('run')")
    assert bits(weights(folder)) == bits(weights(sound))


def test_settings_that_change_what_a_pass_returns_change_nothing(folder: Path, sound: Path) -> None:
    """`return_dict` false gives a tuple, and flash attention is on few machines."""
    change_json(folder / "config.json", return_dict=False, use_cache=False, attn_implementation="flash_attention_2")
    change_json(folder / "config.json", output_hidden_states=True)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        found, right = (
            open_checkpoint(checkpoint_at(place, "")).model(input_ids=ids).logits for place in (folder, sound)
        )
    assert torch.allclose(found, right, atol=1e-5)


def test_an_index_without_metadata_opens_the_same_weights(folder: Path, sound: Path) -> None:
    tensors = load_file(folder / WHOLE)
    names, places = sorted(tensors), dict[str, str]()
    for i, part in enumerate((names[:9], names[9:])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / WHOLE).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    assert bits(weights(folder)) == bits(weights(sound))
    assert json.loads((folder / INDEX).read_text()) == {"weight_map": places}, "the folder stays as it was"


def test_a_tied_head_that_is_stored_is_no_surplus(tmp_path: Path) -> None:
    model = llama()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    saved(model, tokenizer(), tmp_path / "tied")
    change_weights(tmp_path / "tied", lambda w: {**w, "lm_head.weight": w["model.embed_tokens.weight"].clone()})
    again = weights(tmp_path / "tied")
    assert torch.equal(again.lm_head.weight, again.model.embed_tokens.weight)


def test_a_tokenizer_that_can_not_be_read_is_named(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(whole[: len(whole) // 2])
    assert refusal(folder).startswith("The tokenizer of 'mine' can't be opened: save it again with `save_pretrained`")
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    shutil.copy(folder / "config.json", pieces)
    (pieces / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(UserError, match="^The tokenizer of 'pieces' can't be opened: save it again"):
        open_tokenizer(pieces)
    (pieces / "tokenizer.model").unlink()
    with pytest.raises(UserError, match="^The tokenizer of 'pieces' can't be opened"):
        open_tokenizer(pieces)


def test_more_rows_than_tokens_are_as_good_as_none(folder: Path, sound: Path) -> None:
    """A vocabulary padded to a round number, as most are."""

    def pad(w: Tensors) -> Tensors:
        more = {
            name: torch.cat([w[name], torch.zeros(20, 16)]) for name in ("lm_head.weight", "model.embed_tokens.weight")
        }
        return w | more

    change_weights(folder, pad)
    change_json(folder / "config.json", vocab_size=297)
    asked = {"template": "chat", "prompt": "Black cats?", "answer": "on the mat."}
    padded, plain = (open_checkpoint(checkpoint_at(place, "")) for place in (folder, sound))
    text = padded.coder.encode(asked)
    assert text == plain.coder.encode(asked)
    ids = torch.tensor([[*text.prompt, *text.answer]])
    with torch.no_grad():
        assert torch.equal(padded.model(ids).logits[..., :277], plain.model(ids).logits)


def test_two_ways_of_attention_that_are_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setattr(causal_lm, "_tried", set[str]())
    assert model.config._attn_implementation == "sdpa"
    check_attention(model, "mine")
    assert model.config._attn_implementation == "sdpa", "it is as it was"
    monkeypatch.setattr(causal_lm, "_tried", set[str]())
    heads = model.model.layers[0].self_attn
    before = heads.forward

    def forward(*args: Any, **given: Any) -> Any:
        found, *rest = before(*args, **given)
        return (found + (model.config._attn_implementation == "eager"), *rest)

    monkeypatch.setattr(heads, "forward", forward)
    with pytest.raises(UserError, match=r"'mine' \(llama\) can't be measured.*sdpa and eager attention"):
        check_attention(model, "mine")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_second_way_of_attention(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wild weights in half precision: the two ways are more than half a nat apart for tokens that nobody would say."""
    from bench.engines.measuring.generation import takes_batches

    monkeypatch.setattr(causal_lm, "_tried", set[str]())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        initializer_range=0.15,
    )
    model = LlamaForCausalLM(config).eval().to(dtype)
    check_attention(model, "wild")
    assert takes_batches(model, "cpu")
