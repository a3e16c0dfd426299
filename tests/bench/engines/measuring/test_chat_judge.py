"""The chat judge, against a server of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.engines.measuring.chat_judge import ChatJudge, order_by_hash
from bench.engines.measuring.judges import judge_label
from tests.bench.engines.measuring.test_similarity import OPTIONS, QUESTION


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
    assert judge_label(judge) == "chat:small v1" and "secret" not in repr(judge)


def test_no_option_has_a_place_of_its_own() -> None:
    first = [order_by_hash(OPTIONS, f"question {i}")[0] for i in range(300)]
    assert all(70 < first.count(option) < 130 for option in OPTIONS)
    assert order_by_hash(OPTIONS, QUESTION) == order_by_hash(dict(reversed(OPTIONS.items())), QUESTION)


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
    assert [grades[option] for option in order_by_hash(OPTIONS, QUESTION)] == [1, 2, 3] and len(server.asked) == 3


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
