from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.seals import break_seal, is_whole, seal
from tests.stores import WRONG_KINDS, Wreck


def sealed(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "deep" / "b").write_text("b")
    seal(folder)
    return folder


def test_a_sealed_folder_is_whole_until_anything_in_it_changes(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "x")
    assert is_whole(folder) and not is_whole(tmp_path) and not is_whole(tmp_path / "nowhere")
    (folder / "deep" / "b").write_text("c")
    assert not is_whole(folder)
    seal(folder)
    assert is_whole(folder)
    (folder / "more").write_text("")
    assert not is_whole(folder)
    break_seal(folder)
    assert not is_whole(folder) and sorted(path.name for path in folder.iterdir()) == ["a", "deep", "more"]


@pytest.mark.parametrize("name", ["a", "sealed.json"])
@pytest.mark.parametrize("wreck", WRONG_KINDS)
def test_what_is_no_file_breaks_the_seal(wreck: Wreck, name: str, tmp_path: Path) -> None:
    folder = sealed(tmp_path / "x")
    (folder / name).unlink()
    wreck(folder / name)
    assert not is_whole(folder)
