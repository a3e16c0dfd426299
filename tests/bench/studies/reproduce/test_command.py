"""The command line of `reproduce`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.studies.reproduce.asking import ReproduceRequest, prepare_recipe
from bench.studies.reproduce.dry import dry_run_lines
from bench.studies.reproduce.page import list_recipes
from bench.studies.reproduce.run import reproduce_table


def wanted(tmp_path: Path, name: str, **more: object) -> ReproduceRequest:
    return ReproduceRequest(name, tmp_path / "out", tmp_path / "store", **more)  # type: ignore[arg-type]


def test_the_list_has_the_fixed_form_and_loads_no_torch() -> None:
    code = "import sys; from bench.cli.app import main; sys.argv = ['bench', 'reproduce', '--list', '--json']\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    assert done.stderr.strip() == "False"
    assert all({"name", "title", "source", "status"} <= set(row) for row in rows) and len(rows) == 13
    assert {row["name"]: row["status"] for row in rows}["t3-tofu-restor"] == "not delivered"
    assert [row["name"] for row in rows if row["status"] == "numbers not recovered"] == [
        "v1-tofu05",
        "v1-llama-8b",
        "v3-tofu-llama",
    ]
    assert "t6-muse-books" in list_recipes(False) and max(map(len, list_recipes(False).splitlines())) <= 80


def test_what_is_not_fetched_is_one_sentence_with_every_command(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        reproduce_table(wanted(tmp_path, "ou-muse"))
    (said,) = error.value.problems
    assert said == (
        "ou-muse needs what isn't fetched yet: run `python -m bench fetch llama-2-7b`, `python -m bench fetch "
        "muse-books-llama2-7b`, `python -m bench fetch muse-books-llama2-7b-retrain`, `python -m bench fetch muse-books`."
    )


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("", {}, "Name a table"),
        ("t6-muse-book", {}, "Did you mean 't6-muse-books'"),
        ("t3-tofu-restor", {}, "can't be run here: no task here corrupts a model with TOFU and RESTOR at once"),
        ("v1-tofu05", {}, "can't be run here: nobody recovered a number of it"),
        ("t1-tofu01", {"scale": "tiny"}, "Unknown scale 'tiny'"),
        ("t1-tofu01", {"track": "mlflow"}, "Unknown tracker 'mlflow'"),
        ("t1-tofu01", {"scale": "smoke", "data": "x"}, "--data goes with --scale full"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, name: str, more: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        prepare_recipe(wanted(tmp_path, name, **more))


def test_the_dry_run_says_everything_and_writes_nothing(tmp_path: Path) -> None:
    lines = list(dry_run_lines(wanted(tmp_path, "t4-distance", sets=("msa.alpha=2",))))
    assert all(len(line) <= 80 for text in lines if "python -m" not in text for line in text.splitlines())
    text = " ".join("\n".join(lines).split())
    for part in (
        "python -m bench fetch olmo-2-1b --revision stage1-step100000-tokens210B",
        "210B: msa recipe=official, lr=1e-05, alpha=2, beta=1.0, before=stage1-step100000-tokens210B",
        "Target: target, trained here",
        "the split: forget10 (`--set tofu.split=forget01`)",
        "needs: one GPU with",
        "8 runs, 8 to make",
        "memory: training",
    ):
        assert part in text
    assert not list(tmp_path.rglob("*.json"))
