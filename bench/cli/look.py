"""`bench ls`, `bench show` and `bench doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, echo

from bench.cli.options import Results, StoreAt, records_folder, store_at
from bench.core.errors import UserError
from bench.core.texts import shown


def ls(
    what: Annotated[str, Argument(help="methods, attacks, tasks, models, metrics, history or runs.")] = "methods",
    name: Annotated[str, Argument(help="One method or task, with all its parameters.")] = "",
    source: Results = Path("runs"),
    model: Annotated[str, Option(help="history: whose; lab (the default), a known name, a hub id or a folder.")] = "",
    task: Annotated[str, Option("--task", "-t", help="history: of which task's lab; default tofu.")] = "",
    past: Annotated[str, Option("--history", help="history: the one in this JSON file or folder.")] = "",
    store: StoreAt = None,
) -> None:
    """List methods, attacks, tasks, models, metrics, the checkpoints of a model's history, or your runs."""
    if name and what == "history":
        raise UserError(f"ls history takes no name: `python -m bench ls history --model {name}` is of a model.")
    if what == "history":
        from bench.cli.histories import list_history

        echo(list_history(model, task, past, store_at(store) / "models"))
        return
    if misplaced := [name for name, value in (("--model", model), ("--task", task), ("--history", past)) if value]:
        raise UserError(f"ls {what} takes no {' and no '.join(misplaced)}: that goes with `ls history`.")
    from bench.cli.listing import listing, runs

    own = what == "runs" and source != Path("runs") and not name
    echo(shown(runs(records_folder(source)) if own else listing(what, name)))


def show(
    name: Annotated[str, Argument(help="A record's file, or part of its name or key.")],
    source: Results = Path("runs"),
    store: StoreAt = None,
    worst: Annotated[int, Option("--examples", help="How many examples to print.")] = 5,
) -> None:
    """Show one run: spec, scores, lineage, cost, and what the model really said."""
    from bench.cli.show import show_record

    echo(shown(show_record(name, source, store_at(store), worst)))


def doctor(
    model: Annotated[
        str,
        Option(help="A folder, known name or hub id: say how it is read, its first prompt token by token."),
    ] = "",
    store: StoreAt = None,
) -> None:
    """Say what this machine has and lacks, with the remedy; with --model, what a checkpoint is and who would refuse it."""
    if model:
        from bench.assets.models import resolve_model
        from bench.real.examine import examine_model

        for line in examine_model(resolve_model(model, store_at(store) / "models")):
            echo(line)
        return
    from bench.cli.doctor import examine

    lines, ok = examine(store_at(store))
    for line in lines:
        echo(line)
    raise Exit(0 if ok else 1)
