"""The SGD-influence experiment as small as it can be."""

from __future__ import annotations

from bench.studies.ablations.sgd_influence import SgdInfluenceOptions

TINY = SgdInfluenceOptions(
    residents=6,
    authors=6,
    forget=2,
    facts=2,
    width=8,
    layers=2,
    heads=2,
    pretraining_steps=8,
    steps=8,
    lr=0.1,
    batch=8,
    removals=(0.1, 1.0),
)
