"""`bench eval`: one model, one benchmark's complete suite, one JSON file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from typer import Option, echo

from bench.cli.options import Device, Limit, StoreAt, TaskName, Threads, store_at
from bench.core.errors import raise_problems
from bench.core.places import readable_problems


def eval_(
    task: TaskName,
    model: Annotated[str, Option(help="The model: folder, known name or fetched hub id.")],
    data: Annotated[str, Option(help="Folder in the benchmark's layout, 'hub' or a hub's id; qa: files, with commas.")],
    out: Annotated[Path, Option(help="The JSON file to write.")],
    split: Annotated[str, Option(help="TOFU: forget01, forget05, forget10. RESTOR: mix_a0 ...")] = "",
    tokenizer: Annotated[str, Option(help="Folder of another tokenizer.")] = "",
    oracle: Annotated[str, Option(help="The retrained model; without it what needs one is absent.")] = "",
    reference: Annotated[str, Option(help="A model that never saw the forget set.")] = "",
    judge: Annotated[str, Option(help="TOFU: similarity (offline) or chat; RESTOR: chat.")] = "",
    template: Annotated[
        str, Option(help="Ask a chat's questions otherwise: base, or chat-open-unlearning with its labels.")
    ] = "",
    dtype: Annotated[str, Option(help="float32, bfloat16 or float16.")] = "float32",
    device: Device = "cpu",
    threads: Threads = 1,
    limit: Limit = None,
    store: StoreAt = None,
) -> None:
    """Evaluate one model with a benchmark's complete suite, into one JSON file."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from bench.assets.data_sets import data_for_suite
    from bench.real.evaluate import EvaluationRequest, evaluate_model

    raise_problems(readable_problems("--store", store_at(store)))
    rows = data_for_suite(task, data, store_at(store) / "data")
    asked = EvaluationRequest(
        task, model, rows, out, split, tokenizer, oracle, reference, dtype, device, threads, limit, judge, template
    )
    found = evaluate_model(asked, store_at(store) / "models")
    for name, value in found["scores"].items():
        echo(f"{name:36} {value:.6g}")
    for name, reason in found["absent"].items():
        echo(f"{name:36} absent: {reason}")
    if limit:
        echo(f"NOTE: --limit {limit} cut every probe: these are not the benchmark's scores.", err=True)
    echo(f"{out}: {len(found['scores'])} scores, {len(found['absent'])} absent")
