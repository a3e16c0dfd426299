"""The pages for those who add something: what they have one save is saved, what they have one run is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.processes import environment, warm_python

PAGES = sorted((ROOT / "docs").glob("add-a-*.md"))
FILE = re.compile(r"^Save as `([\w.]+)`[^\n]*\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
PIP = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


def test_there_is_a_page_for_each_kind_of_component() -> None:
    assert [page.stem for page in PAGES] == ["add-a-method", "add-a-metric", "add-a-task"]


@pytest.mark.slow(20)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_end_to_end(page: Path, tmp_path: Path) -> None:
    """In the order of the page; ``pip install -e .`` installs beside the files, without the network."""
    text = page.read_text()
    files, lines = FILE.findall(text), [line for block in COMMANDS.findall(text) for line in block.splitlines()]
    assert {name for name, _ in files} > {"pyproject.toml"} and any(" run " in line for line in lines)
    (tmp_path / "source").mkdir()
    for name, content in files:
        (tmp_path / "source" / name).write_text(content)
    paths = environment([tmp_path / "installed"])
    said = ""
    for line in lines:
        python, words = str(warm_python()), ["-m", "bench", *line.split()[3:]]
        if line.startswith("pip install"):
            python, words = sys.executable, [*PIP, "--target", str(tmp_path / "installed"), str(tmp_path / "source")]
        elif line.startswith("python -c"):
            python, words = sys.executable, ["-c", line.removeprefix('python -c "').removesuffix('"')]
        place = tmp_path / "source" if "./" in line else tmp_path
        done = subprocess.run([python, *words], cwd=place, env=paths, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said += done.stdout
    component = re.search(r"^(\w+) = \"\w+:\w+\"$", text, re.MULTILINE)
    assert component and component[1] in said, "what was added is listed"
    records = list((tmp_path / "runs").rglob("lab/*/lab/*.json"))
    assert len(records) >= 3 and (tmp_path / "runs" / "leaderboard.md").is_file()
