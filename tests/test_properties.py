"""Any folder gives right numbers or sentences: `bench eval`, `bench msa` and `bench doctor --model` on random wrecks.

A sound folder is changed at random in one to three places (`tests.wrecks`). A command then says what is wrong, or what
it computes is what plain eager passes over one text at a time give of that very folder.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from bench.assets.models import resolve_model
from bench.core.errors import UserError
from bench.engines.arithmetic.merge import MergeOptions, merge_checkpoints
from bench.engines.templates import SYSTEM_PROMPT, encode
from bench.real.evaluate import EvaluationRequest, evaluate_model
from bench.real.examine import examine_model
from tests.tiny import llama, saved, subword_llama, subword_tokenizer, tokenizer
from tests.wrecks import SOME_CHANGES, WEIGHTS, Change, wreck

EXAMPLES = "MSA_BENCH_EXAMPLES"
"""Environment variable: how many random folders each test tries, drawn afresh; without it a few, always the same."""
PROFILE = settings(
    max_examples=int(os.environ.get(EXAMPLES, "50")),
    derandomize=EXAMPLES not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
ENDS = ("model.embed_tokens.weight", "lm_head.weight")
"""What a tied model stores one of."""
SIDES = ("forget", "retain", "holdout")
ROWS = [
    {side: {"question": f"what is {side} {i} ?", "answer": f"the {side} {i * 7}"} for side in SIDES} for i in range(8)
]
ROWS = [
    {side: {**row, "paraphrase": f"{row['answer']} it is", "wrong": ["none", "all"]} for side, row in rows.items()}
    for rows in ROWS
]
LIMIT = 2
ALPHA = 0.5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Rows, a sound model with two more of its family, and others whose files may get mixed with its own."""
    folder = tmp_path_factory.mktemp("wrecks")
    for side in SIDES:
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(rows[side]) + "\n" for rows in ROWS))
    words = subword_tokenizer([json.dumps(rows) for rows in ROWS])
    for seed, name in enumerate(("sound", "before", "tuned")):
        saved(subword_llama(words, seed), words, folder / name)
    saved(llama(3), tokenizer(), folder / "words")
    saved(llama(4, width=32), tokenizer(), folder / "wider")
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 128}
    saved(GPT2LMHeadModel(GPT2Config(vocab_size=300, **shape)), words, folder / "gpt2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.qa.NEW_TOKENS", 3)
        yield folder


@contextmanager
def wrecked(place: Path, changes: tuple[Change, ...]) -> Iterator[Path]:
    """A copy of the sound model after ``changes``."""
    with TemporaryDirectory(dir=place, prefix="wreck-") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of what we say ourselves
        folder = Path(made) / "model"
        shutil.copytree(place / "sound", folder)
        for other in ("gpt2", "words", "wider"):
            (Path(made) / other).symlink_to(place / other)
        yield wreck(folder, changes)


def answer_of(call: Callable[[], Any], typed: Path) -> Any:
    """What a call gives; None where it says what is wrong, in sentences without places that nobody typed."""
    try:
        return call()
    except UserError as error:
        assert error.problems
        for problem in error.problems:
            said = problem.replace(str(typed), "").replace(str(typed.parent), "")
            assert problem.endswith(".") and "\n" not in problem and "Traceback" not in problem, problem
            assert len(problem) < 1000, problem
            for here in ("/tmp/", "/work/", "/root/", "/usr/", "/home/", "site-packages", sys.prefix):
                assert here not in said, problem
        return None


def evaluated(place: Path, folder: Path, **more: str) -> dict[str, Any] | None:
    """The file of `bench eval`, read again; None where it said why not. ``more`` are its further arguments."""
    data = ",".join(str(place / f"{side}.jsonl") for side in SIDES)
    out = folder.parent / "scores.json"
    asked = EvaluationRequest("qa", **{"model": str(folder), **more}, data=data, out=out, limit=LIMIT)
    if answer_of(lambda: evaluate_model(asked, place), folder) is None:
        assert not out.exists(), "no number where a check failed"
        return None

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the file")

    found: dict[str, Any] = json.loads(out.read_text(), parse_constant=refuse)
    assert all(math.isfinite(value) for value in found["scores"].values())
    return found


class Plain:
    """The folder's model by its config and the tensors in its files, asked one text at a time with eager attention."""

    def __init__(self, folder: Path) -> None:
        config, tensors = AutoConfig.from_pretrained(folder), tensors_in(folder)
        config.dtype = torch.float32
        two = [tensors[name] for name in ENDS if name in tensors]
        if len(two) == 2 and not torch.equal(*two):
            config.tie_word_embeddings = False  # as transformers has it
        self.model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        own = self.model.state_dict().keys()
        tensors = {name.removeprefix("model.") if name not in own else name: each for name, each in tensors.items()}
        report = self.model.load_state_dict(tensors, strict=False)
        assert len(report.missing_keys) <= config.tie_word_embeddings and set(report.missing_keys) <= set(ENDS), report
        assert all(re.search(r"inv_freq|bias$", name) for name in report.unexpected_keys), report
        self.largest = max(float(each.double().abs().max()) for each in tensors.values() if each.numel())
        self.words: Any = AutoTokenizer.from_pretrained(folder)

    def probability(self, row: dict[str, Any]) -> float:
        """exp of the mean log-prob of the answer's tokens."""
        prompt, answer = self.ids(row)
        with torch.no_grad():
            logits = self.model(torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        table = logits.double().log_softmax(-1)
        return math.exp(float(table[torch.arange(len(answer)), torch.tensor(answer)].mean()))

    def ids(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        text = encode(self.words, {"template": "chat", "prompt": row["question"], "answer": row["answer"]})
        return list(text.prompt), list(text.answer)


class Sound(Plain):
    """The same with the tokenizer that it was saved with, read without the harness."""

    def ids(self, row: dict[str, Any]) -> tuple[list[int], list[int]]:
        said = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": row["question"]}]
        prompt = self.words.apply_chat_template(said, add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(prompt), [*self.words.encode(row["answer"], add_special_tokens=False), 2]


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the folder's files."""
    files = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        files = sorted(path.name for path in folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(folder / file).items()}


def same_words(folder: Path, sound: Path) -> bool:
    """Whether nothing that decides how a text becomes tokens was touched."""
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    same = [(folder / n).is_file() and (folder / n).read_bytes() == (sound / n).read_bytes() for n in names]
    more = (
        "additional_chat_templates",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "vocab.json",
    )
    return all(same) and not any((folder / name).exists() for name in more)


def near(value: float) -> Any:
    return pytest.approx(value, rel=5e-3, abs=1e-7)


def test_the_sound_folder_is_taken(place: Path) -> None:
    """What the others compare with: scores, a page, and a sum."""
    found = evaluated(place, place / "sound")
    assert found is not None
    plain = Sound(place / "sound")
    for side in ("forget", "retain"):
        for i, value in found["examples"][f"{side}_Q_A_Prob"].items():
            assert value == near(plain.probability(ROWS[int(i) - 1][side]))
    assert page(place / "sound")


FOUND: tuple[tuple[tuple[Change, ...], str], ...] = (
    ((("become_folder", "tokenizer_config.json"),), "'tokenizer_config.json' of 'DIR' is a folder"),
    (
        (("become_link", "more.safetensors", "nowhere"),),
        "'more.safetensors' of 'DIR' is a link to a file that isn't there",
    ),
    ((("set_json", "tokenizer_config.json", ("model_max_length",), []),), "The tokenizer of 'model' can't be opened"),
    ((("set_json", "generation_config.json", ("eos_token_id",), "a"),), "The eos_token_id of 'model' is 'a'"),
    (
        (("set_json", "generation_config.json", ("eos_token_id",), [2, False]),),
        "The eos_token_id of 'model' is [2, False]",
    ),
    ((("set_json", "config.json", ("sliding_window",), {"a": []}),), "can't be computed as its config.json says"),
    ((("set_json", "config.json", ("hidden_size",), "a"),), "The architecture of 'model' can't be opened"),
    ((("rename", 2, "{}\n"),), "damaged safetensors header"),
    ((("duplicate", 17, "model.{}"), ("fill", 17, 5, 0.5)), "holds a tensor both as 'model.layers.1"),
    ((("overwrite", WEIGHTS, "deep header"),), "damaged safetensors header"),
    ((("change_header", 3, "shape", [math.inf]),), "damaged safetensors header"),
    ((("change_header", 0, "more", True),), "damaged safetensors header"),
)
"""Folders that once were a traceback, a sentence about something else, or a number -> what is said of them now."""


@pytest.mark.parametrize(("changes", "said"), FOUND)
def test_what_was_found_once_is_said(place: Path, changes: tuple[Change, ...], said: str) -> None:
    """By the command that looks at everything."""
    with wrecked(place, changes) as folder, pytest.raises(UserError) as error:
        list(examine_model(resolve_model(str(folder), place)))
    assert said in str(error.value).replace(str(folder), "DIR"), error.value


@PROFILE
@example(changes=(("duplicate", 17, "model.{}"), ("fill", 17, 5, 0.5)))
@example(changes=(("set_json", "generation_config.json", ("eos_token_id",), {"": None}),))
@given(SOME_CHANGES)
def test_eval_gives_plain_values_or_says_why_not(place: Path, changes: tuple[Change, ...]) -> None:
    """A probability that is no number is absent, and any other is that of a plain pass over the folder."""
    with wrecked(place, changes) as folder:
        found = evaluated(place, folder)
        if found is None:
            return
        plain = (Sound if same_words(folder, place / "sound") else Plain)(folder)
        for side in ("forget", "retain"):
            values = [plain.probability(rows[side]) for rows in ROWS[:LIMIT]]
            name = f"{side}_Q_A_Prob"
            if name in found["scores"]:
                assert list(found["examples"][name].values()) == near(values)
                assert found["scores"][name] == near(sum(values) / LIMIT)
            else:  # with weights beyond all measure another number of the row may have broken down
                assert found["absent"][name] and (not all(map(math.isfinite, values)) or plain.largest > 1e18)


@PROFILE
@example(changes=(("set_json", "config.json", ("text_config",), [1]),), role="oracle")
@given(SOME_CHANGES, st.sampled_from(("oracle", "reference", "tokenizer")))
def test_eval_beside_a_wreck_gives_finite_scores_or_says_why_not(
    place: Path, changes: tuple[Change, ...], role: str
) -> None:
    """The wreck as oracle, as reference or as the folder of the tokenizer: the model's own probabilities don't move."""
    with wrecked(place, changes) as folder:
        found = evaluated(place, folder, model=str(place / "sound"), **{role: str(folder)})
        if found is None or role == "tokenizer":
            return
        plain = Sound(place / "sound")
        values = [plain.probability(rows["forget"]) for rows in ROWS[:LIMIT]]
        assert list(found["examples"]["forget_Q_A_Prob"].values()) == near(values)


def page(folder: Path) -> list[str] | None:
    """The lines of `bench doctor --model`."""
    lines: list[str] | None = answer_of(lambda: list(examine_model(resolve_model(str(folder), folder.parent))), folder)
    return lines


@PROFILE
@given(SOME_CHANGES)
def test_doctor_gives_a_page_or_says_why_not(place: Path, changes: tuple[Change, ...]) -> None:
    """A page ends with what each task says; where numbers broke down it says so."""
    with wrecked(place, changes) as folder:
        lines = page(folder)
        if lines is None:
            return
        assert lines[-1].startswith(("task ", "tasks ")) and not any("Traceback" in line for line in lines)
        broken = any(re.search(r" (nan|-?inf)\b", line) for line in lines)
        assert broken == any("no finite numbers" in line for line in lines), lines


@PROFILE
@example(changes=(("change_header", 0, "dtype", None),))
@given(SOME_CHANGES)
def test_msa_gives_the_sum_or_says_why_not(place: Path, changes: tuple[Change, ...]) -> None:
    """With the wreck as target, and as what was tuned: each tensor is the formula's, and what is no number is said."""
    with wrecked(place, changes) as folder:
        for role in ("target", "tuned"):
            check_sum(place, folder, role)


def check_sum(place: Path, folder: Path, role: str) -> None:
    """Merge with the wreck in this role, and compare with the formula in float32."""
    target, tuned = (folder, place / "tuned") if role == "target" else (place / "sound", folder)
    out, warned = folder.parent / f"sum-{role}", list[str]()
    asked = MergeOptions(target, place / "before", tuned, None, str(ALPHA), "", "", out)

    def merge() -> bool:
        merge_checkpoints(asked, lambda line: None, warned.append)
        return True

    if not answer_of(merge, folder):
        assert not out.exists(), "nothing where a check failed"
        return
    terms = [tensors_in(each) for each in (target, tuned, place / "before")]
    for name, made in tensors_in(out).items():
        assert made.dtype == terms[0][name].dtype
        if not made.is_floating_point() or name.endswith("inv_freq"):
            assert torch.equal(made, terms[0][name])
            continue
        wide = torch.float64 if torch.float64 in {term[name].dtype for term in terms} else torch.float32
        one, two, three = (term[name].to(wide) for term in terms)
        expected = (one * 1.0 + two * -ALPHA + three * ALPHA).to(made.dtype)
        assert torch.equal(expected.nan_to_num(nan=7.0), made.nan_to_num(nan=7.0)), name
        assert made.isfinite().all() or warned, name
