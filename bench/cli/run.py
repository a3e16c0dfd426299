"""`bench run`, `bench plan` and `bench exec`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, echo

from bench.cli.options import Device, Out, StoreAt, Threads, asking, machine_of
from bench.core.errors import UserError


@asking()
def run(asked: Any, machine: Any) -> None:
    """Run methods on a task: target, oracle and every method, each seed; what is done already is not done again."""
    from bench.runs.launch import run_command

    raise Exit(1 if run_command(asked, machine) else 0)


@asking(without=("threads", "track"))
def plan(
    asked: Any, machine: Any, as_json: Annotated[bool, Option("--json", help="Print it as JSON.")] = False
) -> None:
    """Say what `run` would do: what is cached, how long the rest takes, memory, disk, what to fetch. Loads nothing heavy."""
    from bench.runs.launch import plan_command

    plan_command(asked, machine, as_json)


def status(
    out: Out = Path("runs"),
    cancel: Annotated[
        bool, Option("--cancel", help="End what is queued or running; what is finished is kept.")
    ] = False,
) -> None:
    """Say what was handed to the cluster (--executor slurm) and what has become of it; exit 1 where something failed."""
    from bench.runs.cluster.status import status_command

    raise Exit(1 if status_command(out, cancel) else 0)


def exec_(
    spec: Annotated[Path | None, Argument(help="A run's spec, as JSON.")] = None,
    worker: Annotated[str, Option(help="Serve jobs from standard input (used by `run`).")] = "",
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    task: Annotated[tuple[str, str, int], Option(help="A cluster's job (used by `run`).")] = ("", "", 0),
) -> None:
    """Make one run's record in this process, or serve jobs."""
    from bench.runs.executor import Worker, serve_jobs
    from bench.runs.jobs import Job, WorkerConfig

    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if worker:
        serve_jobs(WorkerConfig.from_json(json.loads(worker)))
        return
    if task[0]:
        from bench.runs.cluster.node import serve_rank

        serve_rank(*task)
        return
    if spec is None:
        raise UserError("exec needs the file of a run's spec.")
    from bench.runs.setting import spec_from_file

    wanted, paths = spec_from_file(spec)
    config = WorkerConfig(machine_of(out=out, store=store, device=device, threads=threads), paths)
    done = Worker(config, lambda event: echo(json.dumps(event), err=True)).do(Job(wanted), wait=True)
    echo(f"{wanted.method} seed {wanted.seed}: {done['status']}")
    if done["status"] == "failed":
        echo(done["message"], err=True)
        raise Exit(1)
