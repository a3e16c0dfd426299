"""How fast a merge is beside merely reading its inputs and writing its output, and how much memory it takes.

A set of four generated checkpoints with a Llama's shapes in bfloat16 (target, forget-tuned, retain-tuned, before) is
merged as MSA does it. Each side runs in a process of its own, so that its largest resident memory, mapped pages
included, is its own; the sides take turns, and what is said is the median. Seconds are those of the work: no start of
the interpreter, no import, and no hashing where it says so. The pages of the inputs are in the page cache for all.

The floor, ``read and write``, does no arithmetic: one block after the other is read from each of the four inputs into a
buffer that is used again, and one of them is written to the output. With ``in threads`` as many do so as a merge has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.assets.tensors import TensorFiles
from bench.core.files import write_text
from bench.core.machine import peak_memory
from bench.core.types import Checkpoint, Json
from bench.engines.arithmetic import chunks, sums, writer

NAMES = ("target", "forget-tuned", "retain-tuned", "before")
COEFFICIENTS = (1.0, -1.15, 0.25, 0.9)
"""theta_D - a theta_1 + b theta_2 + (a - b) theta_0 with a = 1.15, b = .25."""
SHARD_BYTES = 500_000_000
"""Of the inputs and, for all sides alike, of the output."""
LAYERS, VOCABULARY = 16, 32_000
BLOCK = 1 << 18
"""Bytes that the floor reads and writes at a time: larger blocks were slower."""
TILE = 1 << 24
"""Random entries, drawn once and used again from another place for each tensor: the values don't matter."""
SLOWER = 1.5
"""Most seconds of a merge with hashing as a multiple of the floor's, and of one without of the floor's in threads."""
FLOOR, THREADS, BARE, HASHED, PLAIN = (
    "read and write",
    "read and write in threads",
    "merge, no hashing",
    "merge",
    "safe_open loop",
)


# --- the set


def shapes(parameters: float) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a Llama with a tied head and about so many parameters."""
    per_layer = 2 + 2 / 4 + 3 * 4  # squares of the width: q and o, k and v with a quarter of the heads, the MLP
    a, b = LAYERS * per_layer, VOCABULARY
    width = max(64, 64 * round((math.sqrt(b * b + 4 * a * parameters) - b) / (2 * a) / 64))
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, width),
        "model.norm.weight": (width,),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        attention = {"q": width, "k": width // 4, "v": width // 4, "o": width}
        found |= {f"{layer}.self_attn.{name}_proj.weight": (rows, width) for name, rows in attention.items()}
        found |= {f"{layer}.mlp.{name}_proj.weight": (4 * width, width) for name in ("gate", "up")}
        found[f"{layer}.mlp.down_proj.weight"] = (width, 4 * width)
        found |= {f"{layer}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    return found


def generate(folder: Path, parameters: float) -> int:
    """Write the four checkpoints; gives their number of parameters."""
    generator = torch.Generator().manual_seed(0)
    tile = torch.randn(TILE, generator=generator).mul_(0.02).to(torch.bfloat16).repeat(2)
    wanted = shapes(parameters)
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        shard: dict[str, torch.Tensor] = {}
        where: dict[str, str] = {}
        for i, (tensor, shape) in enumerate(wanted.items()):
            start = (i * 7919 + number * 104_729) % TILE
            made = torch.empty(math.prod(shape), dtype=torch.bfloat16)
            for part in made.split(TILE):
                part.copy_(tile[start : start + len(part)])
            shard[tensor] = made.view(shape)
            if sum(t.nbytes for t in shard.values()) >= SHARD_BYTES or i == len(wanted) - 1:
                file = f"model-{len(set(where.values())) + 1:05d}.safetensors"
                save_file(shard, folder / name / file, metadata={"format": "pt"})
                where |= dict.fromkeys(shard, file)
                shard = {}
        index = {"metadata": {}, "weight_map": where}
        (folder / name / writer.INDEX).write_text(json.dumps(index))
    return sum(math.prod(shape) for shape in wanted.values())


# --- the sides, each in a process of its own


def read_and_write(folder: Path, out: Path, threads: int = 1) -> None:
    """The floor: every byte of the inputs read once, as many as the output has written once."""
    files = sorted(path.name for path in (folder / NAMES[0]).glob("*.safetensors"))
    out.mkdir()
    handles = {
        file: (
            [os.open(folder / name / file, os.O_RDONLY) for name in NAMES],
            os.open(out / file, os.O_WRONLY | os.O_CREAT),
        )
        for file in files
    }
    blocks = iter([(file, at) for file in files for at in range(0, (folder / NAMES[0] / file).stat().st_size, BLOCK)])
    lock = threading.Lock()

    def serve() -> None:
        buffer = memoryview(bytearray(BLOCK))
        while True:
            with lock:
                taken = next(blocks, None)
            if taken is None:
                return
            inputs, output = handles[taken[0]]
            for handle in inputs:
                got = os.preadv(handle, [buffer], taken[1])
            os.pwrite(output, buffer[:got], taken[1])

    crew = [threading.Thread(target=serve) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    for inputs, output in handles.values():
        for handle in (*inputs, output):
            os.close(handle)


def read_and_write_in_threads(folder: Path, out: Path) -> None:
    """The same, by as many threads as a merge has."""
    read_and_write(folder, out, chunks.count_cores())


def merge(folder: Path, out: Path) -> None:
    """Ours."""
    sums.combine([(c, Checkpoint(str(folder / name), name)) for c, name in zip(COEFFICIENTS, NAMES, strict=True)], out)


class NoHash:
    """Stands in for sha256 where a merge is measured without hashing."""

    def __init__(self, start: bytes = b"") -> None:
        del start

    def update(self, piece: Any) -> None:
        """Nothing."""

    def hexdigest(self) -> str:
        """No hash."""
        return ""


def merge_without_hashing(folder: Path, out: Path) -> None:
    """Ours, with the hash left out."""
    writer.SHA = NoHash
    merge(folder, out)


def safe_open_loop(folder: Path, out: Path) -> None:
    """What one would write down: tensor by tensor through safetensors' own mapped files, in float32."""
    out.mkdir()
    opened: list[dict[str, Any]] = []
    for name in NAMES:
        handles = [safe_open(path, framework="pt") for path in sorted((folder / name).glob("*.safetensors"))]
        opened.append({key: handle for handle in handles for key in handle.keys()})  # noqa: SIM118 - no mapping
    shard: dict[str, torch.Tensor] = {}
    names = sorted(opened[0])
    for i, name in enumerate(names):
        terms = [c * handles[name].get_tensor(name).float() for c, handles in zip(COEFFICIENTS, opened, strict=True)]
        shard[name] = (terms[0] + terms[1] + terms[2] + terms[3]).to(torch.bfloat16)
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD_BYTES or i == len(names) - 1:
            save_file(shard, out / f"part-{i}.safetensors", metadata={"format": "pt"})
            shard = {}


SIDES: Mapping[str, Callable[[Path, Path], None]] = {
    FLOOR: read_and_write,
    THREADS: read_and_write_in_threads,
    BARE: merge_without_hashing,
    HASHED: merge,
    PLAIN: safe_open_loop,
}


def one_side(side: str, folder: Path, out: Path) -> Json:
    """Do one side here: its seconds, and the largest resident memory before and at the end."""
    sums.SHARD_BYTES = SHARD_BYTES
    warm(folder)
    start, cpu = peak_memory(), time.process_time()
    began = time.perf_counter()
    SIDES[side](folder, out)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "start_bytes": start, "peak_bytes": peak_memory()}


def warm(folder: Path) -> None:
    """Read the inputs, so that their pages are in the page cache, whatever was dropped meanwhile."""
    buffer = bytearray(BLOCK)
    for path in folder.glob("*/*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def in_process(side: str, folder: Path, out: Path) -> Json:
    """One side in a new process."""
    words = [sys.executable, "-m", "tests.speed.arithmetic", "--folder", str(folder), "--side", side, "--to", str(out)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)


# --- the comparison


def compare(parameters: float, folder: Path, repeats: int, say: Callable[[str], None] = print) -> Json:
    """Generate the set in ``folder``, let the sides take turns, and say what they took."""
    began = time.perf_counter()
    with chunks.one_torch_thread():  # on a busy machine several wait for one another
        count = generate(folder / "set", parameters)
    os.sync()  # or writing the set out would go on while the first side is timed
    say(f"generated: 4 x {count:,} parameters in {time.perf_counter() - began:.0f} s")
    runs: dict[str, list[Json]] = {side: [] for side in SIDES}
    digests = {}
    for turn, side in product(range(repeats), SIDES):
        out = folder / "out"
        runs[side].append(in_process(side, folder / "set", out) | {"load": os.getloadavg()[0]})
        if turn == 0 and side not in (FLOOR, THREADS):
            digests[side] = tensors_digest(out)
        shutil.rmtree(out)
        say(f"{turn + 1}/{repeats} {side:25} {runs[side][-1]['seconds']:6.2f} s")
    sides = {side: summary(runs[side]) for side in SIDES}
    for line in sides.values():
        line["ratio"] = round(line["seconds"] / sides[FLOOR]["seconds"], 3)
    largest = 2 * max(math.prod(shape) for shape in shapes(parameters).values())
    bare = round(sides[BARE]["seconds"] / sides[THREADS]["seconds"], 3)
    goals = {"ratio": SLOWER, "bare_ratio": SLOWER, "grown_bytes": largest * len(NAMES)}
    grown = max(sides[side]["grown_bytes"] for side in (BARE, HASHED))
    found = {"ratio": sides[HASHED]["ratio"], "bare_ratio": bare, "grown_bytes": grown}
    return {
        "parameters": count,
        "threads": chunks.count_cores(),
        "repeats": repeats,
        "sides": sides,
        "goals": goals,
        "found": found,
        "reached": {goal: found[goal] <= goals[goal] for goal in goals},
        "agrees": len(set(digests.values())) == 1,
    }


def summary(runs: Sequence[Json]) -> Json:
    """Medians of one side's runs, the fastest, and the largest memory."""
    return {
        "seconds": round(statistics.median(run["seconds"] for run in runs), 3),
        "cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 3),
        "fastest_seconds": round(min(run["seconds"] for run in runs), 3),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "grown_bytes": max(run["peak_bytes"] - run["start_bytes"] for run in runs),
        "load": round(statistics.median(run["load"] for run in runs), 2),
    }


def tensors_digest(folder: Path) -> str:
    """sha256 over all tensors of a folder, however they are spread over files."""
    (folder / writer.INDEX).unlink(missing_ok=True)
    files = TensorFiles(folder)
    sha = hashlib.sha256()
    for piece in pieces(files):
        sha.update(piece)
    files.close()
    return sha.hexdigest()


def pieces(files: TensorFiles) -> Iterator[memoryview]:
    """All bytes in the order of the names."""
    buffer = memoryview(bytearray(BLOCK))
    for name in files.names:
        size = files.entries[name].bytes
        for at in range(0, size, BLOCK):
            part = buffer[: min(BLOCK, size - at)]
            files.read(name, at, part)
            yield part


def report(result: Json) -> None:
    """The table and the goals."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=120)
    table = Table(
        "", "seconds", "fastest", "CPU seconds", "of the floor", "peak memory", "grown by", "load", show_edge=False
    )
    for side, line in result["sides"].items():
        table.add_row(
            side,
            f"{line['seconds']:.2f}",
            f"{line['fastest_seconds']:.2f}",
            f"{line['cpu_seconds']:.2f}",
            f"{line['ratio']:.2f}",
            f"{line['peak_bytes'] / 1e6:,.0f} MB",
            f"{line['grown_bytes'] / 1e6:,.0f} MB",
            f"{line['load']:.1f}",
        )
    console.print(
        f"{result['parameters']:,} parameters in bfloat16, four inputs, {result['threads']} threads, "
        f"medians of {result['repeats']}"
    )
    console.print(table)
    goals, found = result["goals"], result["found"]
    reached = {goal: "reached" if good else "MISSED" for goal, good in result["reached"].items()}
    for goal, what in (
        ("ratio", "a merge, its hash included, in at most {} of the seconds of reading and writing"),
        ("bare_ratio", "a merge without hashing in at most {} of reading and writing in as many threads"),
    ):
        console.print(f"aim: {what.format(goals[goal])}: {found[goal]:.2f}, {reached[goal]}")
    console.print(
        f"aim: memory grows by at most the largest tensor times the terms, {goals['grown_bytes'] / 1e6:,.0f} MB: "
        f"{found['grown_bytes'] / 1e6:,.0f} MB, {reached['grown_bytes']}"
    )
    console.print("The results agree to the bit." if result["agrees"] else "THE RESULTS DISAGREE.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where the results disagree."""
    parser = argparse.ArgumentParser(prog="python -m tests.speed.arithmetic", description=__doc__.partition("\n")[0])
    parser.add_argument("--parameters", type=float, default=1e9, help="of each of the four checkpoints, about")
    parser.add_argument("--folder", type=Path, help="where the set is generated, default the temporary folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write the result to")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    typed = parser.parse_args(arguments)
    if typed.side:
        print(json.dumps(one_side(typed.side, typed.folder, typed.to)))
        return 0
    if typed.folder:
        typed.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-arithmetic-", dir=typed.folder) as folder:
        result = compare(typed.parameters, Path(folder), typed.repeats)
    report(result)
    if typed.out:
        write_text(typed.out, json.dumps(result, indent=1) + "\n")
    return 0 if result["agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
