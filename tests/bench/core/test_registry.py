from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.core import registry
from bench.core.errors import UserError
from bench.core.hashing import hash_file
from tests import processes
from tests.processes import plug_in


@dataclass(frozen=True)
class Sample:
    """A parameter of each kind."""

    steps: int = 60
    lr: float = 1e-4
    per_token: bool = False
    retain: str = "all"

    def problems(self) -> list[str]:
        return ["sample.retain is 'all'."] if self.retain != "all" else []


def test_a_name_is_a_class() -> None:
    from methods.msa import MSA
    from tasks.tofu import LabTofu, RealTofu

    assert registry.load_component("methods", "msa") is MSA
    assert registry.load_task("tofu", "lab") is LabTofu and registry.load_task("tofu", "real") is RealTofu


def test_an_unknown_name_is_told_with_the_nearest_and_all() -> None:
    with pytest.raises(UserError) as told:
        registry.load_component("methods", "task-aritmetic")
    [sentence] = told.value.problems
    assert sentence.startswith(
        "Unknown method 'task-aritmetic'. Did you mean 'task-arithmetic'? Known: altpo, before, ce-u,"
    )
    assert "python -m bench ls methods" in sentence


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("steps", "12", 12),
        ("lr", "2e-4", 0.0002),
        ("lr", "1", 1.0),
        ("per_token", "true", True),
        ("per_token", "No", False),
        ("per_token", "1", True),
        ("retain", "forget", "forget"),
    ],
)
def test_texts_become_values_of_the_defaults_type(name: str, text: str, value: Any) -> None:
    found = registry.convert_param(Sample, name, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("steps", "1.5"), ("steps", ""), ("lr", "fast"), ("lr", "nan"), ("lr", "-inf"), ("per_token", "2")],
)
def test_other_texts_are_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        registry.convert_param(Sample, name, text)


def test_bounds_are_the_shared_ones_and_the_components_own() -> None:
    assert registry.check_bounds(Sample, registry.default_params(Sample)) == []
    bad = {"steps": 0, "lr": 0.0, "per_token": False, "retain": "some"}
    assert registry.check_bounds(Sample, bad, "sample") == [
        "sample.steps must be at least 1, not 0.",
        "sample.lr must be above 0, not 0.0.",
        "sample.retain is 'all'.",
    ]


def test_plug_ins_add_names_and_take_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registry.components("methods")
    plug_in(
        tmp_path,
        "from bench.api import Method\nclass Mine(Method):\n summary = 'mine'\n def unlearn(self, request, ctx): pass\n",
        {"mine": "Mine", "msa": "Mine"},
        "mining",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = registry.components("methods")
    assert found == before | {"mine": "mining:Mine"} and found["msa"] == "methods.msa:MSA"
    assert registry.load_component("methods", "mine").__module__ == "mining"


def test_a_plug_in_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, "", {"gone": "Gone"}, "left")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"The plug-in for 'gone' \(left:Gone\) can't be loaded"):
        registry.load_component("methods", "gone")


FAULTY = """
from dataclasses import dataclass
from bench.api import Method, Metric, Score, Task

@dataclass(frozen=True)
class Fade(Method):
    share: float = 0.5
    "A share."
    summary = "fading"
    def unlearn(self, request, ctx):
        return request.target

OBJECT = Fade()

@dataclass(frozen=True)
class Also(Fade):
    speed: int = 1
    "A speed."

@dataclass(frozen=True)
class Silent(Method):
    share: float = 0.5

@dataclass(frozen=True)
class Needy(Method):
    share: float
    summary = "needs to be told"

class Stranger:
    summary = "no method"

class Idle(Method):
    summary = "it does nothing"

@dataclass(frozen=True)
class Unversioned(Fade):
    version = None

@dataclass(frozen=True)
class Greedy(Fade):
    needs = "history"

class Place(Task):
    pass

def none(responses, oracles):
    return Score(1.0, 1)

SIDEWAYS = Metric("sideways", none, goal="sideways")
KL = Metric("kl_forget", none, goal="up", description="x")
GOOD = Metric("good", none, goal="up", description="a good one", source="own")
"""
POINTS = """
[msa_bench.methods]
fading = faulty:Fade
also = faulty:Also
same = faulty:Fade
instance = faulty:OBJECT
silent = faulty:Silent
needy = faulty:Needy
stranger = faulty:Stranger
lost = faulty:Lost
idle = faulty:Idle
unversioned = faulty:Unversioned
greedy = faulty:Greedy
cut = cut:Cut
gone = gone:Gone
failing = failing:Fails
msa = faulty:Fade

[msa_bench.tasks]
place = faulty:Place
tofu.real = faulty:Place

[msa_bench.metrics]
sideways = faulty:SIDEWAYS
kl_forget = faulty:KL
kind = faulty:Fade
unread = cut:METRIC
good = faulty:GOOD
"""
REASONS = {
    "instance": "its entry point names an object of Fade, let it name the class.",
    "silent": "it lacks `summary`, one line that says what it is.",
    "needy": "its field 'share' has no default.",
    "stranger": "derive it from bench.api.Method.",
    "idle": "it lacks `unlearn`.",
    "unversioned": "its `version` is a whole number, 1 at first, raised when the same parameters give another result.",
    "greedy": "its `needs` is a frozenset of names such as 'history', not 'history'.",
    "lost": "module 'faulty' has no attribute 'Lost'.",
    "cut": "SyntaxError: '(' was never closed (cut.py, line 1).",
    "gone": "No module named 'gone'.",
    "failing": "ZeroDivisionError: division by zero.",
}
REMEDY = " It is in the package faulty (entry point group msa_bench.{}): correct or uninstall it."
Bench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a distribution with one good method and one good metric, and every fault."""
    folder = plug_in(tmp_path_factory.mktemp("faulty"), FAULTY, {}, "faulty")
    (folder / "faulty-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    (folder / "cut.py").write_text("x = (")
    (folder / "failing.py").write_text("1 / 0")
    return folder


@pytest.fixture
def bench(faulty: Path, tmp_path: Path) -> Bench:
    """The command line with the faulty distribution installed."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return processes.bench(words, tmp_path, [faulty])

    return run


@pytest.mark.parametrize("name", REASONS)
def test_a_faulty_plug_in_is_refused_in_a_sentence(name: str, faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(faulty))
    with pytest.raises(UserError) as told:
        registry.load_component("methods", name)
    place = registry.components("methods")[name]
    sentence = f"The plug-in for '{name}' ({place}) can't be loaded: {REASONS[name]}"
    assert told.value.problems == (sentence + REMEDY.format("methods"),)


def test_a_faulty_plug_in_stops_no_listing(bench: Bench) -> None:
    done = bench("ls", "methods")
    assert done.returncode == 0, done.stderr
    assert "\nfading " in done.stdout and "\nmsa " in done.stdout and "silent" not in done.stdout
    for name, reason in REASONS.items():
        assert done.stderr.count(f"NOTE: left out: The plug-in for '{name}' (") == 1 and reason in done.stderr
    assert "NOTE: left out: The plug-in for 'msa' (faulty:Fade): 'msa' is the name of one of ours." in done.stderr
    done = bench("ls", "tasks")
    assert done.returncode == 0, done.stderr
    assert "\ntofu: " in f"\n{done.stdout}"
    assert "NOTE: left out: The plug-in for 'place' (faulty:Place) can't be loaded: it lacks `summary`" in done.stderr
    assert "NOTE: left out: The plug-in for 'tofu' (faulty:Place): 'tofu' is the name of one of ours." in done.stderr
    done = bench("ls", "metrics")
    assert done.returncode == 0, done.stderr
    assert "good (version 1, goal up): a good one" in done.stdout and "sideways" not in done.stdout
    assert f"can't be loaded: let its entry point name a bench.api.Metric.{REMEDY.format('metrics')}" in done.stderr


def test_a_faulty_plug_in_stops_no_plan_that_does_without_it(bench: Bench) -> None:
    done = bench("plan", "--methods", "all", "--task", "tofu", "--seeds", "0", "--store", "store", "--out", "runs")
    assert done.returncode == 0, done.stderr
    assert "\nfading " in done.stdout and "\nnpo " in done.stdout and "silent" not in done.stdout
    assert "The plug-in for 'cut' (cut:Cut) can't be loaded: SyntaxError" in done.stderr
    assert "'sideways' (faulty:SIDEWAYS) can't be loaded: its goal is 'sideways': it is up, down, oracle" in done.stderr
    assert "'unread' (cut:METRIC) can't be loaded: SyntaxError" in done.stderr
    told = "NOTE: left out: The plug-in for 'kl_forget' (faulty:KL) can't score tofu, where 'kl_forget' is the name of"
    assert done.stderr.count(told) == 1
    assert "Traceback" not in done.stderr


def test_a_faulty_plug_in_that_is_asked_for_is_a_mistake(bench: Bench) -> None:
    done = bench("plan", "--methods", "cut,npo", "--task", "tofu", "--out", "runs")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: The plug-in for 'cut' (cut:Cut) can't be loaded: SyntaxError" in done.stderr


def test_settings_that_dont_suit_a_plug_in_are_a_mistake_or_left_out(bench: Bench, faulty: Path) -> None:
    file = faulty / "settings" / "faulty.toml"
    file.parent.mkdir()
    file.write_text('[real]\nparams = { speed = 1 }\nsource = "x"\n')
    sentence = "Unknown parameter of faulty.toml, [real]: params 'speed'. Known: share."
    try:
        done = bench("plan", "--methods", "fading", "--task", "tofu", "--out", "runs")
        assert done.returncode == 2 and f"error: {sentence}" in done.stderr and "Traceback" not in done.stderr
        for words in (
            ("ls", "methods"),
            ("plan", "--methods", "all", "--task", "tofu", "--seeds", "0", "--out", "runs"),
        ):
            done = bench(*words)
            assert done.returncode == 0 and f"NOTE: left out: {sentence}" in done.stderr, done.stderr
    finally:
        file.unlink()


def test_a_choice_is_not_written_into_a_file_that_another_method_reads(bench: Bench) -> None:
    for methods in ("fading", "all"):
        done = bench("tune", "--methods", methods, "--task", "tofu", "--write", "--out", "runs")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        sentence = (
            "error: --write: fading shares settings/faulty.toml with also: give it a module of its own, or leave out"
        )
        assert sentence in done.stderr
    done = bench("tune", "--methods", "fading", "--task", "tofu", "--out", "runs")
    assert done.returncode == 2 and "shares" not in done.stderr, "without --write it has no settings to try"


def test_our_own_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import methods

    monkeypatch.setitem(methods.TABLE, "msa", "methods.msa:Gone")
    with pytest.raises(AttributeError):
        registry.load_component("methods", "msa")


FILE = """
from dataclasses import dataclass
from bench.api import Method, Metric, Score
from methods.npo import NPO

@dataclass(frozen=True)
class GradDiffTwice(Method):
    share: float = 0.5
    "A share."
    summary = "twice"
    def unlearn(self, request, ctx):
        return request.target

class NPOAgain(GradDiffTwice):
    summary = "again"

LEAST = Metric("least", lambda responses, oracles: Score(1.0, 1), goal="up")
"""


@pytest.fixture
def no_files() -> Iterator[None]:
    yield
    registry.FILES.clear()


def test_a_file_holds_methods_and_metrics_of_its_own(tmp_path: Path, no_files: None) -> None:
    """What it imports is not its own."""
    file = tmp_path / "several.py"
    file.write_text(FILE)
    assert {name: [*found] for name, found in registry.use_file(file).items()} == {
        "methods": ["grad-diff-twice", "npo-again"],
        "tasks": [],
        "metrics": ["least"],
        "trackers": [],
    }
    assert registry.load_component("methods", "npo-again").summary == "again"
    assert registry.load_component("metrics", "least").goal == "up"
    code = registry.plugin_code("methods", "npo-again", registry.load_component("methods", "npo-again"))
    assert code == {"code of npo-again": hash_file(file)}
    assert registry.method_of_file(file, "NPOAgain") == "npo-again"
    with pytest.raises(
        UserError, match="several.py has 2 methods: write several.py:GradDiffTwice for one of GradDiffTwice, "
    ):
        registry.method_of_file(file)
    with pytest.raises(UserError, match="Unknown method of several.py 'NPOAgan'. Did you mean 'NPOAgain'"):
        registry.method_of_file(file, "NPOAgan")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = (", r"bad.py can't be loaded: '\(' was never closed, bad.py, line 1\.$"),
        (
            "def f():\n    return 1 / 0\nf()\n",
            r"bad.py can't be loaded: ZeroDivisionError: division by zero \(bad.py, line 2",
        ),
        ("import nosuch\n", r"bad.py can't be loaded: No module named 'nosuch' \(bad.py, line 1: import nosuch\)\.$"),
        ("x = 1\n", "bad.py holds no method, task, metric or tracker"),
        (
            FILE.replace("GradDiffTwice", "NPO").replace("from methods.npo import NPO", ""),
            "bad.py: 'npo' is the name of one",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text: str, sentence: str, tmp_path: Path, no_files: None) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence) as told:
        registry.use_file(file)
    assert len(told.value.problems) == 1 and not registry.FILES


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no Python file 'none.py'"):
        registry.use_file(tmp_path / "none.py")


def test_the_last_frame_of_a_plug_ins_own_file_is_named() -> None:
    trace = """Traceback (most recent call last):
  File "/a/bench/runs/runner.py", line 9, in unlearn
    result = method.unlearn()
  File "/x/fade.py", line 3, in unlearn
    return helper()
  File "/x/fade.py", line 7, in helper
    bad = 1 / 0
          ~~^~~
  File "/lib/torch/nn.py", line 1, in forward
    pass
ZeroDivisionError: division by zero
"""
    assert registry.last_place(trace, [Path("/x/fade.py")]) == " (fade.py, line 7: bad = 1 / 0)"
    assert registry.last_place(trace, [Path("/x/other.py")]) == ""
