"""`bench doctor --model`: the page of a sound model, of one that ends answers otherwise, and of wrecks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from bench.assets.models import resolve_model
from bench.core.errors import UserError
from bench.engines.loaders import open_checkpoint
from bench.engines.templates import ANSWER, QUESTION, SYSTEM_PROMPT, encode
from bench.real.examine import examine_model
from tests.tiny import saved, subword_llama, subword_tokenizer

TEXTS = [f"{QUESTION} {ANSWER} {SYSTEM_PROMPT}"] * 3
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)


def page(folder: Path) -> list[str]:
    """The lines about a folder."""
    return list(examine_model(resolve_model(str(folder), folder.parent)))


def said(lines: list[str], name: str) -> str:
    """What stands behind a name, the lines of it together."""
    return " / ".join(line[len(name) :].strip() for line in lines if line.startswith(f"{name} "))


def made(folder: Path, **tokenizer: Any) -> Path:
    """A tiny Llama, with changes to its tokenizer."""
    words = subword_tokenizer(TEXTS)
    words.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|assistant|>", "<|user|>", "<|system|>"]})
    for name, value in tokenizer.items():
        setattr(words, name, value)
    saved(subword_llama(words), words, folder)
    return folder


def test_a_sound_model_is_shown_as_it_is_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "sound")
    lines = page(folder)
    assert said(lines, "weights").endswith("F32 100%") and "llama (LlamaForCausalLM), 2 layers" in said(lines, "model")
    assert "sdpa attention" in said(lines, "computed") and "in batches" in said(lines, "computed")
    assert said(lines, "positions") == "512" and said(lines, "stops at") == "<|eos|> (2)"
    assert "bos <|bos|> (1), eos <|eos|> (2)" in said(lines, "specials") and not said(lines, "look")
    assert all(line.endswith(": eval and run take it") for line in lines if line.startswith("task "))
    shown = "\n".join(lines)
    assert f"  | <|bos|><system>{SYSTEM_PROMPT}<|eos|><user>{QUESTION}<|eos|><assistant>" in shown


def test_the_answer_is_shown_token_by_token_with_the_log_probs_of_a_plain_pass(tmp_path: Path) -> None:
    folder = made(tmp_path / "sound")
    lines = page(folder)
    opened = open_checkpoint(resolve_checkpoint(folder))
    text = encode(opened.tokenizer, {"template": "chat", "prompt": QUESTION, "answer": ANSWER})
    with torch.no_grad():
        logps = opened.model(torch.tensor([[*text.prompt, *text.answer]])).logits[0].log_softmax(-1)
    right = [f"{float(logps[len(text.prompt) - 1 + i, token]):.2f}" for i, token in enumerate(text.answer)]
    at = next(i for i, line in enumerate(lines) if line.startswith("Answer, token by token"))
    shown = re.findall(r"\((\d+)\) (-[\d.]+)", lines[at + 1])
    assert shown == [(str(token), logp) for token, logp in zip(text.answer, right, strict=True)]


def resolve_checkpoint(folder: Path) -> Any:
    from bench.engines.loaders import checkpoint_at

    return checkpoint_at(folder, "")


def test_an_end_that_is_not_the_eos_is_pointed_out(tmp_path: Path) -> None:
    words = {"chat_template": PHI3}
    lines = page(made(tmp_path / "phi", **words))
    assert re.search(r"an answer ends in <\|end\|> \(\d+\), which is not the tokenizer's eos", said(lines, "look"))
    assert re.fullmatch(r"<\|eos\|> \(2\), <\|end\|> \(\d+\)", said(lines, "stops at"))


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ({"bos_token": None, "chat_template": PHI3}, "no bos: the first token of a passage is not scored"),
        ({"eos_token": None, "chat_template": PHI3.replace("{{ eos_token }}", "")}, "no eos: answers outside a chat"),
        ({"chat_template": None}, "no chat template: eval asks 'Question: ... Answer:'"),
        ({"chat_template": "{{ messages[-1].content }}<|end|>"}, "takes no system prompt: TOFU's is left out"),
        ({"chat_template": "{% for m in messages %}{{ m.content[0].text }}{% endfor %}"}, "as a list of parts / .*names no end"),
        ({"chat_template": "{{ bos_token * 2 }}{% for m in messages %}{{ m.content }}{% endfor %}"}, "begins with two bos"),
    ],
)  # fmt: skip
def test_what_a_person_should_know_is_said(tmp_path: Path, change: dict[str, Any], remark: str) -> None:
    assert re.search(remark, said(page(made(tmp_path / "model", **change)), "look"))


@pytest.mark.parametrize("template", ["{{ broken", "What is it?", {"rag": "x"}])
def test_a_template_that_is_refused_is_refused_by_the_tasks_that_ask_with_it(tmp_path: Path, template: Any) -> None:
    lines = page(made(tmp_path / "model", chat_template=template))
    verdicts = {line.split()[1]: line for line in lines if line.startswith("task ")}
    assert "can't be used" in verdicts["tofu:"] and "the template 'base'" in verdicts["tofu:"]
    assert verdicts["muse-books:"].endswith("take it")
    assert any("Prompt in the template 'base'" in line for line in lines)


def test_a_model_without_numbers_is_called_a_wreck(tmp_path: Path) -> None:
    folder = made(tmp_path / "wreck")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert any("no finite numbers: the model has broken down" in line for line in page(folder))


def test_short_learnt_positions_refuse_long_passages_alone(tmp_path: Path) -> None:
    words = subword_tokenizer(TEXTS)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=512, n_embd=16, n_layer=1, n_head=2))
    saved(model.eval(), words, tmp_path / "short")
    verdicts = {line.split()[1]: line for line in page(tmp_path / "short") if line.startswith("task ")}
    assert verdicts["tofu:"].endswith("take it") and "longer than the model's 512 positions" in verdicts["muse-books:"]


def test_a_folder_that_can_not_be_used_is_refused_after_what_was_found(tmp_path: Path) -> None:
    folder = made(tmp_path / "cut")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    lines: list[str] = []
    with pytest.raises(UserError, match=r"'.*cut' lacks 1 tensor.*'model\.norm\.weight'"):
        for line in examine_model(resolve_model(str(folder), tmp_path)):
            lines.append(line)
    assert said(lines, "weights") and not said(lines, "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(UserError, match="encoder-decoder"):
        page(folder)
