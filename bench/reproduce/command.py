"""What the command `reproduce` does, apart from parsing; lists and pages load no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.errors import UserError, collect, unknown
from bench.core.files import write_text
from bench.records.tracking import KINDS
from bench.reproduce import page, recipes
from bench.reproduce.asking import changed, chosen
from bench.reproduce.recipe import Recipe

SCALES = ("full", "smoke")


@dataclass(frozen=True)
class Wanted:
    """What the user typed."""

    name: str
    out: Path
    store: Path
    device: str = "cpu"
    jobs: int | None = None
    seeds: tuple[int, ...] = ()
    """Empty: the recipe's own."""
    sets: tuple[str, ...] = ()
    track: str = "none"
    methods: tuple[str, ...] = ()
    scale: str = "full"
    data: str = ""
    """A folder in the benchmark's layout; empty: what was fetched."""
    problems: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that makes the same table, without where its files lie."""
        words = ["python", "-m", "bench", "reproduce", self.name]
        words += ["--scale", self.scale] if self.scale != "full" else []
        words += ["--seeds", ",".join(map(str, self.seeds))] if self.seeds else []
        words += ["--methods", ",".join(self.methods)] if self.methods else []
        return shlex.join([*words, *(word for text in self.sets for word in ("--set", text))])


def prepared(wanted: Wanted) -> Recipe:
    """The recipe as the user wants it, at full scale; one `UserError` for all that stands against it."""
    if not wanted.name:
        raise UserError("Name a table, such as t1-tofu01; `python -m bench reproduce --list` has them.")
    recipe = recipes.named(wanted.name)
    problems = [*wanted.problems]
    if wanted.scale not in SCALES:
        problems.append("--scale: " + unknown("scale", wanted.scale, SCALES))
    if wanted.track not in KINDS:
        problems.append("--track: " + unknown("tracker", wanted.track, KINDS))
    if not recipe.panels:
        problems.append(
            f"{recipe.name} can't be run here: {recipe.note}. `python -m bench reproduce --list` has others."
        )
    if wanted.data and wanted.scale == "smoke":
        problems.append("--data goes with --scale full: at smoke scale the rows are generated.")
    collect(problems)
    recipe = chosen(changed(recipe, wanted.sets), wanted.methods)
    return replace(recipe, seeds=wanted.seeds or recipe.seeds, data=wanted.data or recipe.data)


def listing(as_json: bool) -> str:
    """`reproduce --list`."""
    return json.dumps([recipe.row() for recipe in recipes.RECIPES], indent=1) if as_json else page.listing()


def overview(file: Path, results: Path, check: bool, say: Callable[[str], object]) -> bool:
    """Write the overview, or say whether it is up to date."""
    text = page.overview(results)
    if not check:
        write_text(file, text)
        say(f"{file}: written.")
        return True
    good = file.exists() and file.read_text() == text
    say(f"{file} is {'up to date' if good else f'stale: run `python -m bench reproduce --page {file}`'}.")
    return good


def dry_run(wanted: Wanted, say: Callable[[str], object]) -> None:
    """`reproduce NAME --dry-run`; with the plan of every scenario where all models are there."""
    from bench.reproduce.dry import lines

    if wanted.scale == "smoke":
        raise UserError("--dry-run describes the full scale; the smoke scale takes a minute: leave one of them out.")
    recipe = prepared(wanted)
    for line in lines(recipe, wanted):
        say(line)


def reproduce(wanted: Wanted) -> bool:
    """`reproduce NAME`; returns whether some run failed."""
    from bench.reproduce.run import run

    return run(prepared(wanted), wanted)
