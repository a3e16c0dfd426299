"""The command line. Heavy imports stand inside the commands, so that help and listings come at once."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import UserError

app = typer.Typer(
    name="bench",
    help="Compare unlearning methods with the oracle that never saw the forget set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Methods = Annotated[
    str, typer.Option("--methods", "-m", help="Names, comma-separated, or 'all'; name@variant for a variant.")
]
TaskName = Annotated[
    str, typer.Option("--task", "-t", help="tofu, restor, muse-books, qa (your own), digits or graph.")
]
Model = Annotated[str, typer.Option("--model", help="Real tier: known name, hub id or folder. Without it: the lab.")]
Data = Annotated[
    str,
    typer.Option(
        "--data", help="Real tier: folder in the benchmark's layout, or 'hub'; qa: forget.jsonl,retain.jsonl."
    ),
]
Past = Annotated[
    str, typer.Option("--history", help="Real tier: the model's past, a JSON file or a folder with checkpoint-500 ...")
]
Seeds = Annotated[str, typer.Option("--seeds", help="Whole numbers, comma-separated.")]
Sets = Annotated[list[str] | None, typer.Option("--set", "-s", help="component.parameter=value; can be repeated.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first N rows of each probe: for trying out.")]
Out = Annotated[Path, typer.Option("--out", help="Where records go.")]
StoreAt = Annotated[
    Path | None, typer.Option("--store", help="Checkpoints; default MSA_BENCH_STORE or the user's cache.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", help="Worker processes; default one per core, on a GPU one.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    int, typer.Option("--threads", help="Threads of each worker; more than one is slower on small models.")
]
LmEval = Annotated[
    str,
    typer.Option(
        "--lm-eval", help="lm-eval tasks, comma-separated: piqa, blimp ...; piqa:200 asks the first 200 documents."
    ),
]
LmEvalData = Annotated[
    Path | None, typer.Option("--lm-eval-data", help="Folder with offline copies of lm-eval's data.")
]
Track = Annotated[str, typer.Option("--track", help="wandb (offline when not logged in) or none.")]
Study = Annotated[str, typer.Option("--study", help="A label for the records; changes no result.")]
Target = Annotated[
    str, typer.Option("--target", help="Real tier: a target trained elsewhere; known name, hub id or folder.")
]
Oracles = Annotated[str, typer.Option("--oracle", help="Real tier: retrained models from elsewhere, comma-separated.")]
Then = Annotated[str, typer.Option("--then", help="Methods that go on where each row's method ended, such as repair.")]
Probes = Annotated[
    str,
    typer.Option("--probes", help="Ask these kinds of probes alone, such as logprob,divergence; the rest is absent."),
]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Real tier: float32 (default) or bfloat16, of weights in training and on disk.")
]
Autocast = Annotated[
    bool, typer.Option("--autocast", help="Real tier: train in bfloat16 autocast; the weights stay float32.")
]
Lora = Annotated[int, typer.Option("--lora", help="Real tier: train adapters of this rank (peft), merged at the end.")]
Micro = Annotated[
    int, typer.Option("--micro", help="Real tier: most rows of one forward pass; default by the model. Saves memory.")
]
Checkpointing = Annotated[
    bool,
    typer.Option("--checkpointing", help="Compute activations again in the backward pass: less memory, more time."),
]
Results = Annotated[Path, typer.Option("--from", help="Folder of records.")]


MOST_SEED = 2**31
"""The libraries' generators take no more."""
INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; a user's mistake is printed without a traceback and exits 2."""
    try:
        app(prog_name="python -m bench")
    except UserError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # typer makes an exit of an interruption
            raise
        typer.echo("\nInterrupted. What was finished is kept; the same command goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)


def asking(seeds: str = "0,1,2", without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command everything that says what is asked, as `asked_for` has it, in the place of its ``asked``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        said = [
            parameter.replace(default=seeds) if name == "seeds" else parameter
            for name, parameter in inspect.signature(asked_for, eval_str=True).parameters.items()
            if name not in without
        ]

        def wrapped(**given: Any) -> None:
            mine = {name: value for name, value in given.items() if name in own}
            command(asked_for(**{name: value for name, value in given.items() if name not in own}), **mine)

        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        parameters = [*said, *(parameter for name, parameter in own.items() if name != "asked")]
        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def asked_for(
    methods: Methods,
    task: TaskName,
    model: Model = "",
    data: Data = "",
    past: Past = "",
    seeds: Seeds = "0,1,2",
    sets: Sets = None,
    limit: Limit = None,
    lm_eval: LmEval = "",
    lm_eval_data: LmEvalData = None,
    study: Study = "",
    target: Target = "",
    oracle: Oracles = "",
    then: Then = "",
    probes: Probes = "",
    dtype: Dtype = "",
    autocast: Autocast = False,
    lora: Lora = 0,
    micro: Micro = 0,
) -> Any:
    """The options as one `bench.runs.asked.Asked`."""
    from bench.runs.asked import Asked

    numbers, problems = seeds_or_problems(seeds)
    return Asked(
        task=task,
        methods=tuple(split(methods)),
        sets=tuple(sets or ()),
        seeds=numbers,
        model=model,
        data=data,
        history=past,
        limit=limit,
        lm_eval=tuple(split(lm_eval)),
        lm_eval_data=str(lm_eval_data or ""),
        study=study,
        target=target,
        oracles=tuple(split(oracle)),
        then=tuple(split(then)),
        kinds=tuple(split(probes)),
        compute={"dtype": dtype, "autocast": autocast, "lora": lora, "micro": micro},
        problems=problems,
    )


@app.command()
@asking()
def run(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    checkpointing: Checkpointing = False,
    track: Track = "wandb",
) -> None:
    """Run methods on a task: target, oracle and every method, each seed; what is done already is not done again."""
    from bench.commands import run_command

    failed = run_command(asked, out, store_at(store), jobs, device, threads, track, checkpointing)
    raise typer.Exit(1 if failed else 0)


@app.command()
@asking()
def plan(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    checkpointing: Checkpointing = False,
) -> None:
    """Say what `run` would do: what is cached, how long the rest takes, memory, disk, what to fetch. Loads nothing heavy."""
    from bench.commands import plan_command

    plan_command(asked, out, store_at(store), jobs, device, checkpointing)


@app.command()
@asking(seeds="100,101", without=("limit", "lm_eval", "lm_eval_data", "study", "then", "probes"))
def tune(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    checkpointing: Checkpointing = False,
) -> None:
    """Choose each method's hyperparameters on validation rows by the stated rule, without the oracle, on other seeds."""
    from dataclasses import replace

    from bench.commands import tune_command

    asked = replace(asked, study="tune")
    failed = tune_command(asked, out, store_at(store), jobs, device, threads, checkpointing)
    raise typer.Exit(1 if failed else 0)


@app.command()
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
    from bench.studies.ablations.run import AskedAblation, ablate_command, listing

    if listed:
        typer.echo(listing(Path("results")))
        return
    numbers, problems = seeds_or_problems(seeds)
    asked = AskedAblation(tuple(names or ()), task, numbers, tuple(sets or ()), problems)
    failed = ablate_command(asked, out, store_at(store), jobs, device, threads, track)
    raise typer.Exit(1 if failed else 0)


@app.command("eval")
def eval_(
    task: TaskName,
    model: Annotated[str, typer.Option("--model", help="The model: folder, known name or fetched hub id.")],
    data: Annotated[
        str,
        typer.Option("--data", help="Folder in the benchmark's layout, 'hub' or a hub's id; qa: files, with commas."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write.")],
    split: Annotated[str, typer.Option("--split", help="TOFU: forget01, forget05, forget10. RESTOR: mix_a0 ...")] = "",
    tokenizer: Annotated[str, typer.Option("--tokenizer", help="Folder of another tokenizer.")] = "",
    oracle: Annotated[
        str, typer.Option("--oracle", help="The retrained model; without it what needs one is absent.")
    ] = "",
    reference: Annotated[str, typer.Option("--reference", help="A model that never saw the forget set.")] = "",
    judge: Annotated[str, typer.Option("--judge", help="TOFU: similarity (offline) or chat; RESTOR: chat.")] = "",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    threads: Threads = 1,
    limit: Limit = None,
    store: StoreAt = None,
) -> None:
    """Evaluate one model with a benchmark's complete suite, into one JSON file."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from bench.assets.data_sets import place_of
    from bench.real.evaluate import Evaluation, evaluate

    rows = place_of(task, data, store_at(store) / "data")
    asked = Evaluation(
        task, model, rows, out, split, tokenizer, oracle, reference, dtype, device, threads, limit, judge
    )
    found = evaluate(asked, store_at(store) / "models")
    for name, value in found["scores"].items():
        typer.echo(f"{name:36} {value:.6g}")
    for name, reason in found["absent"].items():
        typer.echo(f"{name:36} absent: {reason}")
    if limit:
        typer.echo(f"NOTE: --limit {limit} cut every probe: these are not the benchmark's scores.", err=True)
    typer.echo(f"{out}: {len(found['scores'])} scores, {len(found['absent'])} absent")


@app.command("exec", hidden=True)
def exec_(
    spec: Annotated[Path | None, typer.Argument(help="A run's spec, as JSON.")] = None,
    worker: Annotated[str, typer.Option("--worker", help="Serve jobs from standard input (used by `run`).")] = "",
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Make one run's record in this process, or serve jobs."""
    import json

    from bench.runs.executor import Worker, serve_jobs

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if worker:
        serve_jobs(json.loads(worker))
        return
    if spec is None:
        raise UserError("exec needs the file of a run's spec.")
    from bench.runs.setting import spec_from_file

    wanted, paths = spec_from_file(spec)
    around = {
        "store": str(store_at(store)),
        "out": str(out),
        "paths": vars(paths),
        "device": device,
        "threads": threads,
    }
    done = Worker(around, lambda event: typer.echo(json.dumps(event), err=True)).do(
        {"spec": wanted.to_json(), "stage": "", "estimate": {}}, wait=True
    )
    typer.echo(f"{wanted.method} seed {wanted.seed}: {done['status']}")
    if done["status"] == "failed":
        typer.echo(done["message"], err=True)
        raise typer.Exit(1)


@app.command()
def leaderboard(
    source: Results = Path("results"),
    page: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("leaderboard.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write the leaderboard from published records."""
    from bench.core.files import write_text
    from bench.records.files import load
    from bench.records.leaderboard import check as up_to_date
    from bench.records.leaderboard import render

    if check:
        good = up_to_date(existing(source), page)
        typer.echo(f"{page} is {'up to date' if good else 'stale: run `python -m bench leaderboard`'}.")
        raise typer.Exit(0 if good else 1)
    loaded = load(existing(source))
    warn_broken(loaded)
    write_text(page, render(loaded.records, loaded.broken))
    typer.echo(f"{page}: {len(loaded.records)} records.")


@app.command()
def plot(source: Results = Path("results"), to: Annotated[Path | None, typer.Option("--to")] = None) -> None:
    """Draw the plots (PNG and SVG) from records, and the pages and pictures of ablations from their studies."""
    from bench.records.files import load
    from bench.records.plots import draw
    from bench.studies.ablations import FOLDER
    from bench.studies.ablations.study import pages

    loaded = load(existing(source))
    warn_broken(loaded)
    for path in draw(loaded.records, to or source / "plots"):
        typer.echo(str(path))
    for path in pages(source / FOLDER, to):
        typer.echo(str(path))


@app.command()
def claims(
    source: Results = Path("results"),
    page: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("docs/claims.md"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when the page is stale.")] = False,
) -> None:
    """Write what published records say of each of the paper's claims: holds, holds in part, or does not hold."""
    from bench.core.files import write_text
    from bench.studies.claims import render

    text = render(existing(source))
    if check:
        good = page.exists() and page.read_text() == text
        typer.echo(f"{page} is {'up to date' if good else 'stale: run `python -m bench claims`'}.")
        raise typer.Exit(0 if good else 1)
    write_text(page, text)
    typer.echo(f"{page}: written.")


@app.command()
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
        typer.echo(command.listing(as_json))
        return
    if page:
        raise typer.Exit(0 if command.overview(page, Path("results"), check, typer.echo) else 1)
    numbers, problems = seeds_or_problems(seeds) if seeds else ((), ())
    asked = asking_.Wanted(
        name,
        out,
        store_at(store),
        device=device,
        jobs=jobs,
        seeds=numbers,
        sets=tuple(sets or ()),
        track=track,
        methods=tuple(split(methods)),
        scale=scale,
        data=data,
        problems=problems,
    )
    if dry_run:
        command.dry_run(asked, typer.echo)
        return
    raise typer.Exit(1 if command.reproduce(asked) else 0)


@app.command()
def ls(
    what: Annotated[str, typer.Argument(help="methods, tasks, models, metrics, history or runs.")] = "methods",
    source: Results = Path("runs"),
    model: Annotated[
        str, typer.Option("--model", help="history: whose; lab (the default), a known name, a hub id or a folder.")
    ] = "",
    task: Annotated[str, typer.Option("--task", "-t", help="history: of which task's lab; default tofu.")] = "",
    past: Annotated[str, typer.Option("--history", help="history: the one in this JSON file or folder.")] = "",
    store: StoreAt = None,
) -> None:
    """List methods, tasks, models, metrics, the checkpoints of a model's history, or your runs."""
    from bench.listing import history, listing, runs

    if what == "history":
        typer.echo(history(model, task, past, store_at(store) / "models"))
        return
    if misplaced := [name for name, value in (("--model", model), ("--task", task), ("--history", past)) if value]:
        raise UserError(f"ls {what} takes no {' and no '.join(misplaced)}: that goes with `ls history`.")
    typer.echo(runs(existing(source)) if what == "runs" and source != Path("runs") else listing(what))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A record's file, or part of its name or key.")],
    source: Results = Path("runs"),
    store: StoreAt = None,
    worst: Annotated[int, typer.Option("--examples", help="How many examples to print.")] = 5,
) -> None:
    """Show one run: spec, scores, lineage, cost, and what the model really said."""
    from bench.show import show_record

    typer.echo(show_record(name, source, store_at(store), worst))


@app.command()
def doctor(store: StoreAt = None) -> None:
    """Say what this machine has and lacks, with the remedy."""
    from bench.doctor import examine

    lines, ok = examine(store_at(store))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if ok else 1)


@app.command()
def publish(
    names: Annotated[
        list[str] | None, typer.Argument(help="Records by file, key or part of the name; default all.")
    ] = None,
    source: Results = Path("runs"),
    to: Annotated[Path, typer.Option("--to")] = Path("results"),
    store: StoreAt = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is published and different.")] = False,
) -> None:
    """Copy finished, clean records with their responses into results/; refuse dirty or unfinished ones."""
    from bench.commands import publish_command

    for path in publish_command(names or [], existing(source), to, store_at(store), force):
        typer.echo(str(path))


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="Where the results come from: open-unlearning.")],
    file: Annotated[Path, typer.Argument(help="Its TOFU_EVAL.json, MUSE_EVAL.json or *_SUMMARY.json.")],
    task: Annotated[str, typer.Option("--task", "-t", help="tofu, muse-books or muse-news; default by the file.")] = "",
    model: Annotated[str, typer.Option("--model", help="The model's name; default by the file's folder.")] = "",
    method: Annotated[str, typer.Option("--method", help="The method's name; default by the file's folder.")] = "",
    out: Out = Path("runs"),
) -> None:
    """Turn another harness's results into a record, which is shown apart and ranked against nothing."""
    from bench.core.machine import can_write
    from bench.records.files import write
    from bench.records.importer import import_record

    if not can_write(out):
        raise UserError(f"--out {out}: this is not a folder that you may write to; choose another.")
    record = import_record(source, file, task, model, method)
    typer.echo(f"{write(record, out)}: {len(record.scores)} scores, {len(record.absent)} absent")


@app.command()
def rescore(
    source: Results = Path("results"),
    store: StoreAt = None,
    write: Annotated[bool, typer.Option("--write", help="Write the new scores into the records.")] = False,
) -> None:
    """Compute every metric again from the kept responses, without a model; exit 1 when a number differs."""
    from bench.commands import rescore_command

    raise typer.Exit(0 if rescore_command(existing(source), store_at(store), write, typer.echo) else 1)


@app.command()
def msa(
    target: Annotated[Path, typer.Option("--target", help="The model that is to forget: a folder with safetensors.")],
    before: Annotated[Path, typer.Option("--before", help="theta_0: the model before it saw the forget set.")],
    forget_tuned: Annotated[Path, typer.Option("--forget-tuned", help="theta_1: theta_0 tuned on the forget set.")],
    alpha: Annotated[
        str, typer.Option("--alpha", help="How much of theta_1 - theta_0 to subtract; several with commas.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The folder to write; with several numbers one folder in it each.")
    ],
    retain_tuned: Annotated[
        Path | None, typer.Option("--retain-tuned", help="theta_2: theta_0 tuned on retain rows.")
    ] = None,
    beta: Annotated[
        str, typer.Option("--beta", help="How much of theta_2 - theta_0 to add; several with commas.")
    ] = "",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16; default the target's.")] = "",
) -> None:
    """Merge by model state arithmetic: target - alpha (theta_1 - theta_0) + beta (theta_2 - theta_0)."""
    from bench.engines.arithmetic.merge import Asked, merge

    asked = Asked(target, before, forget_tuned, retain_tuned, alpha, beta, dtype, out)
    merge(asked, typer.echo, lambda text: typer.echo(text, err=True))


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Known models (`python -m bench ls models` lists them), hub ids, or data sets: tofu, muse-books, restor."
        ),
    ] = None,
    revision: Annotated[
        str, typer.Option("--revision", help="A branch, tag or commit of it, such as stage1-step119000-tokens500B.")
    ] = "",
    check: Annotated[
        bool,
        typer.Option("--check", help="Fetch nothing: verify what is fetched, or what is named; exit 1 if it differs."),
    ] = False,
    data: Annotated[
        str, typer.Option("--data", help="--check: a folder to verify as the data set that is named.")
    ] = "",
    store: StoreAt = None,
) -> None:
    """Fetch models and data sets once; their hashes are checked on every use. --check verifies them."""
    from bench.assets.data_sets import data_set
    from bench.assets.fetch import check_names, fetch_data
    from bench.assets.fetch import fetch as fetch_model
    from bench.real.verify import check as verify

    place = store_at(store)
    if check:
        if revision:
            raise UserError("--check takes no --revision: write NAME@REVISION.")
        raise typer.Exit(0 if verify(names or [], data, place, typer.echo) else 1)
    if data:
        raise UserError("--data goes with --check: it names a folder to verify.")
    check_names(names or [], revision)
    for name in names or []:
        if data_set(name):
            rows = fetch_data(name, place / "data", typer.echo, revision)
            typer.echo(f"{name} {rows.hash[:16]}: ready. `python -m bench fetch --check {name}` verifies its tables.")
            continue
        got = fetch_model(name, place / "models", typer.echo, revision)
        typer.echo(f"{got.name} {got.hash[:16]}: ready. Use it with --model {got.name}.")


def split(text: str) -> list[str]:
    """Comma-separated words."""
    return [word.strip() for word in text.split(",") if word.strip()]


@app.command("continue")
def continue_(
    model: Annotated[str, typer.Option("--model", help="The model: known name, fetched hub id or folder.")],
    text: Annotated[str, typer.Option("--text", help="A file of plain text, or of JSON lines with 'text'.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist.")],
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.")] = 120,
    keep: Annotated[int, typer.Option("--keep", help="Checkpoints kept at equal distances.")] = 4,
    words: Annotated[int, typer.Option("--words", help="Words of a training passage.")] = 128,
    batch: Annotated[int, typer.Option("--batch", help="Passages of an optimiser step.")] = 8,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 5e-5,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    autocast: Autocast = False,
    device: Device = "cpu",
    threads: Threads = 1,
    store: StoreAt = None,
) -> None:
    """Continue a model's training on your text and keep checkpoints: a short history, for --model and --history."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from bench.engines.training.continued import Continuation, continue_model

    asked = Continuation(model, text, steps, keep, words, batch, lr, seed, autocast)
    found = continue_model(asked, store_at(store) / "models", out, lambda line: typer.echo(line, err=True), device)
    typer.echo(f"{out}: {', '.join(path.name for path in found)}. Use it with --model {out} --history {out}.")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers, not negative."""
    try:
        seeds = tuple(int(word) for word in split(text))
    except ValueError:
        raise UserError(f"--seeds {text}: write whole numbers, comma-separated, such as 0,1,2.") from None
    if not all(0 <= seed < MOST_SEED for seed in seeds):
        raise UserError(f"--seeds {text}: a seed is 0 or more, and below {MOST_SEED}.")
    return seeds


def seeds_or_problems(text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The seeds, or what is wrong with them, to be told with the other mistakes."""
    try:
        return parse_seeds(text), ()
    except UserError as error:
        return (), error.problems


def store_at(given: Path | None) -> Path:
    """The store's folder."""
    from bench.core.machine import default_root

    return given.expanduser().resolve() if given else default_root()


def existing(folder: Path) -> Path:
    """The folder, if it is there."""
    if not folder.is_dir():
        raise UserError(
            f"There is no folder '{folder}': `python -m bench run` makes records, --from names their folder."
        )
    return folder


def warn_broken(loaded: Any, say: Callable[..., None] = typer.echo) -> None:
    """Name every record that can't be read."""
    for broken in loaded.broken:
        say(f"left out: {broken.path}: {broken.reason}", err=True)
