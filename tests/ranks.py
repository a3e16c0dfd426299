"""What the processes of torchrun do in tests: `python -m torch.distributed.run ... -m tests.ranks CASE FOLDER`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch.distributed.tensor import DTensor

from bench.core import distributed
from bench.core.contracts import Recipe, Stream
from bench.core.errors import Unmet, UserError
from bench.core.machine import Machine
from bench.engines.coding import Texts
from bench.engines.training.losses import Ascent, NextToken
from bench.engines.training.trainer import Trained, train
from bench.runs.context import Work
from bench.runs.executor import Worker
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.store import NodeRequest, Store
from methods.npo import NPOLoss
from tests.factories import record
from tests.processes import environment
from tests.tiny import llama, passage, qa, saved, tokenizer

QUESTIONS = tuple(qa(i, f"w{i} w{i % 4} ?", f"w{i + 3} w{i}") for i in range(12))
PASSAGES = tuple(passage(i, " ".join(f"w{(i + k) % 20}" for k in range(i + 3))) for i in range(5))
SEEN: dict[str, Any] = {}
"""How the weights lie while a loss is computed."""


class Looking(NPOLoss):
    """NPO that notes how the weights of the model lie in this process."""

    version: ClassVar[int] = 1

    def __call__(self, model: Any, batch: Any) -> Any:
        weights = list(model.parameters())
        SEEN["parts"] = all(isinstance(weight, DTensor) for weight in weights)
        SEEN["whole"] = sum(weight.numel() for weight in weights)
        SEEN["here"] = sum(weight.to_local().numel() for weight in weights) if SEEN["parts"] else SEEN["whole"]
        return super().__call__(model, batch)


STREAMS = (Stream(QUESTIONS, 5, Looking(0.1, False)), Stream(PASSAGES, 3, NextToken(), weight=0.25))
"""5 rows and 3. In two micro-batches 3 + 2 and 2 + 1, so that of the last row one process has none."""


def trained(folder: Path, streams: Sequence[Stream] = STREAMS, micro: int | None = 2, **options: Any) -> Trained:
    """Six steps from the same start; ``micro`` rows at most in one forward pass of one process."""
    recipe = options.pop("recipe", Recipe(6, 1e-2))
    given: dict[str, Any] = {"scratch": folder / "scratch", "seed": 0, "micro": micro} | options
    return train(llama(seed=7).train(), Texts(tokenizer()), streams, recipe, out=folder / "out", **given)


class Killed(Exception):
    """An interruption."""


def killed_at(step: int, rank: int | None = None) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == step and rank in (None, distributed.rank()):
            raise Killed(f"in step {step}")

    return report


def interrupted(folder: Path) -> list[int]:
    """Killed in step 5 with a state every 2 steps; the steps that are made when it goes on."""
    steps: list[int] = []
    options: dict[str, Any] = {"scratch": folder / "scratch", "save_every": 2, "snapshots": (2, 6)}
    try:
        trained(folder / "killed", report=killed_at(5), **options)
    except Killed:
        trained(folder, report=lambda done, total: steps.append(done), **options)
    return steps


def until(folder: Path) -> int:
    """How many steps it takes until the 5 passages' loss is low enough, beside an ascent whose loss is negative."""
    streams = (Stream(PASSAGES, 5, NextToken()), Stream(QUESTIONS, 4, Ascent(), weight=0.1))
    recipe = Recipe(8, 1e-2, warmup=0.0, schedule="constant", until=3.0)
    return trained(folder, streams, recipe=recipe).steps


def words(do: Callable[[], Any]) -> str:
    """The error of ``do`` as this process has it."""
    try:
        return f"nothing: {do()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def fail(error: Exception) -> Any:
    raise error


def errors(folder: Path) -> dict[str, str]:
    """How what fails on one process ends on this one."""
    store, first = Store(folder / "store"), distributed.is_first()

    def build(make: Callable[[Path], Any], shared: bool) -> str:
        return words(lambda: store.build(NodeRequest({"shared": shared}, "", {}), make, shared)[0].key)

    return {
        "alone": build(lambda folder: fail(UserError("no room")), False),
        "need": words(lambda: distributed.call_on_first(lambda: fail(Unmet("no history")))),
        "last": build(lambda folder: None if first else fail(KeyError("gone")), True),
        "after": words(lambda: distributed.call_on_first(lambda: 7)),
    }


def shared_node(folder: Path) -> list[Any]:
    """A training node of the store, asked for twice: what this process knows of it, and how often it was built."""
    start = folder / "start"
    begin, found = distributed.call_on_first(lambda: saved(llama(seed=7), tokenizer(), start, "start")), []
    for _ in range(2):
        work = Work(Store(folder / "store"), seed=0, provenance={})
        made = work.train(begin, STREAMS[1:], Recipe(2, 1e-2), "tuned")
        found.append([made.hash, len(work.built), work.nodes[next(iter(work.nodes))].info["meta"]["tokens"]])
    return found


def everything(folder: Path) -> None:
    """Each case once; the first process writes what all of them saw."""
    whole = trained(folder / "whole")
    facts = {
        "curve": whole.curve,
        "tokens": whole.tokens,
        "weights": dict(SEEN),
        "resumed": interrupted(folder / "resumed"),
        "until": until(folder / "until"),
        "autocast": trained(folder / "autocast", autocast=True, checkpointing=True).curve,
        "errors": errors(folder / "errors"),
        "node": shared_node(folder / "node"),
    }
    each = distributed.gather(facts)
    if distributed.is_first():
        (folder / "facts.json").write_text(json.dumps(each))
    distributed.leave_processes()


def failing(folder: Path) -> None:
    """A worker whose last process fails in step 2, while the first one waits for its part of the weights."""
    distributed.GRACE_SECONDS = 1.0
    machine = Machine(folder / "records", folder / "store")
    worker = Worker(WorkerConfig(machine), lambda event: None)
    worker.run = lambda *_: str(trained(folder, report=killed_at(2, rank=1)))  # type: ignore[method-assign]
    worker.do(Job(record().spec), wait=True)


def torchrun(arguments: Sequence[str], folder: Path, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Two processes of ``python -m ARGUMENTS`` in ``folder``, to their end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", *arguments],
        cwd=folder,
        env=environment() | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


if __name__ == "__main__":
    distributed.join_processes("cpu")
    {"everything": everything, "failing": failing}[sys.argv[1]](Path(sys.argv[2]))
