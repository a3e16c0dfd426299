"""How training computes: dtype of the weights, autocast, adapters, rows of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.types import Json

DTYPES = ("float32", "bfloat16")
"""Types that weights can be trained in."""


@dataclass(frozen=True)
class Compute:
    """How training computes, from the flag to the Trainer; part of a run's key where it isn't as usual."""

    __pydantic_config__ = {"strict": True, "extra": "forbid"}  # as `bench.core.schema`, which `--help` needn't load
    dtype: str = "float32"
    """Type of the weights in training and on disk, where a recipe doesn't name another one."""
    autocast: bool = False
    """bfloat16 autocast while training; the weights stay float32."""
    lora: int = 0
    """Rank of the adapters that are trained, where a recipe names none; 0 trains all weights."""
    micro: int | None = 8
    """Most rows of a stream in one forward pass; None: the whole step, as in the lab."""

    @property
    def width(self) -> int:
        """Bytes of a weight, in memory and on disk."""
        return 2 if self.dtype == "bfloat16" else 4

    @property
    def precision(self) -> str:
        """The type that products are computed in."""
        return "bfloat16" if self.autocast else self.dtype

    def said(self) -> Json:
        """The fields that aren't left blank."""
        return {name: value for name, value in vars(self).items() if value}

    def to_json(self) -> Json:
        """The fields that aren't as usual; empty where training computes as usual."""
        return {name: value for name, value in self.said().items() if value != getattr(USUAL, name)}


USUAL = Compute()
UNSAID = Compute(dtype="", micro=0)
"""Nothing asked by the user: every field is blank, and the known model's or `USUAL`'s value is taken for it."""
WHOLE_STEP = Compute(micro=None)
"""As the lab trains: all rows of a step in one forward pass."""
