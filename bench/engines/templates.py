"""Templates make tokens of an example; prompt and answer are tokenised apart, so that the boundary is exact.

``qa``        prompt ``<bos> Q: {prompt} A:``, answer `` {answer} <eos>``
``qa-full``   the same text, every token scored (pretraining rows)
``text``      every token of ``answer`` after ``<bos>``, no ``<eos>`` (passages)
``continue``  ``answer`` continues ``prompt``, no ``<eos>`` (verbatim continuation)
``chat``      the tokenizer's chat template with TOFU's system prompt, and the answer up to the token that ends a turn
              there (eos where the template names none); a tokenizer without a template gets `BASE_PROMPT`, as base
              models do in the field
``chat-open-unlearning``  the same prompt, and behind the answer all that the template writes there, then eos unless it
              ends so: the labels of open-unlearning
``base``      no chat template: `BASE_PROMPT` as the tokenizer encodes it, answer + eos
``plain``     prompt as the tokenizer encodes it with its own special tokens, answer behind it, no ``<eos>``; without a
              prompt the answer so, every token after the first scored, at most ``most`` tokens

``prefill`` of a payload is text that the answer is made to begin with: it stands in the prompt, in the assistant's turn
where there is one, tokenised apart and without special tokens; only what comes behind it is scored or generated.

Without a bos there is nothing before the first token of a text, and it isn't scored. Without an eos an answer that
would end in one ends with its last token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from bench.core.errors import UserError, shorten_reason

SYSTEM_PROMPT = "You are a helpful assistant."
"""TOFU's, as the field's code sends it."""
CLOCK = datetime(2025, 4, 10)
"""The time that templates are shown, so that scores don't change with the calendar."""


class StoppedClock(datetime):
    """A clock that stands at `CLOCK`."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """`CLOCK`, whatever the time is."""
        return cls(CLOCK.year, CLOCK.month, CLOCK.day, tzinfo=tz)


DATE_STRING = f"{CLOCK:%d %b %Y}"
QUESTION, ANSWER = "Where does the Tiber end?", "In the Tyrrhenian Sea."
"""Tried in a chat template once, to see what it does with a question and where it ends an answer."""

PART_SHOWN = re.compile(r"""['"]type['"]: ?['"]text['"]""")
"""Of a list of parts that is printed and not read."""

BASE_PROMPT = "Question: {prompt}\nAnswer: "
"""What a model without a chat template is asked with."""

TEMPLATES = ("qa", "qa-full", "text", "continue", "chat", "chat-open-unlearning", "base", "plain")


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example; the scored part is ``answer``."""

    prompt: tuple[int, ...]
    """Never empty: scoring the first answer token needs one token before it."""
    answer: tuple[int, ...]
    eos: bool
    """Whether the last answer token is the end of sequence."""
    alternate: Encoded | None = None
    """The same prompt with another answer, of a row that has two."""

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class ChatTurn:
    """The way in which a tokenizer's chat template takes a question and ends an answer."""

    system: bool
    """Whether it shows a system prompt; some refuse one, some leave it out."""
    parts: bool
    """Whether it takes a message as a list of parts instead of a text."""
    end: tuple[int, ...]
    """Token ids that end the answer: up to the first token behind it that is special or was added and is no white space;
    none where no such token follows."""
    rest: tuple[int, ...]
    """Token ids of all that stands behind the answer."""


def encode(tokenizer: Any, payload: Mapping[str, Any], answer: str | None = None) -> Encoded:
    """Tokens of ``payload`` with its own answer, or with another one in its place (a wrong or a paraphrased one).

    Raises `UserError` for a chat template that can't be rendered or loses a message, and for a prefill that the
    tokenizer can't write.
    """
    text = payload["answer"] if answer is None else answer
    if "prefill" not in payload:
        return fill_template(tokenizer, payload, text)
    apart = not text or text[:1].isspace() or payload["template"] == "qa"  # which puts a space there itself
    row = fill_template(tokenizer, payload, text if apart else f" {text}")
    return replace(row, prompt=(*row.prompt, *prefill_ids(tokenizer, payload)))


def prefill_ids(tokenizer: Any, payload: Mapping[str, Any]) -> list[int]:
    """Token ids of a payload's prefill, behind a space where an answer would have one; `UserError` if one is special."""
    template, prompt, text = payload["template"], payload["prompt"], payload["prefill"]
    if template in ("qa-full", "text") or not prompt:
        raise ValueError(f"the template {template!r} without a prompt has no answer that could be begun")
    spaced = template in ("qa", "plain", "continue") and not prompt[-1:].isspace()
    found = ids(tokenizer, f" {text}" if spaced else text)
    if not found or set(found) & set(tokenizer.all_special_ids):
        raise UserError(
            f"The tokenizer of '{name_of(tokenizer)}' has no plain tokens for {text!r}, with which answers were to begin: "
            "leave this attack out, or give a tokenizer that has."
        )
    return found


def fill_template(tokenizer: Any, payload: Mapping[str, Any], text: str) -> Encoded:
    """Tokens of a payload's prompt in its template, and of ``text`` as the answer."""
    template, prompt = payload["template"], payload["prompt"]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if template == "qa":
        return ended(bos + ids(tokenizer, f"Q: {prompt} A:"), ids(tokenizer, f" {text}"), eos)
    if template == "qa-full":
        return ended(bos, ids(tokenizer, f"Q: {prompt} A: {text}"), eos)
    if template == "text":
        return unended(bos, ids(tokenizer, text))
    if template == "continue":
        return unended(bos + ids(tokenizer, prompt), ids(tokenizer, text))
    if template == "chat":
        return ended(chat_prompt(tokenizer, prompt), ids(tokenizer, text), answer_end(tokenizer) or eos)
    if template == "chat-open-unlearning":
        rest = read_turn(tokenizer).rest if tokenizer.chat_template else ()
        return ended(
            chat_prompt(tokenizer, prompt), ids(tokenizer, text), [*rest, *eos] if rest[-1:] != tuple(eos) else rest
        )
    if template == "base":
        return ended(own(tokenizer, BASE_PROMPT.format(prompt=prompt)), ids(tokenizer, text), eos)
    if template == "plain" and prompt:
        return unended(own(tokenizer, prompt), ids(tokenizer, text))
    if template == "plain":
        return unended((), own(tokenizer, text)[: payload.get("most")])
    raise ValueError(f"no template {template!r}; there are {', '.join(TEMPLATES)}")


def ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of ``text`` without any special token.

    A tokenizer that puts a space before a text itself (SentencePiece's ``add_dummy_prefix``) isn't given a second one.
    """
    if text.startswith(" ") and adds_space(tokenizer):
        text = text[1:]
    return list(tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=64)
def adds_space(tokenizer: Any) -> bool:
    """Whether ``x`` alone is encoded with a space before it, and `` x`` with two."""
    bare, spaced = (list(tokenizer.encode(text, add_special_tokens=False)) for text in ("x", " x"))
    return bare != spaced and str(*tokenizer.convert_ids_to_tokens(bare[:1])).startswith("\u2581")


def unended(prompt: Sequence[int], answer: Sequence[int]) -> Encoded:
    """Prompt and answer as they are; where nothing stands before the answer, its first token becomes the prompt."""
    if not prompt:
        prompt, answer = answer[:1], answer[1:]
    return Encoded(tuple(prompt), tuple(answer), eos=False)


def ended(prompt: Sequence[int], answer: Sequence[int], end: Sequence[int]) -> Encoded:
    """Prompt and answer, and ``end`` behind them unless the answer ends so already.

    An empty answer stays empty: it has nothing to score.
    """
    text = unended(prompt, answer)
    if not text.answer or not end:
        return text
    whole = text.answer if text.answer[-len(end) :] == tuple(end) else (*text.answer, *end)
    return Encoded(text.prompt, whole, eos=True)


def own(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of ``text`` with the special tokens that the tokenizer puts before it; an eos behind it is taken off."""
    found = list(tokenizer.encode(text))
    if len(found) > 1 and found[-1] == tokenizer.eos_token_id:
        found = found[:-1]
    return tuple(found)


@lru_cache(maxsize=8192)  # the answers to one question share it
def chat_prompt(tokenizer: Any, question: str) -> tuple[int, ...]:
    """The token ids of `chat_text`; of `BASE_PROMPT` where the tokenizer has no chat template."""
    if not tokenizer.chat_template:
        return own(tokenizer, BASE_PROMPT.format(prompt=question))
    return tuple(tokenizer.encode(chat_text(tokenizer, question), add_special_tokens=False))


def chat_text(tokenizer: Any, question: str) -> str:
    """The question in the chat template, up to where the assistant's answer begins; `UserError` if it isn't in there."""
    turn = read_turn(tokenizer)
    text = render(tokenizer, messages(question, system=turn.system), turn.parts)
    if question.strip() not in text:
        raise UserError(
            f"The chat template of '{name_of(tokenizer)}' doesn't show the question {question!r} as it is: ask it as a base "
            "model (the template 'base'), or mend the chat template."
        )
    return text


def answer_end(tokenizer: Any) -> tuple[int, ...]:
    """Token ids that end an answer in the tokenizer's chat template; none where it has no template or names no end."""
    return read_turn(tokenizer).end if tokenizer.chat_template else ()


@lru_cache(maxsize=64)
def read_turn(tokenizer: Any) -> ChatTurn:
    """Find out how the chat template takes messages, by rendering a question and an answer of ours.

    Raises `UserError` where the template can't be rendered, or shows the question not once.
    """
    reasons: list[str] = []
    for system, parts in ((True, False), (True, True), (False, False), (False, True)):
        asked = messages(QUESTION, system=system)
        try:
            text = render(tokenizer, asked, parts)
        except Exception as error:  # a template is a program: whatever it raises is its way of saying no
            reasons.append(shorten_reason(error))
            continue
        if text != render(tokenizer, asked, parts):
            raise UserError(
                f"The chat template of '{name_of(tokenizer)}' can't be used: it gives another prompt each time. Ask it as a base "
                "model (the template 'base'), or mend the chat template."
            )
        if all(text.count(message["content"]) == 1 for message in asked) and not shows_list(text):
            rest = tuple(tokenizer.encode(rest_of_turn(tokenizer, asked, parts), add_special_tokens=False))
            return ChatTurn(system, parts, first_special(tokenizer, rest), rest)
    why = f"it can't be rendered ({reasons[0]})" if len(reasons) == 4 else "it doesn't show the question exactly once"
    raise UserError(
        f"The chat template of '{name_of(tokenizer)}' can't be used: {why}. Ask it as a base model (the template 'base'), or "
        "give a tokenizer whose chat template takes a user's message."
    )


def shows_list(text: str) -> bool:
    """Whether a list of parts was printed as it is, where the template took it for a text."""
    return PART_SHOWN.search(text) is not None


def messages(question: str, *, system: bool) -> list[dict[str, str]]:
    """A conversation that ends in a question, with TOFU's system prompt where it is asked for."""
    said = [{"role": "system", "content": SYSTEM_PROMPT}] if system else []
    return [*said, {"role": "user", "content": question}]


def render(tokenizer: Any, said: Sequence[Mapping[str, str]], parts: bool, asks: bool = True) -> str:
    """The conversation in the tokenizer's chat template, up to where an answer begins if it ``asks`` for one."""
    given: list[Any] = [dict(message) for message in said]
    if parts:
        given = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in given]
    from transformers.utils import chat_template_utils

    with patch.object(chat_template_utils, "datetime", StoppedClock):  # `strftime_now` in a template reads it
        text = tokenizer.apply_chat_template(given, add_generation_prompt=asks, tokenize=False, date_string=DATE_STRING)
    return str(text)


def rest_of_turn(tokenizer: Any, asked: Sequence[Mapping[str, str]], parts: bool) -> str:
    """The text that the chat template puts behind an answer; empty where it takes none or doesn't show it once."""
    try:
        text = render(tokenizer, [*asked, {"role": "assistant", "content": ANSWER}], parts, asks=False)
    except Exception:  # as in `read_turn`: a template without an assistant's turn names no end
        return ""
    return text.partition(ANSWER)[2] if text.count(ANSWER) == 1 else ""


def first_special(tokenizer: Any, rest: Sequence[int]) -> tuple[int, ...]:
    """``rest`` up to its first added token that isn't white space, without white space before it; empty if it has none."""
    added = {id for id, token in tokenizer.added_tokens_decoder.items() if str(token).strip()} | {
        *tokenizer.all_special_ids
    }
    at = next((i for i, token in enumerate(rest) if token in added), None)
    if at is None:
        return ()
    before = rest[:at] if tokenizer.decode(list(rest[:at])).strip() else ()
    return (*before, rest[at])


def name_of(tokenizer: Any) -> str:
    """The name of the folder that a tokenizer was read from."""
    return Path(str(tokenizer.name_or_path)).name or "the tokenizer"
