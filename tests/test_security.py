"""What comes from outside (weights, configs, data, records, plug-ins, messages) runs nothing and leaves no folder."""

from __future__ import annotations

import ast
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.assets import hub
from bench.assets.folders import read_folder
from bench.assets.git import check_out, git_output
from bench.assets.hub_tables import read_table
from bench.assets.models import resolve_model
from bench.core import registry
from bench.core.errors import Absent, UserError
from bench.core.places import stays_below
from bench.core.record import Record, RunSpec, Step
from bench.engines.causal_lm import open_causal_lm
from bench.records.files import load_records
from tests.paths import ROOT
from tests.shell import Shell
from tests.tiny import llama, saved, tokenizer

SOURCES = [path for folder in ("bench", "methods", "tasks") for path in sorted((ROOT / folder).rglob("*.py"))]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "yaml.load",
    "pd.read_pickle",
}


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


# ---- the source


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_source_unpickles_or_evaluates_anything() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [(path.name, name) for name in names if name.partition(".")[0] in UNSAFE_MODULES]
        for name, call in calls_of(path):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            unsafe = name in UNSAFE_CALLS or {("allow_pickle", "True"), ("shell", "True")} & given.items()
            found += [(path.name, name)] if unsafe else []
    assert found == []


def test_every_model_and_tokenizer_is_opened_without_code_of_its_own() -> None:
    found = []
    for path in SOURCES:
        for name, call in calls_of(path):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if name.startswith("Auto") and name.endswith(".from_pretrained"):
                found.append((path.name, given.get("trust_remote_code")))
                assert name != "AutoModelForCausalLM.from_pretrained" or {"use_safetensors", "gguf_file"} & given.keys()
            assert given.get("trust_remote_code", "False") == "False"
    assert found and {said for _, said in found} == {"False"}


# ---- weights, configs and data


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_pickled_weights_are_refused_in_a_sentence_and_never_read(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(llama(), tokenizer(), folder, "m")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Harm(tmp_path / "harm")))
    for read in (lambda: read_folder(folder, "m"), lambda: resolve_model(str(folder), tmp_path)):
        with pytest.raises(UserError, match="pickled weights only") as raised:
            read()
        assert len(raised.value.problems) == 1
    assert not (tmp_path / "harm").exists()


def test_a_models_own_code_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    checkpoint = saved(llama(), tokenizer(), folder, "m")
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    for changed in ({}, {"model_type": "own"}):
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": own} | changed))
        try:
            open_causal_lm(replace(checkpoint, hash="h"), "cpu")
        except UserError as error:
            assert len(error.problems) == 1
    assert not (tmp_path / "harm").exists()


def test_a_data_sets_own_code_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    with pytest.raises((Absent, UserError)):
        read_table(str(folder), "default")
    assert not (tmp_path / "harm").exists()


# ---- names that leave their folder

OUTSIDE = ["../x", "/etc/x", "a/../../x", "..", "", "a\0b", "..\\x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_from_outside_stay_below_their_folder(name: str) -> None:
    assert not stays_below(name) and stays_below("a/b..c/x.json")


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/model.safetensors", "sub/model.safetensors"])
def test_an_index_of_shards_names_files_of_its_folder_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(llama(), tokenizer(), folder, "m")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"w": name}}))
    with pytest.raises(UserError, match="no safetensors file of that folder"):
        read_folder(folder, "m")


@pytest.mark.parametrize("name", ["../../x.json", "/tmp/x.json"])
def test_a_hub_that_names_files_elsewhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    info = SimpleNamespace(sha="0" * 40, siblings=[SimpleNamespace(rfilename=name, size=1)])
    monkeypatch.setattr(hub, "require_hub", lambda purpose: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("it was downloaded"))
    with pytest.raises(UserError, match="lies outside it"):
        hub.download_files("owner/rows", tmp_path, hub.DATA_FILES, lambda line: None, kind="dataset")


def test_a_link_in_a_repository_leads_nowhere(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (tmp_path / "secret").write_text("mine")
    os.symlink(tmp_path / "secret", source / "rows.json")
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
    ):
        git_output(source, *words)
    check_out(str(source), "HEAD", out)
    assert not (out / "rows.json").is_symlink() and (out / "rows.json").read_text() != "mine"


@pytest.mark.parametrize("field", ["task", "tier", "model", "method"])
def test_a_record_names_no_file_outside_its_folder(field: str, tmp_path: Path) -> None:
    spec = RunSpec("tofu", {}, "lab", "lab", (Step("msa", {}),), 0)
    bad = {"method": {"steps": (Step("../../x", {}),)}, "model": {"model": ".."}}.get(field, {field: "../../x"})
    record = Record(replace(spec, **bad), "failed", "no luck")
    with pytest.raises(ValueError, match="no name of a file or folder"):
        _ = record.name
    place = tmp_path / "out" / "lab" / "tofu" / "lab"
    place.mkdir(parents=True)
    (place / "msa-0.json").write_text(json.dumps(record.to_json()))
    loaded = load_records(tmp_path / "out")
    assert loaded.records == [] and [broken.path for broken in loaded.broken] == ["lab/tofu/lab/msa-0.json"]


@pytest.mark.parametrize("name", ["../../evil", "a/b", "/abs", "a b", "a\nb", ".hidden", "x" * 200])
def test_a_plug_in_whose_name_is_a_path_is_left_out(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = EntryPoints([EntryPoint(name, "os:getcwd", registry.GROUPS["methods"])])
    monkeypatch.setattr(registry, "installed_points", lambda path: points)
    assert registry.plug_ins.__wrapped__("methods", ("once", name)) == {}
    assert "may have letters, digits" in capsys.readouterr().err


# ---- secrets


@pytest.mark.parametrize("secret", ["hf_AbCdEfGhIjKlMnOpQr", "me:pass-word@example.org"])
def test_no_secret_is_said_on_the_terminal(secret: str, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "swordfish-42")
    said = shell("run", "--methods", "swordfish-42", "--task", f"https://{secret}/x", "--out", "o", "--store", "s")
    assert said.code == 2 and "…" in said.err
    for word in ("AbCdEf", "pass-word", "swordfish"):
        assert word not in said.err + said.out


def test_an_error_of_ours_keeps_its_traceback_without_secrets(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(f"with hf_AbCdEfGhIjKlMnOp in {Path.home()}/x")

    monkeypatch.setattr("bench.runs.launch.plan_command", fail)
    said = shell("plan", "--methods", "msa", "--task", "tofu", "--out", "o", "--store", "s")
    assert said.code == 1 and "Traceback" in said.err and "ZeroDivisionError: with … in ~/x" in said.err
