from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cli.doctor import NEEDED, describe_cluster, describe_disk, examine, installed_version, is_new_enough
from tests.processes import bench, environment, without_torch

HIDE = """
import sys

module, store = sys.argv[1:]

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["bench", "doctor", "--store", store]
from bench.cli.app import main
main()
"""
"""`bench doctor` where a module can't be found."""


def without(module: str, store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HIDE, module, str(store)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)


def test_this_machine_has_what_is_needed(tmp_path: Path) -> None:
    """Torch is looked for and not imported."""
    done = bench(["doctor", "--store", str(tmp_path / "store")], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("python 3.") and lines[0].endswith(": ok")
    for module in NEEDED:
        assert any(line.startswith(f"{module} ") and line.endswith(": ok") for line in lines), module
    for topic in ("cores", "memory", "gpu", "store", "hub", "W&B"):
        assert any(line.startswith(f"{topic}: ") for line in lines), topic
    assert not (tmp_path / "store").exists(), "looking makes nothing"


def test_torch_is_not_imported(tmp_path: Path) -> None:
    assert "torch was imported" not in bench(["doctor"], tmp_path, [without_torch(tmp_path)]).stderr


@pytest.mark.parametrize(
    ("module", "package"), [("torch", "torch"), ("rouge_score", "rouge-score"), ("psutil", "psutil")]
)
def test_a_missing_package_is_named_with_its_remedy(module: str, package: str, tmp_path: Path) -> None:
    done = without(module, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    oldest = NEEDED[module]
    wanted = f"{module} missing: needs {oldest} or newer  -> pip install '{package}>={oldest}'"
    assert wanted in done.stdout.splitlines()
    assert done.stdout.count(" missing: ") == 1


def test_an_optional_package_may_be_missing(tmp_path: Path) -> None:
    done = without("wandb", tmp_path)
    assert done.returncode == 0 and "wandb missing (optional: " in done.stdout


def test_what_is_too_old_is_not_ok(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(NEEDED, "typer", "99")
    lines, ok = examine(tmp_path)
    [line] = [line for line in lines if line.startswith("typer ")]
    assert not ok and line.endswith(": needs 99 or newer  -> pip install 'typer>=99'")


@pytest.mark.parametrize(
    ("found", "oldest", "good"),
    [
        ("2.4", "2.4", True),
        ("2.10.0", "2.4", True),
        ("2.3.9", "2.4", False),
        ("2.9.1+cpu", "2.4", True),
        ("13", "13", True),
        ("0.4.9", "0.4.10", False),
        ("5.0.0rc1", "5.0", True),
        ("unknown", "5.0", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, oldest: str, good: bool) -> None:
    assert is_new_enough(found, oldest) is good


def test_a_module_that_is_nowhere_is_not_installed() -> None:
    assert installed_version("no_such_module") is None and installed_version("typer") is not None


def test_a_store_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "not a folder that you may write to; choose another place with --store" in describe_disk(file / "store")
    assert "->" not in describe_disk(tmp_path / "deep" / "store")


def test_the_cluster_and_the_profile_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sbatch, with a profile, and with a damaged one, which stops nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert describe_cluster() == [
        "SLURM: no sbatch on the PATH; only --executor slurm needs it",
        f"profile: {tmp_path / 'msa-bench.toml'}: nothing for [slurm]",
    ]
    (tmp_path / "msa-bench.toml").write_text('[slurm]\npartition = "gpu"\n')
    assert describe_cluster()[1].endswith("msa-bench.toml: [slurm] partition=gpu")
    (tmp_path / "msa-bench.toml").write_text("[slurm\n")
    assert "can't be read" in describe_cluster()[1]
    (tmp_path / "msa-bench.toml").write_text('[slurm]\narray = "1-2"\n')
    assert "the harness sets array itself; leave it out" in describe_cluster()[1], "as `run` would say"
    (tmp_path / "msa-bench.toml").unlink()
    os.mkfifo(tmp_path / "msa-bench.toml")
    assert "it is no file" in describe_cluster()[1]


@pytest.mark.parametrize(
    ("free", "files", "said"), [(0, 10**6, "the disk is full"), (10**9, 0, "its inodes are used up")]
)
def test_a_full_disk_is_told_as_full(
    free: int, files: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SimpleNamespace(f_blocks=10**9, f_bfree=free, f_bavail=free, f_frsize=1, f_files=10**7, f_favail=files)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    line = describe_disk(tmp_path / "store")
    assert said in line and "make room" in line and "may write" not in line
