"""The README's commands are real: names, options and the example method are run as they stand there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SMALL = {
    "tofu": "width=16 authors=10 history_passes=0.2 target_passes=2",
    "restor": "width=16 history_passes=0.2 target_passes=0.3",
    "muse-books": "width=16 history_passes=0.2 target_passes=0.5 further_books=2",
}


NEEDS = r"run|attack|tune|status|doctor --model|fetch|publish|ls runs|eval|import|msa|continue|plan .*--model|ablate (?!--list)"
"""Commands that need more than the published records."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("python -m bench")]


def bench(line: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)[3:]
    paths = os.pathsep.join([str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "MSA_BENCH_STORE": str(folder / "store"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "bench", *words, *more]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("results", "leaderboard.md"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return tmp_path


def test_the_readme_has_its_commands() -> None:
    assert len(commands()) > 12
    assert "python -m bench run --methods msa,npo --task muse-books" in commands()
    assert "@" not in re.sub(r"@[a-z]", "", README), "a placeholder was left in the README"


@pytest.mark.parametrize("line", [line for line in commands() if re.search(r" run | tune |plan .*--model", line)])
def test_runs_are_understood(line: str, folder: Path) -> None:
    done = bench(re.sub(r"^python -m bench (run|tune)", "python -m bench plan", line), folder)
    if "--executor slurm" in line:
        assert done.returncode == 2 and done.stderr.startswith("error: --executor slurm: "), (
            "the cluster is the reader's"
        )
        assert "stages, an array of 12: each asks --time=" in done.stdout and "--partition=gpu" in done.stdout
    elif "--model" in line and "--data hub" not in line:
        told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 2 and all("there is no" in each for each in told), "the data are the reader's"
    elif "--model" in line:
        assert "bench fetch smollm2-135m-instruct-q4" in done.stdout and "Traceback" not in done.stderr, done.stderr
    else:
        assert done.returncode == 0, done.stderr


def leave_out(results: Path, *what: str) -> None:
    """Take out what is drawn and computed again by the tests of what is published."""
    for place in (place for pattern in what for place in results.glob(pattern)):
        (shutil.rmtree if place.is_dir() else Path.unlink)(place)
    assert list(results.glob("lab/*")) and list(results.glob("ablations/*.json"))


@pytest.mark.parametrize("line", [line for line in commands() if not re.search(rf"bench ({NEEDS})|CHECKPOINTS", line)])
def test_readers_of_records_work(line: str, folder: Path) -> None:
    if line.endswith("bench plot"):
        leave_out(folder / "results", "ablations/lab-tofu-[!s]*")
    if line.endswith("bench rescore"):
        leave_out(folder / "results", "ablations/lab-tofu-[!s]*", "lab/[!d]*", "real")
    done = bench(line, folder)
    several = done.returncode == 2 and re.search(r"fits \d+ records", done.stderr)
    assert done.returncode == 0 or several, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("line", [line for line in commands() if " eval " in line])
def test_evaluations_run_on_a_model_of_the_readers(line: str, folder: Path) -> None:
    """The line as it stands, with a tiny model and tiny data in the places of its capitals."""
    from tests.bench.real.muse.test_suite import write_data as write_muse
    from tests.bench.real.test_evaluate import write_data as write_tofu
    from tests.tiny import saved, subword_llama, subword_tokenizer

    task = shlex.split(line)[shlex.split(line).index("--task") + 1]
    for seed, name in enumerate(("model", "oracle")):
        words = subword_tokenizer([README])
        saved(subword_llama(words, seed), words, folder / name)
    if task == "restor":
        real = ROOT.parent / "shared/data/restor"
        if not real.is_dir():
            pytest.skip("no copy of RESTOR beside the project")
        data = str(real)
    else:
        data = str((write_tofu if task == "tofu" else write_muse)(folder / "data" if task == "tofu" else folder))
    line = re.sub(r"--data \S+", f"--data {data}", line.replace("MODEL", "model").replace("RETRAINED", "oracle"))
    done = bench(line, folder, "--limit", "2")
    assert done.returncode == 0, done.stderr
    assert (folder / "scores.json").exists()


def test_a_short_history_is_made_of_the_readers_text(folder: Path) -> None:
    from tests.tiny import saved, subword_llama, subword_tokenizer

    words = subword_tokenizer([README])
    saved(subword_llama(words), words, folder / "model")
    (folder / "text.txt").write_text(README)
    [line] = [line for line in commands() if " continue " in line]
    line = (
        line.replace("smollm2-135m-instruct-q4", "model").replace("TEXT", "text.txt").replace("--steps 60", "--steps 4")
    )
    done = bench(line, folder)
    assert done.returncode == 0 and (folder / "longer" / "checkpoint-4").is_dir(), done.stderr


def test_the_arithmetic_and_the_history_run_on_folders_of_the_readers(folder: Path) -> None:
    from tests.tiny import saved, subword_llama, subword_tokenizer

    words = subword_tokenizer([README])
    [line] = [line for line in commands() if "bench msa " in line]
    for seed, role in enumerate(("target", "before", "forget-tuned", "retain-tuned")):
        saved(subword_llama(words, seed), words, folder / "past" / f"checkpoint-{100 * seed}")
        line = line.replace(f"--{role} DIR", f"--{role} past/checkpoint-{100 * seed}")
    done = bench(line.replace("MERGED", "merged"), folder)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("merged/*/model.safetensors"))) == 2, "an alpha each"
    [line] = [line for line in commands() if "CHECKPOINTS" in line]
    done = bench(line.replace("CHECKPOINTS", "past"), folder)
    assert done.returncode == 0 and "checkpoint-300" in done.stdout, done.stderr


def test_ablations_are_known() -> None:
    from bench.studies.ablations import catalogue

    lines = [shlex.split(line) for line in commands() if " ablate " in line and "--list" not in line]
    assert lines
    for words in lines:
        assert words[words.index("--task") + 1] in catalogue.load_ablation(words[4]).tasks
    named = re.findall(r"`([a-z-]+)`", README.split("## Ablations")[1].split("## ")[0].split("```")[-1])
    assert set(named) == set(catalogue.ABLATIONS), "the README names every ablation"


def test_fetched_models_are_known() -> None:
    from bench.assets.known_models import KNOWN

    named = [shlex.split(line)[4] for line in commands() if " fetch " in line]
    assert named and set(named) <= set(KNOWN)


def test_the_example_imports_the_api_and_nothing_else_of_ours() -> None:
    code = ast.parse(next(block for block in blocks("python") if "class Fade" in block))
    modules = [node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)]
    assert modules == ["dataclasses", "bench.api"]
    assert not [node for node in ast.walk(code) if isinstance(node, ast.Import)]


def test_the_example_method_runs(folder: Path) -> None:
    code = next(block for block in blocks("python") if "class Fade" in block)
    (folder / "fade.py").write_text(code)
    about = folder / "fade-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fade\nVersion: 0.1\n")
    points = re.search(
        r'\[project\.entry-points\."(.*?)"\]\n(\S+) = "(.*?)"',
        next(block for block in blocks("toml") if "entry-points" in block),
    )
    assert points is not None
    (about / "entry_points.txt").write_text(f"[{points[1]}]\n{points[2]} = {points[3]}\n")
    small = [word for setting in SMALL["tofu"].split() for word in ("--set", f"tofu.{setting}")]
    line = "python -m bench run --methods fade --task tofu --seeds 0 --jobs 1 --track none"
    done = bench(line, folder, *small)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((folder / "runs/lab/tofu/lab").glob("fade-*.json"))
