from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.runs.folder import StoreFolder, is_locked, lock_folder, take_lock
from tests.stores import WRONG_KINDS, Wreck


def test_folders_are_made_and_what_is_set_aside_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    folder = StoreFolder(tmp_path / "deep" / "store", said.append)
    place = folder.make("a", "b")
    assert place.is_dir() and said == [] and sorted(os.listdir(folder.root)) == ["a"]
    folder.set_aside(place / "nothing")
    assert said == [] and sorted(os.listdir(folder.root)) == ["a"]
    (place / "file").write_text("precious")
    folder.set_aside(place / "file", "'msa' (key)")
    [kept] = (folder.root / "damaged").iterdir()
    assert kept.read_text() == "precious" and os.listdir(place) == []
    assert said == [f"'msa' (key) was damaged in the store: set aside as damaged/{kept.name} and made again."]


@pytest.mark.parametrize("wreck", WRONG_KINDS)
def test_a_lock_is_a_file_whatever_stood_in_its_place(wreck: Wreck, tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path, lambda text: None)
    wreck(tmp_path / "lock")
    os.close(folder.open_lock(tmp_path / "lock"))
    assert (tmp_path / "lock").is_file() and len(os.listdir(tmp_path / "damaged")) == 1


def test_many_who_find_the_same_damage_set_it_aside_once(tmp_path: Path) -> None:
    """And nobody sets the good folder aside that another one has just made."""
    said: list[str] = []
    for number in range(20):
        (tmp_path / f"{number}").write_text("")
        crowd = [
            threading.Thread(target=StoreFolder(tmp_path, said.append).make, args=(f"{number}",)) for _ in range(8)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert (tmp_path / f"{number}").is_dir() and len(said) == number + 1


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_store_that_is_closed_is_a_sentence(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(UserError, match=r"can be written into the store .* choose another with --store"):
        StoreFolder(tmp_path).make("leases")


def test_a_lock_is_waited_for_within_bounds(tmp_path: Path) -> None:
    import fcntl

    with lock_folder(tmp_path):
        handle = os.open(tmp_path, os.O_RDONLY)
        assert not take_lock(handle, fcntl.LOCK_EX, 0.05)
    assert take_lock(handle, fcntl.LOCK_EX, 0.05)
    os.close(handle)


def test_a_lock_in_a_closed_store_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every folder is there, so that none has to be made."""
    opened = os.open

    def refuse(place: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(place, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"can be written into the store .* choose another with --store"):
        StoreFolder(tmp_path).open_lock(tmp_path / "lock")


def test_only_whoever_has_a_lock_alone_counts(tmp_path: Path) -> None:
    assert not is_locked(tmp_path) and not is_locked(tmp_path / "nowhere")
    with lock_folder(tmp_path):
        assert is_locked(tmp_path)
