"""`bench run`, `bench plan` and `bench exec`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Checkpointing, Device, Jobs, Out, StoreAt, Threads, Track, asking, store_at
from bench.core.errors import UserError


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
    from bench.runs.launch import run_command

    failed = run_command(asked, out, store_at(store), jobs, device, threads, track, checkpointing)
    raise typer.Exit(1 if failed else 0)


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
    from bench.runs.launch import plan_command

    plan_command(asked, out, store_at(store), jobs, device, checkpointing)


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
