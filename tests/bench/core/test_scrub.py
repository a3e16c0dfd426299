from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.scrub import hide_paths, hide_secrets, scrub


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('File "/usr/lib/python3.11/json/decoder.py", line 5', 'File "…/decoder.py", line 5'),
        ("no such file: '/data/me/model.safetensors'", "no such file: '…/model.safetensors'"),
        ("[Errno 2] /scratch/a b/c.json", "[Errno 2] …/c.json"),
        ("see https://example.org/a/b/c for more", "see https://example.org/a/b/c for more"),
        ("muse-books/lab and/or 1/2 of a/b/c", "muse-books/lab and/or 1/2 of a/b/c"),
        ("3 / 4", "3 / 4"),
    ],
)
def test_paths_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_paths(text, ["/scratch/a b"]) == shown


def test_the_folders_of_this_process_are_hidden() -> None:
    text = f"{Path.cwd()}/x.py {Path.home()}/y.py {sys.prefix}/z.py"
    assert str(Path.cwd()) not in hide_paths(text) and str(Path.home()) not in hide_paths(text)
    assert hide_paths(f"{Path.cwd()}/x.py") == "…/x.py"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("401 for hf_AbCdEfGhIjKlMnOp at x", "401 for … at x"),
        ("key=sk-proj-12345678_ab", "key=…"),
        ("https://me:secret@example.org/x", "https://…@example.org/x"),
        ("https://ghp_0123456789abcdefXYZ@github.com/a/b", "https://…@github.com/a/b"),
        ("{'Authorization': 'Bearer abc.def-123'}", "{'Authorization': 'Bearer …'}"),
        ("?api_key=abcdef123&x=1", "?api_key=…&x=1"),
        ("git+ssh://git@example.org/a", "git+ssh://…@example.org/a"),
        ("a wholehf_word and sk- and NAME@REVISION", "a wholehf_word and sk- and NAME@REVISION"),
        ("https://example.org/a@1.0 is no login", "https://example.org/a@1.0 is no login"),
        ("the token limit of 2048 tokens, the key is missing", "the token limit of 2048 tokens, the key is missing"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"]
)
def test_what_the_environment_keeps_secret_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct horse battery")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "falsehood")
    assert scrub("said correct horse battery, and falsehood") == "said …, and falsehood"


def test_the_host_and_the_home_folder_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="node17"))
    monkeypatch.setenv("HOME", "/home/me")
    assert hide_secrets("node17.cluster and node170 at /home/me/x and /home/media") == (
        "….cluster and node170 at ~/x and /home/media"
    )


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("vm", "…: no vmstat, n1"),
        ("vm.example.org", "…: no vmstat, n1"),
        ("n", "vm: no vmstat, n1"),
    ],
)
def test_a_short_host_is_hidden_where_it_stands_as_a_word(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=host))
    assert hide_secrets("vm: no vmstat, n1") == shown
