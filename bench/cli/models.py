"""`bench fetch`, `bench continue` and `bench msa`: models from outside, and what is made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Autocast, Device, StoreAt, Threads, store_at
from bench.core.errors import UserError


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
    from bench.engines.arithmetic.merge import MergeOptions, merge_checkpoints

    asked = MergeOptions(target, before, forget_tuned, retain_tuned, alpha, beta, dtype, out)
    merge_checkpoints(asked, typer.echo, lambda text: typer.echo(text, err=True))


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
    from bench.assets.data_sets import find_data_set
    from bench.assets.fetch import check_names, fetch_data, fetch_model
    from bench.cli.verify import verify_fetched as verify

    place = store_at(store)
    if check:
        if revision:
            raise UserError("--check takes no --revision: write NAME@REVISION.")
        raise typer.Exit(0 if verify(names or [], data, place, typer.echo) else 1)
    if data:
        raise UserError("--data goes with --check: it names a folder to verify.")
    check_names(names or [], revision)
    for name in names or []:
        if find_data_set(name):
            rows = fetch_data(name, place / "data", typer.echo, revision)
            typer.echo(f"{name} {rows.hash[:16]}: ready. `python -m bench fetch --check {name}` verifies its tables.")
            continue
        got = fetch_model(name, place / "models", typer.echo, revision)
        typer.echo(f"{got.name} {got.hash[:16]}: ready. Use it with --model {got.name}.")


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
