"""Our own packages and a user's files, whatever lies in the working directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.core import imports
from tests.paths import ROOT
from tests.processes import bench, environment, plug_in


def stranger(folder: Path) -> Path:
    """A user's folder with packages of our names."""
    (folder / "tasks.py").write_text("raise AssertionError('the tasks of the user were imported')\n")
    (folder / "methods").mkdir()
    (folder / "methods" / "__init__.py").write_text("raise AssertionError('the methods of the user were imported')\n")
    return folder


def test_a_users_tasks_and_methods_break_nothing(tmp_path: Path) -> None:
    """By the module and by the console script, whose workers are processes of the module."""
    folder = stranger(tmp_path)
    done = bench(["ls", "tasks"], folder, fresh=True)
    assert done.returncode == 0 and "\nrestor: " in done.stdout, done.stderr
    script = "import sys; sys.argv = ['msa-bench', 'ls', 'methods']; from bench.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "\nnpo " in done.stdout, done.stderr
    words = "import sys; sys.path.insert(0, ''); from bench.core import registry; print(*registry.components('tasks'))"
    done = subprocess.run([sys.executable, "-c", words], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("tofu "), done.stderr


def test_the_working_directory_is_looked_into_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/one", "", "/two"])
    imports.put_user_last()
    assert sys.path == ["/one", "/two", str(tmp_path)]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), "/one"])
    imports.put_user_last()
    assert sys.path == [str(ROOT), "/one"], "our own code is imported from there"


def test_another_python_finds_the_same_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(tmp_path, "WHERE = 'here'\n", {}, "found")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = environment() | imports.same_modules()
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "found.py").write_text("WHERE = 'in the working directory'\n")
    done = subprocess.run(
        [sys.executable, "-c", "import found; print(found.WHERE)"],
        cwd=tmp_path / "cwd",
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "here\n", done.stderr


def test_a_files_hash_is_that_of_what_was_loaded(tmp_path: Path) -> None:
    """An edit after that is another process's."""
    file = tmp_path / "early.py"
    file.write_text("x = 1\n")
    module = imports.import_file(file)
    before = imports.hash_source(module)
    file.write_text("x = 2\n")
    assert imports.import_file(file) is module and module.x == 1 and imports.hash_source(module) == before


def test_a_file_that_fails_leaves_no_module(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            imports.import_file(file)
