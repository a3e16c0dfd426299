"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bench.core import files
from bench.core.files import write_bytes, write_text


def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c.txt"
    write_text(file, "naïve θ₀\n")
    assert file.read_bytes() == "naïve θ₀\n".encode() and os.listdir(file.parent) == ["c.txt"]
    write_bytes(file, b"")
    assert file.read_bytes() == b""


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    write_text(file, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["record.json"]


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    """Two writers, each with its own letter, and a reader that looks all the while."""
    file = tmp_path / "page.md"
    texts = [letter * 200_000 for letter in "ab"]
    write_text(file, texts[0])
    writers = [threading.Thread(target=lambda text=text: [write_text(file, text) for _ in range(20)]) for text in texts]
    for writer in writers:
        writer.start()
    looked = 0
    while any(writer.is_alive() for writer in writers):
        assert file.read_text() in texts
        looked += 1
    assert looked and os.listdir(tmp_path) == ["page.md"]


def test_what_a_dead_process_left_is_removed_by_the_next_one_that_writes_there(tmp_path: Path) -> None:
    """By name, owner and age: nothing of anybody else's, and nothing that somebody may still be writing."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    here, day = files.hash_space(), 86_400
    left = {
        f".a.json.{here}-{gone.pid}-0123abcd": (61, False),  # name: (age in seconds, whether it stays)
        f".b.json.{here}-{gone.pid}-0123abce": (30, True),
        f".c.json.{here}-{os.getpid()}-0123abcd": (day, True),
        f".d.json.00000000-{gone.pid}-0123abcd": (day, True),
        f".e.json.00000000-{gone.pid}-0123abcd": (8 * day, False),
        f".f.json.{gone.pid}-0123abcd": (day, True),
        f".g.json.{gone.pid}-0123abcd": (8 * day, False),
        f".m.partial-{here}-{gone.pid}-0123abcd/": (61, False),
        ".n.partial-0123abcd/": (8 * day, False),
        ".own notes": (8 * day, True),
        f"x.json.{here}-{gone.pid}-0123abcd": (8 * day, True),
    }
    for name, (age, _) in left.items():
        path = tmp_path / name
        if name.endswith("/"):
            path.mkdir()
            (path / "part").write_text("x")
        else:
            path.write_text("x")
        os.utime(path, (time.time() - age,) * 2)
    files.write_text(tmp_path / "new.json", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["new.json", *(name.rstrip("/") for name, (_, stays) in left.items() if stays)]
    )


def test_an_error_of_the_system_names_the_file_that_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as raised:
        files.write_text(tmp_path / "sub" / "x.json", "{}")
    assert raised.value.filename == str(tmp_path / "sub" / "x.json") and list((tmp_path / "sub").iterdir()) == []
