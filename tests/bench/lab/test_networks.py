"""The classifiers and their coders: formulas beside the networks, losses by hand, weights to disk and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.contracts import Opened, Recipe, Stream
from bench.core.types import Example, Probe
from bench.engines.coding import answer_log_probs
from bench.engines.loaders import checkpoint_at, open_checkpoint
from bench.engines.measuring.measure import measure
from bench.engines.training.influence import estimate_influence
from bench.engines.training.losses import Ascent, NextToken
from bench.engines.training.trainer import Trained, reference_log_probs, train
from bench.lab.digits import CLASSES, digit_images
from bench.lab.graph import neighbour_graph
from bench.lab.networks import ConvNet, GraphNet, ImageCoder, Network, NodeCoder, save_fresh_network
from methods.npo import NPOLoss
from tests.tiny import bits

SIZES: dict[str, dict[str, int]] = {"ConvNet": {"width": 4}, "GraphNet": {"width": 8, "neighbours": 3}}
CHANCES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, *[1 / 96] * 6)
"""Of the ten classes; they sum to 15/16 + 6/96 = 1."""


def image(number: int, label: int | None = None) -> dict[str, Any]:
    return {
        "pixels": list(digit_images().pixels[number]),
        "answer": str(digit_images().labels[number] if label is None else label),
    }


def node(number: int, **more: Any) -> dict[str, Any]:
    return {"node": number, "answer": str(digit_images().labels[number]), **more}


def sure(network: Network) -> Network:
    """The network with `CHANCES` for every input."""
    with torch.no_grad():
        network.get_parameter("head.weight").zero_()
        network.get_parameter("head.bias").copy_(torch.tensor(CHANCES).log())
    return network


def test_losses_on_chosen_chances_by_hand() -> None:
    """p = 1/2, 1/4 and 1/8 of labels 0, 1 and 2. Descent is -log p and ascent log p; NPO with beta 1 and a reference of
    log p - ln 3: 2 log(1 + 3) = 4 ln 2."""
    coder, network = ImageCoder(), sure(ConvNet(2))
    batch = coder.collate([coder.encode(image(i, label)) for i, label in enumerate((0, 1, 2))])
    expected = [-log(2), -2 * log(2), -3 * log(2)]
    found = answer_log_probs(network, batch)
    assert found.values.shape == found.mask.shape == (3, 1)
    assert found.sums.tolist() == found.means.tolist() == pytest.approx(expected)
    assert NextToken()(network, batch).tolist() == pytest.approx([-value for value in expected])
    assert Ascent()(network, batch).tolist() == pytest.approx(expected)
    batch.reference = torch.tensor(expected) - log(3)
    for per_token in (False, True):
        assert NPOLoss(1.0, per_token)(network, batch).tolist() == pytest.approx([4 * log(2)] * 3)


def test_the_graph_network_is_the_formula_on_the_whole_graph() -> None:
    """A relu(A X W1 + b1) W2 + b2 with the dense A, against what batches of some nodes give."""
    torch.manual_seed(0)
    network, coder, made = GraphNet(8, 3), NodeCoder(3), neighbour_graph(3)
    adjacency = np.zeros((1797, 1797), dtype=np.float32)
    for number, beside in enumerate(made.neighbours):
        adjacency[number, list(beside)] = made.weights[number]
    dense, pixels = torch.tensor(adjacency), torch.tensor(digit_images().pixels, dtype=torch.float32) / 16
    with torch.no_grad():
        whole = network.head(dense @ network.first(dense @ pixels).relu()).log_softmax(-1)
        rows = [coder.encode(node(number)) for number in (3, 1700, 12, 3)]
        found = coder.collate(rows).class_log_probs(network)
    torch.testing.assert_close(found, whole[[3, 1700, 12, 3]], atol=1e-5, rtol=0)


def test_rows_of_two_graphs_may_share_a_batch() -> None:
    torch.manual_seed(0)
    network, coder = GraphNet(8, 3), NodeCoder(3)
    rows = [coder.encode(payload) for payload in (node(3), node(3, without=[3, 8]), node(40, without=[3, 8]))]
    with torch.no_grad():
        together = coder.collate(rows).class_log_probs(network)
        alone = torch.cat([coder.collate([row]).class_log_probs(network) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1]), "its neighbours are gone"
    assert len(coder.graphs) == 2


@pytest.fixture(params=sorted(SIZES))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Opened]:
    name: str = request.param
    folder = tmp_path / "fresh"
    folder.mkdir()
    save_fresh_network(name, SIZES[name], 3, folder)
    return name, open_checkpoint(checkpoint_at(folder, "fresh", "classifier"))


def examples(name: str, count: int = 20) -> tuple[Example, ...]:
    made: Callable[[int], dict[str, Any]] = image if name == "ConvNet" else node
    return tuple(Example(f"row-{number}", made(number) | {"template": "x"}) for number in range(count))


def test_weights_alone_are_stored_and_come_back(opened: tuple[str, Opened], tmp_path: Path) -> None:
    name, found = opened
    assert not found.model.training and not list(found.model.buffers()), "arithmetic would sum buffers"
    torch.manual_seed(3)
    again = {"ConvNet": ConvNet, "GraphNet": GraphNet}[name](**SIZES[name])
    assert bits(found.model) == bits(again)
    kept = checkpoint_at(tmp_path / "fresh", "", "classifier", "bfloat16")
    half = open_checkpoint(kept)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    batch = half.coder.collate([half.coder.encode(row.payload) for row in examples(name, 3)])
    assert batch.class_log_probs(half.model).dtype == torch.float32


def learn(opened: Opened, rows: Sequence[Example], folder: Path, **options: Any) -> tuple[dict[str, bytes], Trained]:
    """Descent on the first rows with NPO on the last ones, from the same weights each time."""
    model = type(opened.model)(**opened.model.sizes)
    model.load_state_dict(opened.model.state_dict())
    streams = [Stream(tuple(rows[:12]), 6, NextToken()), Stream(tuple(rows[12:]), 4, NPOLoss(0.5, False))]
    scratch = options.pop("scratch", folder / "scratch")
    done = train(model, opened.coder, streams, Recipe(6, 1e-2), seed=0, out=folder / "out", scratch=scratch, **options)
    return bits(model), done


class Killed(Exception):
    pass


def test_training_is_the_same_after_an_interruption_and_in_parts(opened: tuple[str, Opened], tmp_path: Path) -> None:
    name, found = opened
    rows = examples(name)
    whole, account = learn(found, rows, tmp_path / "a")
    assert account.tokens == 6 * (6 + 4), "an image or a node is one token"
    stored = open_checkpoint(checkpoint_at(tmp_path / "a" / "out", "", "classifier"))
    assert bits(stored.model) == whole != bits(found.model)

    def report(done: int, total: int) -> None:
        if done == 5:
            raise Killed

    scratch = tmp_path / "scratch"
    with pytest.raises(Killed):
        learn(found, rows, tmp_path / "b", save_every=2, scratch=scratch, report=report)
    resumed, again = learn(found, rows, tmp_path / "c", save_every=2, scratch=scratch)
    assert again.resumed and resumed == whole
    parts, _ = learn(found, rows, tmp_path / "d", micro=2)
    for tensor, expected in zip(parts.values(), whole.values(), strict=True):
        assert np.frombuffer(tensor, np.float32) == pytest.approx(np.frombuffer(expected, np.float32), abs=1e-4)


def test_references_and_influence_know_no_texts(opened: tuple[str, Opened]) -> None:
    """The mean squared gradient of single rows, by autograd of the cross entropy."""
    name, found = opened
    rows = examples(name, 3)
    encoded = [found.coder.encode(row.payload) for row in rows]
    log_probs = reference_log_probs(found.model, found.coder, encoded, torch.device("cpu"))
    squares = torch.zeros(CLASSES)
    for row, expected in zip(encoded, log_probs, strict=True):
        batch = found.coder.collate([row])
        loss = torch.nn.functional.cross_entropy(found.model(*batch.inputs), torch.tensor([row.label]))
        assert float(loss.detach()) == pytest.approx(-float(expected), abs=1e-6)
        squares += torch.autograd.grad(loss, found.model.head.bias)[0].square() / len(rows)
    torch.testing.assert_close(estimate_influence(found, rows, "fisher")["head.bias"], squares)


def test_what_a_probe_keeps_of_each_row(tmp_path: Path) -> None:
    """Chances of 1/2, 1/4 ...: -0.693147 for label 0, which is the most likely, and -1.386294 for label 1."""
    sure(ConvNet(2)).save_pretrained(tmp_path)
    rows = (Example("a", image(0, 0)), Example("b", image(1, 1)), Example("c", image(0, 0)))
    found = measure(checkpoint_at(tmp_path, "", "classifier"), [Probe("p", "classes", rows)]).rows["p"]
    assert found["a"] == found["c"]
    assert found["a"]["answer"] == [{"logp": [pytest.approx(-log(2), abs=1e-6)], "hit": [1], "eos": False}]
    assert found["b"]["answer"] == [{"logp": [pytest.approx(-log(4), abs=1e-6)], "hit": [0], "eos": False}]
    assert found["a"]["classes"] == pytest.approx([log(p) for p in CHANCES], abs=1e-5)
