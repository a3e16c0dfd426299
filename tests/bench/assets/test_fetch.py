"""Fetching models and data sets: into folders of their own, once, whole, and never with code or pickles."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.assets import fetch, git
from bench.assets.data_sets import DATA_SETS, FILES, DataSet, find_fetched_data
from bench.assets.fetch import check_names, clear_place, fetch_data, fetch_model
from bench.assets.models import FETCHED, resolve_model
from bench.core.errors import UserError
from bench.core.hashing import hash_tree
from bench.core.trouble import explain_trouble
from tests.hub import FETCH_DATA, OTHERS, REVISION, Hub, left_in, silent, start

Q4 = "smollm2-135m-instruct-q4"


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


def empty(file: Path) -> None:
    file.write_text("")


def end_early(file: Path) -> None:
    file.write_text('{"eos_token_id": 1}')


@pytest.mark.parametrize("harm", [empty, Path.unlink, end_early])
@pytest.mark.parametrize("name", ["generation_config.json", "special_tokens_map.json"])
def test_a_small_file_that_is_not_as_fetched_is_seen_and_fetched_again(
    name: str, harm: Callable[[Path], object], hub: Hub, tmp_path: Path
) -> None:
    """It isn't in the model's hash, and may decide where an answer stops."""
    hub.folder = Path(shutil.copytree(hub.folder, tmp_path / "served"))
    (hub.folder / name).write_text('{"eos_token_id": 2}')
    models = tmp_path / "models"
    start("some/model", models, hub.address).communicate(timeout=60)
    file = resolve_model("some/model", models).path / name
    harm(file)
    with pytest.raises(
        UserError,
        match=rf"'some/model' is damaged .*fetched, as {name} shows\): run `python -m bench fetch some/model`",
    ):
        resolve_model("some/model", models)
    out, err = (again := start("some/model", models, hub.address)).communicate(timeout=60)
    assert again.returncode == 0 and "is ready" in out, err
    assert resolve_model("some/model", models).path / name == file and file.read_text() == '{"eos_token_id": 2}'


def test_a_generation_config_that_was_added_is_seen_and_a_note_is_not(hub: Hub, tmp_path: Path) -> None:
    hub.folder = Path(shutil.copytree(hub.folder, tmp_path / "served"))
    (hub.folder / "generation_config.json").unlink(missing_ok=True)
    models = tmp_path / "models"
    start("some/model", models, hub.address).communicate(timeout=60)
    (models / "some--model" / "notes.txt").write_text("mine")
    found = resolve_model("some/model", models)
    (found.path / "generation_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"as generation_config.json shows"):
        resolve_model("some/model", models)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"files": {}}'])
def test_a_damaged_description_is_fetched_again(text: str, hub: Hub, tmp_path: Path) -> None:
    models = tmp_path / "models"
    start("some/model", models, hub.address).communicate(timeout=60)
    (models / "some--model" / FETCHED).write_text(text)
    with pytest.raises(UserError, match="'some/model' is damaged"):
        resolve_model("some/model", models)


def test_what_stands_in_the_place_of_a_lock_goes(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    for put in (lambda: lock.symlink_to("no/where"), lock.mkdir, lambda: os.mkfifo(lock)):
        put()
        clear_place(lock)
        assert not os.path.lexists(lock)
    lock.write_text("held")
    clear_place(lock)
    assert lock.read_text() == "held"


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


def test_what_cannot_have_a_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes from no hub, so it has no revisions"):
        fetch_model(Q4, tmp_path, silent, "step1000")
    with pytest.raises(UserError, match="names a revision already"):
        fetch_model("some/model@step1", tmp_path, silent, "step2")
    with pytest.raises(UserError, match="'refs/pr/1' is no revision"):
        fetch_model("some/model", tmp_path, silent, "refs/pr/1")
    assert not list(tmp_path.iterdir())


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


def test_what_is_fetched_is_found_in_a_store_that_is_only_read(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("some/model", tmp_path, hub.address).communicate(timeout=60)
    closed = f"--store {tmp_path}: nothing can be written there (Read-only file system); choose another place."
    monkeypatch.setattr(fetch, "folder_problems", lambda option, folder: [closed])
    said: list[str] = []
    found = fetch_model("some/model", tmp_path, said.append)
    assert found == resolve_model("some/model", tmp_path)
    assert said == [f"some/model is fetched already, hash {found.hash[:12]}"]
    with pytest.raises(UserError, match="Read-only file system"):
        fetch_model("some/other", tmp_path, print)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"Did you mean '{Q4}'"):
        fetch_model("smollm2-135m-instruct-q5", tmp_path, silent)
    assert not list(tmp_path.iterdir())


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


def test_a_disk_that_fills_up_under_git_is_no_fault_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"error: unable to write file x: {os.strerror(errno.ENOSPC)}\nfatal: unable to checkout working tree\n"
    monkeypatch.setattr(git, "run_program", lambda *_: subprocess.CompletedProcess([], 128, "", said))
    for call in (
        lambda: fetch_data("restor", tmp_path, silent),
        lambda: git.clone_once("https://x.invalid/y", tmp_path),
    ):
        with pytest.raises(OSError) as full:
            call()
        assert explain_trouble(full.value, {"--store": tmp_path}).startswith(f"--store {tmp_path}: ")
    assert left_in(tmp_path) == []


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
