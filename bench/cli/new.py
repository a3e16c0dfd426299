"""`bench new`: a method to begin with, and its test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from bench.core.errors import UserError, raise_problems
from bench.core.files import read_toml, write_text
from bench.core.places import file_problems

SKELETONS = Path(__file__).with_name("skeletons.toml")
KINDS = {"task": "docs/add-a-task.md", "metric": "docs/add-a-metric.md"}
"""What else can be plugged in, and the page that says how."""


def new(
    what: Annotated[str, Argument(help="method")],
    name: Annotated[str, Argument(help="Its name: small letters, digits and hyphens.")],
    to: Annotated[Path, Option("--to", help="The folder to write into.")] = Path(),
) -> None:
    """Write a method to begin with and its test, both working as they are."""
    if what != "method":
        page = KINDS.get(what)
        raise UserError(
            f"new writes a method, and no {what}" + (f": {page} shows how one is written." if page else ".")
        )
    for file in write_method(name, to):
        echo(str(file))
    file = to / f"{module_name(name)}.py"
    place = file if to != Path() else f"./{file}"
    echo(f"test it:  python -m pytest {to / f'test_{module_name(name)}.py'}")
    echo(f"run it:   python -m bench run --task digits --methods {place}:{class_name(name)},msa --seeds 0")


def write_method(name: str, folder: Path) -> list[Path]:
    """Write ``NAME.py`` and ``test_NAME.py`` into a folder; `UserError` where the name can't be one or a file is there."""
    from bench.core import registry

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*", name) or keyword.iskeyword(class_name(name)):
        raise UserError(f"'{name}' can't be a method's name: take small letters, digits and hyphens, such as fade.")
    if name in registry.own_table("methods"):
        raise UserError(f"'{name}' is the name of one of ours: take another.")
    skeletons, module = read_toml(SKELETONS), module_name(name)
    files = {folder / f"{module}.py": skeletons["method"], folder / f"test_{module}.py": skeletons["test"]}
    raise_problems([problem for file in files for problem in file_problems("--to", file)])
    if there := [str(file) for file in files if file.exists()]:
        raise UserError(f"{' and '.join(there)}: there already; take another name, or --to another folder.")
    for file, text in files.items():
        for word, meaning in (("CLASS", class_name(name)), ("MODULE", module), ("NAME", name)):
            text = text.replace(word, meaning)
        write_text(file, text)
    return list(files)


def module_name(name: str) -> str:
    """The file of a method, without its ending."""
    return name.replace("-", "_")


def class_name(name: str) -> str:
    """The class of a method."""
    return "".join(part.capitalize() for part in name.split("-"))
