"""Where rows lie: folders, fetched copies, files; and what is said where they can't be had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.assets.data_sets import (
    DATA_SETS,
    FILES,
    DataPlace,
    data_folder,
    data_for_suite,
    find_data_set,
    find_fetched_data,
    resolve_data,
    resolve_files,
)
from bench.assets.models import FETCHED
from bench.core.errors import UserError, collecting
from bench.core.hashing import hash_tree
from bench.real.restor.corpus import WHOLE_HASH
from bench.real.tofu.rows import CONFIGS
from bench.runs.asked import Asked
from bench.runs.outside import look_outside


def make_fetched(data_dir: Path, name: str) -> DataPlace:
    """A fetched data set of one file."""
    folder = data_folder(name, data_dir)
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / "a.json").write_text(name)
    found = hash_tree(folder / FILES)
    (folder / FETCHED).write_text(json.dumps({"hash": found}))
    return DataPlace(str(folder / FILES), found)


def problem(task: str, data: str, data_dir: Path) -> str:
    with pytest.raises(UserError) as error:
        resolve_data(task, data, False, data_dir)
    return str(error.value)


def test_the_hub_is_the_fetched_copy_where_there_is_one(tmp_path: Path) -> None:
    assert resolve_data("tofu", "", False, tmp_path) == resolve_data("tofu", "hub", False, tmp_path) == DataPlace("hub")
    made = make_fetched(tmp_path, "tofu")
    make_fetched(tmp_path, "tofu@main")
    assert resolve_data("tofu", "hub", False, tmp_path) == made
    assert resolve_data("tofu", made.path, False, tmp_path) == made, "the same key, however it is named"
    (Path(made.path) / "a.json").write_text("changed")
    assert "'tofu' is damaged" in problem("tofu", "hub", tmp_path)


def test_the_fetched_copy_enters_the_key(tmp_path: Path) -> None:
    asked, problems = Asked("tofu", ("ga",), model="some/model"), pytest.raises(UserError, match="some/model")
    with problems, collecting():
        found = look_outside(asked, tmp_path / "models")
    assert "data" not in found.hashes and found.paths.data == "hub"
    made = make_fetched(tmp_path / "data", "tofu")
    with problems, collecting():
        found = look_outside(asked, tmp_path / "models")
    assert found.hashes["data"] == made.hash and found.paths.data == made.path


def test_what_is_on_no_hub_says_how_it_is_had(tmp_path: Path) -> None:
    assert "run `python -m bench fetch restor` first, or name its folder with --data" in problem("restor", "", tmp_path)
    assert problem("books-public-domain", "hub", tmp_path).endswith("name its folder with --data.")
    assert "there is no such folder" in problem("tofu", str(tmp_path / "nosuch"), tmp_path)
    assert resolve_data("a-plugin", "", False, tmp_path) == DataPlace("hub"), (
        "a task that we know nothing of reads it itself"
    )


def test_files_are_hashed_in_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    one = resolve_files("qa", f"{tmp_path / 'a'}, {tmp_path / 'b'}")
    assert one.path == f"{tmp_path / 'a'},{tmp_path / 'b'}"
    assert one.hash != resolve_files("qa", f"{tmp_path / 'b'},{tmp_path / 'a'}").hash
    with pytest.raises(UserError, match="there is no file 'nosuch'"):
        resolve_files("qa", "nosuch,nor")
    with pytest.raises(UserError, match="qa needs your files"):
        resolve_files("qa", "")


def test_a_comma_in_a_files_own_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a,b").mkdir()
    (tmp_path / "a,b" / "x").write_text("x")
    monkeypatch.chdir(tmp_path / "a,b")
    with pytest.raises(UserError, match="has a comma in it"):
        resolve_files("qa", "x,x")


def test_a_suite_reads_the_fetched_copy_or_the_hub(tmp_path: Path) -> None:
    assert data_for_suite("tofu", "hub", tmp_path) == "locuslab/TOFU"
    assert (
        data_for_suite("tofu", "locuslab/TOFU", tmp_path) == "locuslab/TOFU"
        and data_for_suite("qa", "a,b", tmp_path) == "a,b"
    )
    made = make_fetched(tmp_path, "tofu")
    assert data_for_suite("tofu", "hub", tmp_path) == made.path


def test_names_and_hub_ids_are_the_same_data_set() -> None:
    assert find_data_set("locuslab/TOFU") is find_data_set("tofu@main") is DATA_SETS["tofu"]
    assert find_data_set("smollm2-135m-instruct") is None and find_data_set("") is None


def test_what_is_published_fits_what_the_adapters_read() -> None:
    assert len(DATA_SETS["tofu"].tables) == 18
    assert set(CONFIGS) < set(DATA_SETS["tofu"].tables)
    assert DATA_SETS["restor"].tables["questions"].identity == WHOLE_HASH
    for name, known in DATA_SETS.items():
        assert name == known.name and known.tables and not (known.hub and known.git)
        assert bool(known.source) == bool(known.revision), "what is fetched is pinned"


def test_a_data_set_that_is_not_fetched_is_none(tmp_path: Path) -> None:
    assert find_fetched_data("tofu", tmp_path) is None
    assert replace(DATA_SETS["tofu"], hub="").source == ""
