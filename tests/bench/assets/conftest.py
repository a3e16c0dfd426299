"""Models, training folders and a hub that the tests of this wing share."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.lab.model import small_llama, word_tokenizer
from tests.hub import Hub


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four whole models of one shape, and a wider one."""
    folders = [tmp_path_factory.mktemp("weights") / str(seed) for seed in range(5)]
    tokenizer = word_tokenizer(["a", "b"])
    for seed, folder in enumerate(folders):
        small_llama(len(tokenizer), 16 if seed == 4 else 8, 1, 16, seed=seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folders


@pytest.fixture
def output(weights: list[Path], tmp_path: Path) -> Path:
    """A Trainer's output folder: two whole checkpoints, one that was cut short, and the model at the end."""
    folder = tmp_path / "output"
    shutil.copytree(weights[0], folder)
    for step, source, tokens in ((500, 1, 0), (1000, 2, 64_000)):
        at = folder / f"checkpoint-{step}"
        shutil.copytree(source := weights[source], at)
        (at / "trainer_state.json").write_text(json.dumps({"global_step": step, "num_input_tokens_seen": tokens}))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (at / file).unlink()
    (folder / "checkpoint-1500").mkdir()
    (folder / "checkpoint-1500" / "config.json").write_text("{}")
    (folder / "checkpoint-old").mkdir()
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model, a one-layer Llama, beside files that must not be taken."""
    folder = tmp_path / "hub"
    tokenizer = word_tokenizer(["a", "b"])
    small_llama(len(tokenizer), 8, 1, 16, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    server = Hub(folder)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
