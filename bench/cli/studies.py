"""`bench ablate`, `bench reproduce` and `bench claims`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, echo

from bench.cli import options
from bench.core.errors import raise_problems
from bench.core.places import file_problems


def ablate(
    names: Annotated[list[str] | None, Argument(help="Ablations, or 'all'.")] = None,
    task: options.TaskName = "tofu",
    seeds: options.Seeds = "0,1,2",
    sets: options.Sets = None,
    jobs: options.Jobs = None,
    out: options.Out = Path("runs"),
    store: options.StoreAt = None,
    device: options.Device = "cpu",
    threads: options.Threads = 1,
    track: options.Track = "wandb",
    executor: options.Executor = "local",
    gpus_per_job: options.GpusPerJob = None,
    slurm: options.Slurm = None,
    listed: Annotated[bool, Option("--list", help="Say what there is, and run nothing.")] = False,
) -> None:
    """Run ablations in the lab: each gives records, a table and a picture; what is done already is not done again."""
    from bench.studies.ablations.run import AblationRequest, ablate_command, list_ablations

    if listed:
        echo(list_ablations(Path("results")))
        return
    numbers, problems = options.seeds_or_problems(seeds)
    asked = AblationRequest(tuple(names or ()), task, numbers, tuple(sets or ()), problems)
    machine = options.machine_of(
        jobs, out, store, device, threads, track=track, executor=executor, gpus_per_job=gpus_per_job, slurm=slurm
    )
    raise Exit(1 if ablate_command(asked, machine) else 0)


def claims(
    source: options.Results = Path("results"),
    page: Annotated[Path, Option("--to", help="The page to write.")] = Path("docs/claims.md"),
    check: Annotated[bool, Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write what published records say of each of the paper's claims: supported, contradicted or undecided."""
    from bench.studies.claims import render_claims

    raise_problems([] if check else file_problems("--to", page))
    text = render_claims(options.records_folder(source))
    raise Exit(0 if options.write_or_check(page, text, check, "claims") else 1)


def reproduce(
    name: Annotated[str, Argument(help="A published table, such as t1-tofu01; --list has them all.")] = "",
    listed: Annotated[bool, Option("--list", help="Say what there is, and run nothing.")] = False,
    as_json: Annotated[bool, Option("--json", help="--list as JSON.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be fetched, trained and run.")] = False,
    methods: Annotated[str, Option("--methods", "-m", help="Only these methods or rows, comma-separated.")] = "",
    sets: options.Sets = None,
    seeds: Annotated[str, Option(help="Whole numbers, comma-separated; default the recipe's.")] = "",
    scale: Annotated[str, Option(help="full, or smoke: a random tiny model, in a minute.")] = "full",
    data: Annotated[str, Option(help="A folder in the benchmark's layout; default what was fetched.")] = "",
    jobs: options.Jobs = None,
    out: options.Out = Path("runs/reproduce"),
    store: options.StoreAt = None,
    device: options.Device = "cpu",
    track: options.Track = "none",
    page: Annotated[Path | None, Option(help="Write the overview of all tables there.")] = None,
    check: Annotated[bool, Option("--check", help="--page: write nothing; exit 1 when it is stale.")] = False,
) -> None:
    """Make a published table again: its rows beside ours, and whether target and oracle came out as published."""
    from bench.studies.reproduce import asking
    from bench.studies.reproduce import page as overview

    if listed:
        echo(overview.list_recipes(as_json))
        return
    if page:
        raise_problems([] if check else file_problems("--page", page))
        text = overview.overview_page(Path("results"))
        raise Exit(0 if options.write_or_check(page, text, check, f"reproduce --page {page}") else 1)
    numbers, problems = options.seeds_or_problems(seeds) if seeds else ((), ())
    asked = asking.ReproduceRequest(
        name,
        out,
        options.store_at(store),
        device=device,
        jobs=jobs,
        seeds=numbers,
        sets=tuple(sets or ()),
        track=track,
        methods=tuple(options.split_words(methods)),
        scale=scale,
        data=data,
        problems=problems,
    )
    if dry_run:
        from bench.studies.reproduce.dry import dry_run_lines

        for line in dry_run_lines(asked):
            echo(line)
        return
    from bench.studies.reproduce.run import reproduce_table

    raise Exit(1 if reproduce_table(asked) else 0)
