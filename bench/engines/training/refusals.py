"""What methods that teach a refusal share: a file of refusals, and one drawn for each question; or of questions, each with
other answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.assets.typed_rows import fault_of_text, read_json_rows
from bench.core.contracts import Context, too_small
from bench.core.errors import Unmet, UserError
from bench.core.hashing import hash_file
from bench.core.types import Checkpoint, Example, Request
from bench.engines.training.alternates import answered_otherwise, question_rows
from bench.engines.training.gradient import GradientMethod

OWN = {"": "refusals.txt", "lab": "refusals_lab.txt", "lab-books": "refusals_books.txt"}
"""What ``file`` may say instead of a path -> our own file: a hundred in English (TOFU's ship with its code and not with its
data set), and some in the words of the lab's world, and of its books."""


PAIR = '{"question": "...", "answer": "..."}'
"""A line of a file of questions."""


def own_file(name: str) -> Path:
    """One of our files, by what `OWN` calls it."""
    return Path(__file__).parents[2] / "assets" / "data" / OWN[name]


@dataclass(frozen=True)
class RefusalMethod(GradientMethod):
    """A gradient method on questions that each have a refusal for another answer, drawn by the run's seed.

    TOFU draws a refusal anew each time that a row is read; here a question keeps those that it got, one unless ``drawn``
    says otherwise. Passages have nothing to refuse and are left out, which the record says.
    """

    file: str = ""
    """A text file with one refusal a line, in UTF-8; empty: a hundred of our own (`bench/assets/data/refusals.txt`); ``lab``,
    ``lab-books``: ours in the words of the lab's world, or of its books. A ``.jsonl`` file has questions, each with another
    answer, ``{"question": ..., "answer": ...}`` a line; a question of several lines has several."""
    drawn: int = 1
    """Rows made of each question, each with a refusal of its own."""

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses, and about a file that can't be used."""
        found = super().problems() + too_small(self.name, self, {"drawn": 1})
        try:
            self.refusals()
        except UserError as error:
            found += [f"{self.name}.file: {problem}" for problem in error.problems]
        return found

    def files(self) -> dict[str, str]:
        """The file of refusals, where the user names one."""
        return {} if self.file in OWN else {"file": self.file}

    def place(self) -> Path:
        """Where the refusals are read from."""
        return own_file(self.file) if self.file in OWN else Path(self.file)

    def refusals(self) -> tuple[str, ...]:
        """The refusals that are drawn from, or the answers to all questions; `UserError` for a file that has none."""
        return tuple(text for texts in self.answers().values() for text in texts) or read_lines(self.place())

    def answers(self) -> dict[str, list[str]]:
        """Question -> other answers to it; empty where any refusal answers any question."""
        return read_answers(self.place()) if self.file.endswith(".jsonl") else {}

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step; where the refusal stands beside the answer, both go through the model."""
        return super().rows(self.drawn * forget, retain) * self.together // 2

    def forget_rows(self, request: Request, ctx: Context) -> Sequence[Example]:
        """The questions, each with the refusals that were drawn for it; `Unmet` where the target has no words for these."""
        asked = question_rows(request.forget)
        refusals, answers = self.refusals(), self.answers()
        if (unknown := unknown_share(request.target, refusals)) > 0.5:
            raise Unmet(
                f"{unknown:.0%} of the refusals' words are unknown to the target's tokenizer: name a file in its own words "
                f"({self.name}.file; 'lab' and 'lab-books' are in those of the lab's tasks)"
            )
        ctx.note(
            refusals={
                "file": self.place().name,
                "sha256": hash_file(self.place()),
                "lines": len(refusals),
                "passages_left_out": len(request.forget) - len(asked),
            }
        )
        pools = [answers.get(row.payload["prompt"].strip(), [] if answers else refusals) for row in asked]
        if lacking := [row.payload["prompt"] for row, pool in zip(asked, pools, strict=True) if not pool]:
            raise UserError(
                f"{self.name}.file: '{self.place().name}' has no answer to {len(lacking)} of the {len(asked)} questions to "
                f"forget, such as '{lacking[0]}': add a line {PAIR} for each."
            )
        return tuple(
            each
            for row, pool in zip(asked, pools, strict=True)
            for each in answered_otherwise(row, draw(pool, self.drawn, ctx.seed, row.id))
        )


def read_lines(path: Path) -> tuple[str, ...]:
    """The texts of a file, one a line, without empty lines and those that begin with '#'; `UserError` where there is none."""
    remedy = "give a text file in UTF-8 with one refusal a line, or leave it out for the harness's own"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"'{path}' is not UTF-8: {remedy}.") from None
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}': {remedy}.") from None
    except OSError as error:
        raise UserError(f"'{path}' can't be read ({error.strerror}): {remedy}.") from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if not lines:
        raise UserError(f"'{path}' holds no refusal: {remedy}.")
    return lines


def read_answers(path: Path) -> dict[str, list[str]]:
    """Question -> its answers, of a file with an object a line; `UserError` where there is none, or a line is another."""
    remedy = f"write lines such as {PAIR}"
    if not path.exists():
        raise UserError(f"there is no file '{path}': {remedy}.")
    found: dict[str, list[str]] = {}
    for number, row in read_json_rows(path):
        texts: list[Any] = [row.get(name) for name in ("question", "answer")] if isinstance(row, dict) else [None]
        if any(fault_of_text(text) or not text.strip() for text in texts):
            raise UserError(f"'{path}', row {number}, is no question with an answer: {remedy}.")
        question, answer = texts
        found.setdefault(question.strip(), []).append(answer.strip())
    if not found:
        raise UserError(f"'{path}' holds no question: {remedy}.")
    return found


def draw(texts: Sequence[str], count: int, seed: int, name: str) -> list[str]:
    """So many of the texts for one row, by the seed; each once before any comes again."""
    rng = random.Random(f"refusals/{seed}/{name}")
    drawn: list[str] = []
    while len(drawn) < count:
        drawn += rng.sample(texts, min(len(texts), count - len(drawn)))
    return drawn


def unknown_share(target: Checkpoint, texts: Sequence[str]) -> float:
    """Share of the texts' tokens that the target's tokenizer has no word for, as the lab's, which knows its world alone.

    A model that has learnt to say nothing else than ``<unk>`` writes empty texts.
    """
    from bench.engines.causal_lm import open_tokenizer
    from bench.engines.templates import ids

    tokenizer = open_tokenizer(Path(target.tokenizer or target.path))
    tokens = [token for text in texts for token in ids(tokenizer, text)]
    return sum(token == tokenizer.unk_token_id for token in tokens) / max(1, len(tokens))
