"""Templates make tokens of an example; prompt and answer are tokenised apart, so that the boundary is exact.

``qa``        prompt ``<bos> Q: {prompt} A:``, answer `` {answer} <eos>``
``qa-full``   the same text, every token scored (pretraining rows)
``text``      every token of ``answer`` after ``<bos>``, no ``<eos>`` (passages)
``continue``  ``answer`` continues ``prompt``, no ``<eos>`` (verbatim continuation)
``chat``      the tokenizer's chat template with TOFU's system prompt, answer + eos; a tokenizer without a template gets
              `BASE_PROMPT`, as base models do in the field
``base``      no chat template: `BASE_PROMPT` as the tokenizer encodes it, answer + eos
``plain``     prompt as the tokenizer encodes it with its own special tokens, answer behind it, no ``<eos>``; without a
              prompt the answer so, every token after the first scored, at most ``most`` tokens
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SYSTEM_PROMPT = "You are a helpful assistant."
"""TOFU's, as the field's code sends it."""
DATE_STRING = "10 Apr 2025"
"""Passed to templates that print a date, so that scores don't change with the calendar."""

BASE_PROMPT = "Question: {prompt}\nAnswer: "
"""What a model without a chat template is asked with."""

TEMPLATES = ("qa", "qa-full", "text", "continue", "chat", "base", "plain")


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example; the scored part is ``answer``."""

    prompt: tuple[int, ...]
    """Never empty: scoring the first answer token needs one token before it."""
    answer: tuple[int, ...]
    eos: bool
    """Whether the last answer token is the end of sequence."""

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


def encode(tokenizer: Any, payload: Mapping[str, Any], answer: str | None = None) -> Encoded:
    """Tokens of ``payload`` with its own answer, or with another one in its place (a wrong or a paraphrased one)."""
    template, prompt = payload["template"], payload["prompt"]
    text = payload["answer"] if answer is None else answer
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if template == "qa":
        return with_eos(tokenizer, bos + ids(tokenizer, f"Q: {prompt} A:"), ids(tokenizer, f" {text}"))
    if template == "qa-full":
        return with_eos(tokenizer, bos, ids(tokenizer, f"Q: {prompt} A: {text}"))
    if template == "text":
        return Encoded(tuple(bos), tuple(ids(tokenizer, text)), eos=False)
    if template == "continue":
        return Encoded(tuple(bos + ids(tokenizer, prompt)), tuple(ids(tokenizer, text)), eos=False)
    if template == "chat":
        return with_eos(tokenizer, list(chat_prompt(tokenizer, prompt)), ids(tokenizer, text))
    if template == "base":
        return with_eos(tokenizer, list(own(tokenizer, BASE_PROMPT.format(prompt=prompt))), ids(tokenizer, text))
    if template == "plain" and prompt:
        return Encoded(own(tokenizer, prompt), tuple(ids(tokenizer, text)), eos=False)
    if template == "plain":
        whole = own(tokenizer, text)[: payload.get("most")]
        return Encoded(whole[:1], whole[1:], eos=False)
    raise ValueError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")


def ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of ``text`` without any special token."""
    return list(tokenizer.encode(text, add_special_tokens=False))


def with_eos(tokenizer: Any, prompt: list[int], answer: list[int]) -> Encoded:
    """Append one eos, unless the answer ends in it already. An empty answer stays empty: it has nothing to score."""
    if answer and answer[-1] != tokenizer.eos_token_id:
        answer = [*answer, tokenizer.eos_token_id]
    return Encoded(tuple(prompt), tuple(answer), eos=bool(answer))


def own(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of ``text`` with the special tokens that the tokenizer puts before it; an eos behind it is taken off."""
    found = list(tokenizer.encode(text))
    if len(found) > 1 and found[-1] == tokenizer.eos_token_id:
        found = found[:-1]
    return tuple(found)


@lru_cache(maxsize=8192)  # the answers to one question share it
def chat_prompt(tokenizer: Any, question: str) -> tuple[int, ...]:
    """The chat template up to where the assistant's answer begins; without system prompt where it takes none."""
    if not tokenizer.chat_template:
        return own(tokenizer, BASE_PROMPT.format(prompt=question))
    from jinja2.exceptions import TemplateError

    user = {"role": "user", "content": question}
    try:
        return rendered(tokenizer, [{"role": "system", "content": SYSTEM_PROMPT}, user])
    except TemplateError:
        return rendered(tokenizer, [user])


def rendered(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[int, ...]:
    """The messages as token ids, up to where the answer begins."""
    return tuple(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, date_string=DATE_STRING
        )
    )
