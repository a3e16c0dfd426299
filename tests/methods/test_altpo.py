"""AltPO: the target's own other answers, how they are asked for, kept and told of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import Unmet
from bench.core.hashing import hash_json
from bench.core.types import Example
from bench.engines.training.alternates import Preference
from bench.runs.method_context import Ledger, MethodContext
from methods.altpo import INSTRUCTION, AltPO, others_of, shown_with_answer
from tests.tiny import qa, saved, subword_llama, subword_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("altpo"))


class Scripted:
    """A context in which the target answers as it is told to."""

    seed = 0

    def __init__(self, *said: str) -> None:
        self.said, self.notes, self.asked = said, dict[str, Any](), list[Any]()

    def sample(self, checkpoint: Any, rows: Any, *how: Any) -> list[list[str]]:
        self.asked.append((rows, *how))
        return [list(self.said) for _ in rows]

    def note(self, **facts: Any) -> None:
        self.notes |= facts


def test_five_samples_of_at_most_200_tokens_at_temperature_1(place: TinyScenario) -> None:
    ctx = Scripted("w20", "", "w21 ", " ", "w20")
    rows = AltPO(written="own").forget_rows(place.request, ctx)  # type: ignore[arg-type]
    questions = [row for row in place.request.forget if row.payload["template"] == "qa"]
    assert ctx.asked == [(tuple(questions), 5, 200, ("Question:", "Q:"), 1.0)]
    assert [row.payload for row in rows] == [
        {**row.payload, "alternate": text} for row in questions for text in ("w20", "w21", "w20")
    ]
    assert len({row.id for row in rows}) == 18
    said = ctx.notes["alternates"]
    assert (said["written"], said["sampled"], said["kept"], said["passages_left_out"]) == ("own", 30, 18, 2)


def test_what_says_the_true_answer_or_nothing_is_no_alternate() -> None:
    assert others_of(qa(0, "w1 ?", "w2 w3"), [" w2 w3 ", "w2", "", "w3 w2", "w2"]) == ["w2", "w3 w2", "w2"]


def test_at_most_so_many_are_kept_and_a_target_that_knows_no_other_answer_is_told(place: TinyScenario) -> None:
    rows = AltPO(written="own", alternates=2, samples=4).forget_rows(place.request, Scripted(*"abcd"))  # type: ignore[arg-type]
    assert [row.payload["alternate"] for row in rows] == ["a", "b"] * 6
    ctx = Scripted("", " ")
    with pytest.raises(Unmet, match="none, in all of 30 samples: more samples .altpo.samples. or a higher temperature"):
        AltPO(written="own").forget_rows(place.request, ctx)  # type: ignore[arg-type]
    assert ctx.notes["alternates"]["questions_without"] == 6


def test_the_target_is_shown_question_and_answer() -> None:
    row = qa(0, "Who is it?", "Nobody.", "chat")
    shown = shown_with_answer(row)
    assert shown.payload["prompt"].startswith("Question: Who is it?\nAnswer: Nobody.\n\nWrite another answer")
    assert (shown.payload["template"], row.payload["prompt"]) == ("chat", "Who is it?")


def test_a_model_without_a_chat_template_is_no_writer(place: TinyScenario) -> None:
    with pytest.raises(Unmet, match="takes no instructions: altpo.written=own"):
        AltPO().forget_rows(place.request, Scripted("w20"))  # type: ignore[arg-type]


def test_one_with_a_chat_template_is_asked_with_the_instruction(place: TinyScenario, tmp_path: Path) -> None:
    words = subword_tokenizer(["Who wrote it? Somebody did."])
    target = saved(subword_llama(words), words, tmp_path / "chat", "chat")
    rows = (qa(0, "Who wrote it?", "Somebody did.", "chat"),)
    ctx = Scripted("Nobody did.")
    made = AltPO().forget_rows(replace(place.request, target=target, forget=rows), ctx)  # type: ignore[arg-type]
    assert [row.payload["alternate"] for row in made] == ["Nobody did."]
    assert made[0].payload["prompt"] == "Who wrote it?", "it is trained on the question, not on the instruction"
    assert [row.payload["prompt"] for row in ctx.asked[0][0]] == [INSTRUCTION.format(**rows[0].payload)]
    assert ctx.notes["alternates"]["template_sha256"] == hash_json(INSTRUCTION)


def test_passages_and_classes_are_skipped_with_the_reason(place: TinyScenario) -> None:
    passages = tuple(row for row in place.request.forget if row.payload["template"] == "text")
    image = Example("image", {"pixels": [0], "answer": "3", "template": "image"})
    for rows, reason in ((passages, "passages without one"), ((image,), "are no texts")):
        with pytest.raises(Unmet, match=reason):
            AltPO(written="own").forget_rows(replace(place.request, forget=rows), Scripted("x"))  # type: ignore[arg-type]


def test_the_answers_are_a_node_that_two_settings_share(place: TinyScenario) -> None:
    work = place.work("shared")
    for beta in (0.1, 0.5):
        method = AltPO(steps=2, written="own", beta=beta)
        method.unlearn(place.request, MethodContext(work, Ledger(set(), set())))
    kinds = [node.info["fields"]["kind"] for node in work.nodes.values()]
    assert sorted(kinds) == ["answers", "train", "train"]
    (answers,) = [node.info["fields"] for node in work.nodes.values() if node.info["fields"]["kind"] == "answers"]
    assert (answers["seed"], answers["temperature"], answers["owner"]) == (0, 1.0, "method")


def test_names_estimates_and_refused_settings() -> None:
    assert [AltPO().named(), AltPO(written="own").named()] == ["", "own-answers"]
    assert AltPO(beta=0.5).loss() == Preference(0.5)
    assert AltPO(steps=10).rows(100, 400) == (640 + 500 // 3) * 3 // 2
    assert AltPO(written="copied", beta=0.0, temperature=0.0, samples=0).problems() == [
        "altpo.samples must be at least 1, not 0.",
        "Unknown altpo.written 'copied'. Known: asked, own.",
        "altpo.beta must be above 0, not 0.0.",
        "altpo.temperature must be above 0, not 0.0.",
    ]
