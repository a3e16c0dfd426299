"""Settings files of methods: one form, read and written; of ours, and beside a plug-in's module."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.core import registry
from bench.core.errors import UserError
from bench.core.files import read_toml
from bench.core.settings import (
    HEADER,
    Preset,
    combinations_of,
    read_settings,
    settings_file,
    settings_text,
    write_preset,
)

SHIPPED = sorted((Path(registry.__file__).parents[2] / "methods" / "settings").glob("*.toml"))
MODULE = """
from dataclasses import dataclass
from bench.core.contracts import Method

@dataclass(frozen=True)
class Fade(Method):
    share: float = 0.5
    steps: int = 1

class Slow(Fade):
    pass
"""
TEXT = """
[lab]
box = [{ share = [0.1, 0.9], steps = [1, 2] }, { share = [0.5] }]

[real-tofu]
params = { share = 0.25 }
source = "a table of a paper"

[real-muse-books]
same = "real-tofu"
"""


@pytest.fixture
def fade(tmp_path: Path) -> Iterator[Callable[[str], type]]:
    """A plug-in's method with a settings file of this text; none where there is no text."""

    def made(text: str) -> type:
        (tmp_path / "fade.py").write_text(MODULE)
        if text:
            (tmp_path / "settings").mkdir()
            (tmp_path / "settings" / "fade.toml").write_text(text)
        spec = importlib.util.spec_from_file_location("fade", tmp_path / "fade.py")
        assert spec and spec.loader
        sys.modules["fade"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Fade  # type: ignore[no-any-return]

    yield made
    sys.modules.pop("fade", None)
    read_settings.cache_clear()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_has_the_one_form_and_reads_back_the_same(path: Path) -> None:
    tables = read_toml(path)
    assert path.read_text() == settings_text(tables)
    assert tomllib.loads(settings_text(tables)) == tables


def test_every_shipped_file_is_read_by_its_method() -> None:
    kinds = [registry.load_component("methods", name) for name in registry.components("methods")]
    assert {settings_file(kind) for kind in kinds if kind.presets} == set(SHIPPED) and len(SHIPPED) >= 5


def test_a_box_is_tried_in_order_the_last_list_varying_fastest() -> None:
    assert combinations_of(a=(1, 2), b=("x", "y")) == (
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    )


def test_a_plug_in_has_its_file_beside_its_module_and_a_subclass_inherits_it(fade: Callable[[str], type]) -> None:
    kind = fade(TEXT)
    assert kind.presets == {  # type: ignore[attr-defined]
        "real-tofu": Preset({"share": 0.25}, "a table of a paper"),
        "real-muse-books": Preset({"share": 0.25}, "a table of a paper"),
    }
    assert kind.space == {  # type: ignore[attr-defined]
        "lab": (
            {"share": 0.1, "steps": 1},
            {"share": 0.1, "steps": 2},
            {"share": 0.9, "steps": 1},
            {"share": 0.9, "steps": 2},
            {"share": 0.5},
        )
    }
    assert sys.modules["fade"].Slow.presets == kind.presets  # type: ignore[attr-defined]


def test_without_a_file_there_are_no_presets_and_nothing_is_tried(fade: Callable[[str], type]) -> None:
    kind = fade("")
    assert kind.presets == {} == kind.space  # type: ignore[attr-defined]


def test_a_written_preset_takes_a_place_and_everything_else_stays(fade: Callable[[str], type]) -> None:
    kind = fade(TEXT)
    file = write_preset(kind, "real-muse-books", {"share": 0.75}, "a search")
    write_preset(kind, "lab", {"steps": 3}, "another")
    write_preset(kind, "lab-tofu", {}, "a third")
    assert file.read_text() == HEADER + "\n" + "\n".join(
        (
            "[lab]",
            "params = { steps = 3 }",
            'source = "another"',
            "box = [",
            "    { share = [0.1, 0.9], steps = [1, 2] },",
            "    { share = [0.5] },",
            "]",
            "",
            "[real-tofu]",
            "params = { share = 0.25 }",
            'source = "a table of a paper"',
            "",
            "[real-muse-books]",
            "params = { share = 0.75 }",
            'source = "a search"',
            "",
            "[lab-tofu]",
            "params = {}",
            'source = "a third"',
            "",
        )
    )
    assert kind.presets["real-muse-books"] == Preset({"share": 0.75}, "a search")  # type: ignore[attr-defined]
    assert len(kind.space["lab"]) == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[lab", "fade.toml' is no TOML"),
        ("[lab]\nparms = {}", r"Unknown key of fade.toml, \[lab\] 'parms'. Did you mean 'params'"),
        ('[lab]\nsame = "real"', r"fade.toml, \[lab\] needs \"params\" and \"source\""),
        ("[lab]\nparams = {}", r"fade.toml, \[lab\] needs \"params\" and \"source\""),
    ],
)
def test_a_mistake_in_a_file_is_a_sentence(fade: Callable[[str], type], text: str, sentence: str) -> None:
    kind = fade(text)
    with pytest.raises(UserError, match=sentence):
        kind.presets  # type: ignore[attr-defined]  # noqa: B018
