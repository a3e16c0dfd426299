"""`bench tune`: choose each method's hyperparameters on validation rows by the stated rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import Checkpointing, Device, Jobs, Out, StoreAt, Threads, asking, store_at


@asking(seeds="100,101", without=("limit", "lm_eval", "lm_eval_data", "study", "then", "probes"))
def tune(
    asked: Any,
    jobs: Jobs = None,
    out: Out = Path("runs"),
    store: StoreAt = None,
    device: Device = "cpu",
    threads: Threads = 1,
    checkpointing: Checkpointing = False,
    write: Annotated[
        bool, typer.Option("--write", help="Make what was chosen the methods' preset there, in their settings files.")
    ] = False,
) -> None:
    """Choose each method's hyperparameters on validation rows by the stated rule, without the oracle, on other seeds."""
    from bench.runs.search import tune_command

    asked = replace(asked, study="tune")
    failed = tune_command(asked, out, store_at(store), jobs, device, threads, checkpointing, write)
    raise typer.Exit(1 if failed else 0)
