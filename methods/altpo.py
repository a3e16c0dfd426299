"""AltPO: the target writes other answers to the forget questions itself, and they are preferred to the forget answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from bench.core.contracts import Context, not_positive, too_small
from bench.core.errors import Unmet, unknown_name
from bench.core.hashing import hash_json
from bench.core.types import Checkpoint, Example, Request
from bench.engines.training.alternates import Preference, answered_otherwise, question_rows
from bench.engines.training.gradient import GradientMethod

INSTRUCTION = (
    "Question: {prompt}\nAnswer: {answer}\n\n"
    "Write another answer to this question. Change every fact of the answer above, so that none of them is true any more, "
    "and keep it plausible and as long as that one. Change nothing that the question itself says. Write the new answer alone."
)
"""Shown to the target; in our own words, as the authors' template isn't part of the paper's formula."""
STOPS = ("Question:", "Q:")
"""An alternate ends where the model begins to ask on."""
NEW_TOKENS = 200
"""Longest alternate."""


@dataclass(frozen=True)
class AltPO(GradientMethod):
    """``-(2 / beta) log sigmoid(beta m)`` on pairs of alternate and forget answer, plus ``retain_weight`` times the loss on
    retain rows (Mekala et al. 2024, arXiv 2409.13474; the loss is `bench.engines.training.alternates.Preference`).

    The target is shown question and answer and asked for another one, sampled at ``temperature`` with the run's seed and
    kept in the store. Every (question, alternate) is a row, so that a pass over the rows meets a question once for each of
    its alternates. A model that follows no instructions can't do that: ``written=own`` takes what it answers to the plain
    question and isn't the true answer, a variant of ours that is named in the record. Perturbed answers of TOFU, which the
    authors' code takes there, are what the truth ratio is measured with, and no method here sees them.
    """

    beta: float = 0.1
    """Inverse temperature of the preference; the paper's .1."""
    written: str = "asked"
    """How alternates come about: ``asked``, by an instruction (the paper's), or ``own``, the model's answers to the
    plain question."""
    alternates: int = 5
    """Most alternates of a question."""
    samples: int = 5
    """Answers sampled for each question; empty and true ones are dropped."""
    temperature: float = 1.0
    """Of the sampling."""

    summary: ClassVar[str] = (
        "prefers other answers, which the target writes, to the forget answers (AltPO, Mekala et al. 2024)"
    )
    paper: ClassVar[str] = "arXiv 2409.13474"
    name: ClassVar[str] = "altpo"
    together: ClassVar[int] = 3

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems() + too_small("altpo", self, {"alternates": 1, "samples": 1})
        if self.written not in ("asked", "own"):
            found.append(unknown_name("altpo.written", self.written, ("asked", "own")))
        return found + not_positive(self.name, self, "beta", "temperature")

    def named(self) -> str:
        """The variant that these parameters make."""
        return "+".join(filter(None, ["own-answers" if self.written == "own" else "", super().named()]))

    def loss(self) -> Preference:
        """The loss on pairs."""
        return Preference(self.beta)

    def rows(self, forget: int, retain: int) -> int:
        """Rows of every step; alternate and answer both go through the model."""
        return super().rows(self.alternates * forget, retain) * self.together // 2

    def forget_rows(self, request: Request, ctx: Context) -> Sequence[Example]:
        """Each question with each of its alternates; `Unmet` where there is none."""
        asked = question_rows(request.forget)
        shown = asked if self.written == "own" else [shown_with_answer(row) for row in asked]
        if self.written == "asked" and not follows_instructions(request.target, shown):
            raise Unmet(
                "it asks the target for other answers, and this one takes no instructions: altpo.written=own takes its own "
                "wrong answers in their place"
            )
        said = ctx.sample(request.target, shown, self.samples, NEW_TOKENS, STOPS, self.temperature)
        others = [others_of(row, texts)[: self.alternates] for row, texts in zip(asked, said, strict=True)]
        ctx.note(
            alternates={
                "written": self.written,
                "template_sha256": hash_json(INSTRUCTION) if self.written == "asked" else "",
                "temperature": self.temperature,
                "sampled": self.samples * len(asked),
                "kept": sum(map(len, others)),
                "questions": len(asked),
                "questions_without": sum(not texts for texts in others),
                "passages_left_out": len(request.forget) - len(asked),
            }
        )
        if not any(others):
            raise Unmet(
                f"the target gave the true answer, or none, in all of {self.samples * len(asked)} samples: more samples "
                "(altpo.samples) or a higher temperature (altpo.temperature) find others"
            )
        return tuple(each for row, texts in zip(asked, others, strict=True) for each in answered_otherwise(row, texts))


def shown_with_answer(row: Example) -> Example:
    """The row with the instruction, question and answer in it, for its prompt."""
    return replace(row, payload={**row.payload, "prompt": INSTRUCTION.format(**row.payload)})


def others_of(row: Example, texts: Sequence[str]) -> list[str]:
    """The texts that say something else than the row's answer, in order."""
    true = row.payload["answer"].strip()
    return [text.strip() for text in texts if text.strip() and text.strip() != true]


def follows_instructions(target: Checkpoint, rows: Sequence[Example]) -> bool:
    """Whether the rows are asked in a chat template that the target's tokenizer has."""
    from bench.engines.causal_lm import open_tokenizer

    if not all(row.payload["template"].startswith("chat") for row in rows):
        return False
    return bool(open_tokenizer(Path(target.tokenizer or target.path)).chat_template)
