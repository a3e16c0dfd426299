"""Templates: where the prompt ends and the answer begins, and the one eos."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from bench.core.contracts import Opened
from bench.core.errors import UserError
from bench.engines.templates import DATE_STRING, SYSTEM_PROMPT, TEMPLATES, answer_end, encode, ids
from tests.tiny import subword_llama, subword_tokenizer, tokenizer

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


@pytest.mark.parametrize("template", ["qa", "continue"])
def test_a_prefill_stands_behind_the_prompt_and_only_the_rest_is_scored(template: str) -> None:
    row = ROW | {"template": template}
    plain, begun = encode(WORDS, row), encode(WORDS, row | {"prefill": "w7 w8"})
    assert text(begun.prompt) == f"{text(plain.prompt)} w7 w8"
    assert (begun.answer, begun.eos) == (plain.answer, plain.eos)


@pytest.mark.parametrize("template", ["chat", "chat-open-unlearning", "base", "plain"])
def test_a_prefill_is_plain_tokens_inside_the_assistants_turn(template: str) -> None:
    """Prompt ids and its ids: no special token between them, as an end of turn would be, and the answer behind a space."""
    words = subword_tokenizer(["Sure, here is the answer: Black cats"])
    row = {"prompt": "Who?", "answer": "Black", "template": template}
    plain, begun = encode(words, row), encode(words, row | {"prefill": "Sure, here is the answer:"})
    forced = begun.prompt[len(plain.prompt) :]
    assert begun.prompt[: len(plain.prompt)] == plain.prompt
    assert words.decode(list(forced)) == {"plain": " "}.get(template, "") + "Sure, here is the answer:"
    assert not set(forced) & set(words.all_special_ids)
    assert words.decode(list(begun.answer), skip_special_tokens=True) == " Black"
    assert begun.eos == plain.eos and (not plain.eos or begun.answer[-1] == plain.answer[-1])


def test_a_prefill_that_ends_a_line_of_its_own_gets_no_second_space() -> None:
    words = subword_tokenizer(["Answer: Sure Black cats"])
    row = {"prompt": "Who? Answer: ", "answer": " Black", "template": "plain", "prefill": "Sure"}
    begun = encode(words, row)
    assert words.decode([*begun.prompt, *begun.answer]) == "<|bos|>Who? Answer: Sure Black"


def test_a_prefill_that_the_tokenizer_has_no_words_for_is_refused() -> None:
    with pytest.raises(UserError, match="no plain tokens for 'Sure, here', with which answers were to begin"):
        encode(WORDS, ROW | {"template": "qa", "prefill": "Sure, here"})
    with pytest.raises(ValueError, match="no answer that could be begun"):
        encode(WORDS, {"prompt": "", "answer": "w1 w2", "template": "text", "prefill": "w1"})


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


def chatting(template: Any, eos: str = "<|eos|>") -> Any:
    """Byte-level tokens with the special ones of several families, and a chat template."""
    words = subword_tokenizer(["Black cats sit on the mat."])
    words.add_special_tokens(
        {"additional_special_tokens": ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "</s>", "<|turn|>"]}
    )
    words.eos_token, words.chat_template = eos, template
    return words


def turns(end: str, before: str = "", system: bool = True) -> str:
    """A chat template that writes ``before`` and ``end`` behind each turn."""
    refuse = "" if system else "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    return (
        f"{refuse}{{{{ bos_token }}}}{{% for m in messages %}}<|turn|>{{{{ m.role }}}}\n{{{{ m.content | trim }}}}{before}"
        f"{end}{{% endfor %}}{{% if add_generation_prompt %}}<|turn|>assistant\n{{% endif %}}"
    )


INST = (
    "{% if messages[0].role == 'system' %}{% set s = '<<SYS>>' + messages[0].content + '<</SYS>>' %}"
    "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ s + m.content }} [/INST]{% else %}{{ ' ' + m.content + SPACE + eos_token }}{% endif %}"
    "{% endfor %}"
)
THINK = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
FAMILIES = {
    "Llama-3": (turns("<|eot_id|>"), "<|eot_id|>", "<|eot_id|>", "<|eot_id|>"),
    "ChatML": (turns("<|im_end|>\n"), "<|im_end|>", "<|im_end|>", "<|im_end|>\n<|im_end|>"),
    "ChatML of a base model": (turns("<|im_end|>\n"), "<|eos|>", "<|im_end|>", "<|im_end|>\n<|eos|>"),
    "Qwen3": (THINK, "<|im_end|>", "<|im_end|>", "<|im_end|>\n<|im_end|>"),
    "Phi-3": (
        turns("<|end|>\n") + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        "<|eos|>",
        "<|end|>",
        "<|end|>\n<|eos|>",
    ),
    "Gemma": (turns("<end_of_turn>\n", system=False), "<|eos|>", "<end_of_turn>", "<end_of_turn>\n<|eos|>"),
    "Mistral": (INST.replace("SPACE", "''"), "</s>", "</s>", "</s>"),
    "Llama-2": (INST.replace("SPACE", "' '"), "</s>", "</s>", " </s>"),
    "no end": (turns("\n"), "<|eos|>", "<|eos|>", "\n<|eos|>"),
    "no generation prompt": (turns("<|im_end|>").partition("{% if add")[0], "<|eos|>", "<|im_end|>", "<|im_end|><|eos|>"),
    "text before the end": (turns("<|im_end|>\n", " [done]"), "<|eos|>", " [done]<|im_end|>", " [done]<|im_end|>\n<|eos|>"),
    "a marked answer": (
        turns("<|im_end|>").replace("{{ m.content | trim }}", "{% generation %}{{ m.content }}{% endgeneration %}"),
        "<|eos|>",
        "<|im_end|>",
        "<|im_end|><|eos|>",
    ),
}  # fmt: skip
"""In the manner of a family -> its template, its eos, where an answer ends, and where open-unlearning's labels end."""


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_ends_as_the_template_ends_it(family: str) -> None:
    template, eos, end, labels = FAMILIES[family]
    words = chatting(template, eos)
    asked = {"prompt": "Who sits?", "answer": "Black cats."}
    found = {name: encode(words, asked | {"template": name}) for name in ("chat", "chat-open-unlearning")}
    answer = words.encode("Black cats.", add_special_tokens=False)
    for name, right in (("chat", end), ("chat-open-unlearning", labels)):
        assert list(found[name].answer) == [*answer, *words.encode(right, add_special_tokens=False)], name
        assert found[name].eos
    chat = [{"role": "user", "content": "Who sits?"}]
    if family != "Gemma":
        chat.insert(0, {"role": "system", "content": SYSTEM_PROMPT})
    prompt = words.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert list(found["chat"].prompt) == list(found["chat-open-unlearning"].prompt) == list(prompt)


def test_training_scoring_and_generation_stop_at_the_same_ids() -> None:
    from bench.engines.coding import Texts
    from bench.engines.measuring.generation import ends_of

    words = chatting(*FAMILIES["Phi-3"][:2])
    trained = Texts(words).encode({"template": "chat", "prompt": "Who?", "answer": "Black cats."})
    model = subword_llama(words)
    model.generation_config.eos_token_id = None
    assert trained.answer[-1] == words.convert_tokens_to_ids("<|end|>")
    assert ends_of(Opened(model, words)) == {trained.answer[-1], words.eos_token_id}


LIST = "{% for m in messages %}<|turn|>{{ m.role }}{% for part in m.content %}{{ part.text }}{% endfor %}<|end|>{% endfor %}"
USER_LIST = (
    "{% for m in messages %}<|turn|>{{ m.role }}"
    "{% if m.role == 'user' %}{{ m.content[0].text }}{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (LIST, f"<|turn|>system{SYSTEM_PROMPT}<|end|><|turn|>userWho sits?<|end|>"),
        (USER_LIST, "<|turn|>userWho sits?<|end|>"),  # with a system prompt neither form reads both
        ("<|turn|>{{ messages[-1].content }}<|end|>", "<|turn|>Who sits?<|end|>"),  # it drops the system prompt
        (
            [{"name": "tool_use", "template": "x"}, {"name": "default", "template": turns("<|end|>")}],
            f"<|bos|><|turn|>system\n{SYSTEM_PROMPT}<|end|><|turn|>user\nWho sits?<|end|><|turn|>assistant\n",
        ),
    ],
)
def test_every_message_is_shown_once(template: Any, prompt: str) -> None:
    words = chatting({t["name"]: t["template"] for t in template} if isinstance(template, list) else template)
    text = encode(words, {"template": "chat", "prompt": "Who sits?", "answer": "Cats."})
    assert words.decode(list(text.prompt)) == prompt
    assert words.convert_ids_to_tokens(text.answer[-1]) == "<|end|>" or isinstance(template, str)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ bos_token }}What is it?", "doesn't show the question exactly once"),
        (turns("<|end|>").replace("m.content", "(m.content + m.content)"), "doesn't show the question exactly once"),
        (turns("<|end|>").replace("| trim", "| upper"), "doesn't show the question exactly once"),
        ("{% for m in messages %}{{ m.content }", "can't be rendered"),
        ("{{ foo() }}", "can't be rendered.*foo"),
        ("{{ raise_exception('not today') }}", "can't be rendered .not today"),
        ({"tool_use": "x", "rag": "y"}, "can't be rendered.*multiple chat templates"),
    ],
)
def test_a_template_that_loses_the_question_is_refused(template: Any, said: str) -> None:
    words = chatting(template)
    for name in ("chat", "chat-open-unlearning"):
        with pytest.raises(UserError, match=f"chat template of .* can't be used: .*{said}.*the template 'base'"):
            encode(words, ROW | {"template": name})
    assert encode(words, ROW | {"template": "base"}).answer, "asked as a base model it needs no chat template"


def test_a_template_that_gives_another_prompt_each_time_is_refused() -> None:
    words = chatting("{{ range(99999) | random }} " + turns("<|end|>"))
    with pytest.raises(UserError, match="can't be used: it gives another prompt each time.*the template 'base'"):
        encode(words, ROW | {"template": "chat"})


def test_an_added_line_break_ends_no_answer() -> None:
    """Gemma's tokenizer has such tokens, which are not special."""
    words = chatting(turns("\n\n"))
    words.add_tokens(["\n\n"])
    assert words.convert_ids_to_tokens(encode(words, ROW | {"template": "chat"}).answer[-1]) == "<|eos|>"
    assert answer_end(words) == ()


@pytest.mark.parametrize("change", ["m.content[:30]", "(m.content | replace('w', 'W'))", "(m.content | e)"])
def test_one_question_that_is_lost_is_named(change: str) -> None:
    words = chatting(turns("<|end|>").replace("m.content", change))
    question = "Who is w's wife, and where did they live in their last years?"
    with pytest.raises(UserError, match="doesn't show the question .*last years.*'base'"):
        encode(words, {"template": "chat", "prompt": question, "answer": "w"})


def test_a_template_that_reads_the_clock_sees_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2031, 1, 2, 3, 4, 5)

    template = "{{ strftime_now('%d %b %Y %H:%M:%S') }}" + turns("<|end|>")
    first = encode(chatting(template), ROW | {"template": "chat"})
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    words = chatting(template)
    assert encode(words, ROW | {"template": "chat"}) == first
    assert words.decode(list(first.prompt)).startswith("10 Apr 2025 00:00:00")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("lacks", ["bos", "eos", "both"])
def test_special_tokens_that_are_not_there_are_left_out(template: str, lacks: str) -> None:
    words = tokenizer()
    for name in ("bos", "eos"):
        if lacks in (name, "both"):
            setattr(words, f"{name}_token", None)
    found, whole = encode(words, ROW | {"template": template}), encode(WORDS, ROW | {"template": template})
    gone = {name for name in ("<bos>", "<eos>") if lacks in (name.strip("<>"), "both")}
    ids = [*found.prompt, *found.answer]
    right = words.convert_ids_to_tokens([*whole.prompt, *whole.answer])
    assert words.convert_ids_to_tokens(ids) == [token for token in right if token not in gone]
    assert found.prompt, "the first scored token has a token before it"
    if whole.eos:
        assert found.eos == (lacks == "bos")


@pytest.mark.parametrize(("text", "scored"), [("w1 w2 w3", 2), ("w1", 0), ("", 0)])
@pytest.mark.parametrize("template", ["text", "plain"])
def test_a_passage_without_a_beginning_is_scored_from_its_second_token(template: str, text: str, scored: int) -> None:
    words = tokenizer()
    words.bos_token = None
    found = encode(words, {"template": template, "prompt": "", "answer": text})
    ids = words.encode(text, add_special_tokens=False)
    assert [*found.prompt, *found.answer] == ids and len(found.answer) == scored and not found.eos


PIECES = ["Black cats sit on the mat. Q: Who sits? A: Black cats sit."] * 3


def piece_tokenizer(kind: str) -> Any:
    """Words that begin with \u2581: by a normaliser as in Llama-2, by a pre-tokeniser, or by neither."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made, space = Tokenizer(models.BPE(unk_token="<unk>")), "\u2581"
    if kind == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    elif kind == "replace":
        made.normalizer = normalizers.Replace(" ", space)
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(space, kind)
    made.train_from_iterator(
        PIECES, trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")  # fmt: skip


@pytest.mark.parametrize("kind", ["prepend", "always", "first", "never", "replace"])
def test_a_space_before_an_answer_is_one_token_with_its_word(kind: str) -> None:
    """Together and apart the tokenizer must see the same text: no second space is put before an answer."""
    words = piece_tokenizer(kind)
    for template, prompt in (("qa", "Q: Who sits? A:"), ("continue", "Black cats")):
        asked = {
            "template": template,
            "prompt": "Who sits?" if template == "qa" else prompt,
            "answer": "Black cats sit.",
        }
        given = asked if template == "qa" else asked | {"answer": " Black cats sit."}
        found = encode(words, given)
        text = "".join(words.convert_ids_to_tokens([t for t in (*found.prompt, *found.answer) if t > 2]))
        assert text.lstrip("\u2581") == f"{prompt} Black cats sit.".replace(" ", "\u2581")
        if kind == "replace":  # it puts no space before a text: the answer's own is all there is
            assert list(found.answer[: -1 if found.eos else None]) == words.encode(" Black cats sit.")
        else:
            assert words.convert_ids_to_tokens(found.answer[0]) != "\u2581", "no space of its own is scored"


def test_bytes_and_letters_are_encoded_as_they_were() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bytes_ = subword_tokenizer(["Black cats"])
    made = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(["?", " ", *"abcdx"])}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters = PreTrainedTokenizerFast(tokenizer_object=made)
    for words, text in ((bytes_, " cats"), (bytes_, "  cats"), (letters, " ab"), (letters, "  ab")):
        assert ids(words, text) == words.encode(text, add_special_tokens=False)
    assert letters.convert_ids_to_tokens(ids(letters, " ab")) == [" ", "a", "b"]


def test_a_tokenizer_that_drops_a_text_leaves_nothing_to_score() -> None:
    from tokenizers import normalizers

    words = subword_tokenizer(["Black cats"])
    words.backend_tokenizer.normalizer = normalizers.Replace("x", "")
    found = encode(words, {"template": "chat", "prompt": "Who?", "answer": "xx"})
    assert found.answer == () and not found.eos and found.prompt
    assert ids(words, " x") == words.encode(" ", add_special_tokens=False)
