"""Settings files of methods: one form, read and written; of ours, and beside a plug-in's module."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.core import registry
from bench.core.boxes import Scale
from bench.core.errors import UserError
from bench.core.files import read_toml
from bench.core.settings import (
    HEADER,
    KEYS,
    Preset,
    read_settings,
    settings_file,
    toml_key,
    toml_value,
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
DERIVED = """
from dataclasses import dataclass
from fade import Fade

@dataclass(frozen=True)
class Mine(Fade):
    extra: float = 1.0
"""
TEXT = """
[lab]
box = { share = { log = [0.1, 0.9] }, steps = 2 }

[real-tofu]
params = { share = 0.25 }
source = "a table of a paper"

[real-muse-books]
same = "real-tofu"
"""


def import_from(folder: Path, name: str, code: str) -> ModuleType:
    (folder / f"{name}.py").write_text(code)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fade(tmp_path: Path) -> Iterator[Callable[[str], type]]:
    """A plug-in's method with a settings file of this text; none where there is no text."""

    def made(text: str) -> type:
        if text:
            (tmp_path / "settings").mkdir()
            (tmp_path / "settings" / "fade.toml").write_text(text)
        return import_from(tmp_path, "fade", MODULE).Fade  # type: ignore[no-any-return]

    yield made
    sys.modules.pop("fade", None)
    sys.modules.pop("mine", None)
    read_settings.cache_clear()


def settings_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The one form of the shipped files."""
    lines = [HEADER]
    for name, table in tables.items():
        lines.append(f"[{toml_key(name)}]")
        for key in (key for key in KEYS if key in table):
            lines.append(f"{key} = {toml_value(table[key])}")
        lines.append("")
    return "\n".join(lines)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_has_the_one_form_and_reads_back_the_same(path: Path) -> None:
    tables = read_toml(path)
    assert path.read_text() == settings_text(tables)
    assert tomllib.loads(settings_text(tables)) == tables


def test_every_shipped_file_is_read_by_its_method() -> None:
    kinds = [registry.load_component("methods", name) for name in registry.components("methods")]
    assert {settings_file(kind) for kind in kinds if kind.presets} == set(SHIPPED) and len(SHIPPED) >= 5


def test_a_plug_in_has_its_file_beside_its_module_and_a_subclass_inherits_it(fade: Callable[[str], type]) -> None:
    kind = fade(TEXT)
    assert kind.presets == {  # type: ignore[attr-defined]
        "real-tofu": Preset({"share": 0.25}, "a table of a paper"),
        "real-muse-books": Preset({"share": 0.25}, "a table of a paper"),
    }
    assert kind.space == {"lab": {"share": Scale("log", (0.1, 0.9)), "steps": 2}}  # type: ignore[attr-defined]
    assert sys.modules["fade"].Slow.presets == kind.presets  # type: ignore[attr-defined]


def test_without_a_file_there_are_no_presets_and_nothing_is_tried(fade: Callable[[str], type]) -> None:
    kind = fade("")
    assert kind.presets == {} == kind.space  # type: ignore[attr-defined]


def test_a_written_preset_takes_a_place_and_everything_else_stays(fade: Callable[[str], type]) -> None:
    kind = fade(TEXT)
    file = write_preset(kind, "real-muse-books", {"share": 0.75}, "a search")
    write_preset(kind, "lab", {"steps": 3}, "another")
    write_preset(kind, "lab-tofu", {}, "a third")
    made = TEXT.replace("[lab]\n", '[lab]\nparams = { steps = 3 }\nsource = "another"\n')
    made = made.replace('same = "real-tofu"\n', 'params = { share = 0.75 }\nsource = "a search"\n')
    assert file.read_text() == made + '\n[lab-tofu]\nparams = {}\nsource = "a third"\n'
    assert kind.presets["real-muse-books"] == Preset({"share": 0.75}, "a search")  # type: ignore[attr-defined]
    assert len(kind.space["lab"]) == 2  # type: ignore[attr-defined]


def test_a_box_can_be_shared_and_stays_shared_when_a_preset_is_written(fade: Callable[[str], type]) -> None:
    """``same`` gives what the table doesn't state itself: the box alone once the place has a preset of its own."""
    text = (
        TEXT + '\n[lab-digits]\nsame = "lab"\n\n[lab-graph]\nsame = "real-tofu"\nbox = { steps = { int = [1, 9] } }\n'
    )
    kind: Any = fade(text)
    assert kind.space["lab-digits"] == kind.space["lab"] and "lab-digits" not in kind.presets
    assert kind.presets["lab-graph"] == kind.presets["real-tofu"] and kind.space["lab-graph"]["steps"].values == (1, 9)
    write_preset(kind, "lab-graph", {"share": 0.5}, "a search")
    file = write_preset(kind, "lab-digits", {"share": 0.75}, "a search")
    assert read_toml(file)["lab-digits"] == {"params": {"share": 0.75}, "source": "a search", "same": "lab"}
    assert read_toml(file)["lab-graph"].keys() == {"params", "source", "box"}
    assert kind.presets["lab-digits"].params == {"share": 0.75} and kind.space["lab-digits"] == kind.space["lab"]


def test_comments_stay_where_they_are(fade: Callable[[str], type]) -> None:
    text = """# mine
[lab] # a place
# on the params
params = { share = 0.1 }
source = "old"  # to be renewed
# on the box
box = { share = { linear = [0.1, 0.2] } }  # end
# on the next
[real]
params = { steps = 2 } # two
source = "x"
"""
    old = '# on the params\nparams = { share = 0.1 }\nsource = "old"  # to be renewed\n'
    file = write_preset(fade(text), "lab", {}, "new")
    assert file.read_text() == text.replace(old, 'params = {}\nsource = "new"\n# on the params\n')


def test_written_files_have_the_form_of_the_shipped_ones(fade: Callable[[str], type]) -> None:
    kind = fade("")
    for place in ("lab", "real-tofu", "lab"):
        file = write_preset(kind, place, {"share": 0.1}, "a search")
    assert file.read_text() == settings_text(read_toml(file)) and set(read_toml(file)) == {"lab", "real-tofu"}


@pytest.mark.parametrize(
    "text", ['[lab]\nsource = "x"\n[lab.params]\nshare = 0.1\n', 'lab.params = {}\nlab.source = "x"\n']
)
def test_a_table_in_pieces_is_left_alone(fade: Callable[[str], type], text: str) -> None:
    kind = fade(text)
    with pytest.raises(UserError, match=r"The table \[lab\] of .*fade.toml can't be changed where it stands"):
        write_preset(kind, "lab", {"share": 0.2}, "a search")
    assert settings_file(kind).read_text() == text


def test_a_derived_method_writes_a_file_of_its_own_and_inherits_the_rest(
    fade: Callable[[str], type], tmp_path: Path
) -> None:
    kind = fade(TEXT)
    mine: Any = import_from(tmp_path, "mine", DERIVED).Mine
    assert mine.presets == kind.presets and mine.space == kind.space  # type: ignore[attr-defined]
    file = write_preset(mine, "real-tofu", {"extra": 2.0}, "a search")
    assert file == tmp_path / "settings" / "mine.toml"
    assert (tmp_path / "settings" / "fade.toml").read_text() == TEXT
    assert kind.presets["real-tofu"].params == {"share": 0.25}  # type: ignore[attr-defined]
    assert mine.presets["real-tofu"] == Preset({"extra": 2.0}, "a search")
    assert mine.presets["real-muse-books"].params == {"share": 0.25} and len(mine.space["lab"]) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[lab", "fade.toml' is no TOML"),
        ("[lab]\nparms = {}", r"Unknown key of fade.toml, \[lab\] 'parms'. Did you mean 'params'"),
        ('[lab]\nsame = "real"', r"fade.toml, \[lab\] needs \"params\" and \"source\""),
        ("[lab]\nparams = {}", r"fade.toml, \[lab\] needs \"params\" and \"source\""),
        (
            '[lab]\nparams = { shared = 0.1 }\nsource = "x"',
            r"^Unknown parameter of fade.toml, \[lab\]: params 'shared'. Did you mean 'share'\? Known: share, steps.$",
        ),
        (
            '[lab]\nparams = { steps = 0.1 }\nsource = "x"',
            r"^fade.toml, \[lab\]: params: steps must be of the type int, not 0.1.$",
        ),
        ('[lab]\nparams = 3\nsource = "x"', r"^fade.toml, \[lab\]: params must be a table, not 3.$"),
        ("[lab]\nparams = {}\nsource = 3", r"^fade.toml, \[lab\]: source must be a text, not 3.$"),
        ("[lab]\nsame = [3]", r"^fade.toml, \[lab\]: same must be a text, not \[3\].$"),
        ("lab = 3", r"^fade.toml, \[lab\] must be a table with params, source, same, box, not 3.$"),
        (
            "[lab]\nbox = [{ share = [1] }]",
            r"^fade.toml, \[lab\]: box must be a table of parameters, not \[\{'share': \[1\]\}\].$",
        ),
        (
            "[lab]\nbox = { share = { log = [0, 1] } }",
            r"^fade.toml, \[lab\]: box: share: log must begin above 0, not at 0.$",
        ),
        (
            "[lab]\nbox = { steps = { int = [1, 9] }, speed = 1 }",
            r"^Unknown parameter of fade.toml, \[lab\]: box 'speed'. Known: share, steps.$",
        ),
        (
            "[lab]\nbox = { steps = { choice = [1, 2.5] } }",
            r"^fade.toml, \[lab\]: box: steps must be of the type int, not 2.5.$",
        ),
        ('[lab]\nsame = "real"\n[real]\nsource = "x"', r"fade.toml, \[real\] needs \"params\" and \"source\""),
    ],
)
def test_a_mistake_in_a_file_is_a_sentence(fade: Callable[[str], type], text: str, sentence: str) -> None:
    kind = fade(text)
    with pytest.raises(UserError, match=sentence):
        kind.presets  # type: ignore[attr-defined]  # noqa: B018
