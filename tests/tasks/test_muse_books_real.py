"""MUSE-Books' real tier on made-up books in its layout, from the command line's words to scores; the stand-in's choice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.assets.data_sets import DATA_SETS, FILES
from bench.assets.models import FETCHED
from bench.conformance import (
    Trace,
    check_task,
    checkpoints_apart,
    prepare_traced,
    probes_sound,
    raise_if_any,
    rows_apart,
    shared_texts,
)
from bench.core.contracts import TaskInputs
from bench.core.errors import UserError
from bench.core.hashing import hash_checkpoint, hash_tree
from bench.core.machine import Machine
from bench.core.types import Example
from bench.engines.loaders import checkpoint_at
from bench.engines.measuring.measure import measure
from bench.lab.model import small_llama, word_tokenizer
from bench.metrics import score_all
from bench.real.muse.rows import choose_muse_rows
from bench.real.muse.tier import RealBooksTask
from bench.runs.asked import Asked
from bench.runs.context import Work
from bench.runs.plan import Plan, make_plan
from bench.runs.runner import execute
from bench.runs.store import Store
from tasks.books_public_domain import BooksPublicDomain
from tasks.muse_books import RealMuseBooks, origin_of_data
from tests.bench.real.muse.test_rows import REAL, WORDS, books, here, written
from tests.tiny import saved

PART: dict[str, Any] = {"most_tokens": 300, "chunk": 48, "passage": 16, "epochs": 1, "batch": 4, "generated": 6}
WHOLE: dict[str, Any] = {"chunk": 48, "epochs": 1, "batch": 4, "probed": 3}
UNVERIFIED = "muse-books (texts not verified against the hub)"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a token for every word of the books."""
    folder = tmp_path_factory.mktemp("models") / "reader"
    tokenizer = word_tokenizer([*WORDS, "Question:", "Answer:", *(f"{i}?" for i in range(4)), "Who"])
    saved(small_llama(len(tokenizer), 16, layers=2, positions=128, seed=0), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("data") / "made-up", books())


@pytest.fixture(scope="module")
def setting(model: Path, data: str) -> TaskInputs:
    return TaskInputs("real", str(model), hash_checkpoint(model), data)


def sets(task: str, params: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{task}.{name}={value}" for name, value in params.items())


def asked(model: Path, data: str, *more: str, task: str = "muse-books", **fields: Any) -> Asked:
    words = (*sets(task, PART), "ga.steps=1", *more)
    return Asked(task, ("ga",), words, (0,), model=str(model), data=data, **fields)


def planned(folder: Path, asked: Asked) -> Plan:
    return make_plan(asked, Machine(folder / "out", folder / "store"))


def test_it_keeps_what_a_task_owes(setting: TaskInputs) -> None:
    check_task(RealMuseBooks, setting, **WHOLE)


@pytest.fixture(scope="module")
def part(setting: TaskInputs, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return prepare_traced(RealMuseBooks(**PART), setting, tmp_path_factory.mktemp("part"))


def test_a_part_keeps_it_too_but_for_the_questions(part: Trace) -> None:
    raise_if_any(RealMuseBooks, [*rows_apart(part.scenario), *probes_sound(part.scenario), *checkpoints_apart(part)])


def test_methods_are_given_retain1_and_the_oracles_read_both(part: Trace) -> None:
    def splits(rows: tuple[Example, ...]) -> set[str]:
        return {row.id.split("-")[0] for row in rows}

    scenario = part.scenario
    assert splits(scenario.forget) == {"forget"} and splits(scenario.retain) == {"retain1"}
    assert splits(scenario.oracle_rows) == {"retain1", "retain2"}
    assert splits(scenario.validation.utility) == {"retain2"} and splits(scenario.validation.unseen) == {"holdout"}
    assert not list(shared_texts(scenario.validation.unseen, scenario.forget + scenario.oracle_rows, ""))


def test_a_runs_record(tmp_path: Path, model: Path, data: str) -> None:
    """From the plan to the record: a named part, the suite's scores, and the questions absent with the reason."""
    plan = planned(tmp_path, asked(model, data, "muse-books.oracles=1"))
    spec = next(entry.spec for entry in plan.entries if entry.spec.method == "ga")
    assert spec.task_params["chunk"] == 48 and spec.task_params["lr"] == 1e-5, "all parameters of the tier are said"
    assert "width" not in spec.task_params, "and none of the lab"
    record = execute(spec, plan.paths, Work(Store(tmp_path / "store"), seed=0, provenance={}))
    assert record.label.startswith(f"{UNVERIFIED} subset: ")
    assert record.label.endswith("membership on the first 16 tokens, 6 tokens generated a row")
    questions = {name for name in record.absent if "knowmem" in name}
    assert len(questions) == 4 and all("only a part of the books" in record.absent[name] for name in questions)
    floors = {"kl_forget_floors", "kl_retain_floors"}
    assert set(record.absent) == questions | floors, "one oracle has no noise floor"
    expected = {"forget_verbmem_ROUGE", "privleak", "mia_reference", "retain_passage_hits", "kl_forget", "collapsed"}
    assert expected <= set(record.scores)
    rows = record.lineage["counts"]
    assert record.scores["forget_verbmem_ROUGE"].n == rows["verbmem/forget probed"] >= 2
    assert rows["forget tokens"] <= 300 and record.lineage["oracle_rows"]["in_forget"] == 0
    assert record.lineage["before"] == spec.hashes["model"] == record.lineage["history"][0]


def test_target_and_oracles_from_elsewhere_are_taken(tmp_path: Path, setting: TaskInputs, model: Path) -> None:
    given = replace(checkpoint_at(model, "given"), label="given")
    scenario = prepare_traced(
        RealMuseBooks(**PART), replace(setting, target=given, oracles=(given,)), tmp_path
    ).scenario
    assert scenario.target() == given and [oracle() for oracle in scenario.oracles] == [given]


def test_a_model_that_has_learnt_the_part_recites_it(tmp_path: Path, setting: TaskInputs) -> None:
    """Many passes at a high rate: what the target writes is the books, what the oracle writes is not."""
    learnt = PART | {"epochs": 40, "lr": 1e-2, "oracles": 1, "generated": 12}
    wide = tmp_path / "wide"
    tokenizer = word_tokenizer(WORDS)
    saved(small_llama(len(tokenizer), 64, layers=2, positions=128, seed=0), tokenizer, wide)
    place = replace(setting, model_path=str(wide), model_hash=hash_checkpoint(wide))
    scenario = prepare_traced(RealMuseBooks(**learnt), place, tmp_path / "store").scenario
    target, oracle = scenario.target(), scenario.oracles[0]()
    probes = [probe for probe in scenario.probes if probe.kind in ("logprob", "generate")]
    seen = {c.label: score_all(scenario.metrics, measure(c, probes), ()).scores for c in (target, oracle, place.before)}
    assert seen["target"]["forget_verbmem_ROUGE"].value > 0.8 > 0.3 > seen["oracle-0"]["forget_verbmem_ROUGE"].value
    assert seen["target"]["mia_loss"].value == 1 and 0.1 < seen["oracle-0"]["mia_loss"].value < 0.9
    assert min(seen[label]["retain_passage_hits"].value for label in ("target", "oracle-0")) > 0.5
    assert {label: scores["collapsed"].value for label, scores in seen.items()} == {
        "target": 0,
        "oracle-0": 0,
        "history-0": 1,
    }, "random weights predict nothing"
    assert seen["target"]["extraction_strength"].value > 0.8 > seen["oracle-0"]["extraction_strength"].value


def test_generated_rows_and_passages_are_cut_as_said(part: Trace, setting: TaskInputs, tmp_path: Path) -> None:
    probes = {probe.name: probe for probe in part.scenario.probes}
    assert probes["forget_verbmem_said"].max_new_tokens == 6
    assert probes["forget_verbmem_said"].options["reference_tokens"] == 6
    sides = ("forget", "holdout", "retain", "forget_gradnorm", "kl_forget", "kl_retain")
    assert {row.payload["most"] for side in sides for row in probes[side].examples} == {16}
    whole = {p.name: p for p in prepare_traced(RealMuseBooks(**WHOLE), setting, tmp_path).scenario.probes}
    assert whole["forget_verbmem_said"].max_new_tokens == 128 and whole["forget_knowmem"].max_new_tokens == 32
    assert {row.payload["most"] for row in whole["forget"].examples} == {2048}
    assert len(whole["retain_knowmem"].examples) == 3
    assert whole["retain_knowmem"].examples[0].payload["prompt"].count("Question:") == 3, "both solved ones come first"


@pytest.mark.parametrize("cut", [{}, {"probed": 2}, {"generated": 12}, {"passage": 20}, {"stories": 1}])
def test_only_the_whole_benchmark_bears_its_name_alone(
    cut: dict[str, int], setting: TaskInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.real.muse.rows.MUSE_COUNTS", tuple(len(rows) for rows in books().values()))
    choose_muse_rows.cache_clear()
    label = prepare_traced(RealMuseBooks(chunk=48, **cut), setting, tmp_path).scenario.label
    choose_muse_rows.cache_clear()
    assert (label == UNVERIFIED) == (not cut)
    assert not cut or label.startswith(f"{UNVERIFIED} subset: ")


def test_what_was_fetched_from_the_hub_is_called_so_while_its_hash_agrees(tmp_path: Path) -> None:
    """As `bench fetch` leaves it: rows, and what is known of them beside; a changed row or another source is unverified."""
    rows = tmp_path / "muse-books" / FILES
    rows.mkdir(parents=True)
    (rows / "a.jsonl").write_text("{}")
    about = {"name": "muse-books", "source": DATA_SETS["muse-books"].source, "hash": hash_tree(rows)}
    assert origin_of_data(str(rows)) == " (texts not verified against the hub)" and not origin_of_data("hub")
    (rows.parent / FETCHED).write_text(json.dumps(about))
    assert origin_of_data(str(rows)) == " (fetched from the hub, hash checked)"
    (rows.parent / FETCHED).write_text(json.dumps(about | {"source": "elsewhere"}))
    assert "not verified" in origin_of_data(str(rows))
    (rows.parent / FETCHED).write_text(json.dumps(about))
    (rows / "a.jsonl").write_text("{ }")
    assert "not verified" in origin_of_data(str(rows))


def test_the_outline_is_of_what_will_be_trained(part: Trace, setting: TaskInputs) -> None:
    task, scenario = RealMuseBooks(**PART), part.scenario
    outline = task.outline(setting)
    assert (outline.forget, outline.retain) == (len(scenario.forget), len(scenario.retain))
    kept = len(scenario.oracle_rows)
    assert outline.stages == {"target": kept + len(scenario.forget), "oracle-0": kept, "oracle-1": kept}
    assert 0 < outline.row_tokens <= 48
    nominal = RealMuseBooks().outline(TaskInputs("real"))
    assert 300 < nominal.forget < 1000, "4.1 MB in passages of 2048 tokens"


def test_mistakes_are_found_while_the_plan_is_made(tmp_path: Path, model: Path, data: str) -> None:
    tables = books()
    tables["train/retain2"][0] = tables["train/forget"][0]
    both = written(tmp_path / "both", tables)
    with pytest.raises(UserError, match="are also among those to be kept"):
        planned(tmp_path, asked(model, both))
    with pytest.raises(UserError, match="isn't in MUSE-Books' layout"):
        planned(tmp_path, asked(model, str(model)))
    with pytest.raises(UserError, match="No row of 'verbmem/forget' lies inside one passage of 17 tokens"):
        planned(
            tmp_path,
            Asked(
                "muse-books",
                ("ga",),
                ("muse-books.stories=1", "muse-books.chunk=17"),
                (0,),
                model=str(model),
                data=data,
            ),
        )
    with pytest.raises(UserError, match="muse-books.width has no meaning in the real tier"):
        planned(tmp_path, asked(model, data, "muse-books.width=64"))
    with pytest.raises(UserError, match="muse-books.passage has no meaning in the lab tier"):
        planned(tmp_path, Asked("muse-books", ("ga",), ("muse-books.passage=64",), (0,)))
    with pytest.raises(UserError, match="muse-books.stories must be at least 0"):
        planned(tmp_path, asked(model, data, "muse-books.stories=-1"))


def test_the_stand_ins_task_takes_nothing_else(tmp_path: Path, model: Path, data: str) -> None:
    name = "books-public-domain"
    with pytest.raises(UserError, match="these aren't the rows of the public-domain stand-in"):
        planned(tmp_path, asked(model, data, task=name))
    with pytest.raises(UserError, match="hub.*name its folder"):
        planned(tmp_path, asked(model, "", task=name))


def test_a_lab_spec_says_nothing_of_the_real_tier(tmp_path: Path) -> None:
    """The keys of the published records hang on it."""
    spec = planned(tmp_path, Asked("muse-books", ("ga",), (), (0,))).entries[0].spec
    assert not set(spec.task_params) & set(RealBooksTask.__dataclass_fields__)
    assert spec.task_params["forget_books"] == 8


@here
def test_the_stand_in_under_its_own_name(tmp_path: Path, model: Path) -> None:
    setting = TaskInputs("real", str(model), hash_checkpoint(model), str(REAL))
    cut = {"most_tokens": 12000, "chunk": 640, "passage": 320}
    with pytest.raises(UserError, match="take --task books-public-domain"):
        RealMuseBooks(**cut).prepare(Work(Store(tmp_path), seed=0, provenance={}), setting)
    assert "not MUSE-Books" in RealMuseBooks(**cut).check(setting)[0]
    assert BooksPublicDomain(**cut).check(setting) == []
    trace = prepare_traced(BooksPublicDomain(**cut), setting, tmp_path)
    scenario = trace.scenario
    assert scenario.label.startswith("books-public-domain (public-domain stand-in; not MUSE) subset: ")
    raise_if_any(BooksPublicDomain, [*rows_apart(scenario), *probes_sound(scenario)])
    sizes = {probe.name: len(probe.examples) for probe in scenario.probes}
    assert min(sizes[name] for name in ("forget", "holdout", "retain", "forget_verbmem")) >= 12
    assert "forget_knowmem" not in sizes
    whole = prepare_traced(BooksPublicDomain(), setting, tmp_path).scenario
    assert whole.label == "books-public-domain (public-domain stand-in; not MUSE)"
    assert {len(p.examples) for p in whole.probes} == {100}
