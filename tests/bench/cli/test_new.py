"""`bench new`: what it writes works as it is, and names that can't be."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from bench.core import registry
from tests.shell import Shell


@pytest.fixture
def written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the test that was written for ``fade-out``."""
    assert shell("new", "method", "fade-out").code == 0
    monkeypatch.syspath_prepend(str(shell.folder))
    spec = importlib.util.spec_from_file_location("test_fade_out", shell.folder / "test_fade_out.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("fade_out", None)


def test_what_it_writes_passes_the_test_that_it_writes(written: Any) -> None:
    checks = [getattr(written, name) for name in vars(written) if name.startswith("test_")]
    assert len(checks) == 3
    for check in checks:
        check()


def test_the_commands_that_it_prints_name_what_it_wrote(shell: Shell) -> None:
    said = shell("new", "method", "fade-out", "--to", "mine").out.splitlines()
    assert said[:2] == ["mine/fade_out.py", "mine/test_fade_out.py"]
    assert said[2].endswith("python -m pytest mine/test_fade_out.py")
    [_, words] = said[3].split("--methods ")
    assert registry.method_of_file(shell.folder / words.split(":")[0], "FadeOut") == "fade-out"
    registry.FILES.clear()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("method", "npo"), "'npo' is the name of one of ours: take another."),
        (("method", "X y"), "'X y' can't be a method's name: take small letters"),
        (("method", "none"), "'none' can't be a method's name"),
        (("method", "../up"), "'../up' can't be a method's name"),
        (("task", "mine"), "new writes a method, and no task: docs/add-a-task.md shows how one is written."),
        (("moon", "mine"), "new writes a method, and no moon."),
    ],
)
def test_what_cant_be_is_a_sentence(words: tuple[str, str], sentence: str, shell: Shell) -> None:
    done = shell("new", *words)
    assert done.code == 2 and done.errors[0].startswith(sentence) and not list(shell.folder.iterdir())


def test_nothing_is_overwritten(shell: Shell) -> None:
    (shell.folder / "fade.py").write_text("mine")
    done = shell("new", "method", "fade")
    assert done.code == 2 and done.errors == ["fade.py: there already; take another name, or --to another folder."]
    assert (shell.folder / "fade.py").read_text() == "mine" and len(list(shell.folder.iterdir())) == 1
