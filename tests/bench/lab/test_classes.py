"""The parameters and stages that the tasks on classifiers share, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.contracts import TaskInputs
from bench.lab.classes import HEADLINE, METRICS, make_fresh_network
from bench.runs.context import Work
from bench.runs.store import Store
from tasks.digits import Digits
from tasks.graph import Graph


@pytest.mark.parametrize("kind", [Digits, Graph])
def test_a_wrong_parameter_is_a_sentence(kind: type[Digits]) -> None:
    assert kind().problems() == [] == kind(forget="tenth", later=300).problems()
    [said] = kind(forget="tenths").problems()
    assert said.startswith(f"Unknown value of {kind.name}.forget 'tenths'. Did you mean 'tenth'?")
    [said] = kind(later=301).problems()
    assert said == f"{kind.name}.later is at most 300, not 301: there are 1,797 images."


def test_an_oracle_is_taught_for_as_long_as_it_has_rows() -> None:
    """126 images to forget beside 1005 kept ones, of which 502 are known: 25 passes over these, 17 over all or the kept."""
    found = Digits().outline(TaskInputs("lab"))
    assert (found.forget, found.retain, found.row_tokens) == (126, 1005, 1.0)
    assert found.stages == {
        "history": round(25 * 502 / 64) * 64,
        "target": round(17 * 1131 / 64) * 64,
        **dict.fromkeys(("oracle-0", "oracle-1", "oracle-2"), 17 * 1005),
    }
    assert Digits(later=5).outline(TaskInputs("lab")).retain == 1000


def test_the_size_of_the_network_is_that_of_its_weights(tmp_path: Path) -> None:
    """Width 4: a convolution of 9 x 4 and 4 biases, one of 9 x 4 x 8 and 8, 32 x 16 and 16, 16 x 10 and 10."""
    from bench.assets.shapes import parameters_in_folder

    made = make_fresh_network(Work(Store(tmp_path), seed=0, provenance={}), "ConvNet", {"width": 4})
    counted = 40 + (36 * 8 + 8) + (32 * 16 + 16) + 170
    assert Digits(width=4).outline(TaskInputs("lab")).parameters == counted == parameters_in_folder(Path(made.path))


def test_untrained_weights_are_the_seeds_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, again, other = (
        make_fresh_network(Work(store, seed=seed, provenance={}), "ConvNet", {"width": 4}) for seed in (0, 0, 1)
    )
    assert one == again and one.hash != other.hash and (one.loader, one.label) == ("classifier", "history-0")


def test_headline_scores_are_scores_of_the_task() -> None:
    assert set(HEADLINE) <= {metric.name for metric in METRICS}
