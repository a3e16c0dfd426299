"""`ChatJudge`: a judge behind an OpenAI-compatible endpoint, asked for the agreement of each reference answer."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from bench.core.contracts import Judge
from bench.core.errors import UserError

PROMPT = """\
You compare statements by the facts in them. Below are a question, an answer to it, and {count} candidates, numbered from
1. Say for each candidate how far its facts agree with those of the answer, as a whole number from 0 (other facts, or none
in common) to 100 (the same facts). Wording, length and style do not matter, nor does which of them is true. Give two
candidates the same number only if they state the same facts.

Question: {question}

Answer: {answer}

{candidates}

Reply with one JSON object and nothing else: each candidate's number, as text, with its agreement, such as {example}."""

FIRST, MOST = 1, 100
WAITING = (408, 409, 429, 500, 502, 503, 504, 529)
"""HTTP codes of a server that may answer later."""


class Unreadable(Exception):
    """Raised where there is no reply, or one that isn't what the prompt asks for; the text says why."""


def environment_field(name: str, default: str = "", shown: bool = True) -> Any:
    """A field whose default is an environment variable, read when the judge is made."""
    return field(default_factory=lambda: os.environ.get(name, default), repr=shown)


@dataclass(frozen=True)
class ChatJudge(Judge):
    """A judge behind an OpenAI-compatible ``/chat/completions`` endpoint; costs a request for each answer.

    The options are shown in an order that a hash of the question decides, so that none is favoured by its place.
    """

    model: str = environment_field("MSA_BENCH_JUDGE_MODEL")
    url: str = environment_field("MSA_BENCH_JUDGE_URL", "https://api.openai.com/v1")
    """The endpoint's base, up to ``/v1``."""
    key: str = environment_field("OPENAI_API_KEY", shown=False)
    attempts: int = 3
    """Requests for one answer, at most."""
    pause: float = 2.0
    """Seconds before the second attempt, doubled before each further one."""
    timeout: float = 60.0
    """Seconds to wait for a reply."""
    version: int = field(default=1, init=False)
    accepts: float = field(default=50.0, init=False)
    """Half of the scale (RESTOR, where the judge says right or wrong)."""

    def __post_init__(self) -> None:
        """Refuse what can't work, before anything is asked."""
        if not self.model:
            raise UserError("The judge 'chat' needs a model: set MSA_BENCH_JUDGE_MODEL to its name.")
        if not self.url.startswith(("https://", "http://")):
            raise UserError(
                "MSA_BENCH_JUDGE_URL must begin with https:// or http://, and end before /chat/completions."
            )
        if not self.key:
            raise UserError(
                "The judge 'chat' needs a key: set OPENAI_API_KEY (any text where the server asks for none)."
            )

    @property
    def name(self) -> str:  # type: ignore[override]  # made of the field `model`
        """``chat:`` and the model's name."""
        return f"chat:{self.model}"

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """The agreement of each option with the answer, 0 to 100, as the model says; `UserError` when it can't be had."""
        shown = order_by_hash(options, question)
        messages = [{"role": "user", "content": write_prompt(question, answer, [options[option] for option in shown])}]
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                numbers = parse_grades(self.reply(messages), len(shown))
                return dict(zip(shown, numbers, strict=True))
            except Unreadable as error:
                reason = str(error)
        raise UserError(f"The judge {self.name} gave no usable reply in {self.attempts} attempts: {reason}.")

    def reply(self, messages: list[dict[str, str]]) -> str:
        """The model's text; `UserError` when the server refuses for good, `Unreadable` when it may do better later."""
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code in WAITING:
                    raise Unreadable(f"the server said {error.code} {error.reason}") from None
                remedy = (
                    "check OPENAI_API_KEY" if error.code in (401, 403) else "check the model and MSA_BENCH_JUDGE_URL"
                )
                raise UserError(f"The judge {self.name} was refused ({error.code} {error.reason}): {remedy}.") from None
        except (OSError, HTTPException) as error:
            raise Unreadable(str(error) or type(error).__name__) from None
        try:
            return str(json.loads(said)["choices"][0]["message"]["content"])
        except (ValueError, LookupError, TypeError):
            raise Unreadable("the server's reply is not one of /chat/completions") from None


def order_by_hash(options: Mapping[str, str], question: str) -> list[str]:
    """The options' names in the order of a hash of the question and each option's text."""

    def place(option: str) -> tuple[str, str]:
        return hashlib.sha256(f"{question}\0{options[option]}".encode()).hexdigest(), option

    return sorted(options, key=place)


def write_prompt(question: str, answer: str, candidates: Sequence[str]) -> str:
    """The message to the chat model, ``candidates`` in the order they are shown in."""
    listed = "\n".join(f"Candidate {i}: {text}" for i, text in enumerate(candidates, start=1))
    example = json.dumps({str(i): 10 * i for i in range(1, min(len(candidates), 3) + 1)})
    return PROMPT.format(
        count=len(candidates), question=question, answer=answer or "(nothing)", candidates=listed, example=example
    )


def parse_grades(text: str, count: int) -> list[float]:
    """The agreements of candidates 1 to ``count``; `Unreadable` unless each has one number from 0 to 100."""
    try:
        found = json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip()))
    except ValueError:
        raise Unreadable("the model's reply is not JSON") from None
    if not isinstance(found, dict) or set(found) != {str(i) for i in range(FIRST, count + 1)}:
        raise Unreadable(f"the model's reply does not name candidates 1 to {count}, each once")
    numbers = [found[str(i)] for i in range(FIRST, count + 1)]
    if not all(type(number) in (int, float) and 0 <= number <= MOST for number in numbers):
        raise Unreadable("an agreement is not a number from 0 to 100")
    return [float(number) for number in numbers]
