"""Places that can be written and places that can't, in one sentence; folders that aren't there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.machine import Machine
from bench.core.places import (
    MOST_PATH,
    can_write,
    default_root,
    file_problems,
    folder_problems,
    is_path_like,
    missing_folder,
    new_folder_problems,
    readable_problems,
)

LONG = "x" * 300
Ask = Callable[[str, Path], list[str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, a folder, a link to each and one to nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name, to in (("to-file", "file"), ("to-folder", "folder"), ("dangling", "nowhere"), ("round", "round")):
        (tmp_path / name).symlink_to(to)
    return tmp_path


def test_a_folder_can_be_written_where_it_or_the_nearest_above_it_can(here: Path) -> None:
    before = sorted(here.rglob("*"))
    assert can_write(here) and can_write(here / "a" / "b" / "c") and can_write(here / "to-folder")
    assert not can_write(here / "file") and not can_write(here / "file" / "below")
    assert sorted(here.rglob("*")) == before, "asking makes nothing"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("file", "'file' is a file and no folder"),
        ("file/x/y", "'file' is a file and no folder"),
        ("to-file", "'to-file' is a file and no folder"),
        ("dangling", "'dangling' is a link to nothing and no folder"),
        ("dangling/x", "'dangling' is a link to nothing and no folder"),
        ("round", "'round' is a link to nothing and no folder"),
        ("/dev/null", "'null' is a special file and no folder"),
        (f"new/{LONG}", f"the name '{LONG[:20]}...' is too long"),
        ("new/" * (MOST_PATH // 4) + "last", "the name 'last...' is too long"),
        ("/proc/x", "nothing can be written there (No such file or directory)"),
    ],
)
@pytest.mark.parametrize("ask", [folder_problems, new_folder_problems])
def test_a_folder_that_cannot_be_written_is_one_sentence(ask: Ask, place: str, why: str, here: Path) -> None:
    assert ask("--out", Path(place)) == [f"--out {Path(place)}: {why}; choose another place."]
    assert (here / "file").read_text() == "mine" and not (here / "new").exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("folder", "'folder' is a folder and no file"),
        ("to-folder", "'to-folder' is a folder and no file"),
        ("file/x", "'file' is a file and no folder"),
        ("dangling", "'dangling' is a link to nothing and no file"),
        ("dangling/x", "'dangling' is a link to nothing and no folder"),
        ("/dev/null", "'null' is a special file and no file"),
        (LONG, f"the name '{LONG[:20]}...' is too long"),
        (f"{LONG}/x", f"the name '{LONG[:20]}...' is too long"),
        ("/proc/x/y.md", "nothing can be written there (No such file or directory)"),
        ("/proc/y.md", "nothing can be written there (No such file or directory)"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_sentence(place: str, why: str, here: Path) -> None:
    assert file_problems("--to", Path(place)) == [f"--to {place}: {why}; choose another place."]


def test_what_can_be_written_has_no_sentence(here: Path) -> None:
    assert file_problems("--to", Path("file")) == file_problems("--to", Path("new/page.md")) == []
    assert folder_problems("--out", Path("folder")) == new_folder_problems("--out", Path("folder/new")) == []
    assert readable_problems("--store", Path("/proc/x")) == [], "nothing is to be written"
    assert readable_problems("--store", Path("file/x")) != []
    assert not (here / "new").exists()


@pytest.mark.parametrize(
    ("number", "files", "said"),
    [
        (errno.ENOSPC, 0, "as no more files fit on the disk (its inodes are used up); remove files there or choose"),
        (errno.ENOSPC, 10**6, "as the disk is full; make room there or choose"),
        (errno.EDQUOT, 10**6, "as your quota of that disk is used up; make room there or choose"),
        (errno.EROFS, 0, "(Read-only file system); choose"),
    ],
)
def test_a_disk_that_is_full_is_told_from_one_without_inodes(
    number: int, files: int, said: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdtemp(**_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_files=10**7, f_favail=files, f_bavail=0, f_frsize=1))
    assert folder_problems("--out", Path("folder")) == [
        f"--out folder: nothing can be written there{',' if '(R' not in said else ''} {said} another place."
    ]


def test_what_a_command_makes_in_its_folders_is_looked_at_as_well(here: Path) -> None:
    assert Machine(Path("folder"), Path("folder"), 1).problems() == []
    (here / "folder" / "logs").write_text("")
    (here / "folder" / "leaderboard.md").mkdir()
    assert Machine(Path("folder"), Path("new"), 1).problems() == [
        "--out folder/logs: 'logs' is a file and no folder; choose another place.",
        "--out folder/leaderboard.md: 'leaderboard.md' is a folder and no file; choose another place.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"), [("./a", True), ("~/a", True), ("/a", True), ("a/b/c", True), ("a", False), ("a-1.5", False)]
)
def test_a_name_that_can_only_be_a_place(text: str, expected: bool) -> None:
    assert is_path_like(text) is expected


def test_a_folder_that_is_not_there_is_answered_with_what_is(here: Path) -> None:
    for name in ("model-a", "model-b", "other"):
        (here / "saves" / name).mkdir(parents=True)
    beside = f"the nearest folders in '{here / 'saves'}' are"
    assert missing_folder("./saves/model-c") == f"There is no folder './saves/model-c': {beside} model-b, model-a."
    assert missing_folder("./saves/zzz") == f"There is no folder './saves/zzz': {beside} model-a, model-b, other."
    assert missing_folder("./save/model-a").endswith(f"in '{here}' are saves.")
    assert missing_folder("./saves/other/x").endswith(f"'{here / 'saves' / 'other'}' holds no folder.")
    assert missing_folder("./file") == "'./file' is a file: name the folder that it lies in."
    assert missing_folder("./dangling") == "There is no folder './dangling': 'dangling' is a link to nothing."


def test_the_store_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MSA_BENCH_STORE", "~/mine")
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("MSA_BENCH_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert default_root() == Path("/scratch/msa-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_root() == tmp_path / ".cache" / "msa-bench"
