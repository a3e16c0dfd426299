"""What a user installs: the sdist and the wheel are whole, and the wheel runs on what it declares and on nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import OFFLINE, ROOT

pytestmark = pytest.mark.slow(60)

PACKAGES = ("bench", "methods", "tasks")
ALONE = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q")
"""Flags of pip: it builds with what is here and asks nobody."""


def run(*words: object, cwd: Path) -> str:
    """What a command says; it has no path to the checkout."""
    environment = os.environ | {"PYTHONPATH": str(OFFLINE), "MSA_BENCH_STORE": str(cwd / "store"), "COLUMNS": "200"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is made of the sdist that is made of a copy of this checkout."""
    folder = tmp_path_factory.mktemp("package")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    sdist = run(
        *(sys.executable, "-c", "from setuptools.build_meta import build_sdist; print(build_sdist('../dist'))"),
        cwd=folder / "source",
    )
    run(sys.executable, "-m", "pip", "wheel", *ALONE, folder / "dist" / sdist.split()[-1], cwd=folder / "dist")
    [made] = (folder / "dist").glob("*.whl")
    return made


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    assert content(wheel) == {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}


def test_pip_builds_the_same_from_git(tmp_path: Path) -> None:
    """The README's line with the address of this checkout; what is built is the last commit."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository")
    run(sys.executable, "-m", "pip", "wheel", *ALONE, f"git+file://{ROOT}", cwd=tmp_path)
    [made] = tmp_path.glob("*.whl")
    listed = subprocess.run(["git", "ls-tree", "-r", "--name-only", "HEAD", *PACKAGES], cwd=ROOT, capture_output=True)
    assert content(made) == set(listed.stdout.decode().split())


def needed(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """The distributions that requirements come to, with theirs, as this Python's environment has them."""
    found: dict[tuple[str, tuple[str, ...]], metadata.Distribution] = {}
    todo = [Requirement(each) for each in requirements if "extra ==" not in each]
    while todo:
        wanted = todo.pop()
        key = (canonicalize_name(wanted.name), tuple(sorted(wanted.extras)))
        if key in found:
            continue
        found[key] = metadata.distribution(wanted.name)
        for each in map(Requirement, found[key].requires or ()):
            if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")):
                todo.append(each)
    return {name: each for (name, _), each in found.items()}


def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """What it declares is linked there from this environment, since it is gigabytes: no checkout, and nothing undeclared."""
    venv.create(tmp_path / "empty", symlinks=True)
    python = tmp_path / "empty/bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", *ALONE, wheel, cwd=tmp_path)
    [site] = tmp_path.glob("empty/lib/python*/site-packages")
    [about] = site.glob("msa_bench-*.dist-info")
    declared = needed(metadata.PathDistribution(about).requires or ())
    assert {"torch", "transformers", "typer"} <= set(declared) and not {"pytest", "hypothesis"} & set(declared)
    for each in declared.values():
        for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(each.locate_file(top))
    where = run(python, "-c", "import bench, methods, tasks; print(bench.__file__, methods.__file__)", cwd=tmp_path)
    assert all(path.startswith(str(site)) for path in where.split())
    said = run(
        *(tmp_path / "empty/bin/msa-bench", "run", "-t", "digits", "-m", "msa"),
        *("--seeds", "0", "--jobs", "1", "--track", "none"),
        cwd=tmp_path,
    )
    assert "msa" in said and list(tmp_path.glob("runs/lab/digits/lab/msa-*.json"))
