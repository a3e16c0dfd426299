"""The checks catch what they say they catch: each broken component differs from a good one in one thing."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.conformance import (
    LAB,
    check_declared,
    check_method,
    check_task,
    prepare_traced,
    questions_sound,
    rows_apart,
    scores_sound,
)
from bench.core.boxes import Box, Scale
from bench.core.contracts import Method, Preset, Scenario
from bench.core.types import Checkpoint, Example, Probe, Request, Validation
from bench.engines.training.losses import descent
from bench.metrics.probability import accuracy
from tasks.muse_books import LabMuseBooks
from tests.conftest import SMALL

BOOKS = {name: value for name, value in SMALL.items() if name in LabMuseBooks.__dataclass_fields__}


@dataclass(frozen=True)
class Good(Method):
    """Returns the target as it is."""

    strength: float = 1.0
    """How much of nothing is done, a share."""

    summary: ClassVar[str] = "nothing at all"
    presets: ClassVar[Mapping[str, Preset]] = {"small": Preset({"strength": 0.5}, "made up")}
    space: ClassVar[Mapping[str, Box]] = {"lab": {"strength": Scale("log", (0.5, 2.0))}}
    variants: ClassVar[tuple[str, ...]] = ("small",)

    def problems(self) -> list[str]:
        return [] if self.strength >= 0 else ["strength is not negative"]

    def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
        return request.target


def test_a_good_method_passes() -> None:
    check_method(Good)
    check_method(Good, strength=0.25)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("needs", frozenset({"oracle"}), "needs is a frozenset of"),
        ("version", "1", "version is a whole number"),
        ("summary", "two\nlines", "summary is one line"),
        ("presets", {"small": Preset({"strength": 0.5}, "")}, "must be a Preset with its source"),
        ("presets", {"small": Preset({"power": 1}, "x")}, "preset 'small' sets 'power', which is no field"),
        ("presets", {"small": Preset({"strength": "big"}, "x")}, "to a str where the default is a float"),
        ("presets", {"small": Preset({"strength": -1.0}, "x")}, "preset 'small' is refused: strength is not negative"),
        ("presets", {}, "variant 'small' has no preset"),
        ("space", {"lab": {}}, "the box of 'lab' searches nothing"),
        (
            "space",
            {"lab": {"strength": Scale("log", (2.0, 1.0))}},
            "the box of 'lab': strength: log must be the smallest",
        ),
        (
            "space",
            {"lab": {"strength": Scale("choice", (1.0, 2.0))}},
            "the box of 'lab' is too small: The box of strength has",
        ),
        (
            "space",
            {"lab": {"strength": Scale("linear", (-3.0, -2.0))}},
            "a setting of the box of 'lab' is refused: strength is",
        ),
        (
            "space",
            {"lab": {"power": Scale("linear", (0.0, 2.0))}},
            "a setting of the box of 'lab' sets 'power', which is no field",
        ),
        ("rows", lambda self, forget, retain: 1.5, "rows(100, 400) is 1.5"),
    ],
)
def test_each_fault_of_a_declaration_is_a_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_declared(type("Good", (Good,), {name: value, "__doc__": "The same."}))
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2, "the class, and the one thing that is wrong"


def test_an_object_is_no_method() -> None:
    with pytest.raises(AssertionError, match="it is an object of Good: give the class"):
        check_method(Good())  # type: ignore[arg-type]


def test_fields_without_the_decorator_are_none() -> None:
    class Bare(Good):
        """Good."""

        share: float = 0.5
        """A share."""

    with pytest.raises(AssertionError, match="it is not a dataclass"):
        check_declared(Bare)


def test_a_faulty_settings_file_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Written(Method):
        """Good."""

        summary: ClassVar[str] = "nothing"

        def unlearn(self, request: Request, ctx: Any) -> Checkpoint:
            return request.target

    (tmp_path / "written.toml").write_text("lab = 3")
    monkeypatch.setattr("bench.core.settings.settings_file", lambda kind: tmp_path / "written.toml")
    with pytest.raises(AssertionError, match=r"- written.toml, \[lab\] must be a table"):
        check_declared(Written)


def test_faults_of_the_dataclass() -> None:
    @dataclass
    class Sloppy:
        required: int
        bare: int = 3
        many: tuple[int, ...] = (1, 2)
        """Several."""

    with pytest.raises(AssertionError) as caught:
        check_declared(Sloppy)
    for sentence in (
        "it lacks 'unlearn'",
        "it is not derived from bench.api.Method",
        "it is not frozen",
        "it has no docstring",
        "field 'required' has no default",
        "field 'bare' has no meaning",
        "field 'many' is a tuple, which --set can't give",
    ):
        assert sentence in str(caught.value)


def test_a_class_of_another_kind() -> None:
    with pytest.raises(AssertionError, match="it is not a dataclass"):
        check_declared(int)


def vandal(request: Request, ctx: Any) -> Checkpoint:
    """Writes into the target's folder."""
    config = Path(request.target.path) / "config.json"
    config.write_text(config.read_text() + "\n")
    return request.target


def gambler(request: Request, ctx: Any) -> Checkpoint:
    """Draws from nowhere."""
    made: Checkpoint = ctx.combine([(1 + uuid.uuid4().int % 1000 / 1000, request.target)], "drawn")
    return made


def liar(request: Request, ctx: Any) -> Checkpoint:
    return replace(request.target, hash="0" * 64)


def wrecker(request: Request, ctx: Any) -> Checkpoint:
    made: Checkpoint = ctx.combine([(1e38, request.target), (1e38, request.target)], "too large")
    again: Checkpoint = ctx.combine([(1e38, made)], "larger")
    return again


@pytest.mark.parametrize(
    ("unlearn", "sentence"),
    [
        (vandal, "unlearn changed the files of the target"),
        (gambler, "the same seed gave other weights the second time"),
        (liar, "the returned checkpoint's hash is not that of its files"),
        (wrecker, "the unlearned weights are not finite"),
        (lambda request, ctx: None, "unlearn returned a NoneType, not a Checkpoint"),
    ],
    ids=["vandal", "gambler", "liar", "wrecker", "nothing"],
)
def test_each_fault_of_the_work_is_a_sentence(unlearn: Callable[..., Any], sentence: str) -> None:
    method = type("Good", (Good,), {"unlearn": lambda self, request, ctx: unlearn(request, ctx), "__doc__": "Bad."})
    with pytest.raises(AssertionError) as caught:
        check_method(method)
    assert sentence in str(caught.value)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return prepare_traced(LabMuseBooks(**BOOKS), LAB, tmp_path_factory.mktemp("books")).scenario


def test_rows_on_two_sides_are_found(scenario: Scenario) -> None:
    assert list(rows_apart(scenario)) == []
    leaked = replace(scenario.forget[3], id="renamed", payload={**scenario.forget[3].payload, "template": "continue"})
    (problem,) = rows_apart(replace(scenario, retain=(*scenario.retain, leaked)))
    assert problem.startswith("forget and retain share texts: 1 rows")
    problems = list(rows_apart(replace(scenario, oracle_rows=(*scenario.oracle_rows, scenario.forget[0]))))
    assert any(p.startswith("forget and oracle_rows share the id 'forget-0-c0'") for p in problems)
    assert any(p.startswith("forget and oracle_rows share texts") for p in problems)


def test_probed_validation_rows_are_found(scenario: Scenario) -> None:
    asked = next(probe for probe in scenario.probes if probe.name == "forget_questions").examples
    held = Validation(forget=asked[:2])
    problems = list(rows_apart(replace(scenario, validation=held)))
    assert {p.split(":")[0] for p in problems} == {
        f"the probe '{name}' asks validation rows" for name in ("forget_questions", "forget_said", "kl_forget")
    }


def test_unseen_rows_that_were_seen_are_found(scenario: Scenario) -> None:
    held = replace(scenario.validation, unseen=scenario.validation.unseen + scenario.retain[:1])
    assert any("validation.unseen holds rows" in p for p in rows_apart(replace(scenario, validation=held)))


def test_a_metric_without_its_probe_and_a_column_without_its_metric_are_found(scenario: Scenario) -> None:
    task = LabMuseBooks(**BOOKS)
    assert list(scores_sound(scenario, task)) == []
    stray = replace(
        scenario,
        metrics=(*scenario.metrics, accuracy("lost", "nowhere", goal="up")),
        utility=("world_acuracy",),
        primary={"kept": "retain_acuracy", "forgot": "retain_accuracy"},
    )
    problems = list(scores_sound(stray, task))
    assert "the metric 'lost' can't be had from the probes: the probe 'nowhere' was not asked" in problems
    assert "utility names 'world_acuracy', which is no metric" in problems
    assert "primary names 'retain_acuracy', which is no metric" in problems
    assert any(p.startswith("primary names the role 'forgot', which is none of forgetting, kept") for p in problems)
    assert any("the scenario's metrics are not those of metrics()" in p for p in problems)


def test_questions_that_the_task_asks_otherwise_or_twice_or_that_are_kept_are_found(scenario: Scenario) -> None:
    assert list(questions_sound(scenario)) == []
    first = scenario.questions[0]
    other = replace(first, payload={**first.payload, "prompt": "who ?"})
    unasked = "attacks ask questions that no greedy generate probe of the task's own asks so"
    assert list(questions_sound(replace(scenario, questions=(other,)))) == [unasked]
    twice = replace(scenario, questions=(first, first))
    assert list(questions_sound(twice)) == ["attacks ask the question 'forget-0-p0-home-q2' twice"]
    kept = replace(scenario, fact_of=lambda id: id.rpartition("-")[2])
    assert list(questions_sound(kept)) == ["attacks ask 'forget-0-p0-home-q2', whose fact is that of a retain row"]


def test_an_oracle_trained_on_forget_rows_is_found(tmp_path: Path) -> None:
    """It says that its rows are clean; its training says otherwise."""
    from bench.conformance import checkpoints_apart
    from bench.core.contracts import Recipe, Stream
    from bench.runs.stages import stage_two

    trace = prepare_traced(LabMuseBooks(**BOOKS), LAB, tmp_path)
    scenario = trace.scenario
    streams = (Stream(scenario.oracle_rows + scenario.forget[:1], 8, descent()),)
    assert scenario.history is not None
    start = scenario.history().last.checkpoint
    bad = stage_two(trace.work, lambda: start, streams, Recipe(1, 1e-3), "oracle-1", order=1)
    spoilt = replace(trace, scenario=replace(scenario, oracles=(scenario.oracles[0], bad)))
    problems = list(checkpoints_apart(spoilt))
    assert any(p.startswith("an oracle has seen forget rows: 1 rows") for p in problems)
    assert "oracle_rows are not the rows that the oracles are trained on" in problems


def test_one_oracle_is_too_few(tmp_path: Path) -> None:
    from bench.conformance import checkpoints_apart

    trace = prepare_traced(LabMuseBooks(**BOOKS), LAB, tmp_path)
    lonely = replace(trace, scenario=replace(trace.scenario, oracles=trace.scenario.oracles[:1]))
    (problem,) = checkpoints_apart(lonely)
    assert problem.startswith("there are fewer than two oracles")


def test_the_message_names_the_class() -> None:
    with pytest.raises(AssertionError, match=r"builtins\.dict:\n- it lacks 'summary'"):
        check_task(dict)


def test_a_probe_of_an_unknown_kind_is_found(scenario: Scenario) -> None:
    from bench.conformance import probes_sound

    row = Example("x", {"prompt": "p", "answer": "a", "template": "qa"})
    probes = (
        Probe("odd", "telepathy", (row, row)),
        Probe("mute", "generate", (row,)),
        Probe("r", "logprob", (row,), ("wrong",)),
    )
    problems = list(probes_sound(replace(scenario, probes=probes)))
    assert [p.split(";")[0] for p in problems] == [
        "the probe 'odd' is of the unknown kind 'telepathy'",
        "the probe 'odd' has the id 'x' twice",
        "the probe 'mute' generates nothing: set max_new_tokens",
        "the probe 'r' scores 'wrong', and some of its rows have no such reference",
    ]
