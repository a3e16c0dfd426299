"""The repair: the recipe and the rows that it trains with."""

from __future__ import annotations

from pathlib import Path

from bench.conformance import tiny_place
from bench.core.contracts import Recipe
from bench.runs.method_context import Ledger, MethodContext
from methods.repair import Repair


def test_it_trains_adapters_on_the_instructions_alone(tmp_path: Path) -> None:
    """4 questions and 2 passages in steps of 4: two steps a pass, two passes."""
    place = tiny_place(tmp_path, Repair.needs)
    assert len(place.request.instructions) == 6 and place.request.retain == ()
    work, ledger = place.work("repair"), Ledger(set(), set())
    made = Repair(batch=4).unlearn(place.request, MethodContext(work, ledger))
    assert made.hash != place.request.target.hash and ledger.notes == {"repaired_on": 6}
    (node,) = work.nodes.values()
    fields = node.info["fields"]
    recipe = fields["recipe"]
    assert (recipe["steps"], recipe["lr"], recipe["lora"]) == (4, 2e-5, 8)
    assert (recipe["schedule"], recipe["warmup"]) == ("cosine", 0.1)
    assert fields["start"] == place.request.target.hash and node.info["label"] == "repair"


def test_the_defaults_are_the_papers_recipe() -> None:
    """Two passes over LIMA's 1,030 rows, 16 a step."""
    assert Repair() == Repair(lr=2e-5, epochs=2, batch=16, lora=8)
    assert Repair().rows(10, 10) == 2060
    assert Recipe.warmup == 0.1 and Recipe.schedule == "cosine"


def test_sizes_are_checked() -> None:
    assert Repair(epochs=0, lora=-1).problems() == [
        "repair.epochs must be at least 1, not 0.",
        "repair.lora must be at least 0, not -1.",
    ]
