"""The README's commands, and those of the pages it sends to, are real: names, options and the example method are run as they
stand there, and its tables are those of the records and of the code.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from tests.paths import ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("running", "history", "evaluate", "real-models", "executors")
}
SMALL = {
    "tofu": "width=16 authors=10 history_passes=0.2 target_passes=2",
    "restor": "width=16 history_passes=0.2 target_passes=0.3",
    "muse-books": "width=16 history_passes=0.2 target_passes=0.5 further_books=2",
}


NEEDS = (
    r"run|attack|tune|status|doctor --model|fetch|publish|eval|import|msa|continue|new|plan .*--model|ablate (?!--list)"
)
"""Commands that need more than the published records."""
RESULTS = {
    "tofu": ("forget_accuracy", "retain_accuracy", "mia_min_k"),
    "restor": ("restor_wrong", "retain_accuracy", "mia_min_k"),
    "muse-books": ("forget_knowmem_accuracy", "retain_knowmem_accuracy", "mia_min_k"),
}
"""The columns of the README's table, by what each task calls them."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def lines_of(text: str) -> list[str]:
    """Each command of a page's bash blocks as one line, without its comment."""
    joined = "\n".join(blocks("bash", text)).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := " ".join(line.split("#")[0].split()))]


def commands() -> list[str]:
    """The commands of the README and of the pages, each once."""
    lines = [line for text in (README, *PAGES.values()) for line in lines_of(text)]
    return list(dict.fromkeys(line for line in lines if line.startswith("python -m bench")))


def looked_at(line: str) -> str:
    """A command that looks at runs, made to look at the published ones, since those are there."""
    looks = re.match(r"python -m bench (ls runs|show|compare)\b", line)
    return f"{line} --from results" if looks and "--from" not in line else line


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
    (tmp_path / "fade.py").write_text(example())
    return tmp_path


def example() -> str:
    """The README's method."""
    [code] = blocks("python")
    return code


def test_the_readme_has_its_commands() -> None:
    assert len(lines_of(README)) > 12 and len(commands()) > 30
    assert "python -m bench run --methods msa,npo --task muse-books" in lines_of(README)
    assert "@" not in re.sub(r"@[a-z]", "", README), "a placeholder was left in the README"
    assert len(README.splitlines()) < 200, "the README is the way in: what is longer goes into docs/"


def test_every_command_of_the_readme_is_of_a_kind_that_is_tried() -> None:
    """``make`` and ``pip`` lines are tried below and in `tests.test_package`, all others are ours."""
    assert {line.split()[0] for line in lines_of(README)} == {"make", "pip", "python"}
    assert all(line.startswith("python -m bench ") for line in lines_of(README) if line.startswith("python"))


@pytest.mark.parametrize("line", [line for line in lines_of(README) if line.startswith("make")])
def test_targets_of_make_are_there(line: str) -> None:
    done = subprocess.run([*shlex.split(line), "-n", "-B"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "-c constraints.txt -e ." in done.stdout, "as the line for an environment of one's own has it"
    index = re.search(r'PIP_OPTIONS="(.*?)"', line)
    assert not index or index[1] in done.stdout


def test_every_page_is_in_the_index_and_in_the_sites() -> None:
    site = (ROOT / "docs/mkdocs.yml").read_text()
    index = README.split("## Pages")[1]
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in index and f"- docs/{page.name}\n" in site, page.name


def test_links_of_the_readme_lead_somewhere() -> None:
    """Those of all pages are checked by ``make site``."""
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]*)\)", README) if "://" not in link]
    assert links and [link for link in links if link and not (ROOT / link).exists()] == []


def test_the_table_of_results_is_the_records() -> None:
    from bench.records.files import load_records
    from bench.records.publish import is_row

    found: dict[tuple[str, str], list[list[float]]] = {}
    for record in load_records(ROOT / "results").records:
        spec = record.spec
        if record.status == "done" and spec.tier == "lab" and is_row(record) and spec.task in RESULTS:
            name = Path(record.name).stem.rpartition("-")[0]
            found.setdefault((spec.task, name), []).append([record.scores[s].value for s in RESULTS[spec.task]])
    part = README.split("## What came out")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if "| `" in line]
    assert len(rows) >= 5
    for row in rows:
        name, *others = re.findall(r"`(.*?)`", row[0])
        for place, task in enumerate(RESULTS):
            seeds = found[task, others[0] if others and task == "muse-books" else name]
            assert len(seeds) == 6
            shown = [float(cell.split("/")[place]) for cell in row[1:]]
            assert shown == [pytest.approx(mean(column), abs=6e-4) for column in zip(*seeds, strict=True)], (task, name)


def test_the_tables_name_what_there_is() -> None:
    from bench.core import registry
    from bench.core.attacks import STEPS, is_attack
    from bench.runs.attacks import QUESTIONS

    part = README.split("## What there is")[1].split("```")[0]
    rows = {line.split("|")[1].strip(): set(re.findall(r"`(.*?)`", line)) for line in part.splitlines() if "`" in line}
    assert rows["methods"] | rows["controls and helpers"] == set(registry.own_table("methods"))
    assert rows["tasks"] == set(registry.own_table("tasks"))
    steps = {name for name in registry.own_table("methods") if is_attack(name)}
    assert rows["attacks"] == {*STEPS, *steps, *QUESTIONS}
    [count] = re.findall(r"\| methods \| (\d+), and controls", README)
    assert len(rows["methods"]) == int(count)


def test_the_citation_is_the_packages() -> None:
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == project["version"] and cited["license"] == project["license"]
    assert [each["name"] for each in cited["authors"]] == [each["name"] for each in project["authors"]]
    assert cited["references"][0]["url"] == project["urls"]["Paper"]
    [bibtex] = blocks("bibtex")
    assert cited["title"] in bibtex and cited["references"][0]["title"] in bibtex
    assert f"{{{project['version']}}}" in bibtex and project["urls"]["Paper"].rpartition("/")[2] in bibtex


def test_the_workflow_runs_on_every_python_that_is_claimed() -> None:
    import tomllib

    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    claimed = [each.rpartition(" ")[2] for each in project["classifiers"] if ":: Python :: 3." in each]
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["checks"]["strategy"]["matrix"]["python"] == claimed
    assert f">={claimed[0]}" == project["requires-python"]
    assert f"Python {claimed[0]} to {claimed[-1]}" in README


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in commands() if re.search(r" run | tune |plan .*--model", line)])
def test_runs_are_understood(line: str, folder: Path) -> None:
    done = bench(re.sub(r"^python -m bench (run|tune)", "python -m bench plan", line), folder)
    model = re.search(r"--model (\S+)", line)
    if "--executor slurm" in line:
        assert done.returncode == 2 and done.stderr.startswith("error: --executor slurm: "), (
            "the cluster is the reader's"
        )
        assert "stages, an array of 12: each asks --time=" in done.stdout and "--partition=gpu" in done.stdout
    elif model and "--data hub" not in line:
        told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 2 and all("there is no" in each for each in told), "the data are the reader's"
    elif model:
        assert f"bench fetch {model[1]}" in done.stdout and "Traceback" not in done.stderr, done.stderr
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_gpu_quickstart_asks_for_what_the_readme_says(folder: Path) -> None:
    [line] = [line for line in lines_of(README) if " plan " in line]
    assert line.replace(" plan ", " run ") in lines_of(README)
    done = bench(line, folder)
    part = README.split("## GPU quickstart")[1].split("\n## ")[0]
    for what in re.findall(r"\d+ GB", part):
        assert what in done.stdout, done.stdout + done.stderr
    [fetch] = [line for line in lines_of(README) if " fetch " in line]
    wanted = re.findall(r"python -m bench fetch (\S+)", done.stdout)
    assert sorted(wanted) == sorted(shlex.split(fetch)[4:]), "what plan misses is what is fetched before it"


def leave_out(results: Path, *what: str) -> None:
    """Take out what is drawn and computed again by the tests of what is published."""
    for place in (place for pattern in what for place in results.glob(pattern)):
        (shutil.rmtree if place.is_dir() else Path.unlink)(place)
    assert list(results.glob("lab/*")) and list(results.glob("ablations/*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in commands() if not re.search(rf"bench ({NEEDS})|CHECKPOINTS", line)])
def test_readers_of_records_work(line: str, folder: Path) -> None:
    if line.endswith("bench plot"):
        leave_out(folder / "results", "ablations/lab-tofu-[!s]*")
    if line.endswith("bench rescore"):
        leave_out(folder / "results", "ablations/lab-tofu-[!s]*", "lab/[!d]*", "real")
    done = bench(looked_at(line), folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    named = re.findall(r"`([a-z-]+)`", PAGES["running"].split("## Ablations")[1].split("## ")[0].split("```")[-1])
    assert set(named) == set(catalogue.ABLATIONS), "the page names every ablation"


def test_fetched_models_are_known() -> None:
    from bench.assets.known_models import KNOWN

    named = [name for line in commands() if " fetch " in line for name in shlex.split(line)[4:]]
    assert named and {name for name in named if "/" not in name} <= {*KNOWN, "tofu"}


def test_the_example_imports_the_api_and_nothing_else_of_ours() -> None:
    code = ast.parse(example())
    modules = [node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)]
    assert modules == ["dataclasses", "bench.api"]
    assert not [node for node in ast.walk(code) if isinstance(node, ast.Import)]


@pytest.mark.slow
def test_the_example_method_runs_and_so_does_a_new_one(folder: Path) -> None:
    """The README's file in a small lab by the README's line, then what ``new`` writes in its place, with its test."""
    small = [word for setting in SMALL["tofu"].split() for word in ("--set", f"tofu.{setting}")]
    [line] = [line for line in lines_of(README) if "fade.py:Fade" in line]
    done = bench(line.replace(",msa", ""), folder, *small, "--jobs", "1", "--track", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    [new] = [line for line in lines_of(README) if " new " in line]
    refused = bench(new, folder)
    assert refused.returncode == 2 and "fade.py" in refused.stderr, "a file that is there is left alone"
    (folder / "fade.py").unlink()
    assert bench(new, folder).returncode == 0 and (folder / "test_fade.py").is_file()
    done = bench(line.replace(",msa", ""), folder, *small, "--jobs", "1", "--track", "none")
    assert done.returncode == 0, done.stdout + done.stderr
