"""What the commands cost that read all records: CPU seconds with a folder of records and a store of nodes that grow.

    python -m tests.speed.growth --records 2000 --nodes 5000

Made-up records of the lab's three tasks (methods in several settings, three seeds each) and a store of that many small
nodes. Every command is run twice in a process of its own, and the second time is stated: pages and pictures are there
then, and nothing is drawn again. CPU seconds (user and system, children as well), not the clock: the machine may be busy.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.record import Record
from bench.records.files import write_record
from bench.runs.store import NodeRequest, Store
from tests.factories import METHODS, record
from tests.processes import environment, tiny_run

TASKS = ("tofu", "restor", "muse-books")
SEEDS = (0, 1, 2)
COMMANDS = {
    "ls runs": ("ls", "runs"),
    "leaderboard": ("leaderboard", "--to", "leaderboard.md"),
    "plot": ("plot",),
    "cached run": (*tiny_run("target"), "--out", "runs"),
    "plan": ("plan", "--methods", "all", "--task", "muse-books", "--seeds", "0", "--out", "runs"),
}
"""What is measured: name -> its words; ``--from runs`` is added where a command takes it."""


@dataclass(frozen=True)
class Cost:
    """Of one command at one size."""

    command: str
    records: int
    nodes: int
    first: float
    """CPU seconds of the first time."""
    again: float
    """CPU seconds of the second time."""


def make_records(count: int) -> Iterator[Record]:
    """Records as the lab makes them: of each task the framing rows, then methods in one setting after another."""
    made = 0
    for setting in range(count):
        for task in TASKS:
            for method in METHODS if setting == 0 else [name for name in METHODS if name not in ("target", "retrain")]:
                for seed in SEEDS:
                    if made == count:
                        return
                    one = record(method, seed, task=task)
                    if setting:
                        step = replace(one.spec.steps[0], params={**one.spec.steps[0].params, "lr": setting / 1000})
                        one = replace(one, spec=replace(one.spec, steps=(step,)))
                    yield one
                    made += 1


def make_nodes(count: int, root: Path) -> None:
    """Publish that many small nodes in a store, as trainings and responses are."""
    store = Store(root)
    for number in range(count):
        fields = {"kind": "made up", "number": number}
        meta = {"tokens": 1000, "parameters": 1_000_000, "train_seconds": 1.0, "curve": [{"step": 1, "loss": 2.0}] * 20}

        def make(folder: Path, meta: dict[str, object] = meta) -> dict[str, object]:
            (folder / "data.bin").write_bytes(os.urandom(64))
            return meta

        store.publish(NodeRequest(fields, f"node {number}", {"device": "cpu", "dirty": False, "commit": "c"}), make)


def cpu_seconds(words: Sequence[str], place: Path) -> float:
    """Run a command of ours in ``place`` and return what it took of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    takes_from = ["--from", "runs"] if words[0] in ("ls", "leaderboard", "plot") else []
    given = environment() | {"MSA_BENCH_STORE": str(place / "store"), "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words, *takes_from], cwd=place, env=given, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_size(records: int, nodes: int, place: Path, commands: Sequence[str]) -> Iterator[Cost]:
    """The cost of every command with that many records and nodes."""
    if "cached run" in commands:
        cpu_seconds(COMMANDS["cached run"], place)
    for one in make_records(records):
        write_record(one, place / "runs")
    make_nodes(nodes, place / "store")
    for name in commands:
        first, again = (cpu_seconds(COMMANDS[name], place) for _ in range(2))
        yield Cost(name, records, nodes, first, again)


def main() -> None:
    """Print a table of the costs at a quarter, a half and the whole of what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--shares", default="0.25,0.5,1", help="Which parts of that, comma-separated.")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="Which commands, comma-separated.")
    asked = parser.parse_args()
    print(
        f"{'command':12} {'records':>8} {'nodes':>6} {'first':>8} {'again':>8}   CPU seconds; load {os.getloadavg()[0]:.1f}"
    )
    for share in map(float, asked.shares.split(",")):
        with tempfile.TemporaryDirectory(prefix="growth-") as place:
            began = time.perf_counter()
            sizes = int(asked.records * share), int(asked.nodes * share)
            for cost in measure_size(*sizes, Path(place), asked.commands.split(",")):
                print(
                    f"{cost.command:12} {cost.records:8} {cost.nodes:6} {cost.first:8.2f} {cost.again:8.2f}", flush=True
                )
            print(f"  ({time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
