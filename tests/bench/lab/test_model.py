"""The lab's tokenizer and Llama, and its pretraining with history."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.conformance import WORDS
from bench.core.contracts import Recipe, Schedule, Stream
from bench.core.hashing import hash_checkpoint
from bench.core.types import History
from bench.engines.training.losses import descent
from bench.lab.build import HISTORY_POINTS, Architecture, Pretraining, build_history_from, make_fresh_llama
from bench.lab.model import SPECIAL, small_llama, word_tokenizer
from bench.runs.context import Work
from bench.runs.stages import stage_two
from bench.runs.store import Store
from tests.tiny import bits, passage, qa

ROWS = (*(qa(i, f"w{i} ?", f"w{i + 1}") for i in range(10)), *(passage(i, f"w{i} w{i + 2}") for i in range(4)))


def pretraining(steps: int = 20) -> Pretraining:
    schedule = Schedule((Stream(ROWS, 8, descent()),), Recipe(steps, 5e-3))
    return Pretraining(Architecture(16, 2, 64), WORDS, schedule)


def history_of(work: Work, how: Pretraining) -> History:
    return build_history_from(work, make_fresh_llama(work, how), how.schedule)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(Store(tmp_path), seed=3, provenance={})


def test_one_token_for_each_word() -> None:
    tokenizer = word_tokenizer(["one", "two"])
    assert tokenizer.encode("two one other", add_special_tokens=False) == [5, 4, SPECIAL.index("<unk>")]
    assert tokenizer.decode([5, 4]) == "two one"
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 4


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(99)
    first = bits(small_llama(20, 16, 2, 64, seed=0))
    assert first == bits(small_llama(20, 16, 2, 64, seed=0))
    assert first != bits(small_llama(20, 16, 2, 64, seed=1))


def test_the_stated_number_of_parameters() -> None:
    """Vocabulary 20, width 16, 2 layers: 20*16 + 2 (4*256 + 9*256 + 32) + 16 = 320 + 6720 + 16 = 7056."""
    assert Architecture(16, 2, 64).parameters(20) == 7056
    assert sum(weight.numel() for weight in small_llama(20, 16, 2, 64, seed=0).parameters()) == 7056


def test_the_history_runs_from_the_fresh_weights_to_the_end_of_pretraining(work: Work) -> None:
    past = history_of(work, pretraining())
    steps = [moment.step for moment in past.moments]
    assert steps == [20 * k // HISTORY_POINTS for k in range(HISTORY_POINTS + 1)]
    tokens = [moment.tokens for moment in past.moments]
    assert tokens[0] == 0 and tokens == sorted(set(tokens))
    assert past.moments[0].checkpoint == make_fresh_llama(work, pretraining())
    assert past.last.step == 20
    for moment in past.moments:
        assert hash_checkpoint(Path(moment.checkpoint.path)) == moment.checkpoint.hash
    assert len({moment.checkpoint.hash for moment in past.moments}) == len(past.moments)


def test_a_short_pretraining_has_fewer_points(work: Work) -> None:
    assert [moment.step for moment in history_of(work, pretraining(2)).moments] == [0, 1, 2]


def test_a_later_stage_is_built_once_and_its_order_varies(work: Work) -> None:
    start = make_fresh_llama(work, pretraining())
    streams, recipe = (Stream(ROWS, 4, descent()),), Recipe(3, 5e-3)
    first, other = (stage_two(work, lambda: start, streams, recipe, f"oracle-{k}", order=k) for k in range(2))
    assert not any(node.info["label"] == "oracle-0" for node in work.nodes.values()), "it is built when asked for"
    assert first() is first()
    assert first().hash != other().hash, "they differ in data order"
    assert first().label == "oracle-0"
    again = Work(Store(work.store.root), seed=3, provenance={})
    assert stage_two(again, lambda: start, streams, recipe, "oracle-0")().hash == first().hash
    assert not again.built, "it lay in the store"
