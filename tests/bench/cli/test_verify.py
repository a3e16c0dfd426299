"""`fetch --check`: a table each, what differs, and the exit code; the published identities against the real copies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.assets.data_sets import DATA_SETS, DataSet, TableFacts
from bench.assets.git import git_blob
from bench.cli.app import app
from bench.cli.verify import verify_fetched
from bench.core.errors import UserError
from bench.core.hashing import hash_json
from tests.bench.assets.test_data_sets import make_fetched as make_data
from tests.bench.assets.test_models import make_fetched as make_model
from tests.shared_data import shared

ROWS = [{"question": f"q{i}", "answer": f"a{i}", "more": i} for i in range(4)]
IDENTITY = hash_json([[row["question"], row["answer"]] for row in ROWS])


def write(folder: Path, rows: list[dict[str, object]], name: str = "forget") -> None:
    """A table in the hub's layout."""
    (folder / "knowmem").mkdir(parents=True, exist_ok=True)
    (folder / "knowmem" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = "".join(
        f"  - split: {file.stem}\n    path: knowmem/{file.name}\n" for file in sorted((folder / "knowmem").iterdir())
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: knowmem\n  data_files:\n{splits}---\n")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of two published tables, one of them known by its count alone."""
    fields = ("question", "answer")
    tables = {"knowmem/forget": TableFacts(4, IDENTITY, fields), "knowmem/retain": TableFacts(2, "", fields)}
    monkeypatch.setitem(DATA_SETS, "small", DataSet("small", "MIT", tables, hub="some/small", revision="main"))


def said(names: list[str], data: Path | str, store: Path = Path("nosuch")) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return verify_fetched(names, str(data), store, lines.append), lines


def test_rows_as_published_and_rows_known_by_count_alone(small: None, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    write(tmp_path, ROWS[:2], "retain")
    good, lines = said(["small"], tmp_path)
    assert good and lines == [
        "knowmem/forget  4 rows  as published",
        "knowmem/retain  2 rows  as many as published; the published content is not known here",
        "small: nothing differs, but the published content of 1 of 2 tables is not known here.",
    ]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (ROWS[:3], "knowmem/forget  differs: 3 rows where 4 are published"),
        (ROWS[::-1], "knowmem/forget  differs: 4 rows with other content than published"),
        ([], "knowmem/forget  not here"),
    ],
)
def test_what_differs_is_said_and_makes_a_subset(
    small: None, tmp_path: Path, rows: list[dict[str, object]], line: str
) -> None:
    write(tmp_path, ROWS[:2], "retain")
    if rows:
        write(tmp_path, rows)
    good, lines = said(["small"], tmp_path)
    assert not good and lines[0] == line
    assert lines[2] == "small: 1 of 2 tables are not as published. This is a subset, and so are scores on it."


def test_a_table_of_another_form_differs(small: None, tmp_path: Path) -> None:
    write(tmp_path, [{"question": "q"}] * 4)
    good, lines = said(["small"], tmp_path)
    assert not good and lines[:2] == [
        "knowmem/forget  differs: it lacks the field answer",
        "knowmem/retain  not here",
    ]


def test_all_that_is_fetched_is_verified(tmp_path: Path, small: None) -> None:
    assert said([], "", tmp_path) == (
        True,
        ["Nothing is fetched yet: `python -m bench fetch NAME` fetches a model or a data set."],
    )
    model = make_model(tmp_path / "models" / "some--model")
    make_data(tmp_path / "data", "small")
    good, lines = said([], "", tmp_path)
    assert not good and lines[0].startswith("some/model  as fetched, hash ")
    assert lines[1].startswith("small  as fetched, hash ") and lines[2] == "knowmem/forget  not here"
    assert said(["some/model"], "", tmp_path)[0]
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    good, lines = said(["some/model"], "", tmp_path)
    assert not good and "differs: The fetched model 'some/model' is damaged" in lines[0]


def test_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    for names, data, sentence in (
        (["tofu"], "", "The data set 'tofu' isn't fetched: run `python -m bench fetch tofu`, or name its folder"),
        (["books-public-domain"], "", "isn't fetched: it comes from no hub: name its folder with --data"),
        (["olmo-2-1b"], "", "The model 'olmo-2-1b' isn't fetched yet"),
        (["tufo"], "", "Unknown model or data set 'tufo'. Did you mean 'tofu'"),
        ([], ".", "--data goes with the name of one data set: tofu"),
        (["olmo-2-1b"], ".", "--data goes with the name of one data set"),
        (["tofu"], "nosuch", "--data nosuch: there is no such folder"),
    ):
        with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
            said(names, data, tmp_path)


def test_a_blob_is_gits(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"test content\n")
    assert git_blob(tmp_path / "f") == "d670460b4b4aece5915caf5c68d12f560a9fe3e4"  # of git's own book, chapter 10.2


def test_the_command_exits_1_when_something_differs(small: None, tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    write(tmp_path, ROWS[:2], "retain")
    command = ["fetch", "--check", "small", "--data", str(tmp_path), "--store", str(tmp_path / "store")]
    assert CliRunner().invoke(app, command).exit_code == 0
    write(tmp_path, ROWS[:3])
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1 and "differs: 3 rows where 4 are published" in done.output
    for wrong in (["fetch", "--data", "."], ["fetch", "--check", "--revision", "main"], ["fetch"]):
        assert isinstance(CliRunner().invoke(app, wrong).exception, UserError)


@pytest.mark.parametrize("name", ["tofu", "restor", "books-public-domain"])
def test_the_real_copies_are_as_published(name: str, tmp_path: Path) -> None:
    good, lines = said([name], shared(f"data/{name}"))
    odd = [line for line in lines[:-1] if not line.endswith(" as published")]
    assert [line.split()[0] for line in odd] == (["mix_a4", "mix_a5"] if name == "restor" else [])
    assert good == (not odd) and len(lines) == len(DATA_SETS[name].tables) + 1


def test_the_stand_in_is_not_muse_and_a_changed_row_of_tofu_is_found(tmp_path: Path) -> None:
    good, lines = said(["muse-books"], shared("data/books-public-domain"))
    assert not good and any("differs: 2 rows where 4 are published" in line for line in lines)
    folder = tmp_path / "tofu"
    shutil.copytree(shared("data/tofu"), folder, ignore=shutil.ignore_patterns("reference_eval_logs"))
    rows = (folder / "forget10.json").read_text().splitlines()
    (folder / "forget10.json").write_text("\n".join(rows[:-1]) + "\n")
    good, lines = said(["tofu"], folder)
    assert not good and [line for line in lines if "differs" in line] == [
        "forget10                differs: 399 rows where 400 are published"
    ]
