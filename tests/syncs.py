"""What would make a GPU wait, seen on a CPU: values that our code reads off a tensor, and indices that it makes of them."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tests.paths import ROOT

READING = {"tolist", "item", "cpu", "numpy", "nonzero", "masked_select", "equal"} | {
    f"__{name}__" for name in ("bool", "int", "float", "index", "contains")
}
"""Functions of a tensor whose result depends on its values, or that copy them to the host."""
INDEXING = ("__getitem__", "__setitem__")


class Waits(TorchFunctionMode):
    """Counts, by file of ours and function, what would wait for a GPU while this mode is on; the library's own don't count."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        caller = sys._getframe(1).f_code.co_filename
        reads = name in READING or (name in INDEXING and copies(args[1]))
        if reads and caller.startswith(str(ROOT / "bench")):
            self.seen[f"{caller.removeprefix(f'{ROOT}/')} {name}"] += 1
        return func(*args, **(kwargs or {}))


def copies(index: Any) -> bool:
    """Whether an index is a list, which is copied to the device, or a mask, whose hits are counted first."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, list) or (isinstance(p, torch.Tensor) and p.dtype == torch.bool) for p in parts)
