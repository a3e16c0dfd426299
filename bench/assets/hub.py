"""Downloading models and data from the Hugging Face hub, whole files only, resumed and verified."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from bench.assets.models import TOKENIZERS, hub_id
from bench.core.errors import UserError
from bench.core.places import stays_below

HUB_FILES = ("*.safetensors", "*.json", "tokenizer*", "*.jinja", "merges.txt", "LICENSE*")
"""What is taken of a model from the hub: no pickle, no code."""

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "*.jinja", "merges.txt", "vocab.json")
"""What is taken of a model whose tokenizer another one uses."""

DATA_FILES = ("*.json", "*.jsonl", "*.parquet", "README.md", "LICENSE*")
"""What is taken of a data set, from any folder of it: no code."""

PROBE_SECONDS = 4.0
"""How long the hub may take to answer before we say that it can't be reached."""

ReportLine = Callable[[str], None]

RepositoryKind = Literal["model", "dataset"]
"""What the hub calls them."""


def list_hub_revisions(name: str) -> list[str]:
    """Branches and tags of a hub model, by known name or hub id, as the hub lists them."""
    repo = hub_id(name)
    require_hub(f"list the revisions of '{repo}'")
    import huggingface_hub

    with explain_hub_errors(repo):
        refs = huggingface_hub.HfApi().list_repo_refs(repo)
    return [ref.name for ref in (*refs.branches, *refs.tags)]


@contextlib.contextmanager
def explain_hub_errors(repo: str, revision: str | None = None, kind: RepositoryKind = "model") -> Iterator[None]:
    """The hub's refusals as `UserError`, each with its remedy."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UserError(f"The hub {kind} '{repo}' is gated: accept its terms there and run `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        listed = f": `python -m bench ls history --model {repo}` lists them." if kind == "model" else "."
        raise UserError(f"The hub {kind} '{repo}' has no revision '{revision}'{listed}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"The hub has no public {kind} '{repo}': check the spelling, or `hf auth login`.") from error
    except errors.HfHubHTTPError as error:
        raise UserError(f"The hub failed to send '{repo}' ({error}): try again later.") from error


def download_model(
    repo: str, model: Path, report: ReportLine, revision: str | None = None, tokenizer: str = ""
) -> dict[str, Any]:
    """One pinned commit of a hub model, safetensors and small files only; what ``fetch.json`` says.

    The commit is that of ``revision``, or the latest. ``tokenizer`` is the hub model whose tokenizer it uses.
    """
    commit = download_files(repo, model, HUB_FILES, report, revision)
    about = {"source": f"hub {repo}", "revision": commit} | ({"named": revision} if revision else {})
    if tokenizer and not any((model / file).is_file() for file in TOKENIZERS):
        about["tokenizer"] = f"hub {tokenizer} at {download_files(tokenizer, model, TOKENIZER_FILES, report)}"
    return about


def download_files(
    repo: str,
    folder: Path,
    patterns: Sequence[str],
    report: ReportLine,
    revision: str | None = None,
    kind: RepositoryKind = "model",
) -> str:
    """The files of a hub repository that match ``patterns``; the commit that they are of.

    Of a model only those at its top; `UserError` where weights are wanted and there are pickled ones alone.
    """
    wanted = f"{repo}@{revision}" if revision else repo
    require_hub(f"fetch '{wanted}'")
    import huggingface_hub

    with explain_hub_errors(repo, revision, kind):
        info: Any = huggingface_hub.HfApi().repo_info(
            repo, repo_type=kind, revision=revision, timeout=PROBE_SECONDS, files_metadata=True
        )
        offered = [file for file in info.siblings or [] if kind == "dataset" or "/" not in file.rfilename]
        sizes = {f.rfilename: f.size for f in offered if any(fnmatch(f.rfilename, each) for each in patterns)}
        if odd := [name for name in sizes if not stays_below(name)]:
            raise UserError(
                f"The hub {kind} '{wanted}' names the file {odd[0]!r}, which lies outside it: take another."
            )
        if patterns == HUB_FILES and not any(name.endswith(".safetensors") for name in sizes):
            raise UserError(
                f"The hub model '{wanted}' has no safetensors, and pickled weights are refused: take another."
            )
        check_room(wanted, sizes.values(), folder, report)
        report(f"downloading {wanted} at {info.sha} from the hub")
        with contextlib.redirect_stderr(io.StringIO()):
            huggingface_hub.snapshot_download(
                repo, repo_type=kind, revision=info.sha, local_dir=folder, allow_patterns=list(sizes)
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return str(info.sha)


def check_room(name: str, sizes: Iterable[int | None], folder: Path, report: ReportLine) -> None:
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
