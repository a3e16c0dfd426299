"""Which code made a result: a copy of the packages in a repository of its own, asked in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.core.provenance import CODE, PACKAGES, get_provenance, installed_version
from tests.paths import OFFLINE, ROOT
from tests.processes import environment

ASK = "import json, sys; from bench.core.provenance import get_provenance; print(json.dumps(get_provenance(*sys.argv[1:])))"
WHO = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *words: str) -> str:
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", *words], cwd=folder, env=os.environ | WHO | alone, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with our packages and a page, all committed."""
    folder = tmp_path / "checkout"
    for name in CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "README.md").write_text("a page")
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "everything")
    return folder


def asked(checkout: Path, *words: str, first: tuple[Path, ...] = (), **variables: str) -> Any:
    """The provenance that a process with this checkout on its path states."""
    path = os.pathsep.join(map(str, (OFFLINE, *first, checkout)))
    done = subprocess.run(
        [sys.executable, "-c", ASK, *words],
        cwd=checkout.parent,
        env=environment() | {"PYTHONPATH": path} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_committed_checkout_is_clean_and_states_its_commit(checkout: Path) -> None:
    said = asked(checkout, "cuda", OMP_NUM_THREADS="3")
    assert said["commit"] == git(checkout, "rev-parse", "HEAD") and said["dirty"] is False
    assert said["threads"] == 3 and said["device"] == "cuda"
    assert set(said["versions"]) == {"python", *PACKAGES}
    assert said["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_changed_page_is_clean_and_changed_code_is_not(checkout: Path) -> None:
    (checkout / "README.md").write_text("another page")
    (checkout / "notes.txt").write_text("a file that nobody imports")
    assert asked(checkout)["dirty"] is False
    (checkout / "methods" / "new.py").write_text("")
    assert asked(checkout)["dirty"] is True, "a file that isn't committed is code too"
    (checkout / "methods" / "new.py").unlink()
    (checkout / "bench" / "__init__.py").write_text("# changed\n")
    assert asked(checkout)["dirty"] is True


def test_methods_from_another_folder_make_it_dirty(checkout: Path, tmp_path: Path) -> None:
    """The commit says nothing of them."""
    shutil.copytree(checkout / "methods", tmp_path / "elsewhere" / "methods")
    assert asked(checkout, first=(tmp_path / "elsewhere",))["dirty"] is True


def test_outside_a_repository_nothing_is_known(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    said = asked(checkout)
    assert said["commit"] is None and said["dirty"] is None


def test_no_host_and_no_folder_is_stated(checkout: Path) -> None:
    import socket

    said = json.dumps(asked(checkout))
    assert socket.gethostname() not in said and str(checkout) not in said and str(Path.home()) not in said


def test_the_instruction_set_is_stated_where_torch_is_loaded(checkout: Path) -> None:
    import torch

    assert "instruction_set" not in asked(checkout), "nothing loads torch for it"
    assert get_provenance()["instruction_set"] == torch.backends.cpu.get_cpu_capability() != ""


def test_versions_are_those_of_the_installed_packages() -> None:
    import numpy

    assert installed_version("numpy") == numpy.__version__ and installed_version("no-such-package") is None
