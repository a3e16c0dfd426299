"""Rows of a folder in the hub's layout, as they are now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.assets.hub_tables import read_table
from bench.core.errors import Absent

CARD = "---\nconfigs:\n- config_name: asked\n  data_files: asked.jsonl\n---\n"


def write(folder: Path, *questions: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(CARD)
    (folder / "asked.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in questions))


def test_an_edited_file_is_read_anew_and_a_namesake_is_another(tmp_path: Path) -> None:
    """The library's own cache gives the first rows three times: it goes by the folder's name."""
    first, second = tmp_path / "a" / "data", tmp_path / "b" / "data"
    write(first, "one", "two")
    assert [row["question"] for row in read_table(str(first), "asked")] == ["one", "two"]
    write(first, "three")
    assert [row["question"] for row in read_table(str(first), "asked")] == ["three"]
    write(second, "four")
    assert [row["question"] for row in read_table(str(second), "asked")] == ["four"]


def test_a_missing_configuration_or_split_is_absent(tmp_path: Path) -> None:
    write(tmp_path / "data", "one")
    with pytest.raises(Absent, match="no 'train' of the configuration 'other' .*asked"):
        read_table(str(tmp_path / "data"), "other")
    with pytest.raises(Absent, match="no 'test' of the configuration 'asked' .it has train"):
        read_table(str(tmp_path / "data"), "asked", "test")
