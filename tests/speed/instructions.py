"""What another processor changes: one small lab under several instruction sets, its weights and primary scores side by side.

    python -m tests.speed.instructions

torch and oneDNN are told in each process which instructions they may use (``ATEN_CPU_CAPABILITY``,
``ONEDNN_MAX_CPU_ISA``), from an empty store each time. The first set runs several seeds, whose spread is what a difference
is to be held against. MKL chooses by the processor's maker and can't be told here, so that a machine of another maker may
differ where this table says equal. Prints Markdown.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bench.core.record import Record
from bench.records.files import load_records
from bench.records.markdown import format_number, markdown_table
from bench.records.noise import pooled_sd
from bench.runs.nodes import NODE_FILE, read_info
from tests.paths import ROOT
from tests.processes import environment
from tests.weights import tensors_of

SETS = {"avx512": "AVX512_CORE", "avx2": "AVX2", "default": "SSE41"}
"""``ATEN_CPU_CAPABILITY`` -> ``ONEDNN_MAX_CPU_ISA``; the first is what the others are compared with."""
ROWS = ("target", "retrain", "msa", "npo")
"""Rows of a run of two methods; ``retrain`` is the first oracle."""
SMALL = ("tofu.width=64", "tofu.authors=20")


@dataclass(frozen=True)
class Made:
    """What one instruction set made of the lab."""

    records: Mapping[tuple[str, int], Record]
    """(row, seed) -> its record."""
    weights: Mapping[str, Mapping[str, Tensor]]
    """Row -> its tensors, of the first seed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where a set isn't to be had on this processor."""
    parser = argparse.ArgumentParser(prog="python -m tests.speed.instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the first set")
    parser.add_argument("--scratch", type=Path, help="where stores and records are made, default the temporary folder")
    parser.add_argument("--set", dest="small", action="append", help="a parameter of the lab, default a small tofu")
    typed = parser.parse_args(arguments)
    made = {}
    with tempfile.TemporaryDirectory(prefix="instructions-", dir=typed.scratch) as scratch:
        for turn, name in enumerate(SETS):
            seeds = range(typed.seeds if not turn else 1)
            made[name] = make_lab(name, Path(scratch) / name, seeds, typed.small or SMALL)
            used = {record.provenance["instruction_set"] for record in made[name].records.values()}
            if used != {name.upper()}:
                print(f"asked for {name}, and the records say {', '.join(sorted(used))}", file=sys.stderr)
                return 1
    print(render(made))
    return 0


def make_lab(name: str, folder: Path, seeds: Sequence[int], small: Sequence[str]) -> Made:
    """The lab's rows under one instruction set, in processes of their own."""
    folder.mkdir(parents=True)
    words = ["run", "--task", "tofu", "--methods", "msa,npo", "--seeds", ",".join(map(str, seeds)), "--jobs", "1"]
    words += ["--track", "none", "--store", str(folder / "store"), "--out", str(folder / "out")]
    words += [word for setting in small for word in ("--set", setting)]
    told = {"ATEN_CPU_CAPABILITY": name, "ONEDNN_MAX_CPU_ISA": SETS[name]}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "bench", *words]
        subprocess.run(command, cwd=ROOT, env=environment() | told, stdout=log, stderr=log, check=True)
    records = {(r.spec.method, r.spec.seed): r for r in load_records(folder / "out").records}
    return Made(records, {row: read_weights(records[row, seeds[0]], folder / "store") for row in ROWS})


def read_weights(record: Record, store: Path) -> dict[str, Tensor]:
    """The tensors of a row's checkpoint, found in the store by its hash."""
    wanted = record.lineage["result"]
    for file in sorted((store / "nodes").glob(f"*/*/{NODE_FILE}")):
        if read_info(file.parent)["meta"].get("checkpoint") == wanted:
            return tensors_of(file.parent)
    raise LookupError(f"the store has no checkpoint {wanted}")


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The 2-norm of the difference over that of ``one``."""
    apart = sum(float((one[name].double() - other[name].double()).square().sum()) for name in one)
    return math.sqrt(apart / sum(float(tensor.double().square().sum()) for tensor in one.values()))


def is_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether every tensor is the same to the bit."""
    return one.keys() == other.keys() and all(bool(one[name].equal(other[name])) for name in one)


def render(made: Mapping[str, Made]) -> str:
    """Two tables: weights, and primary scores beside their spread over seeds."""
    first, *others = made
    base = made[first]
    weights = [
        [row, name, "yes" if is_equal(base.weights[row], made[name].weights[row]) else "no", f"{apart:.1e}"]
        for row in ROWS
        for name in others
        for apart in [distance(base.weights[row], made[name].weights[row])]
    ]
    seeds = sorted({seed for _, seed in base.records})
    primary = dict.fromkeys(base.records[ROWS[1], seeds[0]].facts["primary"].values())
    lines = []
    for row in ROWS:
        for score in primary:
            if score in base.records[row, seeds[0]].scores:
                here = value(base, row, seeds[0], score)
                differences = [format_number(value(made[name], row, seeds[0], score) - here) for name in others]
                lines.append([row, score, format_number(here), *differences, format_number(spread(base, seeds, score))])
    pooled = f"sd over {len(seeds)} seeds, pooled over rows"
    return "\n\n".join(
        [
            f"Seed {seeds[0]} of a small lab, {first} against {' and '.join(others)}.",
            markdown_table(["row", "instruction set", "equal to the bit", "relative distance of weights"], weights),
            markdown_table(["row", "score", first, *(f"{name} − {first}" for name in others), pooled], lines),
        ]
    )


def value(made: Made, row: str, seed: int, score: str) -> float:
    """A row's score on a seed."""
    return made.records[row, seed].scores[score].value


def spread(made: Made, seeds: Sequence[int], score: str) -> float:
    """The standard deviation over seeds, pooled over the rows that have the score."""
    rows = [row for row in ROWS if score in made.records[row, seeds[0]].scores]
    return pooled_sd([[value(made, row, seed, score) for seed in seeds] for row in rows])


if __name__ == "__main__":
    sys.exit(main())
