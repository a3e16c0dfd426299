"""What a process hashed while writing isn't read again, and never outlives a change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bench.core.hashing import hash_checkpoint, hash_file, remember_hash


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_remembered_hash_is_served_also_after_a_rename(tmp_path: Path) -> None:
    """A false one is remembered here, so that one sees where the answer comes from."""
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    path.write_bytes(b"abc")
    remember_hash(path, "remembered")
    assert hash_file(path) == "remembered"
    path.rename(other)
    assert hash_file(other) == "remembered"
    path.write_bytes(b"abc")
    assert hash_file(path) == sha(b"abc"), "another file of the old name"


@pytest.mark.parametrize("data", [b"abd", b"abcd"])
def test_a_changed_file_is_read(tmp_path: Path, data: bytes) -> None:
    """At once, within a tick of the file system's clock, and of the same length."""
    path = tmp_path / "a.safetensors"
    for _ in range(50):
        path.write_bytes(b"abc")
        remember_hash(path, "remembered")
        with path.open("r+b") as file:
            file.write(data)
        assert hash_file(path) == sha(data)


def test_a_file_system_with_coarse_times_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"abc")
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda path, ns: utime(path, ns=tuple(t // 10**9 * 10**9 for t in ns)))
    remember_hash(path, "remembered")
    assert hash_file(path) == sha(b"abc")


def test_a_folder_of_remembered_files_has_the_hash_of_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"abc")
    before = hash_checkpoint(tmp_path)
    remember_hash(path, sha(b"abc"))
    assert hash_checkpoint(tmp_path) == before
