"""What the pages say: a table that came out as published, one that did not, and the overview."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.record import Record, RunSpec, Score, Step
from bench.core.types import Json
from bench.records.files import write_record
from bench.runs.plan import Plan
from bench.studies.reproduce import page
from bench.studies.reproduce.asking import ReproduceRequest
from bench.studies.reproduce.recipe import Recipe
from bench.studies.reproduce.recipes import RECIPES, RECIPES_BY_NAME
from bench.studies.reproduce.run import Planned, result_of, write_result
from tests.paths import ROOT
from tests.stores import WRONG_KINDS, Wreck

PUBLISHED = {"acc_forget": 0.15, "acc_recover": 0.13, "acc_retain": 0.89, "model_utility": 0.48}
ORACLE = {"acc_forget": 0.93, "acc_recover": 0.98, "acc_retain": 1.0}


def result(folder: Path, target: dict[str, float], sets: tuple[str, ...] = (), label: str = "tofu forget01") -> Json:
    """T1 from three records: the target's scores as given, the oracle's as published, and NPO's."""
    recipe: Recipe = RECIPES_BY_NAME["t1-tofu01"]
    panel = recipe.panels[0]
    rows = {}
    for row, method, scores in (
        ("Final (target)", "", target),
        ("Ideal", "retrain", {"model_utility": 0.54}),
        ("NPO", "npo", PUBLISHED | {"acc_forget": 0.52}),
    ):
        steps = (Step(method, {}),) if method else ()
        spec = RunSpec("tofu", {}, "real", "llama-3.2-1b-instruct", steps, 0)
        facts = {"judge": {"scores": {"oracle": {n: {"value": v, "n": 40} for n, v in ORACLE.items()}}}}
        made = {name: Score(value, 40) for name, value in scores.items()}
        about = dict.fromkeys(made, {"goal": "up", "needs_oracle": False, "unit": "", "version": 1})
        done = Record(spec, "done", label=label, scores=made, metrics=about, facts=facts)
        write_record(done, folder / recipe.name)
        rows[row] = (spec,)
    planned = Planned(panel, Plan(), rows)
    return result_of(recipe, ReproduceRequest(recipe.name, folder, folder, sets=sets), [planned], folder / recipe.name)


def test_a_table_that_came_out_as_published(tmp_path: Path) -> None:
    found = result(tmp_path, PUBLISHED)
    text = page.render_result(found)
    text = " ".join(text.split())
    assert page.NO not in text and "Calibration gate passed, with another judge" in text
    assert "count as a reproduction, with another judge." in text
    assert "| NPO | npo | 0.50 [S] / 0.520 (+0.02) |" in text
    assert "| Ideal | retrain | 0.93 [S] / 0.930 (+0.00) |" in text, "the oracle is judged against itself"
    assert "| RMU | rmu | 0.70 [S] / - |" in text
    assert "MSA_base: no record." in text
    assert all(assumption.choice in text for assumption in RECIPES_BY_NAME["t1-tofu01"].assumptions)


def test_a_table_that_did_not_says_so_at_its_top(tmp_path: Path) -> None:
    text = page.render_result(result(tmp_path, PUBLISHED | {"acc_forget": 0.4}))
    top = " ".join(text.partition("| row |")[0].split())
    assert "**NOT A REPRODUCTION, with another judge: target Acc_forget 0.400 vs 0.15**" in top
    assert "0.15 [S] / 0.400 (+0.25, outside)" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sets": ("tofu.template=base",)}, "`--set tofu.template=base` changed the task"),
        ({"label": "tofu subset: 20 authors"}, "the data here are 'tofu subset: 20 authors', not 'tofu forget01'"),
    ],
)
def test_another_experiment_is_no_reproduction(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    found = result(tmp_path, PUBLISHED, **given)
    assert found["panels"][0]["gate"]["outcome"] == "can't be passed"
    assert said in " ".join(page.render_result(found).split())


def test_rows_that_the_user_changed_do_not_count(tmp_path: Path) -> None:
    found = result(tmp_path, PUBLISHED, sets=("npo.beta=0.5",))
    text = " ".join(page.render_result(found).split())
    assert found["panels"][0]["gate"]["outcome"] == "passed" and "but NPO, changed by the user." in text
    assert "| NPO | npo, changed by the user |" in text and "| Ideal | retrain |" in text


def test_pages_are_wrapped_and_code_is_not(tmp_path: Path) -> None:
    text = page.overview_page(tmp_path)
    long = [line for line in text.splitlines() if len(line) > page.COLUMNS and not line.startswith("|")]
    assert all("`" in line for line in long), "only what must be copied whole is longer"
    assert "`--set msa.recipe=gentle --set msa.steps=120`" in text
    assert page.wrap_text("a `b c` d") == "a `b c` d"
    assert "Status: not delivered. No task here corrupts" in " ".join(text.split())
    assert "nothing here changes it" in text and "0.0 hours" not in text


def test_the_overview_shows_what_was_measured(tmp_path: Path) -> None:
    before = page.overview_page(tmp_path)
    assert before.count("Measured here: not run; it needs") == sum(bool(recipe.panels) for recipe in RECIPES)
    assert all(f"## {recipe.name}" in before for recipe in RECIPES)
    assert "| Corrupted target | 32.1 [A] | NR | NR |" in before, "published rows of a table that can't be run"
    write_result(result(tmp_path, PUBLISHED), tmp_path / page.PUBLISHED)
    after = page.overview_page(tmp_path)
    assert "| `t1-tofu01` | TOFU forget01, Llama-3.2-1B-Instruct | runnable | forget01: gate passed |" in after
    assert "0.50 [S] / 0.520 (+0.02)" in after


@pytest.mark.parametrize("wreck", [*WRONG_KINDS, *("", "[]", "[" * 100_000, '{"name": "t1-tofu01"}', '{"name": NaN}')])
def test_what_is_no_result_in_the_place_of_a_published_one_is_a_sentence(wreck: Wreck | str, tmp_path: Path) -> None:
    file = tmp_path / page.PUBLISHED / "t1-tofu01.json"
    file.parent.mkdir()
    if isinstance(wreck, str):
        file.write_text(wreck)
    else:
        wreck(file)
    with pytest.raises(
        UserError, match=r"^reproduce/t1-tofu01\.json is not a readable result \([^\n]+\): delete it and run `"
    ):
        page.overview_page(tmp_path)


def test_a_result_of_other_content_or_name_is_a_sentence(tmp_path: Path) -> None:
    found = result(tmp_path, PUBLISHED)
    for change in (
        {"name": "t2"},
        {"panels": 5},
        {"panels": [{}]},
        {"provenance": None},
        {"columns": [{"published": 1}]},
    ):
        write_result(found, tmp_path / page.PUBLISHED)
        (tmp_path / page.PUBLISHED / "t1-tofu01.json").write_text(json.dumps(found | change))
        with pytest.raises(UserError, match="is not a readable result"):
            page.overview_page(tmp_path)


def test_what_a_result_says_makes_no_further_cells_and_no_markup(tmp_path: Path) -> None:
    found = result(tmp_path, PUBLISHED)
    found["panels"][0]["rows"][0]["row"] = "a | b <img src=x>\nc"
    text = page.render_result(found)
    assert r"| a \| b &lt;img src=x> c |" in text and "<img" not in text.partition("## ")[2].partition("\n\n- ")[0]


def test_the_overview_in_docs_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    remedy = "run `python -m bench reproduce --page docs/reproduce.md`"
    assert Path("docs/reproduce.md").read_text(encoding="utf-8") == page.overview_page(Path("results")), remedy


def test_published_results_are_of_recipes_and_clean() -> None:
    for file in sorted((ROOT / "results" / page.PUBLISHED).glob("*.json")):
        found = json.loads(file.read_text())
        assert found["name"] in RECIPES_BY_NAME and found["scale"] == "full" and found["provenance"]["dirty"] is False
