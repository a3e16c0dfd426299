"""The hub: what is taken of it, what is refused, and what is said where it can't be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from bench.assets.hub import check_room, explain_hub_errors, require_hub
from bench.assets.models import FETCHED, resolve_model
from bench.core.errors import UserError
from tests.hub import REVISION, Hub, left_in, silent, start


def test_a_hub_lists_its_revisions(hub: Hub) -> None:
    hub.revisions = ("main", "step1000", "step2000")
    code = "from pathlib import Path; from bench.cli.histories import list_history; "
    code += "print(list_history('some/model', '', '', Path('x')))"
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["step1000", "step2000"], done.stderr


def test_a_hub_model_with_pickles_only_is_refused(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").unlink()
    _, err = start("some/model", tmp_path / "models", hub.address).communicate(timeout=60)
    assert "has no safetensors" in err and "Traceback" not in err
    assert left_in(tmp_path / "models") == []


def test_without_a_network_it_says_so_quickly(tmp_path: Path) -> None:
    began = time.monotonic()
    _, err = start("smollm2-135m-instruct", tmp_path, "http://127.0.0.1:9").communicate(timeout=60)
    assert "Can't reach http://127.0.0.1:9" in err and "Traceback" not in err
    assert time.monotonic() - began < 15
    assert left_in(tmp_path) == []


def test_a_model_without_a_tokenizer_gets_the_one_it_uses(hub: Hub, tmp_path: Path) -> None:
    """MUSE's models come as weights alone; theirs is their base model's tokenizer."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.safetensors", "config.json"):
        (bare / name).write_bytes((hub.folder / name).read_bytes())
    hub.others = {"muse-bench/MUSE-Books_target": bare}
    _, err = (process := start("muse-books-llama2-7b", tmp_path / "models", hub.address)).communicate(timeout=60)
    assert process.returncode == 0, err
    found = resolve_model("muse-books-llama2-7b", tmp_path / "models")
    assert (found.path / "tokenizer.json").read_bytes() == (hub.folder / "tokenizer.json").read_bytes()
    assert json.loads((found.path / FETCHED).read_text())["tokenizer"] == f"hub meta-llama/Llama-2-7b-hf at {REVISION}"


def test_what_the_disk_cannot_hold_is_refused_and_what_memory_cannot_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'some/model' takes 1000000000.0 GB, and .* choose another place with --store"):
        check_room("some/model", [10**18, None], tmp_path, silent)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 10**9})())
        check_room("some/model", [2 * 10**9], tmp_path, said.append)
        check_room("some/model", [10**8], tmp_path, said.append)
    assert len(said) == 1 and "is 2.0 GB of weights and this machine has 1.0 GB of memory" in said[0]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (GatedRepoError, "The hub model 'o/m' is gated: accept its terms there and run `hf auth login`."),
        (RepositoryNotFoundError, "The hub has no public model 'o/m': check the spelling"),
        (RevisionNotFoundError, "'o/m' has no revision 'r': `python -m bench ls history --model o/m` lists them."),
        (HfHubHTTPError, "The hub failed to send 'o/m' \\(it broke\\): try again later."),
    ],
)
def test_each_refusal_of_the_hub_has_its_remedy(error: type[Exception], sentence: str) -> None:
    """A gated repository is also one that isn't found, and all of them are failed requests."""
    with pytest.raises(UserError, match=sentence), explain_hub_errors("o/m", "r"):
        raise refusal(error)


def test_a_data_set_has_no_listing_of_revisions_and_our_own_bugs_stay_bugs() -> None:
    with (
        pytest.raises(UserError, match="The hub dataset 'o/m' has no revision 'r'.$"),
        explain_hub_errors("o/m", "r", "dataset"),
    ):
        raise refusal(RevisionNotFoundError)
    with pytest.raises(KeyError), explain_hub_errors("o/m"):
        raise KeyError("ours")


def refusal(error: type[Exception]) -> Exception:
    made = error.__new__(error)
    made.args = ("it broke",)
    return made


@pytest.mark.parametrize("said", ["1", "on", "Yes", "TRUE"])
def test_offline_is_said_before_anything_is_tried(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", said)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, so the hub can't be used to fetch 'x'"):
        require_hub("fetch 'x'")


def test_a_hub_that_answers_with_an_error_is_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.address}/api/models/some/model/revision/none")
    hub.revisions = ("main",)
    require_hub("fetch 'x'")
