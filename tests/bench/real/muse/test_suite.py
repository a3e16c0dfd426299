"""MUSE-Books' suite: prompts, cuts and passages as its authors have them, the peer's values beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from bench.core.errors import UserError
from bench.engines.loaders import checkpoint_at, open_checkpoint
from bench.engines.templates import encode
from bench.real.evaluate import EvaluationRequest, evaluate_model
from bench.real.muse import suite as muse
from tests.tiny import saved, subword_llama, subword_tokenizer

PROSE = "It was the best of times, it was the worst of times; the hounds were running over the moor. "
TABLES: dict[tuple[str, str], list[dict[str, str]]] = {
    ("verbmem", "forget"): [{"prompt": f"Chapter {i}. {PROSE}", "gt": f"{PROSE * 6}{i}"} for i in range(3)],
    ("knowmem", "forget_qa"): [{"question": f"Who is {i}?", "answer": f"Running hounds {i}"} for i in range(3)],
    ("knowmem", "forget_qa_icl"): [{"question": f"What is {i}?", "answer": f"The moor {i}"} for i in range(2)],
    ("knowmem", "retain_qa"): [{"question": f"Where is {i}?", "answer": f"On moors {i}"} for i in range(3)],
    ("knowmem", "retain_qa_icl"): [{"question": f"Why is {i}?", "answer": f"Because {i}"} for i in range(2)],
    ("privleak", "forget"): [{"text": f"{i} {PROSE}"} for i in range(4)],
    ("privleak", "holdout"): [{"text": f"{PROSE[20:]} {i}"} for i in range(4)],
}


def write_data(folder: Path, leave_out: str = "") -> Path:
    kept = {key: rows for key, rows in TABLES.items() if key[0] != leave_out}
    lines = ["---", "configs:"]
    for config in dict.fromkeys(config for config, _ in kept):
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in (split for other, split in kept if other == config):
            lines += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
            (folder / config).mkdir(parents=True, exist_ok=True)
            rows = "".join(json.dumps(row) + "\n" for row in kept[config, split])
            (folder / config / f"{split}.jsonl").write_text(rows)
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("muse")
    write_data(folder / "data")
    words = subword_tokenizer([json.dumps(rows) for rows in TABLES.values()])
    for seed, name in enumerate(("model", "oracle")):
        saved(subword_llama(words, seed), words, folder / name)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    asked = EvaluationRequest("muse-books", str(place / "model"), str(place / "data"), place / "x.json")
    return evaluate_model(asked, place)


def test_prompts_are_the_authors_to_the_letter(place: Path) -> None:
    probes = {probe.name: probe for probe in muse.muse_suite(str(place / "data")).probes}
    first = probes["forget_knowmem"].examples[0].payload["prompt"]
    assert first == (
        "Question: What is 0?\nAnswer: The moor 0\n\nQuestion: What is 1?\nAnswer: The moor 1\n\n"
        "Question: Who is 0?\nAnswer: "
    )
    assert (
        probes["retain_knowmem"].examples[2].payload["prompt"].startswith("Question: Why is 0?\nAnswer: Because 0\n\n")
    )
    assert probes["forget_knowmem"].max_new_tokens == 32
    assert probes["forget_verbmem_said"].max_new_tokens == 128


def greedy(place: Path, prompt: str, most: int) -> str:
    opened = open_checkpoint(checkpoint_at(place / "model", ""))
    ids = opened.tokenizer.encode(prompt)
    start = len(ids)
    for _ in range(most):
        with torch.no_grad():
            token = int(opened.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == 2:
            break
        ids.append(token)
    return str(opened.tokenizer.decode(ids[start:], skip_special_tokens=True))


def test_verbatim_is_against_the_first_128_tokens_and_the_peers_against_all(place: Path, found: dict[str, Any]) -> None:
    words = open_checkpoint(checkpoint_at(place / "model", "")).tokenizer
    plain, stemmed = RougeScorer(["rougeL"], use_stemmer=False), RougeScorer(["rougeL"], use_stemmer=True)
    for i, row in enumerate(TABLES["verbmem", "forget"]):
        said = greedy(place, row["prompt"], 128)
        ids = words.encode(row["gt"])
        assert ids[0] == 1 and len(ids) > 128, "bos is counted, and the text is longer than what is compared"
        short = words.decode(ids[:128], skip_special_tokens=True)
        examples = found["examples"]
        assert examples["forget_verbmem_ROUGE"][str(i)] == pytest.approx(plain.score(short, said)["rougeL"].fmeasure)
        peer = stemmed.score(row["gt"], said)["rougeL"].fmeasure
        assert examples["forget_verbmem_ROUGE_peer"][str(i)] == pytest.approx(peer)


def test_passages_are_scored_from_the_second_token_and_lose_none(place: Path, found: dict[str, Any]) -> None:
    opened = open_checkpoint(checkpoint_at(place / "model", ""))
    for side in ("forget", "holdout"):
        for i, row in enumerate(TABLES["privleak", side]):
            ids = torch.tensor(opened.tokenizer.encode(row["text"]))
            assert ids[0] == 1 and ids[-1] != 2
            with torch.no_grad():
                logps = opened.model(ids[None]).logits[0, :-1].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]
            chosen = logps.sort().values[: max(1, int(0.4 * len(logps)))]
            value = found["examples"]["mia_min_k"][str(i)][side]
            assert value == pytest.approx(float(-chosen.mean()), rel=1e-4)
            short = logps[:-1].sort().values[: max(1, int(0.4 * (len(logps) - 1)))]
            value = found["examples"]["mia_min_k_peer"][str(i)][side]
            assert value == pytest.approx(float(-short.mean()), rel=1e-4), "the peer drops the last token, eos or not"


def test_a_text_is_scored_behind_a_space_and_said_without_one(place: Path) -> None:
    """Prompt and text are cut from running prose; the seam's token is the one with the space (the tokenizer merges)."""
    words = open_checkpoint(checkpoint_at(place / "model", "")).tokenizer
    probes = {probe.name: probe for probe in muse.muse_suite(str(place / "data")).probes}
    row = TABLES["verbmem", "forget"][0]
    text = encode(words, probes["forget_verbmem"].examples[0].payload)
    assert list(text.answer) == words.encode(" " + row["gt"], add_special_tokens=False)
    assert text.answer[0] != words.encode(row["gt"], add_special_tokens=False)[0]
    assert probes["forget_verbmem_said"].examples[0].payload["answer"] == row["gt"]


def test_a_passage_is_cut_at_2048_tokens_without_an_eos(place: Path) -> None:
    words = open_checkpoint(checkpoint_at(place / "model", "")).tokenizer
    probe = muse.passage_probes([{"text": PROSE * 90}], [{"text": PROSE}])[0]
    text = encode(words, probe.examples[0].payload)
    assert len(words.encode(PROSE * 90)) > 2100 and text.length == 2048
    assert [*text.prompt, *text.answer] == words.encode(PROSE * 90)[:2048] and not text.eos


def test_answers_are_cut_where_the_next_question_would_begin() -> None:
    from bench.engines.measuring.generation import cut_at_stops

    assert cut_at_stops("Irene\n\nQuestion: Who", muse.STOPS) == "Irene"
    assert cut_at_stops("Irene\nQuestion: Who", muse.STOPS) == "Irene"
    assert cut_at_stops("Irene Question: Who", muse.STOPS) == "Irene "
    assert cut_at_stops("Irene\nAdler", muse.STOPS) == "Irene\nAdler"


def test_privleak_needs_the_tasks_own_oracle(place: Path, found: dict[str, Any]) -> None:
    assert {"privleak", "privleak_peer", "mia_reference"} <= set(found["absent"])
    asked = EvaluationRequest(
        "muse-books", str(place / "model"), str(place / "data"), place / "y.json", oracle=str(place / "oracle")
    )
    with_oracle = evaluate_model(asked, place)["scores"]
    own = evaluate_model(
        EvaluationRequest("muse-books", str(place / "oracle"), str(place / "data"), place / "z.json"), place
    )["scores"]["mia_min_k"]
    auc = with_oracle["mia_min_k"]
    assert with_oracle["privleak"] == pytest.approx(100 * ((1 - auc) - (1 - own)) / (1 - own))


def test_a_missing_table_takes_its_own_metrics_only(tmp_path: Path, place: Path) -> None:
    suite = muse.muse_suite(str(write_data(tmp_path, leave_out="privleak")))
    assert {"mia_loss", "privleak", "mia_min_k_peer"} <= set(suite.absent)
    assert {"forget_verbmem_ROUGE", "retain_knowmem_ROUGE"} <= {metric.name for metric in suite.metrics}


def test_another_split_and_other_data_are_refused(tmp_path: Path, place: Path) -> None:
    with pytest.raises(UserError, match="one forget set"):
        muse.muse_suite(str(place / "data"), "forget10")
    with pytest.raises(UserError, match="no MUSE data"):
        muse.muse_suite(str(tmp_path))


@pytest.mark.parametrize("table", TABLES)
def test_a_field_of_another_type_is_one_sentence_and_no_absent_part(tmp_path: Path, table: tuple[str, str]) -> None:
    data, (config, split) = write_data(tmp_path / "data"), table
    file, whole = data / config / f"{split}.jsonl", TABLES[table]
    for value, fault in (
        (7, "a number"),
        ([PROSE], "a list"),
        ({"a": "b"}, "an object"),
        ("\udc00", "a text with half a"),
    ):
        field = list(whole[0])[-1]
        rows = [*whole[:1], whole[1] | {field: value}, *whole[2:]]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(
            UserError, match=f"^Row 1 of the configuration '{config}/{split}' has as its {field} {fault}"
        ):
            muse.muse_suite(str(data))
    file.write_bytes(json.dumps(whole[0]).encode() + b'\n{"text": "\xe9"}\n')
    with pytest.raises(UserError, match=f"^{split}.jsonl, line 2 can't be read as UTF-8"):
        muse.muse_suite(str(data))
