"""The needs of recipes, by hand and beside each other."""

from __future__ import annotations

from bench.studies.reproduce.needs import estimate_needs
from bench.studies.reproduce.recipes import RECIPES_BY_NAME


def test_needs_grow_with_the_model() -> None:
    small, large = estimate_needs(RECIPES_BY_NAME["t1-tofu01"]), estimate_needs(RECIPES_BY_NAME["t6-muse-books"])
    assert (small.gpus, large.gpus) == (1, 2), "MSA's vector in float32: 7.3e9 x 16 bytes"
    assert estimate_needs(RECIPES_BY_NAME["t5-restor"]).gpus == 1, "adapters are trained by one process"
    assert "minutes of one H100" in str(small) and "hours of one H100" in str(large)
    assert small.memory < large.memory and small.disk < large.disk and small.hours < large.hours
    assert 6.7e9 * 16 / 80e9 > 1 and estimate_needs(RECIPES_BY_NAME["ou-tofu"]).gpus == 2, (
        "float32 AdamW on 7B doesn't fit one GPU of 80 GB"
    )
