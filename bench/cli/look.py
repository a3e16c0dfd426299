"""`bench ls`, `bench show`, `bench compare` and `bench doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, echo

from bench.cli.options import Results, StoreAt, parse_seeds, records_folder, store_at
from bench.core.errors import UserError
from bench.core.texts import shown

AsJson = Annotated[bool, Option("--json", help="Print it as JSON.")]
Seed = Annotated[int | None, Option("--seed", help="Of this seed.")]
Task = Annotated[str, Option("--task", "-t", help="Of this task.")]
Examples = Annotated[int, Option("--examples", help="How many examples of each probe to print.")]


def ls(
    what: Annotated[str, Argument(help="methods, attacks, tasks, models, metrics, history or runs.")] = "methods",
    name: Annotated[str, Argument(help="One method or task, with all its parameters.")] = "",
    source: Results = Path("runs"),
    model: Annotated[str, Option(help="history: whose; lab (the default), a known name, a hub id or a folder.")] = "",
    task: Annotated[
        str, Option("--task", "-t", help="history: of which task's lab, default tofu; runs: of this task.")
    ] = "",
    past: Annotated[str, Option("--history", help="history: the one in this JSON file or folder.")] = "",
    method: Annotated[str, Option("--method", "-m", help="runs: of this method.")] = "",
    seeds: Annotated[str, Option("--seeds", "--seed", help="runs: of these seeds, such as 0-4.")] = "",
    status: Annotated[str, Option(help="runs: done, failed, skipped or older (by older code).")] = "",
    as_json: AsJson = False,
    store: StoreAt = None,
) -> None:
    """List methods, attacks, tasks, models, metrics, the checkpoints of a model's history, or your runs."""
    if name and what == "history":
        raise UserError(f"ls history takes no name: `python -m bench ls history --model {name}` is of a model.")
    if what == "history":
        from bench.cli.histories import list_history

        text = list_history(model, task, past, store_at(store) / "models")
        echo(dump({"history": text.splitlines()}) if as_json else text)
        return
    of_runs = {"--task": task, "--model": model, "--method": method, "--seeds": seeds, "--status": status}
    allowed = of_runs if what == "runs" else {}
    given = {**of_runs, "--history": past}
    if misplaced := [option for option, value in given.items() if value and option not in allowed]:
        fit = "history" if set(misplaced) & {"--model", "--task", "--history"} else "runs"
        raise UserError(f"ls {what} takes no {' and no '.join(misplaced)}: that goes with `ls {fit}`.")
    from bench.cli import listing

    if what == "runs":
        from bench.cli.run_list import Filter, list_runs, runs_json

        if name:
            raise UserError(
                "ls runs takes no name: --method, --task, --seeds and --status choose, `show` says all of one."
            )
        if source != Path("runs"):
            records_folder(source)
        wanted = Filter(task, method, model, parse_seeds(seeds) if seeds else (), status)
        echo(dump(runs_json(source, wanted)) if as_json else shown(list_runs(source, wanted)))
        return
    echo(dump(listing.as_json(what, name)) if as_json else shown(listing.listing(what, name)))


def show(
    name: Annotated[str, Argument(help="A method, a record's file, or part of its name or key.")],
    task: Task = "",
    seed: Seed = None,
    source: Results = Path("runs"),
    store: StoreAt = None,
    examples: Examples = 3,
    lineage: Annotated[bool, Option("--lineage", help="What it was made of.")] = False,
    cost: Annotated[bool, Option("--cost", help="What it took.")] = False,
    provenance: Annotated[bool, Option("--provenance", help="Which code made it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one run: its setting, its scores and answers beside the target's and the oracle's."""
    from bench.cli.picking import Wanted
    from bench.cli.show import record_json, show_record

    wanted, place = Wanted(name, task, seed), store_at(store)
    if as_json:
        echo(dump(record_json(wanted, source, place, examples)))
        return
    parts = {"lineage": lineage, "cost": cost, "provenance": provenance}
    echo(shown(show_record(wanted, source, place, examples, tuple(part for part, said in parts.items() if said))))


def compare(
    names: Annotated[list[str], Argument(help="Two or more methods, or parts of records' names or keys.")],
    task: Task = "",
    seed: Seed = None,
    source: Results = Path("runs"),
    store: StoreAt = None,
    examples: Examples = 5,
    changed: Annotated[bool, Option("--changed", help="Only examples that are answered differently.")] = False,
    every: Annotated[bool, Option("--all", help="Every score, not the task's first ones alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare methods on one seed: scores side by side, and the answers that differ."""
    from bench.cli.compare import compare_json, compare_records
    from bench.cli.picking import Wanted

    wanted, place = [Wanted(name, task, seed) for name in names], store_at(store)
    if as_json:
        echo(dump(compare_json(wanted, source, place, examples, changed)))
        return
    echo(shown(compare_records(wanted, source, place, examples, changed, every)))


def dump(data: Any) -> str:
    """Data as the JSON that a command prints."""
    return json.dumps(data, indent=1, ensure_ascii=False)


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
