"""``python -m tests.faults``: the campaign. It prints tried, lost, wrong, unhelpful, and exits with 1 if any but the
first isn't 0."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults import crowd, damage, disk, kills, memory, records
from tests.faults.campaign import Kind, Row, run_kind, table
from tests.faults.ground import open_ground

KINDS: tuple[Kind, ...] = (records.KIND, damage.KIND, kills.KIND, crowd.KIND, disk.KIND, memory.KIND)


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    asked = read_words(words)
    # Commands inherit what is ignored, as SIGINT is in a shell's background and SIGHUP under nohup; a handler they don't.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, lambda *_: None)
    named = asked.only.split(",") if asked.only else [kind.name for kind in KINDS]
    if unknown := set(named) - {kind.name for kind in KINDS}:
        print(f"error: --only names no {', '.join(sorted(unknown))}; there are {', '.join(k.name for k in KINDS)}.")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=asked.store_in))
    until = time.monotonic() + 60 * asked.minutes
    rows: list[Row] = []
    try:
        with open_ground(folder) as ground:
            for kind in (kind for kind in KINDS if kind.name in named):
                tries = asked.tries or (kind.long if asked.long else 0)
                numbers = [asked.case] if asked.case is not None else range(tries) if tries else kind.short
                rows.append(run_kind(kind, numbers, asked.seed, ground, until, asked.jobs))
                print(f"{kind.name}: done in {rows[-1].seconds:.0f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{table(rows)}\n\nseed {asked.seed}, load {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    return 0 if all(row.is_good for row in rows) else 1


def read_words(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long form: an hour on two cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds, comma-separated")
    parser.add_argument("--case", type=int, help="this case of the kind alone")
    parser.add_argument("--tries", type=int, help="so many cases of each kind")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many minutes, and say so")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at a time")
    parser.add_argument("--store-in", help="where the campaign's folder is made; default the folder of temporary files")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
