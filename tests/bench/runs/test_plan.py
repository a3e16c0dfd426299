from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.assets.shapes import known_shape, read_shape
from bench.core import registry, versions
from bench.core.compute import Compute
from bench.core.contracts import Metric, Outline
from bench.core.errors import UserError
from bench.core.hashing import hash_file
from bench.core.machine import Machine, format_duration
from bench.core.record import Record, RunSpec, Step
from bench.lab.model import small_llama, word_tokenizer
from bench.records.files import write_record
from bench.runs.asked import Asked, Understood
from bench.runs.estimate import BYTES_PER_PARAMETER, PROCESS_BYTES, known_rate
from bench.runs.launch import check_fits
from bench.runs.outside import Outside
from bench.runs.plan import (
    Plan,
    PlannedRun,
    estimated,
    finished_record,
    is_kept,
    judge,
    make_plan,
    specs_of,
    with_versions,
)
from bench.runs.setting import Paths, build_setting
from bench.runs.store import NodeRequest, Store
from bench.runs.terminal import show_plan
from methods.ga import GradientAscent
from methods.npo import NPO
from tasks.tofu import LabTofu
from tests.processes import TINY, Place, plug_in

SETS = (*(f"muse-books.{name}={value}" for name, value in TINY.items()), "msa.steps=2")
FINISHED = Asked("muse-books", ("msa",), SETS, (0,))
"""What the finished run was asked for."""
DREAMER = """
from dataclasses import dataclass
from bench.api import Method

@dataclass(frozen=True)
class Dreamer(Method):
    summary = "needs what no task has"
    needs = frozenset({"moon", "retain"})

    def unlearn(self, request, ctx):
        return request.target
"""


def planned(asked: Asked, place: Path, **given: Any) -> Plan:
    checkpointing = given.pop("checkpointing", False)
    return make_plan(asked, Machine(place / "out", place / "store", checkpointing=checkpointing), **given)


def statuses(plan: Plan) -> dict[str, str]:
    return {entry.spec.method: entry.status for entry in plan.entries}


def problems(place: Path, **changes: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as told:
        planned(replace(FINISHED, **changes), place)
    assert list(place.iterdir()) == [], "a mistake writes nothing"
    return told.value.problems


def test_target_and_oracle_are_always_rows_and_everything_is_to_run(tmp_path: Path) -> None:
    plan = planned(replace(FINISHED, seeds=(0, 7)), tmp_path)
    assert statuses(plan) == {"target": "run", "retrain": "run", "msa": "run"}
    assert [entry.spec.seed for entry in plan.entries] == [0, 7] * 3
    assert list(tmp_path.iterdir()) == [], "a plan writes nothing"


def test_what_is_finished_is_cached_and_what_is_new_is_not(finished: Place) -> None:
    plan = planned(replace(FINISHED, methods=("msa", "ga")), finished.folder)
    assert statuses(plan) == {"target": "cached", "retrain": "cached", "msa": "cached", "ga": "run"}


def test_another_parameter_seed_limit_or_task_parameter_is_another_run(finished: Place) -> None:
    changes: list[dict[str, Any]] = [
        {"sets": (*SETS, "msa.alpha=0.5")},
        {"seeds": (1,)},
        {"limit": 2},
        {"sets": (*SETS[1:], "muse-books.width=32")},
    ]
    for change in changes:
        assert statuses(planned(replace(FINISHED, **change), finished.folder))["msa"] == "run", change
    assert statuses(planned(replace(FINISHED, study="mine"), finished.folder))["msa"] == "cached", "a label is no part"


def test_a_record_alone_is_not_enough(finished: Place, tmp_path: Path) -> None:
    """The store must hold the checkpoint that the record names; the old record is kept for comparison."""
    place = finished.copy(tmp_path)
    key = place.records()["msa"]["lineage"]["result_node"]
    (Store(place.store).path(key) / "model.safetensors").write_bytes(b"")
    plan = planned(FINISHED, place.folder)
    assert statuses(plan) == {"target": "cached", "retrain": "cached", "msa": "run"}
    assert [entry.old is not None for entry in plan.entries] == [False, False, True]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_a_broken_record_counts_for_nothing(text: str, finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    place.files()["msa"].write_text(text)
    assert statuses(planned(FINISHED, place.folder))["msa"] == "run"


def test_a_record_without_lineage_counts_for_nothing(finished: Place, tmp_path: Path) -> None:
    place = finished.copy(tmp_path)
    file = place.files()["msa"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lineage": {}}))
    assert statuses(planned(FINISHED, place.folder))["msa"] == "run"


def test_a_need_that_the_task_cannot_meet_is_a_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plug_in(tmp_path, DREAMER, {"dreamer": "Dreamer"}, "dreaming")))
    plan = planned(Asked("muse-books", ("dreamer",), (), (0,)), tmp_path)
    [entry] = [entry for entry in plan.entries if entry.spec.method == "dreamer"]
    assert (entry.status, entry.reason) == ("skipped", "it needs moon, which muse-books cannot give here")
    assert entry.seconds == 0


def test_time_and_memory_are_estimated(tmp_path: Path) -> None:
    plan = planned(replace(FINISHED, methods=("msa",)), tmp_path)
    assert list(plan.stages) == ["history", "target", "oracle-0", "oracle-1", "oracle-2"]
    assert all(seconds > 0 for seconds in plan.stages.values()) and all(entry.seconds > 0 for entry in plan.entries)
    both = sum(plan.stages.values()) + plan.measuring + sum(entry.seconds for entry in plan.entries)
    assert plan.measuring > 0, "two oracles beside the one whose row it is"
    assert plan.seconds(1) == pytest.approx(both) and plan.seconds(2) == pytest.approx(both / 2)
    # a two-layer Llama of width 16 over 458 words: 458 * 16 embeddings, two blocks of 13 * 16**2 + 2 * 16, a last norm
    assert plan.memory == PROCESS_BYTES + BYTES_PER_PARAMETER * (458 * 16 + 2 * (13 * 256 + 32) + 16)


def test_nothing_left_to_do_takes_no_time(finished: Place) -> None:
    assert planned(FINISHED, finished.folder).seconds(1) == 0


def test_the_rate_is_what_this_store_has_measured(tmp_path: Path) -> None:
    """6 operations per parameter and token: 6 * 1000 * 500 tokens in 2 s are 1.5 million a second."""
    store, empty = Store(tmp_path), Store(tmp_path / "empty")
    meta = {"tokens": 500, "parameters": 1000, "train_seconds": 2.0}
    node, _ = store.build(NodeRequest({"steps": 5}, "trained", {"device": "cpu"}), lambda _: meta)
    store.build(NodeRequest({"rows": 5}, "asked", {"device": "cpu"}), lambda _: {"checkpoint": "x"})
    assert known_rate(store, 1000) == 1.5e6
    assert known_rate(store, 10**6) == known_rate(empty, 10**6) > 1e9, "another size, another rate"
    (tmp_path / "index.jsonl").unlink()
    (node.path / "node.json").write_text('{"meta"')
    assert known_rate(store, 1000) == known_rate(empty, 1000), "a damaged node says nothing"


def test_presets_variants_and_settings_lie_over_each_other() -> None:
    """Defaults, then the preset of this place, then the variant, or the variant's own preset of the place, then --set."""
    asked = Asked("tofu", ("npo@small-retain", "npo@kl", "npo"), ("npo.lr=0.5",), (0,))
    steps = {
        entry.spec.method: entry.spec.steps for entry in make_plan(asked, Machine(Path("none"), Path("none"))).entries
    }
    [small], [divergent], [plain] = (steps[name] for name in ("npo@small-retain", "npo@kl", "npo"))
    place = dict(NPO.presets["lab-tofu"].params) if "lab-tofu" in NPO.presets else {}
    expected = registry.said_params(NPO, vars(NPO()) | place | {"lr": 0.5})
    assert plain.params == expected
    assert divergent.params == expected | {"retain_loss": "kl"}
    own = NPO.presets["lab-tofu-small-retain"].params
    assert small.params == expected | dict(own) | {"lr": 0.5} and small.params["retain"] == "forget"


def test_all_is_every_method_and_its_variants(tmp_path: Path) -> None:
    found = statuses(planned(Asked("tofu", ("all",), (), (0,)), tmp_path))
    assert {"target", "retrain", "msa", "task-arithmetic", "ga", "graddiff", "npo", "npo@small-retain"} <= set(found)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "muse-bokks", "sets": ()}, "Unknown task 'muse-bokks'. Did you mean 'muse-books'?"),
        ({"methods": ("msaa",), "sets": ()}, "Unknown method 'msaa'. Did you mean 'msa'?"),
        ({"methods": ("msa", "npo@per-tokn")}, "Unknown variant of npo 'per-tokn'. Did you mean 'per-token'?"),
        ({"methods": (), "sets": ()}, "--methods needs at least one name"),
        ({"sets": ("msa.alhpa=1",)}, "Unknown parameter of msa 'alhpa'. Did you mean 'alpha'?"),
        ({"sets": ("muse-books.widht=1",)}, "Unknown parameter of muse-books 'widht'. Did you mean 'width'?"),
        ({"sets": ("msa.alpha=big",)}, "--set msa.alpha=big: the value must be a finite number."),
        ({"sets": ("msa.alpha=nan",)}, "--set msa.alpha=nan: the value must be a finite number."),
        ({"sets": ("msa.alpha=inf",)}, "--set msa.alpha=inf: the value must be a finite number."),
        ({"sets": ("msa.steps=2.5",)}, "--set msa.steps=2.5: the value must be a whole number."),
        ({"sets": ("msa.alpha=-1",)}, "msa.alpha must not be negative."),
        ({"sets": ("msa.steps=0",)}, "msa.steps must be at least 1, not 0."),
        ({"sets": ("msa.lr=-1",)}, "msa.lr must be above 0, not -1.0."),
        ({"sets": ("muse-books.width=0",)}, "muse-books.width must be at least 1, not 0."),
        ({"sets": ("npo.beta=1",)}, "--set npo.beta=1: npo takes no part here"),
        ({"sets": ("mas.alpha=1",)}, "--set mas.alpha=1: Unknown component 'mas'. Did you mean 'msa'?"),
        ({"sets": ("msa.alpha",)}, "--set msa.alpha: write it as component.parameter=value"),
        ({"sets": ("alpha=1",)}, "--set alpha=1: write it as component.parameter=value"),
        ({"sets": ("msa.=1",)}, "--set msa.=1: write it as component.parameter=value"),
        ({"limit": 0}, "--limit must be at least 1, not 0."),
        ({"order": -1}, "--order -1: the first data order is 0, the second 1."),
        ({"order": 1, "methods": ("target",), "sets": ()}, "--order makes second runs of methods"),
        ({"seeds": ()}, "--seeds needs at least one whole number"),
        ({"seeds": (1, 1)}, "--seeds names a seed twice."),
        ({"data": "somewhere"}, "--data goes with --model"),
        ({"task": "tofu", "sets": (), "model": "smolm2-135m-instruct"}, "Did you mean 'smollm2-135m-instruct'?"),
        ({"lm_eval_data": "/nowhere"}, "--lm-eval-data /nowhere: there is no such folder."),
    ],
)
def test_a_mistake_is_one_sentence_with_the_remedy(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    [found] = problems(tmp_path, **changes)
    assert sentence in found and "\n" not in found


def test_a_model_and_data_that_are_not_there_are_two_sentences(tmp_path: Path) -> None:
    found = problems(tmp_path, task="tofu", sets=(), model="nosuch", data="/nowhere")
    assert len(found) == 2 and found[0].startswith("Unknown model 'nosuch'.")
    assert found[1].startswith("--data /nowhere: there is no such folder.")


def test_mistakes_are_reported_together_and_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        methods=("npo", "npo@small-retain", "gaa"),
        sets=("npo.steps=0", "muse-books.width=x"),
        limit=-3,
        problems=("--seeds x: found before.",),
    )
    assert [text.split(":")[0].split(" must")[0] for text in found] == [
        "--seeds x",
        "Unknown method 'gaa'. Did you mean 'ga'? Known",
        "--limit",
        "npo.steps",
        "--set muse-books.width=x",
    ]


# The model's past


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Trainer's folder with two checkpoints, in which the second is the folder's own model."""
    folder = tmp_path_factory.mktemp("past") / "output"
    tokenizer = word_tokenizer(["a", "b"])
    for step in (500, 1000):
        small_llama(len(tokenizer), 8, 1, 16, seed=step).save_pretrained(folder / f"checkpoint-{step}")
        tokenizer.save_pretrained(folder / f"checkpoint-{step}")
    return folder


def real(past: Path, **changes: Any) -> Asked:
    asked = Asked("tofu", ("msa",), (), (0,), model=str(past / "checkpoint-1000"), history=str(past))
    return replace(asked, **changes)


def test_a_history_is_in_the_key_by_content_and_never_by_place(past: Path, tmp_path: Path) -> None:
    plan = planned(real(past), tmp_path, only=True)
    alone = planned(real(past, history=""), tmp_path, only=True)
    assert plan.paths.history == str(past.resolve()) and alone.paths.history == ""
    key, digest = plan.entries[0].spec.key, plan.entries[0].spec.hashes["history"]
    assert key != alone.entries[0].spec.key and "history" not in alone.entries[0].spec.hashes
    assert str(past) not in json.dumps(plan.entries[0].spec.to_json())
    moved = past.with_name("moved")
    past.rename(moved)
    try:
        again = planned(real(moved), tmp_path, only=True)
    finally:
        moved.rename(past)
    assert (again.entries[0].spec.key, again.entries[0].spec.hashes["history"]) == (key, digest)


def test_a_file_that_a_method_reads_is_in_the_key_by_content(tmp_path: Path) -> None:
    """A run with other words in the same file is another run; a method without a file of the user's has no such hash."""
    file = tmp_path / "refusals.txt"
    asked = replace(FINISHED, methods=("idk-dpo", "npo"), sets=(*SETS[:-1], f"idk-dpo.file={file}"))
    found = []
    for words in ("no idea\n", "who knows\n", "no idea\n"):
        file.write_text(words)
        _, _, own, other = (entry.spec for entry in planned(asked, tmp_path).entries)
        assert own.hashes == {"idk-dpo.file": hash_file(file)} and other.hashes == {}
        found.append(own.key)
    assert found[0] == found[2] != found[1]
    file.unlink()
    with pytest.raises(UserError, match="idk-dpo.file: there is no file '.*refusals.txt'"):
        planned(asked, tmp_path)


def test_a_worker_gets_the_history_with_its_setting(past: Path, tmp_path: Path) -> None:
    plan = planned(real(past), tmp_path, only=True)
    assert build_setting(plan.entries[0].spec, Paths(**vars(plan.paths))).history == str(past.resolve())


def test_a_wrong_history_is_told_with_the_other_mistakes(past: Path, tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    file.write_text(json.dumps({"checkpoints": [{"path": "nowhere"}]}))
    with pytest.raises(UserError) as told:
        planned(real(past, model="nosuch", history=str(file), limit=0), tmp_path)
    assert [
        text in problem
        for text, problem in zip(
            ("--limit must be", "Unknown model 'nosuch'", "there is no folder 'nowhere'"),
            told.value.problems,
            strict=True,
        )
    ] == [True] * 3
    with pytest.raises(UserError, match="--history .*: The history's 'checkpoint-1000' lies after the model itself"):
        planned(real(past, model=str(past / "checkpoint-500")), tmp_path)
    with pytest.raises(UserError, match="There is no history 'nowhere'"):
        planned(real(past, history="nowhere"), tmp_path)


def test_the_lab_takes_no_history(past: Path, tmp_path: Path) -> None:
    assert problems(tmp_path, history=str(past)) == ("--history goes with --model: the lab makes its own history.",)


# Real models: what they need, and what isn't fetched

UNFETCHED = Asked("tofu", ("msa", "npo"), (), (0, 1), model="olmo-2-7b")


def test_a_real_models_needs_come_from_its_own_shape(past: Path, tmp_path: Path) -> None:
    plan = planned(replace(real(past, history=""), methods=("msa", "npo"), seeds=(0, 1)), tmp_path, only=True)
    assert plan.size is not None and plan.size.shape == read_shape(past / "checkpoint-1000")
    assert plan.memory == plan.size.worker(plan.compute, plan.machine) and plan.compute == Compute()
    assert (plan.size.streams, plan.size.oracles) == (2, 2), "npo adds a retain loss; two oracles are retrained"
    # of each seed: target and two oracles; msa's theta_1, theta_2 where it has one, and the sum; npo's own
    msa = 2 + bool(plan.entries[4].spec.steps[0].params["beta"])
    assert plan.size.checkpoints == 2 * (3 + msa + 1)
    one = 4 * plan.size.shape.parameters
    assert {entry.spec.method: entry.disk for entry in plan.entries} == {
        "target": 0,
        "retrain": 0,
        "msa": msa * one,
        "npo": one,
    }


def test_how_training_computes_is_in_the_estimate(past: Path, tmp_path: Path) -> None:
    asked = replace(real(past), compute=Compute("bfloat16", lora=4, micro=2))
    plan = planned(asked, tmp_path, only=True, checkpointing=True)
    assert plan.compute == Compute("bfloat16", lora=4, micro=2) and plan.machine.checkpointing
    plain = planned(real(past), tmp_path, only=True)
    slower = planned(real(past), tmp_path, only=True, checkpointing=True)
    assert slower.seconds(1) == pytest.approx(plain.seconds(1) * 8 / 6), "one more pass forward"


def test_what_was_trained_elsewhere_is_no_stage(past: Path, tmp_path: Path) -> None:
    other = str(past / "checkpoint-500")
    plan = planned(real(past, target=other, oracles=(other,), history=""), tmp_path, only=True)
    assert dict(plan.stages) == {} and plan.size is not None and plan.size.oracles == 1


def test_a_model_that_is_not_fetched_is_estimated_by_a_plan_and_refused_by_a_run(tmp_path: Path) -> None:
    plan = planned(UNFETCHED, tmp_path, only=True)
    assert plan.fetch == (
        "python -m bench fetch olmo-2-7b (15 GB)",
        "python -m bench fetch tofu (some MB of text)",
    )
    assert plan.size is not None and plan.size.shape == known_shape("olmo-2-7b") and plan.seconds(1) > 0
    with pytest.raises(UserError, match="'olmo-2-7b' isn't fetched yet: run `python -m bench fetch olmo-2-7b`"):
        planned(UNFETCHED, tmp_path)
    with pytest.raises(UserError, match="Did you mean 'olmo-2-7b'"):
        planned(replace(UNFETCHED, model="olmo-2-7bb"), tmp_path, only=True)
    revision = replace(UNFETCHED, target="olmo-2-1b@stage1-step100000-tokens210B", oracles=("owner/name",))
    assert planned(revision, tmp_path, only=True).fetch[1:3] == (
        "python -m bench fetch olmo-2-1b --revision stage1-step100000-tokens210B (3.0 GB)",
        "python -m bench fetch owner/name (nobody here knows its size)",
    )
    assert list(tmp_path.iterdir()) == [], "a plan writes nothing"


def told(plan: Plan, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    show_plan(replace(plan, machine=replace(plan.machine, jobs=2)))
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_says_time_memory_disk_and_what_to_fetch(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(UNFETCHED, tmp_path, only=True)
    said = told(plan, width, capsys, monkeypatch)
    assert all(len(line) <= width for line in said.splitlines())
    words = " ".join(said.split())
    for part in ("123 GB of memory each", "memory: training 123 GB, measuring", "disk: at most ", "this machine has"):
        assert part in words
    assert "not fetched yet: python -m bench fetch olmo-2-7b (15 GB) python -m bench fetch tofu" in words
    nobody = planned(replace(UNFETCHED, model="owner/name"), tmp_path, only=True)
    said = told(nobody, width, capsys, monkeypatch)
    assert "how long and how much memory: nobody here knows before the model is fetched" in said
    assert "0 s" not in said and "?" in said, "a time that isn't known is no zero"


def test_a_lab_plan_has_no_such_lines_and_is_never_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.core.machine.total_memory", lambda: 1)
    plan = planned(FINISHED, tmp_path)
    assert plan.size is None and check_fits(plan) is plan
    said = told(plan, 80, capsys, monkeypatch)
    assert "GB of memory each" in " ".join(said.split()) and "disk:" not in said


def test_what_cannot_fit_is_refused_with_the_flag(past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(real(past), tmp_path, only=True)
    plan = replace(plan, machine=replace(plan.machine, jobs=2))
    assert plan.size is not None
    assert check_fits(plan) is plan
    monkeypatch.setattr("bench.core.machine.total_memory", lambda: 2 * plan.memory - 1)
    with pytest.raises(
        UserError, match=r"with 2 workers needs about 3\.4 GB, and this machine has 3\.4 GB: add --jobs 1"
    ):
        check_fits(plan)
    cached = replace(plan, entries=tuple(replace(entry, status="cached") for entry in plan.entries))
    assert check_fits(cached) is cached, "nothing is left to do"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "?"),
        (1, "1 s"),
        (599, "599 s"),
        (660, "11.0 min"),
        (7199, "120.0 min"),
        (9000, "2.5 h"),
        (259_200, "3.0 days"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


# Each step alone, on inputs made by hand

GA, NPO_STEP = Step("ga", {"steps": 2}), Step("npo", vars(NPO()), "small-retain")
ENGINES = {"training": versions.TRAINING, "arithmetic": versions.ARITHMETIC, "measure": versions.MEASURE}


def tofu_spec(*steps: Step, **fields: Any) -> RunSpec:
    return RunSpec("tofu", registry.default_params(LabTofu), "lab", "lab", steps, **{"seed": 0, **fields})


def test_specs_are_every_row_on_every_seed_with_what_comes_from_outside() -> None:
    asked = Asked(*("tofu", ("ga", "npo"), (), (7, 0)), limit=5, lm_eval=("piqa:20",), kinds=("logprob",), study="mine")
    understood = Understood(LabTofu, {"authors": 12}, [(), (GA,), (NPO_STEP, GA)], Compute(micro=3))
    outside = Outside("some/model", hashes={"model": "m", "data": "d", "history": "h"})
    found = specs_of(asked, understood, outside)
    rows = [("target", 7), ("target", 0), ("ga", 7), ("ga", 0), ("npo@small-retain+ga", 7), ("npo@small-retain+ga", 0)]
    assert [(each.method, each.seed) for each in found] == rows
    assert len({each.key for each in found}) == 6
    for each in found:
        assert each.hashes == {"model": "m", "data": "d", "history": "h"}
        assert (each.task, each.task_params, each.tier, each.model) == ("tofu", {"authors": 12}, "lab", "some/model")
        assert (each.limit, each.lm_eval, each.kinds, each.study) == (5, ("piqa:20",), ("logprob",), "mine")
        assert (each.compute, each.data) == (Compute(micro=3), LabTofu.data)
    assert "npo" not in found[2].versions and {"npo", "ga"} <= set(found[4].versions)


def test_the_rows_of_a_real_run_say_where_they_come_from_and_no_path() -> None:
    for data, said in (("hub", "hub"), ("/home/me/rows/", "rows")):
        asked = Asked("tofu", ("ga",), (), (0,), model="some/model", data=data)
        [spec] = specs_of(asked, Understood(registry.load_task("tofu", "real"), {}, [(GA,)]), Outside("some/model"))
        assert (spec.tier, spec.data) == ("real", said)


def test_versions_are_of_the_engines_the_task_its_metrics_and_the_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LabTofu, "version", 30)
    monkeypatch.setattr(LabTofu, "metrics", lambda self: (Metric("a", lambda *of: None, "up", 4),))  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(GradientAscent, "version", 20)
    spec = with_versions(tofu_spec(GA, hashes={"model": "m"}))
    assert spec.versions == {**ENGINES, "a": 4, "tofu": 30, "ga": 20}
    assert spec.hashes == {"model": "m"}, "our own components have versions, and no hash of their code"
    monkeypatch.setattr(GradientAscent, "version", 21)
    assert with_versions(spec).key != spec.key


def test_the_code_of_a_plug_in_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plug_in(tmp_path, DREAMER.replace("Dreamer", "Sleeper"), {"sleeper": "Sleeper"}, "sleeping")
    monkeypatch.syspath_prepend(str(folder))
    spec = with_versions(tofu_spec(Step("sleeper", {}), GA))
    assert spec.hashes == {"code of sleeper": hash_file(folder / "sleeping.py")}
    assert (spec.versions["sleeper"], spec.versions["ga"]) == (1, 1)


def kept_node(store: Store, name: str) -> str:
    """The key of a published node with one file."""
    asked = NodeRequest({"name": name}, name, {})
    node, _ = store.build(asked, lambda folder: (folder / "file").write_text(name) and None)
    return node.key


def done(spec: RunSpec, **lineage: Any) -> Record:
    return Record(spec, "done", lineage=lineage)


def test_a_run_is_cached_or_made_again_with_its_old_record(tmp_path: Path) -> None:
    machine, store, spec = Machine(tmp_path / "out", tmp_path / "store"), Store(tmp_path / "store"), tofu_spec(GA)
    assert judge(spec, Paths(), machine, store) == PlannedRun(spec, "run")
    record = done(spec, result_node=kept_node(store, "result"), responses=kept_node(store, "answers"))
    write_record(record, machine.out)
    assert judge(spec, Paths(), machine, store) == PlannedRun(spec, "cached")
    assert judge(replace(spec, seed=1), Paths(), machine, store).status == "run"
    (store.path(record.lineage["result_node"]) / "file").write_text("harmed")
    assert judge(spec, Paths(), machine, Store(store.root)) == PlannedRun(spec, "run", old=record)


def test_what_can_train_no_adapters_is_a_skip_with_lora(tmp_path: Path) -> None:
    def status(method: str, lora: int, **params: Any) -> tuple[str, str]:
        spec = RunSpec("tofu", {}, "lab", "lab", (Step(method, params),), 0, compute=Compute(lora=lora))
        made = judge(spec, Paths(), Machine(tmp_path / "out", tmp_path), Store(tmp_path))
        return made.status, made.reason.partition(",")[0]

    assert status("max-update", 8) == ("skipped", "it reads how far the weights have moved")
    assert status("rmu", 8) == ("skipped", "it trains some of the weights alone")
    assert status("rmu", 8, trained="all") == status("rmu", 0) == status("max-update", 0) == ("run", "")


def test_a_skip_names_every_need_of_every_step_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(GradientAscent, "needs", frozenset({"sun", "retain", "moon"}))
    monkeypatch.setattr(NPO, "needs", frozenset({"history", "air"}))
    spec, machine = tofu_spec(NPO_STEP, GA), Machine(tmp_path, tmp_path)
    write_record(done(spec), tmp_path)
    planned = judge(spec, Paths(), machine, Store(tmp_path))
    assert planned == PlannedRun(spec, "skipped", "it needs air and moon and sun, which tofu cannot give here")


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_only_a_record_of_a_finished_run_is_finished(status: str, tmp_path: Path) -> None:
    spec = tofu_spec(GA)
    assert finished_record(spec, tmp_path) is None
    write_record(replace(done(spec), status=status, reason="it broke"), tmp_path)
    assert finished_record(spec, tmp_path) is None
    write_record(done(spec, responses="r"), tmp_path)
    assert finished_record(spec, tmp_path) == done(spec, responses="r")
    (tmp_path / done(spec).name).write_text("{")
    assert finished_record(spec, tmp_path) is None


def test_a_run_is_kept_while_the_store_has_all_that_its_record_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    a, b, c = (kept_node(store, name) for name in "abc")
    spec = tofu_spec(GA)
    assert is_kept(done(spec, result_node=a, responses=b, oracle_responses=[c]), store)
    assert is_kept(done(spec, result_node=a, responses=b), store), "a run without an oracle"
    for lineage in (
        {},
        {"responses": b},
        {"result_node": a},
        {"result_node": "gone", "responses": b},
        {"result_node": a, "responses": "gone"},
        {"result_node": a, "responses": b, "oracle_responses": [c, "gone"]},
        {"result": "h", "responses": b, "history": ["other"], "before": "another"},
    ):
        assert not is_kept(done(spec, **lineage), store), lineage


@pytest.mark.parametrize("place", [{"history": ["x", "h"]}, {"before": "h"}, {"outside": ["h"]}])
def test_a_result_that_came_from_elsewhere_needs_no_node(place: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path)
    answers = kept_node(store, "answers")
    assert is_kept(done(tofu_spec(), result="h", responses=answers, **place), store)
    assert not is_kept(done(tofu_spec(), result="h", responses="gone", **place), store)
    assert not is_kept(done(tofu_spec(), result="h", result_node="gone", responses=answers, **place), store)


def test_only_what_is_left_to_do_takes_time_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 parameters, rows of 10 tokens, 60,000 operations a row at 25e9 a second; 4 bytes a parameter.

    GA: 2 steps of 8 rows, and .4 of 50 rows asked: 36 rows. The target is asked alone: 20 rows.
    """
    outline = Outline(1000, 10, {"history": 100, "target": 50}, forget=8, retain=30, probe_rows=50)
    monkeypatch.setattr(LabTofu, "outline", lambda self, setting: outline)
    target, ga = tofu_spec(), tofu_spec(GA)
    entries = [PlannedRun(target, "run"), PlannedRun(ga, "run"), PlannedRun(replace(ga, seed=1), "cached")]
    machine, outside = Machine(tmp_path / "out", tmp_path / "store"), Outside(fetch=("fetch x",))
    plan = estimated(entries, Asked("tofu", ("ga",)), outside, machine, Store(machine.store))
    a_row = 60_000 / 25e9
    assert [entry.seconds for entry in plan.entries] == pytest.approx([20 * a_row, 36 * a_row, 0])
    assert [entry.disk for entry in plan.entries] == [0, 4000, 0]
    assert plan.entries[2] is entries[2] and plan.todo == list(plan.entries[:2])
    assert plan.stages == pytest.approx({"history": 100 * a_row, "target": 50 * a_row})
    assert plan.seconds(1) == pytest.approx(206 * a_row) and plan.seconds(2) == pytest.approx(103 * a_row)
    assert (plan.fetch, plan.machine, plan.size) == (("fetch x",), machine, None)
    assert plan.memory == PROCESS_BYTES + BYTES_PER_PARAMETER * 1000
