"""`bench fetch`, `bench continue` and `bench msa`: models from outside, and what is made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, echo

from bench.cli.options import Autocast, Device, StoreAt, Threads, store_at
from bench.core.errors import UserError, raise_problems
from bench.core.places import folder_problems, new_folder_problems, readable_problems


def msa(
    target: Annotated[Path, Option(help="The model that is to forget: a folder with safetensors.")],
    before: Annotated[Path, Option(help="theta_0: the model before it saw the forget set.")],
    forget_tuned: Annotated[Path, Option(help="theta_1: theta_0 tuned on the forget set.")],
    alpha: Annotated[str, Option(help="How much of theta_1 - theta_0 to subtract; several with commas.")],
    out: Annotated[Path, Option(help="The folder to write; with several numbers one folder in it each.")],
    retain_tuned: Annotated[Path | None, Option(help="theta_2: theta_0 tuned on retain rows.")] = None,
    beta: Annotated[str, Option(help="How much of theta_2 - theta_0 to add; several with commas.")] = "",
    dtype: Annotated[str, Option(help="float32, bfloat16 or float16; default the target's.")] = "",
) -> None:
    """Merge by model state arithmetic: target - alpha (theta_1 - theta_0) + beta (theta_2 - theta_0)."""
    from bench.engines.arithmetic.merge import MergeOptions, merge_checkpoints

    asked = MergeOptions(target, before, forget_tuned, retain_tuned, alpha, beta, dtype, out)
    merge_checkpoints(asked, echo, lambda text: echo(text, err=True))


def fetch(
    names: Annotated[
        list[str] | None,
        Argument(
            help="Known models (`python -m bench ls models` lists them), hub ids, or data sets: tofu, muse-books, restor."
        ),
    ] = None,
    revision: Annotated[str, Option(help="A branch, tag or commit of it, such as stage1-step119000-tokens500B.")] = "",
    check: Annotated[
        bool, Option("--check", help="Fetch nothing: verify what is fetched, or what is named; exit 1 if it differs.")
    ] = False,
    data: Annotated[str, Option(help="--check: a folder to verify as the data set that is named.")] = "",
    store: StoreAt = None,
) -> None:
    """Fetch models and data sets once; their hashes are checked on every use. --check verifies them."""
    from bench.assets.data_sets import find_data_set
    from bench.assets.fetch import check_names, fetch_data, fetch_model
    from bench.cli.verify import verify_fetched as verify

    place = store_at(store)
    raise_problems(readable_problems("--store", place) if check else folder_problems("--store", place, later=True))
    if check:
        if revision:
            raise UserError("--check takes no --revision: write NAME@REVISION.")
        raise Exit(0 if verify(names or [], data, place, echo) else 1)
    if data:
        raise UserError("--data goes with --check: it names a folder to verify.")
    check_names(names or [], revision)
    for name in names or []:
        if find_data_set(name):
            rows = fetch_data(name, place / "data", echo, revision)
            echo(f"{name} {rows.hash[:16]}: ready. `python -m bench fetch --check {name}` verifies its tables.")
            continue
        got = fetch_model(name, place / "models", echo, revision)
        echo(f"{got.name} {got.hash[:16]}: ready. Use it with --model {got.name}.")


def continue_(
    model: Annotated[str, Option(help="The model: known name, fetched hub id or folder.")],
    text: Annotated[str, Option(help="A file of plain text, or of JSON lines with 'text'.")],
    out: Annotated[Path, Option(help="The folder to make; it must not exist.")],
    steps: Annotated[int, Option(help="Optimiser steps.")] = 120,
    keep: Annotated[int, Option(help="Checkpoints kept at equal distances.")] = 4,
    words: Annotated[int, Option(help="Words of a training passage.")] = 128,
    batch: Annotated[int, Option(help="Passages of an optimiser step.")] = 8,
    lr: Annotated[float, Option(help="Peak learning rate.")] = 5e-5,
    seed: Annotated[int, Option()] = 0,
    autocast: Autocast = False,
    device: Device = "cpu",
    threads: Threads = 1,
    store: StoreAt = None,
) -> None:
    """Continue a model's training on your text and keep checkpoints: a short history, for --model and --history."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from bench.engines.training.continued import Continuation, continue_model

    raise_problems(new_folder_problems("--out", out) + readable_problems("--store", store_at(store)))
    asked = Continuation(model, text, steps, keep, words, batch, lr, seed, autocast)
    found = continue_model(asked, store_at(store) / "models", out, lambda line: echo(line, err=True), device)
    echo(f"{out}: {', '.join(path.name for path in found)}. Use it with --model {out} --history {out}.")
