"""What is imported from where: our own packages from beside `bench`, and a user's file as a module.

Python looks into the user's folder first, where a ``tasks.py`` or ``methods/`` may lie that has nothing to do with ours.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.core.hashing import hash_file

USER_FILE = "user_file_"
"""How the name of the module begins that a file makes."""
ROOT = Path(__file__).resolve().parents[2]
"""The folder in which `bench`, `methods` and `tasks` lie."""


def put_user_last() -> None:
    """Look into the working directory after all other places, unless this code is imported from there."""
    here = os.path.realpath(os.curdir)
    mine = [place for place in sys.path if os.path.realpath(place or os.curdir) == here]
    if mine and here != str(ROOT):
        sys.path[:] = [place for place in sys.path if place not in mine] + [here]


def import_own(package: str) -> ModuleType:
    """Our own ``methods`` or ``tasks``, whatever else of that name can be imported."""
    known = sys.modules.get(package)
    if known and is_ours(str(known.__file__)):
        return known
    spec = PathFinder.find_spec(package, [str(ROOT)])
    if spec is None or spec.loader is None:
        return importlib.import_module(package)
    module = sys.modules[package] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def is_ours(file: str) -> bool:
    """Whether a package's ``__init__.py`` lies beside `bench`."""
    return Path(file).resolve().parents[1] == ROOT


def import_file(path: Path) -> ModuleType:
    """The module that a Python file makes; what lies beside it can be imported by it."""
    name = f"{USER_FILE}{path.stem}"
    known = sys.modules.get(name)
    if known and known.__file__ == str(path):
        return known
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "it ends in .py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    hash_source(module)
    return module


@cache
def hash_source(module: ModuleType) -> str:
    """Hash of a module's file as it was when this was first asked, which is when the module was loaded."""
    return hash_file(Path(str(module.__file__)))


def same_modules() -> dict[str, str]:
    """Variables with which another Python finds the modules that this one finds, and none of its working directory's."""
    places = filter(None, (os.environ.get("PYTHONPATH", ""), *sys.path))
    return {"PYTHONPATH": os.pathsep.join(places), "PYTHONSAFEPATH": "1"}
