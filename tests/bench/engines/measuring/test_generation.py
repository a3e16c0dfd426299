"""The generation loop against a naive one, over architectures with rotary, learnt, linear-bias and grouped attention."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from bench.core.contracts import Opened
from bench.core.errors import UserError
from bench.engines.measuring import generation
from bench.engines.measuring.generation import (
    CACHE_BYTES,
    DROP,
    LOOK,
    PROMPT_TOKENS,
    ROWS,
    SHARED,
    GenerationCost,
    GenerationSettings,
    Sampling,
    append,
    batch_prompts,
    cut_at_stops,
    ends_of,
    generate,
    rows_of,
    takes_batches,
)

WIDE = {"initializer_range": 0.4, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 50}
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


class Numbers:
    """A tokenizer whose words are the ids."""

    eos_token_id, chat_template = 2, None

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def model(name: str) -> Any:
    torch.manual_seed(0)
    made: dict[str, Any] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, **WIDE)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_positions=128, n_embd=32, n_layer=2, n_head=4, **WIDE)),
        "bloom": lambda: BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, **WIDE)),
        "mistral": lambda: MistralForCausalLM(
            MistralConfig(num_key_value_heads=2, sliding_window=8, **LLAMA, **WIDE)  # less than the prompts' length
        ),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **LLAMA, **WIDE)),
    }
    return made[name]().eval()


def prompts() -> list[tuple[int, ...]]:
    """Nine with one beginning, nine without, a single token, and one twice."""
    rng = random.Random(0)
    head = tuple(rng.randrange(3, 50) for _ in range(SHARED + 2))
    alike = [head + tuple(rng.randrange(3, 50) for _ in range(rng.randint(1, 8))) for _ in range(9)]
    return [*alike, *(tuple(rng.randrange(3, 50) for _ in range(rng.randint(2, 12))) for _ in range(9)), (5,), alike[0]]


def naive(of: Any, prompt: tuple[int, ...], most: int, ends: frozenset[int] = frozenset({2}), least: int = 0) -> str:
    ids = list(prompt)
    for step in range(most):
        with torch.no_grad():
            logits = of(torch.tensor([ids])).logits[0, -1]
        if step < least:
            logits[list(ends)] = -torch.inf
        if int(logits.argmax()) in ends:
            break
        ids.append(int(logits.argmax()))
    return " ".join(map(str, ids[len(prompt) :]))


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "qwen2", "mistral"])
def test_texts_are_those_of_a_naive_loop(name: str) -> None:
    of, cost, ends = model(name), GenerationCost(), frozenset(range(2, 50, 12))
    of.generation_config.eos_token_id = sorted(ends)  # several, so that rows end at different steps
    found = generate(Opened(of, Numbers()), prompts(), GenerationSettings(25), cost=cost)
    expected = [naive(of, prompt, 25, ends) for prompt in prompts()]
    assert [text for (text,) in found] == expected
    lengths = {len(text.split()) for text in expected}
    assert len(lengths) > 2, "some rows end early and are dropped"
    distinct = {prompt: len(text.split()) for prompt, text in zip(prompts(), expected, strict=True)}
    fewest = sum(min(length, 24) for length in distinct.values())
    assert fewest <= cost.steps <= fewest + 24 * len(distinct) // DROP, "finished rows are dropped, an eighth at a time"
    if name != "mistral":
        assert cost.prefill < sum(map(len, distinct)), "the shared beginning is computed once"


def longest(of: Any) -> tuple[tuple[int, ...], list[str]]:
    """The prompt with the longest text, and its words."""
    said = {prompt: naive(of, prompt, 25).split() for prompt in prompts()}
    return max(said.items(), key=lambda item: len(item[1]))


def test_every_end_of_the_models_own_config_ends_a_text() -> None:
    of = model("llama")
    asked, said = longest(of)
    of.generation_config.eos_token_id = [2, int(said[3])]
    (found,) = generate(Opened(of, Numbers()), [asked], GenerationSettings(25))
    assert found[0].split() == said[: said.index(said[3])]


def test_no_text_ends_before_its_least_length() -> None:
    of = model("llama")
    first = int(naive(of, (5, 6), 1))
    of.generation_config.eos_token_id = first
    assert generate(Opened(of, Numbers()), [(5, 6)], GenerationSettings(8))[0] == [""]
    (found,) = generate(Opened(of, Numbers()), [(5, 6)], GenerationSettings(8, min_new_tokens=2))
    assert found[0] == naive(of, (5, 6), 8, frozenset({first}), least=2) and len(found[0].split()) >= 2


def test_a_stop_ends_the_row_and_is_cut_off() -> None:
    of, cost = model("llama"), GenerationCost()
    asked, said = longest(of)
    stop = f" {said[4]} {said[5]}"
    (found,) = generate(Opened(of, Numbers()), [asked], GenerationSettings(25, stops=(stop,)), cost=cost)
    assert found[0] == cut_at_stops(" ".join(said), (stop,)) and len(found[0].split()) <= 4
    assert cost.steps == len(found[0].split()) + 1 < len(said), "the stop's last token is the last that is computed"


def test_batches_hold_what_begins_alike() -> None:
    batches = [
        [prompt for prompt, _ in batch] for batch in batch_prompts(list(dict.fromkeys(prompts())), 1, lambda _: ROWS[0])
    ]
    assert sorted(map(len, batches)) == [9, 10]
    assert {prompt[:SHARED] for prompt in max(batches, key=lambda b: min(map(len, b)))} == {prompts()[0][:SHARED]}


def spoilt(value: float, at: float = torch.nan) -> Any:
    """A model that never says 7, and has no number, or infinity, for a token behind any prompt with 7 in it."""
    of = model("llama")
    with torch.no_grad():
        of.model.embed_tokens.weight[7] = at

    def infinite(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        wrong = logits.isnan().any(-1, keepdim=True)
        logits = logits.nan_to_num()
        logits[..., 7] = -1e4
        logits[..., 9:10] = torch.where(wrong, value, logits[..., 9:10])
        return logits

    of.lm_head.register_forward_hook(infinite)
    return of


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [None, Sampling(3, 2)])
def test_a_row_without_numbers_is_named_and_spoils_no_other(value: float, sampling: Sampling | None) -> None:
    """The greatest of numbers that are none is one of them: no text is to be made of it, and the rows beside it are whole."""
    asking, cost = GenerationSettings(6, sampling=sampling), GenerationCost()
    sound = [(5, 6), (8, 9, 10), (11,), (12, 13, 14, 15)]
    found = generate(Opened(spoilt(value), Numbers()), [*sound, (5, 7), (7, 8, 9, 10)], asking, cost=cost)
    assert cost.broken == {(5, 7), (7, 8, 9, 10)}
    assert found[: len(sound)] == generate(Opened(spoilt(0, at=0), Numbers()), sound, asking)
    assert all(text == "" for texts in found[len(sound) :] for text in texts)


def test_a_text_that_breaks_down_on_its_way_is_named_too() -> None:
    of, cost = model("llama"), GenerationCost()
    asked, said = longest(of)
    with torch.no_grad():
        of.model.embed_tokens.weight[int(said[2])] = torch.nan
        assert int(said[2]) not in asked and said[2] not in said[:2]
    (found,) = generate(Opened(of, Numbers()), [asked], GenerationSettings(25), cost=cost)
    assert cost.broken == {asked} and found[0].split() == said[:3]


def test_an_end_that_is_no_token_ends_nothing() -> None:
    """Ids beyond the vocabulary, texts and truth values stand in generation configs of strangers."""
    of = model("llama")
    asked, said = longest(of)
    of.generation_config.eos_token_id = [2, 99999]
    for least in (0, 3):
        (found,) = generate(Opened(of, Numbers()), [asked], GenerationSettings(25, min_new_tokens=least))
        assert found[0] == naive(of, asked, 25, least=least)
    of.generation_config.eos_token_id = "</s>"
    assert ends_of(Opened(of, Numbers())) == {2}


def test_learnt_positions_end_with_a_sentence() -> None:
    of = model("gpt2")
    of.config.n_positions = of.config.max_position_embeddings = 128
    assert generate(Opened(of, Numbers()), [(5,) * 100], GenerationSettings(20))[0][0]
    with pytest.raises(UserError, match="longer than the model's 128 positions"):
        generate(Opened(of, Numbers()), [(5,) * 100], GenerationSettings(60, min_new_tokens=60))


@pytest.mark.parametrize("fault", ["raises", "sees its padding"])
def test_a_model_that_batches_change_is_written_one_by_one(fault: str) -> None:
    of, plain = model("llama"), model("llama")
    before = of.forward

    def forward(*args: Any, **given: Any) -> Any:
        if given.get("past_key_values") is not None:
            if fault == "raises":
                raise ValueError("a cache of its own")
            given["attention_mask"] = torch.ones_like(given["attention_mask"])
        return before(*args, **given)

    of.forward = forward
    asked = prompts()
    found = generate(Opened(of, Numbers()), asked, GenerationSettings(6))
    assert [text for (text,) in found] == [naive(plain, prompt, 6) for prompt in asked]
    assert not takes_batches(of, "cpu") and takes_batches(plain, "cpu")


def test_a_token_more_is_written_into_the_room_behind_the_others() -> None:
    """Until there is none left, and not into the room of rows that were chosen out of it."""
    held = torch.arange(12.0).reshape(2, 1, 3, 2)
    new = [torch.full((2, 1, 1, 2), -float(k)) for k in range(1, 8)]
    expected, once, moved = held, append(held, new[0], most=8), set[int]()
    for k, each in enumerate(new):
        expected = torch.cat([expected, each], dim=-2)
        once = append(held if k == 0 else once, each, most=8)
        moved.add(once.data_ptr())
        assert torch.equal(once, expected)
        assert k != 2 or (len(moved) == 1 and once._base is not None and once._base.shape[-2] == 8), "it has room"
        if k == 2:
            first = append(once[:1], new[0][:1], most=8)
            assert torch.equal(first, torch.cat([once[:1], new[0][:1]], dim=-2))
            assert torch.equal(append(once, each, most=8)[:, :, :-1], expected), "a row's choice writes into no other's"
            assert torch.equal(first[0, 0, -1], new[0][0, 0, 0])
    assert len(moved) > 1, "copied when its room was used up"


def test_a_batch_has_as_many_rows_as_fit_into_a_fixed_memory() -> None:
    of = model("qwen2")  # two layers, two of four heads, eight numbers each, keys and values, four bytes
    assert rows_of(of, 20, 10) == ROWS[1]
    assert rows_of(of, 7, CACHE_BYTES // (2 * 2 * 8 * 2 * 4) // 100 - 7) == 100
    assert rows_of(of, 20, 10**6) == ROWS[0]


@pytest.mark.parametrize("look", [3, 16, 100])
def test_texts_are_the_same_however_seldom_they_are_looked_at(monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    """Ends, stops, least lengths, draws, and rows without numbers: what is written behind an end is dropped."""
    of = model("llama")
    asked, said = longest(of)
    of.generation_config.eos_token_id = list(range(2, 50, 12))
    ways = (
        GenerationSettings(25),
        GenerationSettings(25, min_new_tokens=5, stops=(f" {said[4]}", "11 ", "30 30")),
        GenerationSettings(25, sampling=Sampling(3, 2), stops=("4",)),
    )
    wreck = model("llama")
    with torch.no_grad():
        wreck.model.embed_tokens.weight[int(said[2])] = torch.nan

    def everything() -> list[Any]:
        found: list[Any] = []
        for each in (of, wreck):
            for asking in ways:
                cost = GenerationCost()
                texts = generate(Opened(each, Numbers()), prompts(), asking, cost=cost)
                whole = [said for prompt, said in zip(prompts(), texts, strict=True) if prompt not in cost.broken]
                found.append((whole, cost.broken))
        return found

    expected = everything()
    monkeypatch.setattr(generation, "steps_between_looks", lambda *_: look)
    assert everything() == expected
    assert any(broken for _, broken in expected) and len({len(t[0]) for t, _ in expected for t in t}) > 5


def test_a_rows_draws_are_those_of_one_token_after_another() -> None:
    """However many a text may take: the next token's number doesn't depend on how many are drawn at once."""
    drawn = generation.draw(Sampling(3), ((5, 6), 1), 40)
    assert torch.equal(generation.draw(Sampling(3), ((5, 6), 1), 7), drawn[:7])
    others = [generation.draw(*each, 7) for each in ((Sampling(3), ((5, 6), 0)), (Sampling(4), ((5, 6), 1)))]
    assert not any(torch.equal(other, drawn[:7]) for other in others)


def test_a_gpu_is_looked_at_seldom_unless_a_text_could_leave_its_positions() -> None:
    """An index beyond a table of positions would end the whole process there, and not in a sentence."""
    of = model("gpt2")
    assert generation.steps_between_looks(of, 20) == 1
    for name, longest, expected in (("gpt2", 128, LOOK), ("gpt2", 129, 1), ("llama", 10**6, LOOK)):
        assert generation.steps_between_looks(model(name).to("meta"), longest) == expected


def test_a_gpus_batches_are_bounded_by_bytes_and_tokens_and_by_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times a CPU's: keys and values of 4 GiB, prompts of 65536 positions; 256 bytes a token in two layers of qwen2."""
    of = model("qwen2").to("meta")
    monkeypatch.setattr(generation, "factor_of", lambda _: 8)
    assert rows_of(of, 20, 64) == 8 * PROMPT_TOKENS // 64 == 1024
    assert rows_of(of, 10**6, 64) == 8 * CACHE_BYTES // (256 * (10**6 + 64)) == 16
    assert rows_of(of, 1, 10**9) == 1
    lengths = [[len(p) for p, _ in b] for b in batch_prompts([(3,) * n for n in (4, 1, 6, 2, 5)], 1, lambda n: 12 // n)]
    assert lengths == [[1, 2, 4], [5, 6]], "sorted by length, and each batch bounded by its own longest"


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_the_samples_of_a_prompt_share_its_computed_beginning(name: str) -> None:
    """The prompt costs as much for 20 samples as for one, and each text is the one that it is when it is written alone."""
    of, asking, alone = model(name), GenerationSettings(9, sampling=Sampling(3, 20)), GenerationCost()
    asked = [(5, 6, 7, 8), (9, 4)]
    for prompt in asked:
        one, cost = GenerationCost(), GenerationCost()
        generate(Opened(of, Numbers()), [prompt], GenerationSettings(9, sampling=Sampling(3)), cost=one)
        generate(Opened(of, Numbers()), [prompt], asking, cost=cost)
        assert cost.prefill == one.prefill == len(prompt)
    together = generate(Opened(of, Numbers()), asked, asking, cost=alone)
    assert alone.prefill == len(asked) * max(map(len, asked)), "both padded to the longer one, and no sample by itself"
    keys = [(prompt, k) for prompt in asked for k in range(20)]
    texts = [generation.write_alone(Opened(of, Numbers()), key, asking, "cpu", GenerationCost()).tokens for key in keys]
    assert [text for each in together for text in each] == [" ".join(map(str, tokens)) for tokens in texts]
    assert all(len(set(each)) > 10 for each in together), "the samples differ"
