"""`bench prune`: what of a store nobody needs, and removing it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Option, confirm, echo

from bench.cli.options import StoreAt, records_folder, store_at
from bench.core.errors import raise_problems


def prune(
    out: Annotated[
        list[Path] | None, Option(help="Folder of records whose nodes are needed; can be repeated; default runs.")
    ] = None,
    store: StoreAt = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what would go, by name; nothing is removed.")] = False,
    yes: Annotated[bool, Option("--yes", help="Remove it without asking.")] = False,
) -> None:
    """List what of the store nobody needs, and remove it with --yes: nodes that no record names, remains of dead runs."""
    from bench.runs import prune as pruning
    from bench.runs.store import Store

    folders = [records_folder(folder, "--out") for folder in out or [Path("runs")]]
    place = Store(store_at(store))
    raise_problems(pruning.store_problems(place))
    found = pruning.survey(place, folders)
    echo(f"{place.root}: {found.summary}")
    for group in found.waste:
        echo(f"  {group}")
        for name in pruning.list_names(place, group) if dry_run else ():
            echo(f"    {name}")
    for line in found.remarks:
        echo(f"  {line}")
    if not found.waste:
        echo("Nothing is to be removed.")
        return
    echo(f"{pruning.say_bytes(found.freed)} would be free.")
    if dry_run or not (yes or (sys.stdin.isatty() and confirm("Remove all this?"))):
        echo("Nothing was removed; --yes removes it.")
        return
    echo(f"removed: {pruning.say_bytes(pruning.prune(place, folders, echo).freed)}")
