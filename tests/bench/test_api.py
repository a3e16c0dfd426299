"""The names that plug-ins import: all of them are there, and reach nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from bench import api


def test_every_name_that_is_imported_is_offered_and_nothing_else() -> None:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(api.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert list(api.__all__) == sorted(imported) and all(hasattr(api, name) for name in api.__all__)


def test_what_is_offered_is_said_where_it_comes_from() -> None:
    """A class or function without a docstring would leave a plug-in's author alone."""
    offered = {name: getattr(api, name) for name in api.__all__}
    assert [
        name
        for name, kind in offered.items()
        if callable(kind) and name not in ("Json", "References") and not kind.__doc__
    ] == []


def test_it_loads_no_torch() -> None:
    code = "import sys, bench.api; assert not {'torch', 'transformers', 'datasets', 'wandb'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
