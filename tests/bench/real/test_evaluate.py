"""`bench eval`: its file, its values against plain forward passes, what is absent and why, and mistakes."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from bench.core.errors import UserError
from bench.core.types import BROKEN_DOWN, OTHER_BROKEN, Checkpoint, Probe
from bench.engines.loaders import open_checkpoint
from bench.engines.templates import DATE_STRING, SYSTEM_PROMPT
from bench.real.evaluate import EvaluationRequest, ask_in, evaluate_model, incomparable_reasons
from tests.tiny import passage, saved, subword_llama, subword_tokenizer, wrecked

CONFIGS = ("forget10_perturbed", "retain_perturbed", "real_authors_perturbed", "world_facts_perturbed", "holdout10")
ROWS = 6


def row(config: str, i: int) -> dict[str, Any]:
    """A question whose answers begin alike, and differ in length."""
    asked = {"question": f"Who is author {i} of {config}?", "answer": f"The author is called Ada Nr. {i * 7}."}
    if config == "holdout10":
        return asked
    wrong = 3 if config.startswith(("real", "world")) else 5
    asked["perturbed_answer"] = [f"The author is called {'Bob ' * (k % 3 + 1)}{i + k}." for k in range(wrong)]
    if wrong == 5:
        asked |= {"paraphrased_answer": f"Ada Nr. {i * 7} it is.", "paraphrased_question": f"Name author {i}!"}
    return asked


def write_data(folder: Path, configs: Sequence[str] = CONFIGS) -> Path:
    folder.mkdir(parents=True)
    card = "".join(f"- config_name: {name}\n  data_files: {name}.json\n" for name in configs)
    (folder / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    for name in configs:
        (folder / f"{name}.json").write_text("".join(json.dumps(row(name, i)) + "\n" for i in range(ROWS)))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a model, an oracle, and the model's tokenizer with its eos as pad."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_data(folder / "data")
    texts = [json.dumps(row(config, i)) for config in CONFIGS for i in range(ROWS)]
    words = subword_tokenizer(texts)
    for seed, name in enumerate(("model", "oracle", "before")):
        saved(subword_llama(words, seed), words, folder / name)
    subword_tokenizer(texts, pad="<|eos|>").save_pretrained(folder / "padded")
    return folder


def run(place: Path, out: str, **fields: Any) -> dict[str, Any]:
    given = {"task": "tofu", "model": str(place / "model"), "data": str(place / "data")} | fields
    return evaluate_model(EvaluationRequest(out=place / out, **given), place)


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[str, Any]:
    return run(place, "whole.json", oracle=str(place / "oracle"), reference=str(place / "before"))


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, Any]:
    return run(place, "alone.json")


class Plain:
    """The definitions, one text and one forward pass at a time."""

    def __init__(self, folder: Path) -> None:
        from bench.engines.loaders import checkpoint_at

        opened = open_checkpoint(checkpoint_at(folder, ""))
        self.model, self.words = opened.model, opened.tokenizer

    def ids(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}]
        prompt = self.words.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False, date_string=DATE_STRING
        )
        return list(prompt), [*self.words.encode(answer, add_special_tokens=False), 2]

    def table(self, question: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-softmax (answer tokens, V) in float64 and the answer's ids."""
        prompt, ids = self.ids(question, answer)
        with torch.no_grad():
            logits = self.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        return logits.double().log_softmax(-1), torch.tensor(ids)

    def logps(self, question: str, answer: str) -> list[float]:
        table, ids = self.table(question, answer)
        return table[torch.arange(len(ids)), ids].tolist()

    def loss(self, question: str, answer: str) -> float:
        logps = self.logps(question, answer)
        return -sum(logps) / len(logps)


def lowest(values: list[float]) -> float:
    chosen = sorted(values)[: max(1, int(0.4 * len(values)))]
    return -sum(chosen) / len(chosen)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-4)


def test_probabilities_and_ratios_are_those_of_plain_passes(place: Path, whole: dict[str, Any]) -> None:
    plain, ratios = Plain(place / "model"), []
    for i in range(ROWS):
        asked = row("forget10_perturbed", i)
        q = asked["question"]
        key, found = str(i), whole["examples"]
        assert found["forget_Q_A_Prob"][key] == near(math.exp(-plain.loss(q, asked["answer"])))
        assert found["forget_Q_A_PARA_Prob"][key] == near(math.exp(-plain.loss(q, asked["paraphrased_answer"])))
        wrong = [plain.loss(q, text) for text in asked["perturbed_answer"]]
        assert found["forget_Q_A_PERT_Prob"][key] == near([math.exp(-loss) for loss in wrong])
        ratios.append(math.exp(plain.loss(q, asked["paraphrased_answer"]) - sum(wrong) / 5))
        assert found["forget_truth_ratio"][key] == near(ratios[-1])
        general = row("world_facts_perturbed", i)
        p, *rest = (
            math.exp(-plain.loss(general["question"], text))
            for text in (general["answer"], *general["perturbed_answer"])
        )
        assert found["wf_Q_A_Prob_normalised"][key] == near(p / (p + sum(rest) + 1e-10))
    assert whole["scores"]["forget_truth_ratio"] == near(sum(min(r, 1 / r) for r in ratios) / ROWS)


def test_attacks_are_those_of_plain_passes(place: Path, whole: dict[str, Any]) -> None:
    plain, before = Plain(place / "model"), Plain(place / "before")
    scores: dict[str, dict[str, list[float]]] = {}
    for side, config in (("forget", "forget10_perturbed"), ("holdout", "holdout10")):
        for i in range(ROWS):
            asked = row(config, i)
            q, a = asked["question"], asked["answer"]
            table, ids = plain.table(q, a)
            logps = plain.logps(q, a)
            mu = (table.exp() * table).sum(-1)
            sigma = ((table.exp() * table.square()).sum(-1) - mu.square()).clamp(min=1e-6).sqrt()
            standard = [(lp - m) / s for lp, m, s in zip(logps, mu.tolist(), sigma.tolist(), strict=True)]
            expected = {
                "mia_loss": plain.loss(q, a),
                "mia_zlib": plain.loss(q, a) / len(zlib.compress(a.encode())),
                "mia_min_k": lowest(logps[:-1]),  # the eos is dropped
                "mia_min_k_plus_plus": lowest(standard[:-1]),
                "mia_reference": plain.loss(q, a) - before.loss(q, a),
            }
            for name, value in expected.items():
                assert whole["examples"][name][str(i)][side] == pytest.approx(value, rel=1e-4, abs=1e-6)
                scores.setdefault(name, {}).setdefault(side, []).append(value)
    for name, sides in scores.items():
        labels = [0] * ROWS + [1] * ROWS
        assert whole["scores"][name] == pytest.approx(roc_auc_score(labels, [*sides["forget"], *sides["holdout"]]))


def test_what_needs_the_oracle_is_measured_on_it(place: Path, whole: dict[str, Any]) -> None:
    samples = []
    for name in ("model", "oracle"):
        plain = Plain(place / name)
        samples.append(
            [
                plain.loss(asked["question"], asked["paraphrased_answer"])
                - sum(plain.loss(asked["question"], text) for text in asked["perturbed_answer"]) / 5
                for asked in (row("forget10_perturbed", i) for i in range(ROWS))
            ]
        )
    assert whole["scores"]["forget_quality"] == near(math.log10(ks_2samp(*samples).pvalue))
    assert "privleak" in whole["scores"] and whole["scores"]["kl_forget"] > 0


def test_without_oracle_and_reference_their_scores_are_absent(whole: dict[str, Any], alone: dict[str, Any]) -> None:
    gone = set(whole["scores"]) - set(alone["scores"])
    assert {"forget_quality", "privleak", "kl_forget", "kl_retain", "kl_world", "mia_reference"} <= gone
    assert gone <= set(alone["absent"])
    assert all(len(reason.split()) >= 4 for reason in alone["absent"].values())
    for name in alone["scores"]:
        assert alone["scores"][name] == whole["scores"][name]


def test_a_pad_that_is_the_eos_changes_nothing(place: Path, whole: dict[str, Any]) -> None:
    """The template ends every turn with the real eos, so a mask made from ids would hide three tokens of each text."""
    given = {"oracle": str(place / "oracle"), "reference": str(place / "before")}
    padded = run(place, "padded.json", tokenizer=str(place / "padded"), **given)
    assert padded["scores"] == whole["scores"]
    assert padded["examples"] == whole["examples"]


def test_the_file_has_the_fixed_form(place: Path, whole: dict[str, Any]) -> None:
    kept = json.loads((place / "whole.json").read_text())
    assert kept == json.loads(json.dumps(whole))
    assert set(kept) == {"scores", "absent", "examples", "cost", "provenance"}
    assert not set(kept["scores"]) & set(kept["absent"])
    for rows in kept["examples"].values():
        assert [int(key) for key in rows] == list(range(ROWS))
    assert kept["cost"]["distinct"] <= kept["cost"]["positions"]
    assert str(place) not in (place / "whole.json").read_text(), "no path of this machine"


def test_a_configuration_that_is_missing_takes_its_own_metrics_only(tmp_path: Path, place: Path) -> None:
    data = write_data(
        tmp_path / "data", [name for name in CONFIGS if name not in ("holdout10", "world_facts_perturbed")]
    )
    found = run(place, "part.json", data=str(data))
    assert {"mia_loss", "privleak", "wf_Q_A_Prob", "model_utility"} <= set(found["absent"])
    assert "holdout10" in found["absent"]["mia_loss"]
    assert {"forget_Q_A_Prob", "retain_Truth_Ratio", "extraction_strength"} <= set(found["scores"])


def test_one_row_without_a_text_is_named(tmp_path: Path, place: Path) -> None:
    """A null paraphrase used to be scored as the right answer."""
    for broken in (
        {"paraphrased_answer": None},
        {"answer": None},
        {"perturbed_answer": ["a", None]},
        {"paraphrased_answer": " "},
    ):
        data = write_data(tmp_path / str(len(list(tmp_path.iterdir()))))
        rows = [row("forget10_perturbed", i) | (broken if i == 2 else {}) for i in range(ROWS)]
        (data / "forget10_perturbed.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
        with pytest.raises(UserError, match=f"Row 2 .* has (no|as its) {next(iter(broken))}"):
            run(place, "x.json", data=str(data))


def test_broken_files_are_told_and_nothing_is_written(tmp_path: Path, place: Path) -> None:

    data = write_data(tmp_path / "data")
    (data / "holdout10.json").write_text('{"question": "Who')
    with pytest.raises(UserError, match="holdout10.json, line 1 is no JSON"):
        run(place, "broken.json", data=str(data))
    for file, text, said in (("config.json", "{", "not readable JSON"), ("model.safetensors", "cut", "damaged")):
        folder = tmp_path / file
        shutil.copytree(place / "model", folder)
        (folder / file).write_text(text)
        with pytest.raises(UserError, match=said):
            run(place, "broken.json", model=str(folder))
    assert not (place / "broken.json").exists()


def test_models_that_do_not_compare_are_refused(tmp_path: Path, place: Path) -> None:
    other = subword_tokenizer(["another text altogether, with other words"])
    saved(subword_llama(other, 1), other, tmp_path / "other")
    with pytest.raises(UserError, match="--oracle: its tokenizer is not the model's|vocabulary of"):
        run(place, "x.json", oracle=str(tmp_path / "other"))


def test_an_oracles_tokenizer_is_compared_by_what_it_does(tmp_path: Path, place: Path) -> None:
    shutil.copytree(place / "oracle", tmp_path / "same")
    words = json.loads((tmp_path / "same" / "tokenizer.json").read_text())
    (tmp_path / "same" / "tokenizer.json").write_text(json.dumps(words, indent=4, sort_keys=True))
    model = Checkpoint(str(place / "model"), "model")
    assert incomparable_reasons(model, tmp_path / "same", "oracle", False) == []
    shutil.copytree(place / "oracle", tmp_path / "other")
    (tmp_path / "other" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (reason,) = incomparable_reasons(model, tmp_path / "other", "oracle", False)
    assert "(their chat templates differ); name one for both with --tokenizer" in reason
    words["added_tokens"][0]["lstrip"] = True
    (tmp_path / "same" / "tokenizer.json").write_text(json.dumps(words))
    (reason,) = incomparable_reasons(model, tmp_path / "same", "oracle", False)
    assert reason.startswith("--oracle: its tokenizer is not the model's (the added token") and "--tokenizer" in reason
    assert incomparable_reasons(model, tmp_path / "same", "oracle", True) == []


def test_the_machine_is_looked_at_before_the_model(tmp_path: Path, place: Path) -> None:
    (tmp_path / "file").write_text("")
    given = {"model": str(place / "model"), "data": str(place / "data")}
    with pytest.raises(UserError) as error:
        evaluate_model(
            EvaluationRequest("tofu", out=tmp_path / "file" / "x.json", threads=0, device="cuda:0", **given), place
        )
    said = " ".join(error.value.problems)
    assert "--threads" in said and "--out" in said and ("no GPU" in said or Path("/dev/nvidia0").exists())


def test_the_reference_is_loaded_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.engines import loaders
    from bench.engines.measuring import measure

    opened: list[str] = []

    def open_and_count(checkpoint: Any, device: str = "cpu") -> Any:
        opened.append(checkpoint.label)
        return loaders.open_checkpoint(checkpoint, device)

    monkeypatch.setattr(measure, "open_checkpoint", open_and_count)
    run(place, "once.json", reference=str(place / "before"), limit=2)
    assert opened == ["model", "reference"]


def test_how_many_rows_are_behind_a_score_is_said(whole: dict[str, Any]) -> None:
    assert whole["provenance"]["metrics"]["forget_Q_A_Prob"]["n"] == ROWS
    assert whole["provenance"]["metrics"]["mia_loss"]["n"] == 2 * ROWS


def test_mistakes_come_together_and_exit_with_2(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        evaluate_model(
            EvaluationRequest("tofuu", str(tmp_path / "no"), "no", tmp_path, dtype="float31", limit=0), tmp_path
        )
    assert len(error.value.problems) >= 4
    words = ["eval", "--task", "tofu", "--model", "nowhere", "--data", "nowhere", "--out", str(tmp_path / "x.json")]
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_data_that_are_no_tofu_are_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(UserError, match="no TOFU data"):
        run(place, "x.json", data=str(write_data(tmp_path / "data", ["holdout10"])))
    with pytest.raises(UserError, match="forget11"):
        run(place, "x.json", split="forget11")


@pytest.fixture(scope="module")
def wreck(place: Path) -> str:
    """A model that has diverged, with the model's tokenizer."""
    words = open_checkpoint(Checkpoint(str(place / "model"), "")).tokenizer
    saved(wrecked(subword_llama(words, 4)), words, place / "wreck")
    return str(place / "wreck")


def test_a_model_that_has_broken_down_has_no_scores(place: Path, whole: dict[str, Any], wreck: str) -> None:
    found = run(place, "wreck.json", model=wreck, oracle=str(place / "oracle"), reference=str(place / "before"))
    assert found["scores"] == {"collapsed": 1} and found["examples"] == {}
    lost = set(whole["scores"]) - {"collapsed"}
    assert set(found["absent"]) == lost | set(whole["absent"])
    assert all(BROKEN_DOWN in found["absent"][name] for name in lost)


@pytest.mark.parametrize("role", ["oracle", "reference"])
def test_another_model_that_has_broken_down_takes_its_own_scores_alone(
    role: str, place: Path, whole: dict[str, Any], wreck: str
) -> None:
    others = {"oracle": str(place / "oracle"), "reference": str(place / "before")} | {role: wreck}
    found = run(place, f"beside-{role}.json", **others)
    lost = set(whole["scores"]) - set(found["scores"])
    reason = OTHER_BROKEN.format({"oracle": "the oracle", "reference": "the reference model"}[role])
    assert lost and {found["absent"][name] for name in lost} == {reason}
    needs = {name for name, about in whole["provenance"]["metrics"].items() if about["needs_oracle"]}
    assert lost == (needs & set(whole["scores"]) if role == "oracle" else {"mia_reference"})
    assert all(found["scores"][name] == whole["scores"][name] for name in found["scores"])


PHI3 = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% else %}{{ eos_token }}{% endif %}"
)


@pytest.fixture(scope="module")
def phi(place: Path) -> Path:
    """The model with a chat template that ends a turn in another token than the tokenizer's eos."""
    opened = open_checkpoint(Checkpoint(str(place / "model"), "model"))
    opened.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    opened.tokenizer.chat_template = PHI3
    opened.model.resize_token_embeddings(len(opened.tokenizer), mean_resizing=False)
    saved(opened.model, opened.tokenizer, place / "phi")
    return place / "phi"


@pytest.mark.parametrize(
    ("template", "prompt", "end"),
    [
        ("", f"<system>{SYSTEM_PROMPT}<|end|>\n<user>{{}}<|end|>\n<assistant>", "<|end|>"),
        ("chat", f"<system>{SYSTEM_PROMPT}<|end|>\n<user>{{}}<|end|>\n<assistant>", "<|end|>"),
        ("chat-open-unlearning", f"<system>{SYSTEM_PROMPT}<|end|>\n<user>{{}}<|end|>\n<assistant>", "<|end|>\n<|eos|>"),
        ("base", "Question: {}\nAnswer: ", "<|eos|>"),
    ],
)
def test_a_template_asks_and_ends_as_it_says(place: Path, phi: Path, template: str, prompt: str, end: str) -> None:
    found = run(place, f"phi-{template}.json", model=str(phi), template=template, limit=2)
    plain = Plain(phi)
    for i in range(2):
        asked = row("forget10_perturbed", i)
        front = plain.words.encode("<|bos|>" + prompt.format(asked["question"]), add_special_tokens=False)
        parts = (asked["answer"], end)
        ids = [token for part in parts for token in plain.words.encode(part, add_special_tokens=False)]
        with torch.no_grad():
            logps = plain.model(torch.tensor([[*front, *ids]])).logits[0].log_softmax(-1)
        logp = [float(logps[len(front) - 1 + k, token]) for k, token in enumerate(ids)]
        assert found["examples"]["forget_Q_A_Prob"][str(i)] == near(math.exp(sum(logp) / len(logp)))
    assert found["provenance"]["template"] == (template or "the suite's")


def test_another_template_is_for_suites_that_ask_in_a_chat(place: Path) -> None:
    with pytest.raises(UserError, match="--template: .*poem.*chat-open-unlearning"):
        run(place, "x.json", template="poem")
    with pytest.raises(UserError, match="--template base: this benchmark doesn't ask in a chat"):
        ask_in((Probe("text", "logprob", (passage(0, "a b"),)),), "base")


def test_a_tokenizer_of_another_vocabulary_is_refused(place: Path, phi: Path, tmp_path: Path) -> None:
    """One with more tokens of its own is taken until a text has one of them."""
    swapped = json.loads((place / "model" / "tokenizer.json").read_text())
    one, other = list(swapped["model"]["vocab"])[40:42]
    words = swapped["model"]["vocab"]
    words[one], words[other] = words[other], words[one]
    shutil.copytree(place / "padded", tmp_path / "swapped")
    (tmp_path / "swapped" / "tokenizer.json").write_text(json.dumps(swapped))
    with pytest.raises(UserError, match="^--tokenizer: 'model' has another one of its own .token"):
        run(place, "x.json", tokenizer=str(tmp_path / "swapped"))
    with pytest.raises(UserError, match=r"Token '<\|end\|>'.*embedding has 300 rows"):
        run(place, "x.json", tokenizer=str(phi), limit=1)
    with pytest.raises(UserError, match="--tokenizer .*: there is no tokenizer in that folder"):
        run(place, "x.json", tokenizer=str(tmp_path))
    assert not (place / "x.json").exists()


def test_a_template_that_loses_the_question_writes_no_file(place: Path, tmp_path: Path) -> None:
    words = open_checkpoint(Checkpoint(str(place / "model"), "model")).tokenizer
    words.chat_template = "What is it?"
    words.save_pretrained(tmp_path / "lost")
    with pytest.raises(UserError, match="can't be used: it doesn't show the question exactly once"):
        run(place, "lost.json", tokenizer=str(tmp_path / "lost"), limit=1)
    assert not (place / "lost.json").exists()
    assert run(place, "lost.json", tokenizer=str(tmp_path / "lost"), limit=1, template="base")["scores"]


def test_a_wreck_is_a_file_with_reasons_and_without_scores(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "model", tmp_path / "wreck")
    weights = load_file(tmp_path / "wreck" / "model.safetensors")
    weights["model.norm.weight"][:] = torch.nan
    save_file(weights, tmp_path / "wreck" / "model.safetensors", {"format": "pt"})
    found = run(place, "wreck.json", model=str(tmp_path / "wreck"), limit=2)
    assert set(found["scores"]) <= {"collapsed"} and not found["examples"]
    for name in ("forget_Q_A_Prob", "forget_Q_A_ROUGE", "exact_memorization", "mia_loss"):
        assert "the model has broken down" in found["absent"][name]
