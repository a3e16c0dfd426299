"""Every family of docs/families.md as a tiny random model, saved and opened: the values of a plain eager pass, text by text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.contracts import Opened
from bench.core.errors import UserError
from bench.engines.causal_lm import check_attention, load_weights, read_architecture
from bench.engines.measuring.generation import GenerationSettings, generate, takes_batches, takes_cache
from bench.engines.measuring.scoring import answer_logps, forward_rows, plan_batches, takes_trees
from bench.engines.positions import forget_longer_texts, plain_reach
from bench.engines.templates import Encoded
from tests.families import FAMILIES, random_model
from tests.paths import ROOT

NEW = 20
"""Tokens that are generated."""
REFUSED = "Falcon with ALiBi"


class Numbers:
    """A tokenizer whose words are the ids."""

    eos_token_id, chat_template = 2, None

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def opened(family: str, folder: Path) -> Any:
    """The family's model as the harness opens it."""
    random_model(family).save_pretrained(folder)
    model = load_weights(folder, read_architecture(folder), torch.float32).eval()
    forget_longer_texts(model)
    check_attention(model, family)
    return model


def words(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 50) for _ in range(count))


def texts() -> list[Encoded]:
    """Answers to questions that begin alike, on both sides of sixteen tokens."""
    rng, found = random.Random(0), []
    for beginning in (12, 5):
        head = words(rng, beginning)
        questions = [head + words(rng, rng.randint(1, 6)) for _ in range(2)]
        found += [Encoded(question, words(rng, rng.randint(1, 9)), False) for question in questions for _ in range(3)]
    return found


class Plain:
    """The family's model in eager attention; fresh for each pass where a pass would depend on those before it."""

    def __init__(self, family: str) -> None:
        self.family, self.model = family, random_model(family)

    @torch.no_grad()
    def __call__(self, ids: list[int]) -> torch.Tensor:
        """The logits of one text, (T, V)."""
        model = random_model(self.family) if "dynamic" in self.family else self.model
        logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
        return logits

    def answer(self, text: Encoded) -> torch.Tensor:
        """Log-probs of the answer's tokens."""
        logps = self([*text.prompt, *text.answer])[len(text.prompt) - 1 : -1].log_softmax(-1)
        return logps[torch.arange(len(text.answer)), torch.tensor(text.answer)]

    def write(self, prompt: tuple[int, ...]) -> str:
        """What it writes on greedily, every token from a pass over the whole text."""
        ids = list(prompt)
        while len(ids) < len(prompt) + NEW and (token := int(self(ids)[-1].argmax())) != 2:
            ids.append(token)
        return " ".join(map(str, ids[len(prompt) :]))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != REFUSED])
def test_a_family_is_measured_right(family: str, tmp_path: Path) -> None:
    model, plain = opened(family, tmp_path), Plain(family)
    trees = takes_trees(model, texts(), "cpu")
    found: dict[Encoded, torch.Tensor] = {}
    with torch.no_grad():
        for batch in plan_batches(model, texts(), trees):
            found |= answer_logps(forward_rows(model, batch, "cpu"))
    for text in texts():
        assert torch.allclose(found[text], plain.answer(text), atol=1e-5), text
    prompts = [*(text.prompt for text in texts()[::3]), words(random.Random(1), 20), (5,)]
    said = generate(Opened(model, Numbers()), prompts, GenerationSettings(NEW))
    assert [text for (text,) in said] == [plain.write(prompt) for prompt in prompts]
    assert row_of(family, model, trees) in (ROOT / "docs" / "families.md").read_text(), "the page's row is another"


def row_of(family: str, model: Any, trees: bool) -> str:
    """The family's row of docs/families.md."""
    batches = takes_cache(model) and takes_batches(model, "cpu")
    alone = "one by one beyond the first length" if batches else "one by one, without a cache"
    together = batches and plain_reach(model) == float("inf")
    return (
        f"| {family} | `{FAMILIES[family][0]}` | {model.config._attn_implementation} | "
        f"{'shared beginnings once' if trees else 'text by text'} | {'in batches' if together else alone} |"
    )


def test_a_family_that_the_library_computes_in_two_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"falcon.*sdpa and eager attention.*nats apart"):
        opened(REFUSED, tmp_path)
    assert f"| {REFUSED} | `falcon` | refused" in (ROOT / "docs" / "families.md").read_text()


def test_positions_beyond_the_first_length_are_refused_in_training() -> None:
    from bench.engines.training.trainer import check_reach

    model = random_model("Llama with dynamic RoPE")
    check_reach(model, [16, 3])
    with pytest.raises(UserError, match="17 tokens.*beyond 16"):
        check_reach(model, [3, 17])
