"""Runs of the real tier on a tiny model and generated rows in TOFU's layout: what the options of a run come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.compute import UNSAID
from bench.core.errors import UserError
from bench.core.machine import Machine
from bench.core.record import Record
from bench.core.types import Example
from bench.real.scenario import has_chat_template, overlap_problems
from bench.records.files import read_record
from bench.runs.asked import Asked
from bench.runs.executor import Worker
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.plan import Plan, make_plan
from bench.runs.store import Store
from tests.bench.real.tofu.test_rows import TABLES, write
from tests.tiny import saved, subword_llama, subword_tokenizer

SETS = (
    "tofu.authors=4",
    "tofu.questions=4",
    "tofu.forget_share=0.25",
    "tofu.probed=2",
    "tofu.epochs=1",
    "tofu.oracles=1",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models and TOFU's layout."""
    folder = tmp_path_factory.mktemp("real")
    words = subword_tokenizer([row["question"] for row in TABLES["full"][:50]])
    for seed, name in enumerate(("model", "target", "retrained")):
        saved(subword_llama(words, seed), words, folder / name)
    write(folder / "tofu", TABLES)
    return folder


def planned(place: Path, out: Path, methods: tuple[str, ...] = ("ga",), **fields: Any) -> Plan:
    kinds = fields.pop("kinds", ("logprob",))
    ga = ("ga.steps=1", "ga.batch=2") if "ga" in methods else ()
    sets = (*SETS, *ga, *fields.pop("sets", ()))
    model = fields.pop("model", str(place / "model"))
    compute = replace(UNSAID, **fields.pop("compute", {}))
    asked = Asked("tofu", methods, sets, (0,), model, str(place / "tofu"), kinds=kinds, compute=compute, **fields)
    return make_plan(asked, Machine(out, place / "store"))


def made(place: Path, out: Path, plan: Plan, checkpointing: bool = False) -> dict[str, Record]:
    """The records of a plan's runs, by method."""
    machine = Machine(out, place / "store", checkpointing=checkpointing)
    worker = Worker(WorkerConfig(machine, plan.paths), lambda event: None)
    for entry in plan.entries:
        done = worker.do(Job(entry.spec), wait=True)
        assert done["status"] == "done", done.get("message")
    return {entry.spec.method: read_record(out / Record(entry.spec, "done").name) for entry in plan.entries}


def nodes(place: Path, record: Record) -> list[Any]:
    found = [Store(place / "store").find(key) for key in record.cost["nodes"]]
    assert all(found)
    return found


def test_target_and_oracle_may_come_from_elsewhere(place: Path, tmp_path: Path) -> None:
    elsewhere = {"target": str(place / "target"), "oracles": (str(place / "retrained"),)}
    plan = planned(place, tmp_path, **elsewhere)
    records = made(place, tmp_path, plan)
    hashes = plan.entries[0].spec.hashes
    target, retrain, ga = records["target"], records["retrain"], records["ga"]
    assert target.lineage["result"] == hashes["target"] != hashes["model"]
    assert retrain.lineage["result"] == hashes["oracle-0"] and ga.lineage["oracles"] == [hashes["oracle-0"]]
    assert set(ga.lineage["outside"]) == {hashes["target"], hashes["oracle-0"]}, (
        "nobody knows what they were trained on"
    )
    assert nodes(place, ga)[0].info["fields"]["start"] == hashes["target"]
    assert not [node for node in nodes(place, ga) if node.info["label"] in ("target", "oracle-0")]
    again = planned(place, tmp_path, **elsewhere)
    assert {entry.status for entry in again.entries} == {"cached"}
    assert planned(place, tmp_path).entries[0].spec.key != plan.entries[0].spec.key


def test_a_missing_target_is_named_with_its_option(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--target: .*never-fetched"):
        planned(place, tmp_path, target="someone/never-fetched")
    with pytest.raises(UserError, match="--target and --oracle go with --model"):
        make_plan(Asked("tofu", ("ga",), target=str(place / "target")), Machine(tmp_path, place / "store"))


def test_only_the_asked_kinds_of_probes_are_asked(place: Path, tmp_path: Path) -> None:
    record = made(place, tmp_path, planned(place, tmp_path))["ga"]
    assert "forget_Q_A_Prob" in record.scores and "forget_Q_A_ROUGE" not in record.scores
    assert {"forget_Q_A_ROUGE", "kl_forget", "model_utility"} <= set(record.absent)
    with pytest.raises(UserError, match="Unknown kind of probe 'logprobs'"):
        planned(place, tmp_path, kinds=("logprobs",))


def test_what_goes_on_goes_on_from_every_method_and_from_the_target(place: Path, tmp_path: Path) -> None:
    plan = planned(place, tmp_path, then=("finetune",), sets=("finetune.steps=1",))
    assert [entry.spec.method for entry in plan.entries] == ["target", "finetune", "retrain", "ga+finetune"]
    last = plan.entries[-1].spec
    assert [step.method for step in last.steps] == ["ga", "finetune"] and last.steps[1].params["steps"] == 1
    with pytest.raises(UserError, match="--then: .*'repiar'"):
        planned(place, tmp_path, then=("repiar",))


@pytest.mark.parametrize("compute", [{"autocast": True}, {"lora": 2}, {"micro": 3}, {"dtype": "bfloat16"}])
def test_how_training_computes_is_part_of_the_run(place: Path, tmp_path: Path, compute: dict[str, Any]) -> None:
    plan, usual = planned(place, tmp_path, compute=compute), planned(place, tmp_path)
    assert plan.entries[0].spec.compute.to_json() == compute and not usual.entries[0].spec.compute.to_json()
    assert plan.entries[0].spec.key != usual.entries[0].spec.key
    record = made(place, tmp_path, plan)["ga"]
    [node] = nodes(place, record)
    fields = node.info["fields"] | node.info["fields"]["recipe"]
    assert all(fields[name] == value for name, value in compute.items())
    from safetensors import safe_open

    with safe_open(node.path / "model.safetensors", "pt") as weights:
        dtypes = {str(weights.get_tensor(name).dtype) for name in weights.keys()}  # noqa: SIM118
    assert dtypes == {f"torch.{compute.get('dtype', 'float32')}"}, "autocast keeps float32 weights"


def test_recomputed_activations_change_no_weight(place: Path, tmp_path: Path) -> None:
    usual = made(place, tmp_path / "a", planned(place, tmp_path / "a"))["ga"]
    other = place.parent / "checkpointing"
    other.mkdir(exist_ok=True)
    for name in ("model", "tofu"):
        (other / name).symlink_to(place / name)
    saving = made(other, tmp_path / "b", planned(other, tmp_path / "b"), checkpointing=True)["ga"]
    assert saving.lineage["result"] == usual.lineage["result"]
    assert saving.spec.key == usual.spec.key and saving.provenance["gradient_checkpointing"]


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ({"dtype": "float8"}, "--dtype float8"),
        ({"dtype": "bfloat16", "autocast": True}, "leave out --dtype"),
        ({"lora": -1}, "--lora and --micro are at least 1"),
    ],
)
def test_what_makes_no_sense_is_said(place: Path, tmp_path: Path, compute: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(place, tmp_path, compute=compute)


def test_the_lab_computes_as_it_does(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--autocast goes with --model"):
        make_plan(Asked("tofu", ("ga",), compute=replace(UNSAID, autocast=True)), Machine(tmp_path, tmp_path))


def test_a_tokenizer_without_chat_template_is_refused_with_the_remedy(place: Path, tmp_path: Path) -> None:
    words = subword_tokenizer([row["question"] for row in TABLES["full"][:50]])
    words.chat_template = None
    saved(subword_llama(words, 0), words, tmp_path / "base")
    assert not has_chat_template(tmp_path / "base") and has_chat_template(place / "model")
    with pytest.raises(UserError, match=r"no chat template.*--set tofu\.template=base"):
        planned(place, tmp_path, model=str(tmp_path / "base"))
    plan = planned(place, tmp_path / "out", model=str(tmp_path / "base"), sets=("tofu.template=base",))
    record = made(replace_place(place, tmp_path), tmp_path / "out", plan)["ga"]
    assert record.spec.task_params["template"] == "base" and record.scores["forget_Q_A_Prob"].n == 2


def replace_place(place: Path, folder: Path) -> Path:
    """A place of its own with the same data."""
    (folder / "tofu").symlink_to(place / "tofu")
    return folder


def test_named_recipes_and_splits_are_what_their_papers_say() -> None:
    from bench.core import registry
    from tasks.tofu import RealTofu as Tofu

    batch, recipe = Tofu(split="forget10", recipe="official").schedule(4000)
    assert (batch, recipe.steps, recipe.lr, recipe.warmup, recipe.schedule) == (32, 625, 1e-5, 0.2, "linear")
    batch, recipe = Tofu(split="forget01", recipe="msa").schedule(4000)
    assert (batch, recipe.steps, recipe.warmup, recipe.dtype) == (4, 10_000, 0.1, "bfloat16")
    assert Tofu(split="forget05").sizes == (200, 20, 10, 0)
    found = Tofu(split="forget10", authors=20, recipe="official", lr=1e-3).problems()
    assert len(found) == 2 and "authors" in found[0] and "lr" in found[1]
    assert "forget01" in Tofu(split="forget1").problems()[0]
    assert registry.of_other_tier("tofu", "lab", "split").startswith("tofu.split has no meaning in the lab tier")
    assert registry.of_other_tier("tofu", "lab", "splits") == ""


def test_rows_on_both_sides_are_refused() -> None:
    rows = [Example(f"row-{i}", {"prompt": f"who is {i}?", "answer": "nobody"}) for i in range(3)]
    assert overlap_problems(rows[:1], rows[1:], "data") == []
    [said] = overlap_problems(rows[:2], [replace(rows[1], id="other")], "data")
    assert said.startswith("1 rows of data are on both sides") and "who is 1?" in said


def test_parameters_that_came_later_leave_old_keys_alone(tmp_path: Path) -> None:
    plan = make_plan(Asked("tofu", ("ga",), (), (0,)), Machine(tmp_path, tmp_path))
    assert not {"split", "recipe", "template"} & set(plan.entries[0].spec.task_params)


def test_a_recipe_that_names_float32_has_it_whatever_the_run_trains_in(place: Path, tmp_path: Path) -> None:
    """MSA's official recipe compares its bfloat16 vector with one in float32: two trainings, also under --dtype bfloat16."""
    sets = ("msa.recipe=official", "msa.lr=1e-3")
    plan = planned(place, tmp_path, ("msa",), compute={"dtype": "bfloat16"}, sets=sets)
    record = made(place, tmp_path, plan)["msa"]
    tuned = {node.info["label"]: node for node in nodes(place, record) if node.info["label"].startswith("theta_1")}
    assert set(tuned) == {"theta_1", "theta_1 in float32"}
    assert len({node.info["meta"]["checkpoint"] for node in tuned.values()}) == 2
    assert record.facts["notes"]["rounding"]["unchanged"] > 0


def test_the_plan_knows_a_recipes_own_dtype_and_adapters(place: Path, tmp_path: Path) -> None:
    usual = planned(place, tmp_path)
    assert usual.compute.dtype == "float32" and usual.compute.lora == 0
    sets = tuple(text for text in SETS if "epochs" not in text)
    asked = Asked("tofu", ("before",), (*sets, "tofu.recipe=msa"), (0,), str(place / "model"), str(place / "tofu"))
    own = make_plan(asked, Machine(tmp_path, tmp_path / "store"))
    assert own.compute.dtype == "bfloat16", "nothing but the stages is trained"
    both = make_plan(replace(asked, methods=("ga",)), Machine(tmp_path, tmp_path / "store"))
    assert both.compute.dtype == "float32", "the method's training is the largest"
