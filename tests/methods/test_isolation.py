"""A method can't see what it is judged by: no oracle and no held-out question is reachable from what it is given.

Python can't keep a determined thief out (a method may read the disk); these are the ways that lie open by accident.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import methods
from bench.conformance import Trace, held_rows, prepare_traced, row_content, row_contents
from bench.core import registry
from bench.core.contracts import TaskInputs
from bench.core.record import RunSpec, Step
from bench.core.types import Checkpoint, Example, Json, without_references
from bench.engines.loaders import Sealed, open_checkpoint
from bench.runs.method_context import Ledger
from bench.runs.runner import unlearn
from tests.conftest import SMALL
from tests.spies import WAYS, Spy, Thief


@dataclass(frozen=True)
class Built:
    trace: Trace
    target: Checkpoint
    oracles: list[Checkpoint]


LAB = sorted(name for name, tiers in registry.components("tasks").items() if "lab" in tiers)


@pytest.fixture(scope="module", params=LAB)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A task's scenario with its checkpoints, from a few steps of training."""
    cls = registry.load_task(request.param, "lab")
    task = cls(**{name: value for name, value in SMALL.items() if name in registry.fields_of(cls)})
    trace = prepare_traced(task, TaskInputs("lab"), tmp_path_factory.mktemp(request.param))
    return Built(trace, trace.scenario.target(), [oracle() for oracle in trace.scenario.oracles])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Spy", "Plain", "Thief"):
        monkeypatch.setitem(methods.TABLE, name.lower(), f"tests.spies:{name}")


def let_loose(built: Built, method: str, **params: Any) -> Checkpoint:
    """Run a method as the harness does."""
    spec = RunSpec("", {}, "lab", "lab", (Step(method, params),), 0)
    return unlearn(spec, built.trace.scenario, built.target, built.oracles, built.trace.work, Ledger(set(), set()))


def reachable(roots: list[Any]) -> Iterator[Any]:
    """Everything that attributes, items and bound methods lead to; modules, classes and closures excepted."""
    queue, seen = list(roots), set[int]()
    keep = []  # what is walked stays alive, so that no id is used twice
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.BuiltinFunctionType):
            continue
        seen.add(id(thing))
        keep.append(thing)
        yield thing
        if isinstance(thing, Mapping):
            queue += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            queue += list(thing)
        elif not isinstance(thing, str | bytes | Path):
            queue += list(getattr(thing, "__dict__", {}).values())
            queue += [getattr(thing, slot) for slot in getattr(type(thing), "__slots__", ()) if hasattr(thing, slot)]
            queue += [getattr(thing, name) for name in ("__self__", "func", "args", "keywords") if hasattr(thing, name)]


def test_the_walk_finds_what_is_there() -> None:
    """Through a data class, a bound method, a dictionary and a tuple; but not through a closure."""
    secret = Example("secret", {"prompt": "p", "answer": "a", "template": "qa"})

    @dataclass
    class Holder:
        inner: Any

        def method(self) -> None: ...

    assert any(thing is secret for thing in reachable([{"x": (Holder(secret).method,)}]))
    assert not any(thing is secret for thing in reachable([lambda: secret]))


def test_no_oracle_is_reachable(built: Built, registered: None) -> None:
    let_loose(built, "spy")
    found = list(reachable(list(Spy.caught[-1])))
    strings = {thing for thing in found if isinstance(thing, str)}
    assert built.target.hash in strings and built.target.path in strings, "the walk did see checkpoints"
    for oracle in built.oracles:
        assert oracle.hash not in strings
        assert not any(Path(oracle.path).name in text for text in strings), "the folder's name, whole or in a path"
    assert not any(thing is built.trace.scenario for thing in found)


def test_no_held_out_question_is_reachable(built: Built, registered: None) -> None:
    """Probe rows that are no training rows of the target: neither as an example nor as a text."""
    scenario = built.trace.scenario
    let_loose(built, "spy")
    found = list(reachable(list(Spy.caught[-1])))
    may_see = [*scenario.forget, *scenario.retain, *held_rows(dataclasses.replace(scenario.validation, unseen=()))]
    given = row_contents(may_see)
    held_out = [row for probe in scenario.probes for row in probe.examples if row_content(row) not in given]
    assert len(held_out) >= 30, "there are questions that nobody was taught"
    shown = [thing for thing in found if isinstance(thing, Example)]
    assert {row_content(row) for row in shown} >= given, "the walk did see the rows"
    assert not [row.id for row in shown if row_content(row) not in given]
    if not all("prompt" in row.payload for row in may_see):
        return  # an image or a node is no text
    strings = {thing for thing in found if isinstance(thing, str)}
    trained = {row.payload["prompt"] for row in may_see}
    assert trained <= strings, "and their texts"
    secret = {row.payload["prompt"] for row in held_out} - trained
    secret |= {row.payload["answer"] for row in held_out if not row.payload["prompt"]}
    assert len(secret) >= 30
    assert not secret & strings


def test_history_and_retain_rows_only_for_those_who_declare_the_need(built: Built, registered: None) -> None:
    let_loose(built, "plain")
    request, ctx = Spy.caught[-1]
    assert (request.history, request.retain, request.oracle, request.first) == (None, (), None, None)
    made = {"train", "combine", "cast", "scrambled", "influence", "sample", "open", "cached"}
    made |= {"quantise", "compare_rounded", "describe_update"}
    assert {name for name in dir(ctx) if not name.startswith("_")} == {"seed", "note", *made}
    let_loose(built, "spy")
    request, _ = Spy.caught[-1]
    assert request.retain == without_references(built.trace.scenario.retain) and request.history is not None
    assert request.validation.unseen == (), "never-trained rows are the tuning rule's, not a method's"
    rows = [*request.forget, *request.retain, *held_rows(request.validation)]
    assert not any(row.references for row in rows), "what a probe asks beside the answer stays out"
    assert request.oracle is None


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_thief_with_the_oracle_in_hand_finds_it_shut(built: Built, registered: None, way: str, forged: bool) -> None:
    for oracle in built.oracles:
        Thief.loot.append(oracle)
        with pytest.raises(Sealed, match="must not open the oracle"):
            let_loose(built, "thief", way=way, forged=forged)
        open_checkpoint(oracle)  # the seal is lifted when the method has gone


def test_the_same_ways_lead_to_what_is_not_sealed(built: Built, registered: None) -> None:
    """Otherwise the test above would pass for a thief that can't open anything."""
    Thief.loot.append(built.target)
    assert let_loose(built, "thief", way="opened") == built.target
    assert let_loose(built, "thief", way="combined").hash == built.target.hash


def test_asking_for_the_oracles_own_training_gives_another_node(built: Built) -> None:
    """The same start, rows and recipe as the oracle's, asked by a method, are not answered from the task's cache."""
    from bench.runs.method_context import MethodContext

    work = built.trace.work
    fields = next(node for node in work.nodes.values() if node.info["label"] == "oracle-0").info["fields"]
    asked: list[str] = []
    own = MethodContext(work, Ledger(set(), set()))

    def build(path: Path) -> Json:
        asked.append("built")
        return {"checkpoint": "0" * 64}

    own.cached({name: value for name, value in fields.items() if name != "owner"}, build, "x")
    assert asked == ["built"]
