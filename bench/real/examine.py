"""`bench doctor --model`: what one checkpoint is, how its first prompt and answer are read, and who would refuse it.

A person should look at the first rendered example before hours are spent: a template that loses the question, an
answer that ends elsewhere, a tokenizer of another model all show there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.assets.folders import FolderContent, read_folder
from bench.assets.history_sources import history_of_folder
from bench.assets.models import LocalModel
from bench.core import registry
from bench.core.contracts import Opened
from bench.core.errors import UserError
from bench.core.types import Checkpoint
from bench.engines.coding import embedding_rows
from bench.engines.loaders import open_checkpoint
from bench.engines.measuring import scoring
from bench.engines.measuring.generation import ends_of, takes_batches, takes_cache
from bench.engines.positions import PLACES, check_length, plain_reach
from bench.engines.templates import ANSWER, QUESTION, TEMPLATES, Encoded, chat_text, read_turn
from bench.real.scenario import PromptedOptions

NAME = 12
"""Width of the column with the names."""
LONGEST = {"tofu": 300, "restor": 300, "qa": 100, "muse-books": 2048, "books-public-domain": 2048}
"""Tokens of the longest texts of a benchmark, roughly: TOFU's prompt and 200 new tokens, MUSE's passages."""
BROKEN = "  these are no finite numbers: the model has broken down, and every score of it will be absent"


def examine_model(model: LocalModel, dtype: str = "float32") -> Iterator[str]:
    """The lines of the page, as they are found; `UserError` at the first thing that makes the model unusable."""
    content = read_folder(model.path, model.name)
    yield line("folder", f"{model.name}, hash {model.hash[:12]}")
    yield line("weights", describe_weights(content))
    opened = open_checkpoint(Checkpoint(str(model.path), model.hash, dtype=dtype, label=model.name))
    yield line("model", describe_architecture(opened.model))
    yield line("computed", describe_computing(opened, dtype))
    yield line("positions", describe_positions(opened.model))
    yield line("tokenizer", describe_tokenizer(opened))
    yield line("specials", describe_specials(opened.tokenizer))
    yield line("stops at", ", ".join(named(opened.tokenizer, token) for token in sorted(ends_of(opened))) or "nothing")
    yield line("history", describe_history(model.path))
    for remark in remarks_on(opened.tokenizer):
        yield line("look", remark)
    refused = dict(refusals(opened))
    sound = True
    for template in ("base" if "chat" in refused else "chat", "plain"):
        said = list(show_example(opened, template))
        yield from said
        sound = sound and BROKEN not in said
    yield from verdicts(opened, refused, sound)


def line(name: str, text: str) -> str:
    """A line of the page: a name, and what is said of it."""
    return f"{name:<{NAME}}{text}"


def describe_weights(content: FolderContent) -> str:
    """The files, the numbers in them and their types."""
    kinds = Counter({kind: 0 for kind in sorted({entry.dtype for entry in content.entries.values()})})
    for entry in content.entries.values():
        kinds[entry.dtype] += entry.count
    count = sum(kinds.values())
    return f"{count:,} numbers in {len(content.entries)} tensors and {len(content.files)} file(s): " + ", ".join(
        f"{kind} {share / count:.0%}" for kind, share in kinds.most_common()
    )


def describe_architecture(model: Any) -> str:
    """The class, the size and whether the head is the embedding."""
    config = model.config.get_text_config()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return (
        f"{model.config.model_type} ({type(model).__name__}), {config.num_hidden_layers} layers, width {config.hidden_size}, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, head {'tied to' if tied else 'apart from'} the embedding"
    )


def describe_computing(opened: Opened, dtype: str) -> str:
    """The attention, and how texts are scored and written."""
    model = opened.model
    scored = "what texts share once" if takes_shared_rows(opened) else "text by text"
    batches = takes_cache(model) and takes_batches(model, "cpu")
    writing = "in batches" if batches else "one by one, without a cache"
    return f"in {dtype}, {model.config._attn_implementation} attention; scored {scored}; texts are written {writing}"


def takes_shared_rows(opened: Opened) -> bool:
    """Whether texts that begin alike may share a row, tried on two answers to one question."""
    row = {"template": "plain", "prompt": QUESTION}
    texts = [opened.coder.encode({**row, "answer": answer}) for answer in (ANSWER, QUESTION)]
    if too_long(opened, max(text.length for text in texts)):
        return False
    return scoring.takes_trees(opened.model, texts, "cpu")


def describe_positions(model: Any) -> str:
    """How many positions there are, and from where on they depend on a text's length."""
    places = next((places for name in PLACES if (places := getattr(model.config.get_text_config(), name, None))), None)
    reach = plain_reach(model)
    beyond = (
        "" if reach == float("inf") else f"; beyond {reach} tokens each text is computed alone, and none is trained on"
    )
    return f"{places or 'no limit'}{beyond}"


def describe_tokenizer(opened: Opened) -> str:
    """The class, and its tokens beside the rows of the embedding."""
    tokens, rows = len(opened.tokenizer), embedding_rows(opened.model)
    more = f" (a text with one of the {tokens - rows} that have no row is refused)" if tokens > rows else ""
    return f"{type(opened.tokenizer).__name__}, {tokens:,} tokens for {rows:,} rows of the embedding{more}"


def describe_specials(tokenizer: Any) -> str:
    """Beginning, end, padding and unknown, each with its id."""
    each = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")}
    return ", ".join(f"{name} {'none' if at is None else named(tokenizer, at)}" for name, at in each.items())


def named(tokenizer: Any, token: int) -> str:
    """A token as it is written, with its id."""
    return f"{tokenizer.convert_ids_to_tokens(token)!s} ({token})"


def describe_history(folder: Path) -> str:
    """The checkpoints of the model's past that lie in its folder."""
    try:
        moments = history_of_folder(folder, hashed=False).moments
    except UserError:
        moments = ()
    if len(moments) < 2:
        return "none in this folder; MSA needs a checkpoint from before the forget set (--history)"
    return f"{len(moments)} checkpoints, steps {moments[0].step:,} to {moments[-1].step:,}"


def remarks_on(tokenizer: Any) -> Iterator[str]:
    """What a person should know of the tokenizer and its chat template."""
    if tokenizer.bos_token_id is None:
        yield "no bos: the first token of a passage is not scored"
    if tokenizer.eos_token_id is None:
        yield "no eos: answers outside a chat template end with their last token"
    if not tokenizer.chat_template:
        yield "no chat template: eval asks 'Question: ... Answer:', and run wants --set TASK.template=base"
        return
    try:
        turn = read_turn(tokenizer)
    except UserError:
        return  # said where its example would stand
    if not turn.system:
        yield "the chat template takes no system prompt: TOFU's is left out"
    if turn.parts:
        yield "the chat template takes a message as a list of parts"
    if not turn.end:
        yield "the chat template names no end of an answer: it ends in eos"
    elif turn.end[-1] != tokenizer.eos_token_id:
        yield f"an answer ends in {named(tokenizer, turn.end[-1])}, which is not the tokenizer's eos"
    text = chat_text(tokenizer, QUESTION)
    if tokenizer.bos_token and text.startswith(tokenizer.bos_token * 2):
        yield "the chat template begins with two bos"


def refusals(opened: Opened) -> Iterator[tuple[str, str]]:
    """Each template that can't be asked with, and the sentence why."""
    for template in TEMPLATES:
        try:
            opened.coder.encode({"template": template, "prompt": QUESTION, "answer": ANSWER})
        except UserError as error:
            yield template, str(error)


def show_example(opened: Opened, template: str) -> Iterator[str]:
    """The first example in a template: its prompt as text, and every token of the answer with its log-prob in nats."""
    text: Encoded = opened.coder.encode({"template": template, "prompt": QUESTION, "answer": ANSWER})
    yield ""
    yield f"Prompt in the template '{template}', {len(text.prompt)} tokens:"
    yield from (f"  | {part}" for part in opened.tokenizer.decode(list(text.prompt)).split("\n"))
    yield f"  {' '.join(named(opened.tokenizer, token) for token in text.prompt)}"
    if why := too_long(opened, text.length):
        yield why
        return
    yield "Answer, token by token, with log-probs in nats:"
    with torch.no_grad():
        found = scoring.forward_rows(opened.model, [scoring.row_alone(opened.model, text)], "cpu")
    logps = scoring.answer_logps(found)[text].tolist()
    yield "  " + ", ".join(
        f"{named(opened.tokenizer, token)} {logp:.2f}" for token, logp in zip(text.answer, logps, strict=True)
    )
    if not all(map(torch.isfinite, torch.tensor(logps))):
        yield BROKEN


def verdicts(opened: Opened, refused: Mapping[str, str], sound: bool) -> Iterator[str]:
    """For `eval` and each task with a real tier whether it would refuse the model, and why."""
    yield ""
    if not sound:
        yield line("tasks", "it has broken down: eval and run give a record whose scores are absent, with collapsed 1")
        return
    for name, tiers in registry.components("tasks").items():
        if "real" not in tiers:
            continue
        asks = "chat" if issubclass(registry.load_task(name, "real"), PromptedOptions) else "plain"
        why = refused.get(asks, "") or too_long(opened, LONGEST.get(name, 0))
        if not why and asks == "chat" and not opened.tokenizer.chat_template:
            why = f"eval takes it; run: its tokenizer has no chat template, --set {name}.template=base asks it as a base model"
        yield line("task", f"{name}: {why or 'eval and run take it'}")


def too_long(opened: Opened, tokens: int) -> str:
    """A sentence where texts of so many tokens are longer than the model's positions; empty where they aren't."""
    try:
        check_length(opened.model.config, tokens)
    except UserError as error:
        return str(error)
    return ""
