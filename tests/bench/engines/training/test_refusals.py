"""Refusals: our own file, a user's, and what IdkNLL and IdkDPO make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import TinyScenario, tiny_place
from bench.core.errors import Unmet, UserError
from bench.core.hashing import hash_file
from bench.core.types import Checkpoint, Probe, Request
from bench.engines.measuring.measure import measure
from bench.engines.training.alternates import Preference
from bench.engines.training.losses import NextToken
from bench.engines.training.refusals import RefusalMethod, draw, read_lines
from bench.lab.books import write_library
from bench.lab.world import make_world
from bench.runs.method_context import Ledger, MethodContext
from methods.flat import FLAT
from methods.idk_dpo import IdkDPO
from methods.idk_nll import IdkNLL
from tests.conftest import SMALL

FILE = SMALL["file"]
METHODS = (IdkNLL, IdkDPO, FLAT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> TinyScenario:
    return tiny_place(tmp_path_factory.mktemp("refusals"))


class Told:
    """A context with a seed, which remembers what is noted."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.notes: dict[str, Any] = {}

    def note(self, **facts: Any) -> None:
        self.notes |= facts


def rows_of(method: RefusalMethod, request: Request, seed: int = 0) -> list[Any]:
    return list(method.forget_rows(request, Told(seed)))  # type: ignore[arg-type]


def test_we_have_a_hundred_different_refusals() -> None:
    own = IdkNLL().refusals()
    assert len(set(own)) == len(own) == 100
    assert all(text[0].isupper() and text.endswith(".") and len(text.split()) <= 15 for text in own)
    assert "Apache-2.0" in IdkNLL().place().read_text().splitlines()[0]


def test_those_of_the_lab_are_in_its_words() -> None:
    vocabularies = {
        "lab": make_world(0, {"resident": 1}).vocabulary,
        "lab-books": write_library(0, {"x": 1}).vocabulary,
    }
    for name, known in vocabularies.items():
        said = IdkNLL(file=name).refusals()
        assert len(set(said)) == 20 and {word for text in said for word in text.split()} <= set(known)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "there is no file '{}'"),
        (lambda path: path.write_text(" \n\n# none\n"), "'{}' holds no refusal"),
        (lambda path: path.write_bytes("weiß nicht\n".encode("latin-1")), "'{}' is not UTF-8"),
        (lambda path: path.mkdir(), "'{}' can't be read (Is a directory)"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    method: type[RefusalMethod], write: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.txt"
    write(path)
    remedy = "give a text file in UTF-8 with one refusal a line, or leave it out for the harness's own."
    assert method(file=str(path)).problems() == [f"{method.name}.file: {said.format(path)}: {remedy}"]
    with pytest.raises(UserError, match="one refusal a line"):
        read_lines(path)


def test_lines_are_stripped_and_comments_and_a_byte_order_mark_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffno idea\r\n# said by nobody\r\n\r\n  weiß nicht \r\n".encode())
    assert read_lines(path) == ("no idea", "weiß nicht")


def test_the_draw_is_the_seeds_and_the_rows_own() -> None:
    texts = [str(i) for i in range(100)]
    drawn = [draw(texts, 3, seed, name) for seed, name in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))]
    assert drawn[0] == drawn[1] and drawn[0] != drawn[2] and drawn[0] != drawn[3]
    many = draw(["x", "y", "z"], 7, 0, "a")
    assert [sorted(many[:3]), sorted(many[3:6])] == [["x", "y", "z"]] * 2, "each before any comes again"


@pytest.mark.parametrize("method", [IdkDPO, FLAT])
def test_every_question_gets_its_refusals_and_passages_are_left_out(
    method: type[RefusalMethod], place: TinyScenario
) -> None:
    questions = [row for row in place.request.forget if row.payload["template"] == "qa"]
    ctx = Told()
    rows = method(file=FILE, drawn=2).forget_rows(place.request, ctx)  # type: ignore[arg-type]
    assert [(row.payload["prompt"], row.payload["answer"]) for row in rows] == [
        (row.payload["prompt"], row.payload["answer"]) for row in questions for _ in range(2)
    ]
    assert {row.payload["alternate"] for row in rows} <= set(read_lines(Path(FILE)))
    assert all(
        one.payload["alternate"] != two.payload["alternate"] for one, two in zip(rows[::2], rows[1::2], strict=True)
    )
    said = {"file": "answers.txt", "sha256": hash_file(Path(FILE)), "lines": 3, "passages_left_out": 2}
    assert ctx.notes == {"refusals": said}


def written(path: Path, *rows: Any) -> str:
    """A file of these rows, an object a line."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_of_questions_has_an_answer_for_each(
    method: type[RefusalMethod], place: TinyScenario, tmp_path: Path
) -> None:
    """A question of two lines has two, of which the seed draws."""
    questions = [row for row in place.request.forget if row.payload["template"] == "qa"]
    pairs = [(row.payload["prompt"], f"w{number}") for number, row in enumerate(questions)]
    pairs.append((pairs[0][0], "w20"))
    path = written(tmp_path / "mine.jsonl", *({"question": f" {q}", "answer": a} for q, a in pairs))
    made = method(file=path, drawn=2)
    assert made.problems() == [] and made.files() == {"file": path}
    found = [
        (row.payload["prompt"], row.payload.get("alternate", row.payload["answer"]))
        for row in rows_of(made, place.request)
    ]
    assert sorted(found) == sorted([*pairs, *pairs[1:-1]]), "both of the first, and each other's own twice"


@pytest.mark.parametrize("method", [IdkNLL, IdkDPO])
def test_a_question_without_an_answer_is_a_sentence(
    method: type[RefusalMethod], place: TinyScenario, tmp_path: Path
) -> None:
    questions = [row.payload["prompt"] for row in place.request.forget if row.payload["template"] == "qa"]
    path = written(tmp_path / "mine.jsonl", {"question": questions[0], "answer": "w1"})
    with pytest.raises(UserError) as said:
        rows_of(method(file=path), place.request)
    assert str(said.value) == (
        f"{method.name}.file: 'mine.jsonl' has no answer to 5 of the 6 questions to forget, such as '{questions[1]}': "
        'add a line {"question": "...", "answer": "..."} for each.'
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "'{}' holds no question"),
        (({"question": "a ?", "answer": " "},), "'{}', row 1, is no question with an answer"),
        (({"question": "a ?", "answer": "b"}, ["a ?", "b"]), "'{}', row 2, is no question with an answer"),
        (({"prompt": "a ?", "answer": "b"},), "'{}', row 1, is no question with an answer"),
    ],
)
def test_rows_that_are_no_questions_with_answers_are_a_sentence(
    rows: tuple[Any, ...], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "mine.jsonl", *rows)
    remedy = 'write lines such as {"question": "...", "answer": "..."}.'
    assert IdkDPO(file=path).problems() == [f"idk-dpo.file: {said.format(path)}: {remedy}"]
    assert IdkDPO(file=f"{path}.jsonl").problems() == [f"idk-dpo.file: there is no file '{path}.jsonl': {remedy}"]


def test_a_line_that_is_no_json_is_a_sentence(tmp_path: Path) -> None:
    (said,) = IdkDPO(file=written(tmp_path / "mine.jsonl", "no idea", "no clue")).problems()
    assert said.startswith("idk-dpo.file: mine.jsonl, line 1 is no JSON") and said.endswith(
        "write one object a line, or one list."
    )


def test_idk_nll_never_sees_a_forget_answer(place: TinyScenario) -> None:
    rows = rows_of(IdkNLL(file=FILE), place.request)
    assert len(rows) == 6 and {row.payload["answer"] for row in rows} <= set(read_lines(Path(FILE)))
    assert not any("alternate" in row.payload for row in rows)
    assert [row.payload["answer"] for row in rows] == [
        row.payload["alternate"] for row in rows_of(IdkDPO(file=FILE), place.request)
    ], "both draw alike"


def test_refusals_without_words_of_the_models_are_no_answer(place: TinyScenario) -> None:
    """Not one word of our English ones is in the tiny world: taught them, a model would write nothing."""
    with pytest.raises(Unmet, match="100% of the refusals' words are unknown .*idk-nll.file"):
        rows_of(IdkNLL(), place.request)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_forgotten_must_ask_something(method: type[RefusalMethod], place: TinyScenario) -> None:
    passages = tuple(row for row in place.request.forget if row.payload["template"] == "text")
    with pytest.raises(Unmet, match="passages without one"):
        rows_of(method(file=FILE), replace(place.request, forget=passages))


def test_losses_and_refused_settings() -> None:
    assert IdkNLL().loss() == NextToken() and IdkDPO(beta=0.5).loss() == Preference(0.5)
    assert [method().problems() for method in METHODS] == [[]] * 3
    assert IdkDPO(beta=0.0, drawn=0, retain="some").problems() == [
        "idk-dpo.retain is 'all' or 'forget', not 'some'.",
        "idk-dpo.drawn must be at least 1, not 0.",
        "idk-dpo.beta must be above 0, not 0.0.",
    ]


def test_the_estimate_counts_both_answers() -> None:
    """10 steps of 32 rows: forget and retain; of a preference the refusals too, and a reading of 100 pairs."""
    assert IdkNLL(steps=10).rows(100, 400) == 640
    assert IdkDPO(steps=10).rows(100, 400) == (640 + 33) * 3 // 2
    assert IdkDPO(steps=10, drawn=2).rows(100, 400) == (640 + 66) * 3 // 2


@pytest.mark.parametrize("method", [IdkNLL, IdkDPO])
def test_the_refusal_takes_the_answers_place_and_the_rest_is_held(
    method: type[RefusalMethod], place: TinyScenario
) -> None:
    asked = rows_of(IdkDPO(file=FILE), place.request)
    forget = tuple(row for row in place.request.forget if row.payload["template"] == "qa")
    probes = [
        Probe("forget", "logprob", forget),
        Probe("retain", "logprob", place.request.retain),
        Probe(
            "said", "logprob", tuple(replace(r, payload={**r.payload, "answer": r.payload["alternate"]}) for r in asked)
        ),
    ]

    def means(checkpoint: Checkpoint) -> list[float]:
        each = measure(checkpoint, probes).rows.values()
        return [sum(sum(row["answer"][0]["logp"]) for row in by_id.values()) / len(by_id) for by_id in each]

    def unlearnt(weight: float) -> list[float]:
        trained = method(steps=8, lr=5e-3, batch=6, text_batch=2, retain_weight=weight, file=FILE)
        work = place.work(f"{method.name}-{weight}")
        return means(trained.unlearn(place.request, MethodContext(work, Ledger(set(), set()))))

    target, held, free = means(place.request.target), unlearnt(3.0), unlearnt(0.0)
    gaps = [each[2] - each[0] for each in (target, held, free)]
    assert min(gaps[1:]) > gaps[0] + 1, "the refusal gains on the forget answer"
    assert held[2] > target[2] + 1, "and gets more likely by itself"
    assert held[1] > free[1] + 0.1, "retain rows hold the rest"
