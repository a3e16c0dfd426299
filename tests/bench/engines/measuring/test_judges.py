from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.types import Example, Responses
from bench.engines.measuring.judges import ChatJudge, Judge, Similarity, judge_rows, label, load_judge, shuffled
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "tofu"
here = needs_data("data/tofu")

QUESTION = "Where was Anna Bell born?"
OPTIONS = {
    "truth": "Anna Bell was born in Lisbon.",
    "wrong-0": "Anna Bell's birthplace is Oslo.",
    "wrong-1": "Anna Bell's birthplace is Cairo.",
}


def picks(grades: dict[str, float]) -> list[str]:
    return [option for option, grade in grades.items() if grade == max(grades.values())]


# The similarity judge


def test_a_grade_worked_by_hand() -> None:
    grades = Similarity().grade(QUESTION, "Her birthplace is Lisbon, I think", OPTIONS)
    # Stems that tell: the answer birthplac lisbon i think; truth anna bell born lisbon; wrong anna bell birthplac oslo.
    # Weights: anna bell 1/27 (three options), birthplac 1/8 (two), lisbon born oslo 1 (one), i think 1 (none).
    answer = 1 / 8 + 1 + 1 + 1
    assert grades["truth"] == pytest.approx(2 * 1 / (answer + 2 / 27 + 2), abs=1e-9)
    assert grades["wrong-0"] == pytest.approx(2 * (1 / 8) / (answer + 2 / 27 + 1 / 8 + 1), abs=1e-9)
    assert picks(grades) == ["truth"]


def test_phrasing_that_the_wrong_answers_share_does_not_mislead() -> None:
    assert picks(Similarity().grade(QUESTION, "Anna Bell's birthplace is Lisbon.", OPTIONS)) == ["truth"]
    assert picks(Similarity().grade(QUESTION, "She was born in Oslo.", OPTIONS)) == ["wrong-0"]


def test_an_answer_equal_to_an_option_has_grade_1() -> None:
    for option, text in OPTIONS.items():
        grades = Similarity().grade(QUESTION, text.upper(), OPTIONS)
        assert grades[option] == 1 and picks(grades) == [option]


def test_accents_and_endings_make_no_other_word() -> None:
    options = {"truth": "She taught engineering in Malmö", "wrong-0": "She taught medicine in Uppsala"}
    assert Similarity().grade("", "an engineer from MALMO", options)["wrong-0"] == 0
    assert picks(Similarity().grade("", "an engineer from MALMO", options)) == ["truth"]


def test_equal_facts_are_a_tie_and_so_is_nothing_in_common() -> None:
    twins = OPTIONS | {"oracle-0": "In Lisbon Anna Bell was born!"}
    assert picks(Similarity().grade(QUESTION, "in Lisbon", twins)) == ["truth", "oracle-0"]
    for answer in ("", "...", "Sorry, no idea"):
        assert set(Similarity().grade(QUESTION, answer, OPTIONS).values()) == {0.0}


def test_without_a_telling_word_in_common_the_whole_wording_decides() -> None:
    options = {"truth": "it was he who did it", "wrong-0": "it is there"}
    grades = Similarity().grade("", "it was he", options)
    assert grades == {"truth": pytest.approx(2 * 3 / 9), "wrong-0": pytest.approx(2 * 1 / 6)}


def test_grades_do_not_depend_on_order_or_on_the_hash_seed() -> None:
    code = f"from bench.engines.measuring.judges import *; print(Similarity().grade('', 'born Lisbon Oslo city', {OPTIONS!r}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    turned = dict(reversed(OPTIONS.items()))
    judge = Similarity()
    assert judge.grade("", "born Lisbon Oslo", turned) == judge.grade("", "born Lisbon Oslo", OPTIONS)


@here
@pytest.mark.parametrize(
    ("file", "paraphrases"),
    # Chance is 1 in 6. The wrong answers copy the paraphrase's wording, so synonyms are lost: measured 0.742 and 0.685.
    [("forget10_perturbed", 0.7), ("retain_perturbed", 0.65)],
)
def test_on_tofu_truth_and_falsehood_are_told_apart(file: str, paraphrases: float) -> None:
    rows = [json.loads(line) for line in (REAL / f"{file}.json").read_text().splitlines()]
    judge, right = Similarity(), {"answer": 0, "paraphrased_answer": 0}
    false = asked = 0
    for row in rows:
        wrong = {f"wrong-{i}": text for i, text in enumerate(row["perturbed_answer"])}
        options = {"truth": row["answer"], **wrong}
        for kind in right:
            right[kind] += picks(judge.grade(row["question"], row[kind], options)) == ["truth"]
        for option, text in wrong.items():
            asked += 1
            false += picks(judge.grade(row["question"], text, options)) == [option]
    assert right["answer"] == len(rows) == 400
    assert false / asked >= 0.999
    assert right["paraphrased_answer"] / len(rows) >= paraphrases


# Rows


def example(key: str = "a", wrong: tuple[str, ...] = ("in Oslo", "in Cairo")) -> Example:
    return Example(key, {"prompt": QUESTION, "answer": "in Lisbon"}, {"wrong": wrong})


def spoke(checkpoint: str, **texts: str) -> Responses:
    return Responses(checkpoint, {"said": {key: {"text": text, "prompt": ""} for key, text in texts.items()}})


def test_rows_have_a_number_for_each_option_and_no_text() -> None:
    oracles = [spoke("h0", a="in Rome"), spoke("h1", a="in Paris")]
    rows = judge_rows(spoke("m", a="in Rome"), oracles, Similarity(), [example()], "said")
    assert rows == {"a": {"grades": {"truth": 0, "oracle-0": 1, "oracle-1": 0, "wrong-0": 0, "wrong-1": 0}}}
    assert Responses("m", {"judged": rows}).publishable().rows == {"judged": rows}


def test_an_oracle_is_judged_beside_the_others_only() -> None:
    oracles = [spoke("h0", a="in Rome"), spoke("h1", a="in Paris")]
    rows = judge_rows(oracles[0], oracles, Similarity(), [example()], "said")
    assert list(rows["a"]["grades"]) == ["truth", "oracle-0", "wrong-0", "wrong-1"]
    assert rows["a"]["grades"]["oracle-0"] == 0.5  # h1's Paris: of h0's two words only "in" is there
    itself = judge_rows(replace(oracles[0], checkpoint=""), oracles[:1], Similarity(), [example()], "said")
    assert itself["a"]["grades"]["oracle-0"] == 1


def test_examples_without_a_generation_have_no_row() -> None:
    sampled = Responses("m", {"said": {"a": {"texts": ["x"]}, "b": {"text": "in Rome"}}})
    asked = [example("a"), example("b"), example("c")]
    assert list(judge_rows(sampled, [], Similarity(), asked, "said")) == ["b"]
    assert judge_rows(sampled, [], Similarity(), asked, "never asked") == {}


# The chat judge, against a server of its own


class Server:
    """An endpoint that answers with what `say` makes of a request's body, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.say: Callable[[dict[str, Any]], tuple[int, bytes]] = lambda body: (500, b"")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append({"path": self.path, **body})
                outer.keys.append(self.headers["Authorization"])
                code, said = outer.say(body)
                self.send_response(code)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def chat(server: Server) -> ChatJudge:
    return ChatJudge("small", server.url, "secret", pause=0.001, timeout=5)


def replies(text: str) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def by_city(body: dict[str, Any]) -> tuple[int, bytes]:
    """A model that reads the candidates and agrees with the one about Oslo."""
    lines = [line for line in body["messages"][0]["content"].splitlines() if line.startswith("Candidate ")]
    return replies(json.dumps({str(i): 90 if "Oslo" in line else 5 for i, line in enumerate(lines, start=1)}))


def test_chat_grades_come_back_under_the_right_options(server: Server) -> None:
    server.say = by_city
    judge = chat(server)
    assert judge.grade(QUESTION, "She is from Oslo", OPTIONS) == {"truth": 5, "wrong-0": 90, "wrong-1": 5}
    [asked] = server.asked
    assert asked["path"] == "/v1/chat/completions" and asked["model"] == "small" and asked["temperature"] == 0
    assert server.keys == ["Bearer secret"]
    text = asked["messages"][0]["content"]
    assert QUESTION in text and "She is from Oslo" in text and not any(option in text for option in OPTIONS)
    assert label(judge) == "chat:small v1" and "secret" not in repr(judge)


def test_no_option_has_a_place_of_its_own() -> None:
    first = [shuffled(OPTIONS, f"question {i}")[0] for i in range(300)]
    assert all(70 < first.count(option) < 130 for option in OPTIONS)
    assert shuffled(OPTIONS, QUESTION) == shuffled(dict(reversed(OPTIONS.items())), QUESTION)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("Candidate 1 is best.", "is not JSON"),
        ('{"1": 10, "2": 20}', "does not name candidates 1 to 3"),
        ('{"1": 10, "2": 20, "3": 30, "4": 0}', "does not name candidates 1 to 3"),
        ("[10, 20, 30]", "does not name candidates 1 to 3"),
        ('{"1": 10, "2": 20, "3": 130}', "not a number from 0 to 100"),
        ('{"1": 10, "2": 20, "3": true}', "not a number from 0 to 100"),
        ('{"1": 10, "2": 20, "3": NaN}', "not a number from 0 to 100"),
        ('{"1": 10, "2": 20, "3": "30"}', "not a number from 0 to 100"),
    ],
)
def test_a_reply_that_is_not_what_was_asked_for_is_no_grade(server: Server, reply: str, why: str) -> None:
    server.say = lambda body: replies(reply)
    with pytest.raises(UserError, match=f"chat:small gave no usable reply in 3 attempts: .*{why}"):
        chat(server).grade(QUESTION, "Oslo", OPTIONS)
    assert len(server.asked) == 3


def test_it_asks_again_and_takes_the_good_reply(server: Server) -> None:
    turns = iter([(503, b"busy"), (200, b"{}"), replies('```json\n{"1": 1, "2": 2, "3": 3}\n```')])
    server.say = lambda body: next(turns)
    grades = chat(server).grade(QUESTION, "Oslo", OPTIONS)
    assert [grades[option] for option in shuffled(OPTIONS, QUESTION)] == [1, 2, 3] and len(server.asked) == 3


@pytest.mark.parametrize(("code", "remedy"), [(401, "check OPENAI_API_KEY"), (404, "check the model and MSA_BENCH")])
def test_a_refusal_is_told_at_once_without_the_key(server: Server, code: int, remedy: str) -> None:
    server.say = lambda body: (code, b"no")
    with pytest.raises(UserError, match=remedy) as told:
        chat(server).grade(QUESTION, "Oslo", OPTIONS)
    assert len(server.asked) == 1 and "secret" not in str(told.value)


def test_no_server_is_a_users_mistake() -> None:
    judge = ChatJudge("small", "http://127.0.0.1:9/v1", "secret", attempts=2, pause=0.001, timeout=5)
    with pytest.raises(UserError, match="no usable reply in 2 attempts"):
        judge.grade(QUESTION, "Oslo", OPTIONS)


# Names


def test_judges_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSA_BENCH_JUDGE_MODEL", "MSA_BENCH_JUDGE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert label(load_judge("similarity")) == "similarity v1"
    with pytest.raises(UserError, match="Unknown judge 'similarty'. Did you mean 'similarity'"):
        load_judge("similarty")
    with pytest.raises(UserError, match="set MSA_BENCH_JUDGE_MODEL"):
        load_judge("chat")
    monkeypatch.setenv("MSA_BENCH_JUDGE_MODEL", "large")
    with pytest.raises(UserError, match="set OPENAI_API_KEY"):
        load_judge("chat")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert load_judge("chat") == ChatJudge("large", "https://api.openai.com/v1", "k")
    monkeypatch.setenv("MSA_BENCH_JUDGE_URL", "file:///etc/passwd")
    with pytest.raises(UserError, match="must begin with https"):
        load_judge("chat")


def test_a_plug_in_is_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coin_judge.py").write_text(
        "class Coin:\n"
        "    name, version = 'coin', 3\n"
        "    def grade(self, question, answer, options):\n"
        "        return {option: float(len(text)) for option, text in options.items()}\n"
    )
    info = tmp_path / "coin_judge-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coin-judge\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[msa_bench.judges]\ncoin = coin_judge:Coin\nlost = coin_judge:Nothing\nsimilarity = coin_judge:Coin\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    coin: Judge = load_judge("coin")
    rows = judge_rows(spoke("m", a="x"), [], coin, [example()], "said")
    assert label(coin) == "coin v3" and rows["a"]["grades"]["truth"] == len("in Lisbon")
    assert load_judge("similarity") == Similarity()
    with pytest.raises(UserError, match="The plug-in for the judge 'lost' can't be loaded"):
        load_judge("lost")
