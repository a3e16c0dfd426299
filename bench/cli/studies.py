"""`bench ablate`, `bench reproduce` and `bench claims`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import (
    Device,
    Jobs,
    Out,
    Results,
    Seeds,
    Sets,
    StoreAt,
    TaskName,
    Threads,
    Track,
    machine_of,
    records_folder,
    seeds_or_problems,
    split_words,
    store_at,
)


def ablate(
    names: Annotated[list[str] | None, typer.Argument(help="Ablations, or 'all'.")] = None,
    task: TaskName = "tofu",
    seeds: Seeds = "0,1,2",
    sets: Sets = None,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    track: Track = "wandb",
    listed: Annotated[bool, typer.Option("--list", help="Say what there is, and run nothing.")] = False,
) -> None:
    """Run ablations in the lab: each gives records, a table and a picture; what is done already is not done again."""
    from bench.studies.ablations.run import AblationRequest, ablate_command, list_ablations

    if listed:
        typer.echo(list_ablations(Path("results")))
        return
    numbers, problems = seeds_or_problems(seeds)
    asked = AblationRequest(tuple(names or ()), task, numbers, tuple(sets or ()), problems)
    machine = machine_of(jobs, out, store, device, threads, track=track)
    raise typer.Exit(1 if ablate_command(asked, machine) else 0)


def claims(
    source: Results = Path("results"),
    page: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("docs/claims.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write what published records say of each of the paper's claims: holds, holds in part, or does not hold."""
    from bench.core.files import write_text
    from bench.studies.claims import render_claims

    text = render_claims(records_folder(source))
    if check:
        good = page.exists() and page.read_text() == text
        typer.echo(f"{page} is {'up to date' if good else 'stale: run `python -m bench claims`'}.")
        raise typer.Exit(0 if good else 1)
    write_text(page, text)
    typer.echo(f"{page}: written.")


def reproduce(
    name: Annotated[str, typer.Argument(help="A published table, such as t1-tofu01; --list has them all.")] = "",
    listed: Annotated[bool, typer.Option("--list", help="Say what there is, and run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="--list as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, trained and run.")] = False,
    methods: Annotated[str, typer.Option("--methods", "-m", help="Only these methods or rows, comma-separated.")] = "",
    sets: Sets = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Whole numbers, comma-separated; default the recipe's.")] = "",
    scale: Annotated[str, typer.Option("--scale", help="full, or smoke: a random tiny model, in a minute.")] = "full",
    data: Annotated[
        str, typer.Option("--data", help="A folder in the benchmark's layout; default what was fetched.")
    ] = "",
    jobs: Jobs = None,
    out: Out = Path("runs/reproduce"),
    store: StoreAt = None,
    device: Device = "cpu",
    track: Track = "none",
    page: Annotated[Path | None, typer.Option("--page", help="Write the overview of all tables there.")] = None,
    check: Annotated[bool, typer.Option("--check", help="--page: write nothing; exit 1 when it is stale.")] = False,
) -> None:
    """Make a published table again: its rows beside ours, and whether target and oracle came out as published."""
    from bench.studies.reproduce import asking as asking_
    from bench.studies.reproduce import command

    if listed:
        typer.echo(command.list_recipes(as_json))
        return
    if page:
        raise typer.Exit(0 if command.write_or_check_overview(page, Path("results"), check, typer.echo) else 1)
    numbers, problems = seeds_or_problems(seeds) if seeds else ((), ())
    asked = asking_.ReproduceRequest(
        name,
        out,
        store_at(store),
        device=device,
        jobs=jobs,
        seeds=numbers,
        sets=tuple(sets or ()),
        track=track,
        methods=tuple(split_words(methods)),
        scale=scale,
        data=data,
        problems=problems,
    )
    if dry_run:
        command.dry_run(asked, typer.echo)
        return
    raise typer.Exit(1 if command.reproduce_table(asked) else 0)
