"""The largest resident memory of this process, since it was last reset (Linux)."""

from __future__ import annotations

import resource
from pathlib import Path


def reset_peak() -> None:
    """Forget the peak so far; where the kernel doesn't let us, the peak stays the process's own."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> int:
    """Bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
