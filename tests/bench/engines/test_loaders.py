"""Opening checkpoints, and the seal: what is shut, how it is told, and that it opens again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.core.errors import UserError
from bench.core.types import Checkpoint
from bench.engines.loaders import Sealed, checkpoint_at, open_checkpoint, seal
from tests.tiny import bits, llama, saved, tokenizer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    root = tmp_path_factory.mktemp("pair")
    return saved(llama(0), tokenizer(), root / "a", "a"), saved(llama(1), tokenizer(), root / "b", "b")


def shut(checkpoint: Checkpoint) -> bool:
    try:
        open_checkpoint(checkpoint)
    except Sealed:
        return True
    return False


def test_what_was_saved_is_opened(pair: tuple[Checkpoint, Checkpoint]) -> None:
    opened = open_checkpoint(pair[0])
    assert bits(opened.model) == bits(llama(0))
    assert not opened.model.training
    assert opened.tokenizer.get_vocab() == tokenizer().get_vocab()


def test_it_is_opened_in_the_dtype_that_it_names(pair: tuple[Checkpoint, Checkpoint]) -> None:
    assert open_checkpoint(replace(pair[0], dtype="bfloat16")).model.lm_head.weight.dtype == torch.bfloat16


def test_the_hash_is_of_what_decides(tmp_path: Path) -> None:
    first = saved(llama(0), tokenizer(), tmp_path / "x")
    (tmp_path / "x" / "trainer_state.json").write_text("{}")
    assert checkpoint_at(tmp_path / "x", "").hash == first.hash, "a log beside the model changes nothing"
    (tmp_path / "x" / "config.json").write_text((tmp_path / "x" / "config.json").read_text() + "\n")
    assert checkpoint_at(tmp_path / "x", "").hash != first.hash


def test_a_sealed_checkpoint_is_shut_for_as_long_as_it_lasts(pair: tuple[Checkpoint, Checkpoint]) -> None:
    a, b = pair
    with seal([a]):
        assert (shut(a), shut(b)) == (True, False)
        with pytest.raises(Sealed, match="a method must not open the oracle"):
            open_checkpoint(replace(a, label="target"))
    assert not shut(a)


def test_another_hash_or_another_spelling_of_the_folder_opens_no_seal(pair: tuple[Checkpoint, Checkpoint]) -> None:
    a, b = pair
    roundabout = str(Path(a.path) / ".." / Path(a.path).name)
    with seal([a]):
        assert shut(replace(a, hash="0" * 64))
        assert shut(replace(a, hash=b.hash, path=roundabout))
        assert shut(replace(a, path=b.path)), "a stated hash counts as well"


def test_a_link_to_the_folder_opens_no_seal(pair: tuple[Checkpoint, Checkpoint], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pair[0].path)
    with seal([pair[0]]):
        assert shut(Checkpoint(str(tmp_path / "link"), "0" * 64))


def test_seals_within_seals(pair: tuple[Checkpoint, Checkpoint]) -> None:
    a, b = pair
    with seal([a]):
        with seal([a, b]):
            assert shut(a) and shut(b)
        assert shut(a), "the inner seal must not take the outer one with it"
        assert not shut(b)
    assert not shut(a)


def test_a_seal_is_lifted_after_an_error(pair: tuple[Checkpoint, Checkpoint]) -> None:
    with pytest.raises(RuntimeError, match="of the method"), seal([pair[0]]):
        raise RuntimeError("of the method")
    assert not shut(pair[0])


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    checkpoint = saved(llama(0), tokenizer(), tmp_path / "x")
    weights = tmp_path / "x" / "model.safetensors"
    torch.save(llama(0).state_dict(), tmp_path / "x" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        open_checkpoint(checkpoint)
