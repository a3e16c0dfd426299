"""Every recipe from end to end at smoke scale: a tiny random model, generated rows, no hub and no data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.assets.models import FETCHED
from bench.core.hashing import hash_checkpoint
from bench.core.types import Json
from bench.real.scenario import has_chat_template
from bench.records.files import load_records
from bench.studies.reproduce import gate, page, smoke, smoke_data
from bench.studies.reproduce.asking import ReproduceRequest
from bench.studies.reproduce.recipe import ORACLE, TARGET, Recipe
from bench.studies.reproduce.recipes import RECIPES, RECIPES_BY_NAME
from bench.studies.reproduce.run import reproduce_table

RUNNABLE = [recipe for recipe in RECIPES if recipe.panels]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield


def made(place: Path, name: str, **changed: object) -> Json:
    wanted = ReproduceRequest(name, place, place / "store", scale="smoke")
    assert not reproduce_table(replace(wanted, **changed)), "a run failed"  # type: ignore[arg-type]
    return dict(json.loads((place / f"{name}.json").read_text()))


@pytest.mark.slow(80)
@pytest.mark.parametrize("recipe", RUNNABLE, ids=lambda recipe: recipe.name)
def test_every_recipe_runs(recipe: Recipe, place: Path) -> None:
    result = made(place, recipe.name)
    assert [panel["name"] for panel in result["panels"]] == [panel.name for panel in recipe.panels]
    for panel, said in zip(recipe.panels, result["panels"], strict=True):
        assert said["gate"]["outcome"] == "not applicable"
        for arm, row in zip(panel.arms, said["rows"], strict=True):
            assert row["row"] == arm.published and row["status"] == ("done" if arm.method else arm.note)
            cells = [row["cells"][column.published] for column in recipe.columns]
            known = [
                column for column in recipe.columns if arm.method != ORACLE or column.kind not in gate.BY_DEFINITION
            ]
            measured = {column.published for column in known if "measured" in row["cells"][column.published]}
            assert measured == ({column.published for column in known} if arm.method else set())
            assert [cell["published"] for cell in cells] == list(values(panel.table, arm.published, len(cells)))
    text = " ".join((place / f"{recipe.name}.md").read_text().split())
    assert text.startswith(page.SMOKE)
    for table in (panel.table for panel in recipe.panels):
        assert all(row.name in text and all(v in text for v in row.values) for row in table.rows)


def values(table: object, row: str, count: int) -> tuple[str, ...]:
    found = {each.name: each.values for each in table.rows}  # type: ignore[attr-defined]
    return found.get(row, ("NR",) * count)


def test_the_base_of_a_chat_model_stands_in_without_a_template(tmp_path: Path) -> None:
    """As Llama's releases are: MSA_base is only asked because the model's own template is lent to it."""
    small = smoke.shrink_panel(RECIPES_BY_NAME["t1-tofu01"].panels[0], "tofu", tmp_path, set())
    (base,) = small.stand_ins.values()
    assert has_chat_template(small.model) and not has_chat_template(base)


@pytest.mark.slow(80)
def test_rows_of_msa_start_from_their_own_checkpoints(place: Path) -> None:
    made(place, "t4-distance")
    records = {record.spec.key: record for record in load_records(place / "t4-distance").records}
    rows = json.loads((place / "t4-distance.json").read_text())["panels"][0]["rows"]
    used, results = {}, set()
    for row in (row for row in rows if row["method"] == "msa"):
        record = records[row["keys"][0]]
        used[row["row"]] = record.facts["theta_0"]["which"]
        results.add(record.lineage["result"])
    assert used == {
        arm.published: arm.params["before"]
        for arm in RECIPES_BY_NAME["t4-distance"].panels[0].arms
        if arm.method == "msa"
    }
    assert len(results) == len(used), "each makes a model of its own"
    assert {record.spec.model for record in records.values()} == {"smoke-olmo-2-1b@stage1-step1900000-tokens3985B"}
    assert all("subset" in record.label for record in records.values())


@pytest.mark.slow(80)
def test_models_from_elsewhere_and_the_repair_are_in_the_records(place: Path) -> None:
    made(place, "ou-muse")
    lineages = [record.lineage for record in load_records(place / "ou-muse").records]
    assert all(len(lineage["outside"]) == 2 for lineage in lineages), "target and oracle were trained nowhere here"
    result = made(place, "t8-restor", methods=("GA",))
    steps = [step["method"] for row in result["panels"][0]["rows"] if row["row"] == "GA" for step in row["made"]]
    assert steps == ["graddiff", "repair"]
    alone = [
        record
        for record in load_records(place / "t8-restor").records
        if [s.method for s in record.spec.steps] == ["repair"]
    ]
    assert not alone, "a run that no row shows"


@pytest.mark.slow(80)
def test_a_setting_reaches_the_runs_and_the_page(place: Path, tmp_path: Path) -> None:
    result = made(tmp_path, "ou-muse", sets=("npo.beta=0.5",), methods=("NPO",), store=place / "store", seeds=(0, 1))
    row = next(row for row in result["panels"][0]["rows"] if row["row"] == "NPO")
    assert row["made"][0]["params"]["beta"] == 0.5 and len(row["keys"]) == 2
    assert (
        result["command"]
        == "python -m bench reproduce ou-muse --scale smoke --seeds 0,1 --methods NPO --set npo.beta=0.5"
    )
    assert row["changed"] and not any(other["changed"] for other in result["panels"][0]["rows"] if other is not row)
    assert "`--set npo.beta=0.5`" in (tmp_path / "ou-muse.md").read_text()
    assert {row["method"] for row in result["panels"][0]["rows"]} == {TARGET, ORACLE, "npo"}


@pytest.mark.slow(80)
def test_the_full_scale_says_that_random_models_reproduce_nothing(tmp_path: Path) -> None:
    """Stand-ins lie where fetched models would: worker processes, the gate, and its sentence at the top of the table."""
    smoke_data.write_muse(tmp_path / "data")
    for number, name in enumerate(("llama-2-7b", "muse-books-llama2-7b", "muse-books-llama2-7b-retrain")):
        folder = tmp_path / "store" / "models" / name
        smoke.write_model(folder, "llama", False, number)
        (folder / FETCHED).write_text(json.dumps({"name": name, "hash": hash_checkpoint(folder)}))
    sets = ("muse-books.chunk=24", "npo.steps=2")
    data = str(tmp_path / "data")
    wanted = ReproduceRequest("ou-muse", tmp_path, tmp_path / "store", jobs=1, methods=("npo",), sets=sets, data=data)
    assert not reproduce_table(wanted)
    result = json.loads((tmp_path / "ou-muse.json").read_text())
    (panel,) = result["panels"]
    assert panel["gate"]["outcome"] == "can't be passed" and panel["model"] == "llama-2-7b"
    changed, other = panel["gate"]["reasons"]
    assert "muse-books.chunk=24" in changed and "texts not verified against the hub" in other
    target = next(row for row in panel["rows"] if row["method"] == TARGET)["cells"]["VerbMem_f"]
    assert target["published"] == "1.0" and target["difference"] == pytest.approx(target["measured"]["value"] - 1)
    text = " ".join((tmp_path / "ou-muse.md").read_text().split())
    assert "**NOT A REPRODUCTION: the calibration gate can't be passed" in text.partition("| row |")[0]
    assert page.SMOKE not in text and "Replaced at smoke scale" not in text
