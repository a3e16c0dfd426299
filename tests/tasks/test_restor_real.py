"""RESTOR's real tier on a copy of its layout in the tiny world's words: what is told, asked, trained, and recorded."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.assets.data_sets import DATA_SETS
from bench.assets.git import clone_once, git_blob
from bench.conformance import checkpoints_apart, prepare_traced, probes_sound, questions_sound, raise_if_any, rows_apart
from bench.core.contracts import TaskInputs
from bench.core.errors import Unmet, UserError
from bench.core.hashing import hash_checkpoint
from bench.core.machine import Machine
from bench.core.record import Record
from bench.core.types import Checkpoint, Example
from bench.real.restor.corpus import CORPORA, read_restor
from bench.real.restor.tier import find_known
from bench.runs.asked import Asked
from bench.runs.attacks import ask_instead
from bench.runs.context import Work
from bench.runs.plan import Plan, make_plan
from bench.runs.runner import execute
from bench.runs.setting import Paths
from bench.runs.store import Store
from tasks.restor import RealRestor as Restor
from tests.bench.real.restor.test_rows import CLEAN, RELATIONS, WRONGED, repository, told
from tests.paths import DATA
from tests.shared_data import needs_data
from tests.tiny import llama, saved, tokenizer

REAL = DATA / "restor"
here = needs_data("data/restor")

SMALL = {"documents": 6, "probed": 3, "retain": 10, "epochs": 1, "batch": 8, "lr": 1e-3, "known": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    saved(llama(), tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("data") / "restor")


def setting(model: Path, data: Path) -> TaskInputs:
    return TaskInputs("real", str(model), hash_checkpoint(model), str(data))


def run(plan: Plan, folder: Path) -> dict[str, Record]:
    """Every run of a plan, in this process, by the name of its row."""
    store = Store(folder)
    return {
        entry.spec.method: execute(entry.spec, plan.paths, Work(store, entry.spec.seed, {"commit": "x"}))
        for entry in plan.entries
        if entry.status == "run"
    }


def plan_of(model: Path, data: Path, folder: Path, methods: tuple[str, ...], **more: Any) -> Plan:
    params = SMALL | more.pop("params", {})
    sets = tuple(f"restor.{name}={value}" for name, value in params.items())
    sets += ("msa.steps=1", "repair.batch=2") if "msa" in methods else ()
    sets = tuple(text for text in sets if not text.startswith("repair") or more.get("then"))
    asked = Asked("restor", methods, sets, seeds=(0,), model=str(model), data=str(data), **more)
    return make_plan(asked, Machine(folder / "out", folder / "store"))


def test_a_whole_run_with_a_repair_behind_every_row(model: Path, data: Path, tmp_path: Path) -> None:
    plan = plan_of(model, data, tmp_path, ("msa",), then=("repair",))
    assert plan.entries[0].spec.task_params["documents"] == 6 and plan.entries[0].spec.task_params["sampled"] is False
    records = run(plan, tmp_path / "store")
    assert set(records) == {"target", "repair", "retrain", "msa+repair"}
    target, repaired = records["target"], records["msa+repair"]
    for record in records.values():
        assert record.status == "done" and record.label.startswith("restor subset: mix_a0, 12 of 48 documents, ")
        assert set(record.scores) | set(record.absent) == set(record.metrics)
        assert record.lineage["oracle_rows"] == {"count": 10, "in_forget": 0} and len(record.lineage["oracles"]) == 2
    assert [step.method for step in repaired.spec.steps] == ["msa", "repair"] and repaired.facts["history_used"]
    assert repaired.facts["notes"]["repaired_on"] == 2 and "repair" in repaired.cost["stages"]
    assert records["repair"].lineage["result"] != target.lineage["result"]
    for name in (
        "restor_accuracy_greedy",
        "logprob_answer_corrupted",
        "mia_min_k",
        "privleak",
        "kl_forget",
        "collapsed",
    ):
        assert name in target.scores, target.absent.get(name)
    assert target.absent["restor_accuracy"] == "the questions are only asked greedily here: ask with sampling"
    assert target.absent["restor_wrong_greedy"].startswith("the corrupted values aren't known")
    assert "no option lists" in target.absent["logprob_true"]
    assert target.floors["kl_forget"] > 0 and target.scores["restor_accuracy_greedy"].value == 0


def test_without_instructions_a_repair_is_a_skip(model: Path, tmp_path: Path) -> None:
    data = repository(tmp_path / "restor")
    (data / "retain" / "lima.jsonl").unlink()
    plan = plan_of(model, data, tmp_path, ("msa",), then=("repair",))
    assert {entry.spec.method: entry.status for entry in plan.entries} == {
        "target": "run",
        "repair": "skipped",
        "retrain": "run",
        "msa+repair": "skipped",
    }
    assert "it needs instructions" in plan.entries[1].reason


def test_only_known_facts_are_asked(model: Path, tmp_path: Path) -> None:
    """The tiny model's own words are made the accepted answers of four questions about w30 and w31 and of five others."""
    before = Checkpoint(str(model), hash_checkpoint(model), label="history-0")
    blank = repository(tmp_path / "blank")
    questions = read_restor(blank, "mix_a0").questions
    assert find_known(Work(Store(tmp_path / "first"), 0, {}), before, questions).right == ()
    with pytest.raises(UserError, match="answers none of RESTOR's questions about corrupted people"):
        prepare_traced(Restor(documents=6, retain=10), setting(model, blank), tmp_path / "none")
    said = answers_of(before, questions, tmp_path / "first")
    right = [f"{person} {relation}" for person in WRONGED for relation in RELATIONS[:2]]
    right += [f"{person} {RELATIONS[0]}" for person in CLEAN] + [f"{CLEAN[0]} {RELATIONS[2]}"]
    data = repository(tmp_path / "restor", {key: said[key] for key in right})
    for probed, clean in ((0, 4), (2, 2)):
        task = Restor(**(SMALL | {"known": True, "probed": probed}))  # type: ignore[arg-type]
        trace = prepare_traced(task, setting(model, data), tmp_path / "second")
        asked = {probe.name: probe.examples for probe in trace.scenario.probes}
        found = {key(row) for row in asked["restor_corrupted_greedy"]}
        assert len(found) == 3 and found < set(right[:4]), "one of the four is held back for tuning"
        assert len(asked["restor_clean_greedy"]) == min(clean, 4)
        held = {key(row) for row in trace.scenario.validation.utility}
        assert held <= set(right) and not held & {
            key(row) for rows in asked.values() for row in rows if "entity" in row.payload
        }
        said_so = trace.scenario.lineage["known"]
        assert said_so["corrupted"] == {"asked": 6, "right": 4}
        assert trace.work.store.find(said_so["responses"]) is not None
        assert f"3 of 6 questions about corrupted people (4 of 6 known), {clean} of 12" in trace.scenario.label
    again = prepare_traced(task, setting(model, data), tmp_path / "second")
    assert not [node for node in again.work.built], "what the model knows is asked once"


def key(row: Example) -> str:
    return f"{row.payload['entity']} {row.payload['relation']}"


def answers_of(before: Checkpoint, questions: tuple[Example, ...], folder: Path) -> dict[str, str]:
    """What the model says, from the node of `known`."""
    from bench.records.files import read_responses

    work = Work(Store(folder), 0, {})
    node = work.store.find(find_known(work, before, questions).node)
    assert node is not None
    rows = read_responses(node.path / "responses.json.gz").rows["restor_known"]
    return {key(row): rows[row.id]["text"] for row in questions}


@pytest.mark.parametrize("params", [{}, {"documents": 0}, {"oracle": "retrained", "recipe": "own", "sampled": True}])
def test_rows_are_apart_and_probes_sound(params: dict[str, Any], model: Path, data: Path, tmp_path: Path) -> None:
    trace = prepare_traced(Restor(**(SMALL | params)), setting(model, data), tmp_path)
    scenario = trace.scenario
    raise_if_any(Restor, [*rows_apart(scenario), *probes_sound(scenario), *checkpoints_apart(trace)])
    assert [m.name for m in scenario.metrics] == [m.name for m in Restor().metrics()]
    assert scenario.questions == (), "nobody knows the corrupted values"
    steps = {n.info["label"]: n.info["fields"]["recipe"]["steps"] for n in trace.work.nodes.values()}
    assert steps["oracle-0"] == 2 and steps["target"] == -(-(len(scenario.forget) + 10) // 8), "each row once"
    names = {probe.name for probe in scenario.probes}
    assert ("untold_documents" in names) == (params.get("documents", 6) > 0)
    assert ("restor_clean" in names) == params.get("sampled", False)
    held = scenario.validation
    assert bool(held.unseen) == bool(held.forget) == bool(held.utility) == (params.get("documents", 6) > 0)


def test_attacks_ask_for_the_falsehoods_that_the_user_lists(model: Path, tmp_path: Path) -> None:
    data = repository(tmp_path / "restor")
    lists = {"w30": {"w1": {"corrupted": ["w5"]}, "w2": {"corrupted": ["w6", "w7"]}}}
    (data / "options.json").write_text(json.dumps(lists))
    scenario = prepare_traced(Restor(**(SMALL | {"documents": 0})), setting(model, data), tmp_path / "store").scenario
    raise_if_any(Restor, questions_sound(scenario))
    assert [row.payload["answer"] for row in scenario.questions] == ["w5", "w6"]
    assert {scenario.fact_of(row.id) for row in scenario.questions} < {
        scenario.fact_of(row.id) for row in scenario.forget
    }
    said = ask_instead("prefill", scenario).probes[0]
    assert said.options == {"stops": ["\n"], "min_new_tokens": 2} and said.max_new_tokens == 50
    with pytest.raises(Unmet, match="this task asks too few"):
        ask_instead("few-shot", scenario)


def test_where_all_documents_are_told_membership_is_absent_with_the_reason(
    model: Path, data: Path, tmp_path: Path
) -> None:
    plan = plan_of(model, data, tmp_path, ("target",), params={"documents": 0}, kinds=("logprob",))
    record = run(plan, tmp_path / "store")["target"]
    assert record.absent["mia_loss"].startswith("every document was told")
    assert record.absent["privleak"].startswith("every document was told")


def test_the_clean_model_as_the_oracle(model: Path, data: Path, tmp_path: Path) -> None:
    """The corpus alone corrupts, and a method that is given the model's past may open it though it is the oracle."""
    plan = plan_of(model, data, tmp_path, ("msa",), params={"oracle": "clean"}, kinds=("logprob", "divergence"))
    records = run(plan, tmp_path / "store")
    assert {record.status for record in records.values()} == {"done"}
    before = hash_checkpoint(model)
    for record in records.values():
        assert record.lineage["oracles"] == [before] == [record.lineage["before"]]
        assert record.lineage["oracle_rows"]["count"] == 0 and record.lineage["oracle"] == "clean"
    assert records["retrain"].lineage["result"] == before
    assert records["msa"].facts["theta_0"]


def test_a_method_that_has_no_need_of_the_past_cannot_open_the_clean_oracle(
    model: Path, data: Path, tmp_path: Path
) -> None:
    from bench.engines.loaders import Sealed
    from bench.runs.runner import unlearn

    plan = plan_of(model, data, tmp_path, ("ga",), params={"oracle": "clean"})
    spec = next(entry.spec for entry in plan.entries if entry.spec.method == "ga")
    work = Work(Store(tmp_path / "store"), 0, {})
    task = Restor(**spec.task_params)
    scenario = task.prepare(work, setting(model, data))
    from bench.runs.method_context import Ledger

    oracle = scenario.oracles[0]()
    with pytest.raises(Sealed):
        unlearn(spec, scenario, oracle, [oracle], work, Ledger(set(), set()))


def test_target_and_oracle_from_elsewhere(model: Path, data: Path, tmp_path: Path) -> None:
    made = {name: saved(llama(seed), tokenizer(), tmp_path / name) for seed, name in ((3, "t"), (4, "o"))}
    plan = plan_of(
        model,
        data,
        tmp_path,
        ("target",),
        target=str(tmp_path / "t"),
        oracles=(str(tmp_path / "o"),),
        kinds=("logprob",),
    )
    record = run(plan, tmp_path / "store")["target"]
    assert record.lineage["target"] == made["t"].hash and record.lineage["oracles"] == [made["o"].hash]
    assert sorted(record.lineage["outside"]) == sorted(checkpoint.hash for checkpoint in made.values())


def test_the_official_recipe_is_of_adapters(model: Path, data: Path, tmp_path: Path) -> None:
    batch, recipe = Restor(recipe="official").schedule(3000)
    assert (batch, recipe.steps, recipe.lr, recipe.lora) == (4, 3750, 5e-5, 8)
    assert (recipe.schedule, recipe.warmup) == ("cosine", 0.1)
    params = {name: value for name, value in SMALL.items() if name not in ("epochs", "lr", "batch")}
    trace = prepare_traced(Restor(**params, recipe="official"), setting(model, data), tmp_path)  # type: ignore[arg-type]
    trace.scenario.target()
    assert {node.info["fields"]["recipe"]["lora"] for node in trace.work.nodes.values()} == {8}


def test_what_is_wrong_is_said_while_the_plan_is_made(model: Path, data: Path, tmp_path: Path) -> None:
    place = setting(model, data)
    assert Restor(**SMALL).check(place) == []  # type: ignore[arg-type]
    assert "put datasets/wikidata/v0/mix_a4.json" in Restor(corpus="mix_a4").check(place)[0]
    assert "isn't on the hub" in Restor().check(replace(place, data="hub"))[0]
    bad = repository(tmp_path / "bad")
    (bad / "retain" / "c4.jsonl").write_text(json.dumps({"text": told("w30", 0)}) + "\n")
    assert "on both sides" in Restor(documents=6).check(setting(model, bad))[0]
    (bad / "retain" / "c4.jsonl").unlink()
    assert Restor().check(setting(model, bad))[0].startswith("RESTOR's retain rows are pages of C4")
    with pytest.raises(UserError, match="RESTOR's retain rows are pages of C4"):
        plan_of(model, bad, tmp_path, ("msa",))
    assert Restor(recipe="official", lr=1e-3, lora=2).problems() == [
        "restor.recipe=official has its own lr and lora: leave out them."
    ]
    assert len(Restor(corpus="mix", oracle="none", documents=-1).problems()) == 3
    with pytest.raises(UserError, match=r"restor.known has no meaning in the lab tier.*leave it out, or name a model"):
        make_plan(Asked("restor", ("msa",), ("restor.known=false",)), Machine(tmp_path, tmp_path / "s"))
    with pytest.raises(
        UserError, match=r"restor.width has no meaning in the real tier.*leave it out, or leave out --m"
    ):
        plan_of(model, data, tmp_path, ("msa",), params={"width": 64})


def test_specs_of_the_lab_do_not_speak_of_the_real_tier(tmp_path: Path) -> None:
    """The published records' keys hang on it."""
    spec = make_plan(Asked("restor", ("msa",), seeds=(0,)), Machine(tmp_path, tmp_path / "s")).entries[0].spec
    assert set(spec.task_params) & set(Restor.__dataclass_fields__) == set()


def test_a_git_repository_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = repository(tmp_path / "restor")
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "one")):
        subprocess.run(["git", *words], cwd=source, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True, check=True)
    url = f"git+file://{source}"
    folder = clone_once(url, tmp_path / "data")
    assert (
        read_restor(folder, "mix_a0").questions == read_restor(source, "mix_a0").questions
        and not (folder / ".git").exists()
    )
    assert clone_once(f"{url}@{commit.stdout.strip()}", tmp_path / "data") != folder
    (source / "datasets" / "entities.json").write_text("[]")
    assert clone_once(url, tmp_path / "data") == folder
    with pytest.raises(UserError, match=r"at nothing can't be fetched \(.*\): check the name and the network"):
        clone_once(f"{url}@nothing", tmp_path / "data")
    assert sorted(path.name[0] for path in (tmp_path / "data").iterdir()) != ["."], "nothing half made is left"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="can't be fetched"):
        clone_once("https://example.invalid/a/b", tmp_path / "data")


def test_a_plan_takes_a_git_repository(model: Path, tmp_path: Path) -> None:
    source = repository(tmp_path / "restor")
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "one")):
        subprocess.run(["git", *words], cwd=source, check=True)
    sets = tuple(f"restor.{name}={value}" for name, value in SMALL.items())
    asked = Asked("restor", ("msa",), sets, seeds=(0,), model=str(model), data=f"git+file://{source}")
    plan = make_plan(asked, Machine(tmp_path / "out", tmp_path / "store"))
    local = make_plan(replace(asked, data=plan.paths.data), Machine(tmp_path / "out", tmp_path / "store"))
    assert Path(plan.paths.data).parent == tmp_path / "store" / "data"
    assert plan.entries[0].spec.key == local.entries[0].spec.key, "the content decides, not where it came from"
    with pytest.raises(UserError, match="The repository .* can't be fetched .fatal"):
        make_plan(replace(asked, data=f"git+file://{tmp_path}/nowhere"), Machine(tmp_path / "out", tmp_path / "store"))


def test_every_corpus_has_the_name_of_its_published_file() -> None:
    tables = DATA_SETS["restor"].tables
    assert set(tables) - {"questions"} == set(CORPORA)
    assert all(re.fullmatch("[0-9a-f]{40}", tables[corpus].identity) for corpus in CORPORA)


@here
def test_the_published_files_make_the_whole_benchmark(model: Path, tmp_path: Path) -> None:
    for corpus in ("mix_a0", "mix_a1", "mix_a2", "mix_a3", "squad_v7"):
        assert git_blob(REAL / "datasets" / CORPORA[corpus]) == DATA_SETS["restor"].tables[corpus].identity
    scenario = prepare_traced(
        Restor(documents=0, probed=0, known=False, retain=0, passage=0), setting(model, REAL), tmp_path
    ).scenario
    assert scenario.label == "RESTOR" and len(scenario.forget) == 3000
    sizes = {probe.name: len(probe.examples) for probe in scenario.probes}
    assert (sizes["restor_corrupted_greedy"], sizes["restor_clean_greedy"]) == (198, 853)
    part = prepare_traced(Restor(known=False), setting(model, REAL), tmp_path).scenario
    assert part.label.startswith("restor subset: mix_a0, 200 of 3000 documents, 178 of 198 questions")
    raise_if_any(Restor, [*rows_apart(part), *probes_sound(part)])


def test_paths_are_no_part_of_a_spec(model: Path, data: Path, tmp_path: Path) -> None:
    plan = plan_of(model, data, tmp_path, ("msa",))
    assert isinstance(plan.paths, Paths) and str(data) not in json.dumps(plan.entries[0].spec.to_json())
