from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.profile import profile_file, read_profile


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "msa-bench.toml"


def test_without_a_file_there_are_no_settings(place: Path) -> None:
    assert read_profile("slurm") == {} and profile_file() == place


def test_values_are_texts_as_on_the_command_line(place: Path) -> None:
    place.write_text('[slurm]\npartition = "gpu"\ntime = 90\nexclusive = true\n')
    assert read_profile("slurm") == {"partition": "gpu", "time": "90", "exclusive": "true"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[slurm\n", "can't be read"),
        ("[slrum]\n", "Unknown table 'slrum'. Did you mean 'slurm'?"),
        ("slurm = 3\n", "'slurm' is no table"),
        ("[slurm]\ntime = [1]\n", "time of [slurm] is neither text nor a whole number"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_place(place: Path, text: str, words: str) -> None:
    place.write_text(text)
    with pytest.raises(UserError) as refused:
        read_profile("slurm")
    assert words in str(refused.value) and str(place) in str(refused.value) and "\n" not in str(refused.value)


def test_bytes_that_are_no_text_are_one_sentence(place: Path) -> None:
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="can't be read"):
        read_profile("slurm")


def test_what_is_no_file_is_one_sentence_and_waits_for_nothing(place: Path) -> None:
    os.mkfifo(place)
    with pytest.raises(UserError, match="can't be read \\(it is no file\\): mend it, or take it away"):
        read_profile("slurm")
