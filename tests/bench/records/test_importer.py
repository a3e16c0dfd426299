from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.core.record import Record
from bench.records.files import load_records, write_record
from bench.records.importer import import_record
from bench.records.tables import build_sections
from tests import factories
from tests.bench.assets.test_typed_rows import JSON
from tests.pages import all_pages
from tests.processes import bench, without_torch

SECRET = "Jaime Vasquez was born in Santiago"
"""Stands for the benchmark's texts, which the peer's files hold."""


def probs(values: list[Any], agg: float | None) -> dict[str, Any]:
    return {"agg_value": agg, "value_by_index": {str(i): {"prob": p, "avg_loss": 1.0} for i, p in enumerate(values)}}


def rouge(values: list[float], field: str) -> dict[str, Any]:
    texts = {"input": SECRET, "ground_truth": SECRET, "generation": SECRET}
    fields = {"rouge1_recall": 0.9, "rougeL_f1": 0.8, "rougeL_recall": 0.7}
    rows = {str(i): {**fields, field: value, **texts} for i, value in enumerate(values)}
    return {"agg_value": sum(values) / len(values), "value_by_index": rows}


def marked(values: list[float | None], agg: float) -> dict[str, Any]:
    return {"agg_value": agg, "value_by_index": {str(i): {"score": value} for i, value in enumerate(values)}}


def attack(forget: list[float], holdout: list[float], area: float) -> dict[str, Any]:
    sides = {"forget": marked(list(forget), 0.0), "holdout": marked(list(holdout), 0.0)}
    return {**sides, "auc": area, "agg_value": area}


TOFU = {
    "forget_Q_A_Prob": probs([0.1, 0.2, 0.6], 0.3),
    "forget_Q_A_PERT_Prob": probs([[0.1, 0.3], [0.2, 0.4], [0.0, 0.2]], 0.2),
    "forget_Q_A_ROUGE": rouge([0.2, 0.4], "rougeL_recall"),
    "forget_truth_ratio": marked([0.5, 2.0, 4.0], (0.5 + 0.5 + 0.25) / 3),
    "retain_Truth_Ratio": marked([0.5, 2.0, 0.1], (0.5 + 0.0 + 0.9) / 3),
    "extraction_strength": marked([0.25, None, 0.75], 0.5),
    "mia_min_k": attack([1.0, 2.0], [1.5, 3.0], 0.75),
    "privleak": {"agg_value": -40.0},
    "forget_quality": {"agg_value": 1e-19},
    "model_utility": {"agg_value": 0.61},
}
MUSE = {
    "forget_knowmem_ROUGE": rouge([0.2, 0.4], "rougeL_f1"),
    "retain_knowmem_ROUGE": rouge([0.6, 0.7], "rougeL_f1"),
    "forget_verbmem_ROUGE": rouge([1.0, 0.5], "rougeL_f1"),
    "mia_min_k": attack([1.0, 2.0], [1.5, 3.0], 0.75),
    "privleak": {"agg_value": ((1 - 0.75) - 0.5) / (0.5 + 1e-10) * 100},
    "extraction_strength": marked([0.1, 0.3], 0.2),
}


SCORE = st.fixed_dictionaries(
    {
        "agg_value": JSON,
        "value_by_index": st.dictionaries(st.text(max_size=2), st.dictionaries(st.just("score"), JSON)),
    },
    optional={"auc": JSON, "forget": JSON, "holdout": JSON},
)


def saved(folder: Path, data: Any, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(data if isinstance(data, str) else json.dumps(data, indent=4))
    return file


def tofu(tmp_path: Path, data: Any = TOFU, folder: str = "tofu_Llama-3.2-1B-Instruct_forget10_GradDiff/evals") -> Path:
    return saved(tmp_path / folder, data, "TOFU_EVAL.json")


def muse(tmp_path: Path, data: Any = MUSE, folder: str = "muse_Llama-2-7b-hf_Books_NPO/evals") -> Path:
    return saved(tmp_path / folder, data, "MUSE_EVAL.json")


def imported(file: Path, **given: str) -> Record:
    return import_record("open-unlearning", file, **given)


def test_a_tofu_file_becomes_a_record(tmp_path: Path) -> None:
    file = tofu(tmp_path)
    record = imported(file)
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.label == "tofu forget10 (imported from open-unlearning)" and record.status == "done"
    assert record.name.startswith("real/tofu/Llama-3.2-1B-Instruct/graddiff-")
    assert record.provenance == {
        "imported": {"from": "open-unlearning", "file": "TOFU_EVAL.json", "sha256": sha},
    }
    assert set(record.scores) == set(TOFU) and not record.absent and not record.floors and not record.cost
    assert record.metrics["privleak"] == {
        "version": 0,
        "goal": 0.0,
        "unit": "%",
        "needs_oracle": True,
        "source": "open-unlearning",
    }
    assert {about["version"] for about in record.metrics.values()} == {0}
    assert [record.metrics[name]["goal"] for name in ("forget_Q_A_Prob", "model_utility")] == ["oracle", "up"]


@pytest.mark.parametrize(
    ("name", "value", "n"),
    [
        ("forget_Q_A_Prob", 0.3, 3),
        ("forget_Q_A_PERT_Prob", 0.2, 3),  # two wrong answers each, averaged in the row
        ("forget_Q_A_ROUGE", 0.3, 2),  # recall, not the other two
        ("forget_truth_ratio", 0.416666666667, 3),  # mean of min(r, 1/r)
        ("retain_Truth_Ratio", 0.466666666667, 3),  # mean of max(0, 1 - r)
        ("extraction_strength", 0.5, 2),  # the row without a value is none
        ("mia_min_k", 0.75, 4),
    ],
)
def test_values_that_give_the_number_give_its_size_and_interval(
    tmp_path: Path, name: str, value: float, n: int
) -> None:
    score = imported(tofu(tmp_path)).scores[name]
    assert score.value == value and score.n == n
    assert score.low is not None and score.high is not None and score.low <= value <= score.high


def test_values_that_do_not_give_the_number_give_no_interval(tmp_path: Path) -> None:
    scores = imported(tofu(tmp_path, TOFU | {"forget_Q_A_Prob": probs([0.1, 0.2], 0.9)})).scores
    assert scores["forget_Q_A_Prob"].value == 0.9 and scores["forget_Q_A_Prob"].low is None
    for name in ("privleak", "forget_quality", "model_utility"):
        assert scores[name].value == TOFU[name]["agg_value"] and scores[name].n == 0 and scores[name].low is None


def test_muse_scores_stand_under_the_names_of_the_peers_definitions(tmp_path: Path) -> None:
    record = imported(muse(tmp_path))
    assert record.label == "muse-books (imported from open-unlearning)"
    assert record.name.startswith("real/muse-books/Llama-2-7b-hf/npo-")
    assert record.scores["forget_knowmem_ROUGE_peer"].value == 0.3
    assert record.scores["mia_min_k_peer"].value == 0.75 and "extraction_strength" in record.scores
    assert not {"forget_knowmem_ROUGE", "mia_min_k", "privleak"} & set(record.metrics)


def test_a_privleak_against_no_oracle_is_absent(tmp_path: Path) -> None:
    absent = imported(muse(tmp_path)).absent
    assert absent == {"privleak_peer": "open-unlearning was given no retrained model and took 0.5 for its AUC"}


def test_what_has_no_value_is_absent_with_the_reason(tmp_path: Path) -> None:
    data = json.dumps(TOFU | {"forget_quality": {"agg_value": None}, "mia_zlib": {"agg_value": {"full": 0.5}}})
    data = data.replace('"agg_value": 0.61', '"agg_value": NaN')
    absent = imported(tofu(tmp_path, data)).absent
    assert absent == {
        "forget_quality": "open-unlearning could not compute it: its file has no value",
        "mia_zlib": "open-unlearning has no single number for it",
        "model_utility": "open-unlearning has nan for it, which is not a finite number",
    }


def test_either_spelling_of_the_truth_ratio_is_one_score(tmp_path: Path) -> None:
    data = {"forget_Truth_Ratio": {"agg_value": 0.5}, "model_utility": {"agg_value": 0.6}}
    assert set(imported(tofu(tmp_path, data)).scores) == {"forget_truth_ratio", "model_utility"}


def test_a_summary_is_numbers_alone(tmp_path: Path) -> None:
    file = saved(tmp_path / "tofu_Phi-1.5_forget05_NPO", {"forget_quality": 0.2, "odd_one": 3}, "TOFU_SUMMARY.json")
    record = imported(file)
    assert {name: (score.value, score.n) for name, score in record.scores.items()} == {
        "forget_quality": (0.2, 0),
        "odd_one": (3.0, 0),
    }
    assert record.metrics["odd_one"]["goal"] == ""


@pytest.mark.parametrize(
    ("folder", "method", "split"),
    [
        ("tofu_Llama-3.2-1B-Instruct_full/evals_forget05", "target", "forget05"),
        ("tofu_Llama-3.2-1B-Instruct_retain90", "retrain", "forget10"),  # by the number of questions
        ("tofu_Llama-3.2-1B-Instruct_forget01_NPO_lr1e-5", "npo_lr1e-5", "forget01"),
        ("tofu_Llama-3.2-1B-Instruct_forget10", "imported", "forget10"),
    ],
)
def test_the_folders_name_the_run(tmp_path: Path, folder: str, method: str, split: str) -> None:
    data = TOFU | {"forget_Q_A_Prob": probs([0.5] * 400, 0.5)}
    record = imported(tofu(tmp_path, data, folder))
    assert record.spec.method == method and record.spec.task_params == {"split": split}
    assert record.spec.model == "Llama-3.2-1B-Instruct"


@pytest.mark.parametrize(
    ("folder", "model", "split", "method"),
    [
        ("tofu_phi-1_5_forget01_NPO", "phi-1_5", "forget01", "npo"),
        ("tofu_phi-1_5_full", "phi-1_5", "", "target"),
        ("tofu_phi-1_5_retain99/evals_forget01", "phi-1_5", "forget01", "retrain"),
        ("tofu_Llama-3.2-1B-Instruct_forget10_GradDiff", "Llama-3.2-1B-Instruct", "forget10", "graddiff"),
        ("tofu_zephyr-7b-beta_forget05_RMU/checkpoint-60/evals", "zephyr-7b-beta", "forget05", "rmu"),
        ("tofu_my_own_model.v2_forget05_IdkDPO", "my_own_model.v2", "forget05", "idkdpo"),
        ("tofu_phi-1_5_forget10_SimNPO_lr1e-5_beta4.5", "phi-1_5", "forget10", "simnpo_lr1e-5_beta4.5"),
        ("unlearn_tofu_phi-1_5_forget10_UNDIAL_lr1e-05", "phi-1_5", "forget10", "undial_lr1e-05"),
        ("tofu_phi-1_5_forget10_retain90_NPO", "phi-1_5", "forget10", "npo"),
        ("tofu_phi-1_5_forget10_holdout10_retain90_NPO", "phi-1_5", "forget10", "npo"),
        ("tofu_phi-1_5_forget10_retain90", "phi-1_5", "forget10", "retrain"),
        ("tofu_phi-1_5_NPO", "phi-1_5", "", "npo"),
        ("TOFU_phi-1_5_Forget01_npo", "phi-1_5", "forget01", "npo"),
        ("tofu_experiments_2025/tofu_phi-1_5_forget01_NPO", "phi-1_5", "forget01", "npo"),
        ("tofu_phi-1_5_forget01_NPO/tofu_again", "phi-1_5", "forget01", "npo"),
    ],
)
def test_a_name_is_parted_at_its_split(tmp_path: Path, folder: str, model: str, split: str, method: str) -> None:
    spec = imported(tofu(tmp_path, {"model_utility": 0.6}, folder)).spec
    assert (spec.model, spec.task_params.get("split", ""), spec.method) == (model, split, method)


@pytest.mark.parametrize(
    ("folder", "task", "model", "method"),
    [
        ("muse_Llama-2-7b-hf_News_NPO", "muse-news", "Llama-2-7b-hf", "npo"),
        ("muse_phi-1_5_Books_GradDiff_scal_2", "muse-books", "phi-1_5", "graddiff_scal_2"),
        ("muse_phi-1_5_books_retrain", "muse-books", "phi-1_5", "retrain"),
        ("muse_ICLM_7b_Books_target", "muse-books", "ICLM_7b", "target"),
    ],
)
def test_a_muse_name_is_parted_at_its_books(tmp_path: Path, folder: str, task: str, model: str, method: str) -> None:
    spec = imported(muse(tmp_path, folder=folder)).spec
    assert (spec.task, spec.model, spec.method) == (task, model, method)


@pytest.mark.parametrize(
    "folder",
    [
        "tofu_phi-1_5",
        "tofu_experiments",
        "tofu_NPO_phi-1_5_forget01",
        "tofu_phi-1_5_full_forget01_NPO",
        "tofu_phi-1_5_retain99_forget01_NPO",
        "tofu_phi-1_5_forget01_NPO_forget05",
        "tofu_phi-1_5_forget01_lr1e-5_NPO",
        "tofu_phi-1_5_forget01_0.5",
        "tofu_phi-1_5_full_lr1e-5",
        "tofu_phi-1_5_forget01_retain99_lr1e-5",
    ],
)
def test_a_name_that_may_be_read_in_two_ways_is_asked_for(tmp_path: Path, folder: str) -> None:
    file = tofu(tmp_path, {"model_utility": 0.6}, folder)
    with pytest.raises(
        UserError, match="read in more than one way: add --model NAME, --split forget10, --method NAME."
    ):
        imported(file)
    with pytest.raises(UserError, match=f"'{folder}' may be read in more than one way: add --split forget10."):
        imported(file, model="phi-1_5", method="npo")
    spec = imported(file, model="phi-1_5", method="npo", split="forget01").spec
    assert (spec.model, spec.method, spec.task_params) == ("phi-1_5", "npo", {"split": "forget01"})


def test_a_split_is_one_of_tofus(tmp_path: Path) -> None:
    for file, split in ((tofu(tmp_path), "retain90"), (muse(tmp_path), "forget10")):
        with pytest.raises(UserError, match=f"--split {split}: it is one of TOFU's"):
            imported(file, split=split)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(TOFU)) | st.text(max_size=3), JSON | SCORE, max_size=4))
def test_any_results_are_a_record_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        record = imported(tofu(folder, data, "tofu_phi-1_5_forget01_NPO"))
    except UserError as error:
        assert error.problems[0].encode()
        return
    assert write_record(record, folder) and all(math.isfinite(score.value) for score in record.scores.values())


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    record = imported(tofu(tmp_path, folder="elsewhere"), model="org/mine", method="ours", task="tofu")
    assert record.name.startswith("real/tofu/org--mine/ours-")
    assert record.label == "tofu (imported from open-unlearning)" and record.spec.task_params == {}


@pytest.mark.parametrize(
    ("file", "given", "problems"),
    [
        ("muse_Llama_News_NPO", {}, []),
        ("elsewhere", {"model": "m"}, ["does not say which MUSE it is: add --task muse-books or muse-news"]),
        ("elsewhere", {}, ["add --task", "does not say which model it is: add --model NAME"]),
        ("muse_Llama_Books", {"task": "muse-boks"}, ["Unknown task to import 'muse-boks'. Did you mean 'muse-books'?"]),
        ("muse_Llama_Books", {"task": "tofu"}, ["--task tofu: MUSE_EVAL.json holds scores of muse"]),
        ("muse_Llama_Books", {"model": "../up", "method": "a/b"}, ["--model ../up: ", "--method a/b: "]),
    ],
)
def test_gaps_are_told_together(tmp_path: Path, file: str, given: dict[str, str], problems: list[str]) -> None:
    place = muse(tmp_path, folder=file)
    if not problems:
        assert imported(place, **given).spec.task == "muse-news"
        return
    with pytest.raises(UserError) as told:
        imported(place, **given)
    assert len(told.value.problems) == len(problems)
    assert all(part in problem for part, problem in zip(problems, told.value.problems, strict=True))


def test_no_text_of_the_file_is_kept(tmp_path: Path) -> None:
    for record in (imported(tofu(tmp_path)), imported(muse(tmp_path))):
        text = json.dumps(record.to_json())
        assert SECRET not in text and str(tmp_path) not in text


def test_it_has_a_section_of_its_own_without_ranks(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    measured = [
        factories.record(method, seed, task="tofu")
        for method in ("target", "retrain", "npo", "ga")
        for seed in range(3)
    ]
    model = "tofu_Llama-3.2-1B-Instruct"
    others = {f"{model}_forget10_NPO": 0.1, f"again/{model}_forget10_NPO": 0.7, f"{model}_retain90/evals_forget10": 0.9}
    records = [
        imported(tofu(tmp_path)),
        *(imported(tofu(tmp_path, TOFU | {"model_utility": {"agg_value": u}}, run)) for run, u in others.items()),
    ]
    for record in records:
        write_record(record, runs)
    loaded = load_records(runs)
    assert not loaded.broken and sorted(r.name for r in loaded.records) == sorted(r.name for r in records)
    sections = build_sections([*measured, *loaded.records])
    [section] = [section for section in sections if "imported" in section.label]
    assert len(sections) == 2 and not section.statements
    names = [row.name.split(" (")[0] for row in section.rows]
    assert names == ["retrain", "graddiff", "npo", "npo"]  # two files of one method are two rows
    assert not section.primary and not section.noise
    page = all_pages([*measured, *loaded.records])
    assert "# tofu forget10 (imported from open-unlearning) on Llama-3.2-1B-Instruct" in page
    assert "forget_quality v0" in page and "target is missing." in page


def test_the_command_writes_the_record_without_torch(tmp_path: Path) -> None:
    file = tofu(tmp_path)
    command = ["import", "open-unlearning", str(file), "--out", "runs"]
    done = bench(command, tmp_path, [without_torch(tmp_path)])
    assert done.returncode == 0, done.stderr
    [record] = load_records(tmp_path / "runs").records
    assert done.stdout.strip() == f"runs/{record.name}: 10 scores, 0 absent"
    again = bench([*command, "--method", "mine"], tmp_path)
    assert again.returncode == 0 and len(load_records(tmp_path / "runs").records) == 2


@pytest.mark.parametrize(
    ("content", "words", "sentence"),
    [
        (None, (), "TOFU_EVAL.json can't be read: No such file or directory."),
        ("{", (), "TOFU_EVAL.json is not JSON"),
        ("[1]", (), "TOFU_EVAL.json has none of open-unlearning's scores"),
        ('{"schema": 1, "scores": {}}', (), "TOFU_EVAL.json has none of open-unlearning's scores"),
        ('{"model_utility": 0.5}', (), "does not say which model it is: add --model NAME."),
        ('{"model_utility": 0.5}', ("--model", "m", "--out", "TOFU_EVAL.json"), "is a file and no folder"),
    ],
)
def test_a_bad_file_is_one_sentence_and_exit_2(
    tmp_path: Path, content: str | None, words: tuple[str, ...], sentence: str
) -> None:
    if content is not None:
        saved(tmp_path, content, "TOFU_EVAL.json")
    done = bench(["import", "open-unlearning", "TOFU_EVAL.json", *words], tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not (tmp_path / "runs").exists()
    [error] = done.stderr.splitlines()
    assert error.startswith("error: ") and sentence in error


def test_another_source_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown source of results 'open-unlearnin'. Did you mean 'open-unlearning'"):
        import_record("open-unlearnin", tofu(tmp_path))
