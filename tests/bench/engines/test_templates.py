"""Templates: where the prompt ends and the answer begins, and the one eos."""

from __future__ import annotations

import pytest

from bench.engines.templates import DATE_STRING, SYSTEM_PROMPT, TEMPLATES, encode
from tests.tiny import subword_tokenizer, tokenizer

WORDS = tokenizer()
ROW = {"prompt": "w1 w2 ?", "answer": "w3 w4"}


def text(ids: tuple[int, ...]) -> str:
    return " ".join(WORDS.convert_ids_to_tokens(list(ids)))


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        ("qa", "<bos> Q: w1 w2 ? A:", "w3 w4 <eos>"),
        ("qa-full", "<bos>", "Q: w1 w2 ? A: w3 w4 <eos>"),
        ("text", "<bos>", "w3 w4"),
        ("continue", "<bos> w1 w2 ?", "w3 w4"),
    ],
)
def test_what_is_prompt_and_what_is_answer(template: str, prompt: str, answer: str) -> None:
    encoded = encode(WORDS, ROW | {"template": template})
    assert (text(encoded.prompt), text(encoded.answer)) == (prompt, answer)
    assert encoded.eos == answer.endswith("<eos>")
    assert encoded.length == len(f"{prompt} {answer}".split())


def test_training_and_asking_see_the_same_text() -> None:
    whole, asked = (encode(WORDS, ROW | {"template": template}) for template in ("qa-full", "qa"))
    assert (*whole.prompt, *whole.answer) == (*asked.prompt, *asked.answer)


def test_another_answer_takes_the_place_of_its_own() -> None:
    asked = ROW | {"template": "qa"}
    assert encode(WORDS, asked, "w9") == encode(WORDS, asked | {"answer": "w9"})
    assert encode(WORDS, asked, "w9").prompt == encode(WORDS, asked).prompt


def test_an_answer_that_ends_in_eos_gets_no_second_one() -> None:
    encoded = encode(WORDS, ROW | {"template": "qa", "answer": "w3 <eos>"})
    assert text(encoded.answer) == "w3 <eos>" and encoded.eos


def test_an_empty_answer_stays_empty() -> None:
    encoded = encode(WORDS, ROW | {"template": "qa", "answer": ""})
    assert encoded.answer == () and not encoded.eos and encoded.prompt


def test_chat_is_the_tokenizers_own_template_up_to_the_answer() -> None:
    """A template that prints the date, as Llama 3's does: it must be the stated one, not today's."""
    words = tokenizer()
    words.add_tokens(["[S]", "[U]", "[A]", *SYSTEM_PROMPT.split(), *DATE_STRING.split()])
    words.chat_template = (
        "{{ bos_token }}{% if not date_string %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %} "
        "{{ date_string }} {% for m in messages %}[{{ m.role[0] | upper }}] {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}[A]{% endif %}"
    )
    encoded = encode(words, ROW | {"template": "chat"})
    prompt = " ".join(words.convert_ids_to_tokens(list(encoded.prompt)))
    assert prompt == f"<bos> {DATE_STRING} [S] {SYSTEM_PROMPT} [U] w1 w2 ? [A]"
    assert words.convert_ids_to_tokens(list(encoded.answer)) == ["w3", "w4", "<eos>"]
    assert encoded.eos


def test_a_tokenizer_without_bos_adds_none() -> None:
    words = tokenizer()
    words.bos_token = None
    assert text(encode(words, ROW | {"template": "qa"}).prompt) == "Q: w1 w2 ? A:"


def test_an_unknown_template_is_named() -> None:
    with pytest.raises(ValueError, match="no template 'poem'.*" + TEMPLATES[0]):
        encode(WORDS, ROW | {"template": "poem"})


def test_a_tokenizer_without_a_template_asks_as_base_models_are_asked() -> None:
    words = subword_tokenizer(["Question: Who is it? Answer: Black cats"])
    words.chat_template = None
    text = encode(words, {"prompt": "Who?", "answer": "Black", "template": "chat"})
    assert words.decode(list(text.prompt)) == "<|bos|>Question: Who?\nAnswer: "
    assert list(text.answer) == [*words.encode("Black", add_special_tokens=False), words.eos_token_id]


def test_the_first_answer_token_keeps_its_label_behind_a_space() -> None:
    """Together the tokenizer merges the space with the answer's first word, and a count on the prompt would lose it."""
    words = subword_tokenizer(["Answer: Black Black Black Black cats"] * 5)
    prompt, answer = "Answer: ", "Black"
    together = words.encode(prompt + answer)
    text = encode(words, {"prompt": prompt, "answer": answer, "template": "plain"})
    assert together[: len(text.prompt)] != list(text.prompt), "the case shows the fault: the joint text merges"
    assert list(text.prompt) == words.encode(prompt)
    assert words.decode(list(text.answer)) == answer
