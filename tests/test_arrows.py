"""Who imports whom, and what the quick commands don't load."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest
from setuptools import find_packages

from tests.paths import ROOT
from tests.processes import environment

OURS = {"bench", "methods", "tasks", "tests"}
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = ("torch", "transformers", "wandb", "lm_eval", "datasets")


@cache
def import_statements(file: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Every import of a file, anywhere in it."""
    found = ast.walk(ast.parse(file.read_text()))
    return tuple(node for node in found if isinstance(node, ast.Import | ast.ImportFrom))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, as a dotted name."""
    for node in import_statements(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert not node.level, f"{file.name} imports relatively"
            yield node.module or ""


FLOORS = (
    ("bench.core",),
    ("bench.metrics", "bench.assets"),
    ("bench.engines", "bench.records"),
    ("bench.report", "bench.tracking"),
    ("bench.runs", "methods"),
    ("bench.lab", "bench.real"),
    ("bench.api",),
    ("bench.studies", "tasks", "bench.conformance"),
    ("bench.cli",),
    ("bench.__main__",),
)
"""From the ground up: a wing imports wings of lower floors, and never a neighbour."""
LEVEL = {wing: level for level, floor in enumerate(FLOORS) for wing in floor}


def module_of(file: Path) -> str:
    """A file's dotted name."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of the product that it imports, also inside functions and under ``TYPE_CHECKING``."""
    files = {
        module_of(file): file for folder in ("bench", "methods", "tasks") for file in (ROOT / folder).rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        named: list[str] = []
        for node in import_statements(file):
            if isinstance(node, ast.Import):
                named += [alias.name for alias in node.names]
            else:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                named += [name if name in files else str(node.module) for name in inner]
        found[module] = {name for name in named if name in files} - {module}
    return found


def wing(module: str) -> str:
    """The wing that a module belongs to."""
    return max((name for name in LEVEL if module == name or module.startswith(f"{name}.")), key=len, default=module)


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of the graph, or nothing."""
    done: set[str] = set()

    def follow(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return trail[trail.index(node) :]
        if node in done:
            return []
        found = next(filter(None, (follow(to, [*trail, node]) for to in sorted(graph.get(node, ())))), [])
        done.add(node)
        return found

    return next(filter(None, (follow(node, []) for node in sorted(graph))), [])


def test_arrows_point_to_lower_floors_only() -> None:
    wrong = [
        f"{module} -> {to}"
        for module, tos in arrows().items()
        for to in tos
        if wing(module) != wing(to) and LEVEL[wing(module)] <= LEVEL[wing(to)]
    ]
    assert sorted(wrong) == []


UPWARDS_BY_NAME = {"bench.engines.loaders -> bench.lab.networks"}
"""Tables that name an object of a higher floor (``module:name``), to be loaded when a run needs it."""


def test_texts_that_name_modules_point_to_lower_floors_too() -> None:
    """``import_module("bench...")`` and tables of ``module:name``; our own components are reached so from everywhere."""
    known, wrong = arrows(), set()
    for module in known:
        file = ROOT / module.replace(".", "/")
        tree = ast.parse((file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text())
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        named = {text.partition(":")[0] for text in texts if re.fullmatch(r"\w+(\.\w+)+(:\w+)?", text)} & known.keys()
        wrong |= {
            f"{module} -> {to}" for to in named if wing(module) != wing(to) and LEVEL[wing(module)] <= LEVEL[wing(to)]
        }
    assert wrong == UPWARDS_BY_NAME


def test_every_module_of_bench_has_a_floor() -> None:
    assert {wing(module) for module in arrows() if module != "bench"} <= set(LEVEL)


def test_no_circle_between_files() -> None:
    assert circle_in(arrows()) == []


def test_no_circle_between_folders() -> None:
    packages = {
        module_of(file) for folder in ("bench", "methods", "tasks") for file in (ROOT / folder).rglob("__init__.py")
    }
    folder = {module: module if module in packages else module.rpartition(".")[0] for module in arrows()}
    graph: dict[str, set[str]] = {}
    for module, tos in arrows().items():
        graph.setdefault(folder[module], set()).update({folder[to] for to in tos} - {folder[module]})
    assert circle_in(graph) == []


def test_a_circle_is_seen() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def ours(folder: str) -> dict[str, set[str]]:
    """File -> the packages of ours that it imports."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 2
    return {str(file.relative_to(ROOT)): {name.split(".")[0] for name in imports(file)} & OURS for file in files}


def test_bench_knows_methods_and_tasks_by_name_only() -> None:
    assert {file: found for file, found in ours("bench").items() if found - {"bench"}} == {}


@pytest.mark.parametrize("folder", ["methods", "tasks"])
def test_components_import_bench_only(folder: str) -> None:
    """Never each other, never a sibling: what two share belongs in bench."""
    found = ours(folder)
    assert {file: packages for file, packages in found.items() if packages - {"bench"}} == {}
    assert all(packages == {"bench"} for file, packages in found.items() if not file.endswith("__init__.py"))


@pytest.mark.parametrize("folder", ["methods", "tasks"])
def test_a_component_is_one_file_and_one_line(folder: str) -> None:
    """Every file is named by the table, and the table names no other."""
    from bench.core import registry

    files = {f"{folder}.{file.stem}" for file in (ROOT / folder).glob("*.py") if file.stem != "__init__"}
    places = [
        place if isinstance(place, str) else " ".join(place.values()) for place in registry.components(folder).values()
    ]
    own = {place.split(":")[0] for each in places for place in each.split() if place.startswith(f"{folder}.")}
    assert own == files


COMMAND = """
import sys
sys.argv = ["bench", *{words!r}]
from bench.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
"""Runs the command line and demands that it ends well."""
COMPONENTS = {
    "methods": """
from bench.core import registry
for name in registry.components('methods'):
    registry.load_component('methods', name)
""",
    "tasks": """
from bench.core import registry
for name, tiers in registry.components('tasks').items():
    for tier in tiers:
        registry.load_task(name, tier)
""",
}
MODULES = (
    "import bench.api, bench.cli.app, bench.core.types, bench.core.contracts, bench.records.files, bench.runs.plan"
)
COMMANDS = (
    "--help",
    "run --help",
    "ls methods",
    "ls tasks",
    "ls models",
    "ls metrics",
    "plan --methods all --task muse-books --seeds 0 --out runs",
    "leaderboard --from results --to page.md",
)
STEPS = {
    "import modules": MODULES,
    **{f"load {kind}": code for kind, code in COMPONENTS.items()},
    **{line: COMMAND.format(words=line.split()) for line in COMMANDS},
}
"""What loads nothing heavy, one after another in one interpreter: name -> code."""


def loaded_after(steps: Mapping[str, str], folder: Path) -> dict[str, list[str]]:
    """Name of a step -> the heavy modules that are loaded when it and those before it have run in a fresh interpreter."""
    told = f"import json, sys; print('LOADED', json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(f"{code}\n{told}" for code in steps.values())],
        cwd=folder,
        env=environment() | {"MSA_BENCH_STORE": str(folder / "store"), "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in re.findall(r"^LOADED (.*)$", done.stdout, flags=re.MULTILINE)]
    return dict(zip(steps, found, strict=True))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """The folder that `STEPS` ran in, on records of its own, and what each left loaded."""
    from bench.records.files import write_record
    from tests.factories import study

    folder = tmp_path_factory.mktemp("quick")
    for record in study():
        write_record(record, folder / "results")
    return folder, loaded_after(STEPS, folder)


def test_the_probe_of_loaded_modules_works(tmp_path: Path) -> None:
    found = loaded_after({"before": "", "datasets": "import datasets", "after": "import json"}, tmp_path)
    assert found == {"before": [], "datasets": ["datasets"], "after": ["datasets"]}


@pytest.mark.parametrize("step", STEPS)
def test_components_and_quick_commands_load_nothing_heavy(quick: tuple[Path, dict[str, list[str]]], step: str) -> None:
    """The first step that fails is the one that loaded something."""
    assert quick[1][step] == []


def test_the_leaderboard_was_written_without_anything_heavy(quick: tuple[Path, dict[str, list[str]]]) -> None:
    assert "tofu" in (quick[0] / "page.md").read_text()


def test_every_package_is_installed() -> None:
    """A folder of code without ``__init__.py`` is missing from a wheel, and from no test that runs in the checkout."""
    packages = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for folder in ("bench", "methods", "tasks")
        for file in (ROOT / folder).rglob("*.py")
    }
    found = find_packages(str(ROOT), include=ABOUT["tool"]["setuptools"]["packages"]["find"]["include"])
    assert set(found) == packages


def test_every_data_file_is_installed() -> None:
    """A file beside the code that no pattern of package-data fits is missing from a wheel, and from no test in the checkout."""
    patterns = ABOUT["tool"]["setuptools"]["package-data"]
    for folder in ("bench", "methods", "tasks"):
        files = [file for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
        found = {file for file in files if file.suffix not in (".py", ".pyc") and not file.name.startswith(".")}
        assert found, folder
        assert found <= {file for pattern in patterns[folder] for file in (ROOT / folder).glob(pattern)}


def test_every_import_has_its_requirement() -> None:
    """Stated in pyproject.toml, or required by what is."""
    extras = ABOUT["project"]["optional-dependencies"]
    stated = {*ABOUT["project"]["dependencies"], *(each for name in extras if name != "dev" for each in extras[name])}
    further = {each for text in stated for each in requires(name_of(text)) or () if "extra ==" not in each}
    required = {name_of(text).replace("-", "_").lower() for text in stated | further}
    files = [file for folder in ("bench", "methods", "tasks") for file in (ROOT / folder).rglob("*.py")]
    imported = {name.split(".")[0] for file in files for name in imports(file)} - set(sys.stdlib_module_names) - OURS
    assert "torch" in imported and "scikit_learn" in required
    missing = {{"sklearn": "scikit_learn"}.get(name, name).lower() for name in imported} - required
    assert not missing, f"add to the dependencies: {sorted(missing)}"


def name_of(requirement: str) -> str:
    """``lm-eval`` of ``lm-eval[x]>=0.4 ; python_version > "3"``."""
    return re.split(r"[^\w.-]", requirement)[0]
