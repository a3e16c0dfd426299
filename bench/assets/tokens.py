"""Whether two tokenizers give the same ids: compared by what they do, and not by how their files are written.

Vocabulary and added tokens with their ids, merges, normaliser and pre-tokeniser count; indentation, the order of keys,
old spellings, padding, truncation and how ids become text don't. Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import UserError
from bench.core.types import Json

TOKENIZER = "tokenizer.json"
PIECES = "tokenizer.model"
SETTINGS = "tokenizer_config.json"
RULES = {"normalizer": "normalisers", "pre_tokenizer": "pre-tokenisers"}
"""Parts of a tokenizer.json that decide where a text is cut, and a word for them."""
FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
"""Settings of an added token that decide what it takes with it."""
SPECIAL = ("bos_token", "eos_token", "unk_token")
SWITCHES = ("add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case")
PARTS = ("normalizers", "pretokenizers", "processors")
"""Where a sequence of steps keeps them."""


@dataclass(frozen=True)
class TokenTable:
    """What one tokenizer does."""

    ids: Mapping[str, int]
    """With the added tokens."""
    beside: Mapping[str, int]
    """The added tokens as tokenizer_config.json has them, which some classes of transformers take instead."""
    flags: Mapping[str, tuple[bool, ...]]
    """Of the added tokens in tokenizer.json, in the order of `FLAGS`."""
    model: Json
    """Merges, scores and settings."""
    parts: Json
    """Normaliser, pre-tokeniser and post-processor."""
    settings: Json


def has_own_tokenizer(folder: Path) -> bool:
    """Whether there is a tokenizer that can be compared."""
    return any((folder / file).is_file() for file in (TOKENIZER, PIECES, "vocab.json"))


def read_chat_template(folder: Path) -> Any:
    """The chat template, or several by name, in the files that transformers reads, first come; None where there is none."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    found = (
        read_object(folder / file).get("chat_template") for file in ("chat_template.json", "tokenizer_config.json")
    )
    return next((template for template in found if template), None)


def tokenizer_difference(one: Path, other: Path, names: tuple[str, str], only_tokens: bool = False) -> str:
    """What the tokenizers of two folders do otherwise, as a clause; empty where they do the same.

    With ``only_tokens`` one may have tokens that the other hasn't, begin a text otherwise and have another end: a
    sum asks only that each id is the same token. Where both are the user's, ``names`` say which is which.
    """
    forms = [(folder / PIECES).read_bytes() if (folder / PIECES).is_file() else b"" for folder in (one, other)]
    plain = [
        not (folder / TOKENIZER).is_file() and bool(form) for folder, form in zip((one, other), forms, strict=True)
    ]
    if any(plain):
        if all(forms):
            return "" if forms[0] == forms[1] else f"their {PIECES} differ"
        return "" if only_tokens else f"one has a {PIECES} and the other none, so that they can't be compared"
    ours, theirs = read_tables(one, other)
    return (
        other_ids(ours.ids, theirs.ids, names, only_tokens)
        or other_ids(ours.beside, theirs.beside, names, only_tokens=True)
        or other_flags(ours, theirs, names)
        or other_rules(ours, theirs)
        or ("" if only_tokens else other_frame(ours, theirs))
    )


def other_ids(ours: Mapping[str, int], theirs: Mapping[str, int], names: tuple[str, str], only_tokens: bool) -> str:
    """A clause about a token with two ids, an id with two tokens, or a token that only one has."""
    for token, number in ours.items():
        if theirs.get(token, number) != number:
            return f"token {token!r} is number {number} in {names[0]} and {theirs[token]} in {names[1]}"
    tokens = {number: token for token, number in ours.items()}
    for token, number in theirs.items():
        if token not in ours and number in tokens and tokens[number] not in theirs:
            return f"number {number} is the token {tokens[number]!r} in {names[0]} and {token!r} in {names[1]}"
    if not only_tokens and (odd := sorted(ours.keys() ^ theirs.keys())):
        has, lacks = names if odd[0] in ours else names[::-1]
        return f"token {odd[0]!r} is in {has} and not in {lacks}"
    return ""


def other_flags(ours: TokenTable, theirs: TokenTable, names: tuple[str, str]) -> str:
    """A clause about an added token that takes spaces, or parts of words, in one tokenizer only."""
    for token, flags in ours.flags.items():
        for name, flag, another in zip(FLAGS, flags, theirs.flags.get(token, flags), strict=True):
            if flag != another:
                return f"the added token {token!r} has {name}={flag} in {names[0]} and {another} in {names[1]}"
    return ""


def other_rules(ours: TokenTable, theirs: TokenTable) -> str:
    """A clause about merges, settings, normaliser or pre-tokeniser."""
    for key, word in RULES.items():
        if ours.parts.get(key) != theirs.parts.get(key):
            return f"their {word} differ"
    for key in sorted(ours.model.keys() | theirs.model.keys(), key=lambda key: (key != "merges", key)):
        if ours.model.get(key) != theirs.model.get(key):
            return f"their {key} differ" if key in ("merges", "scores") else f"'{key}' of their models differs"
    return ""


def other_frame(ours: TokenTable, theirs: TokenTable) -> str:
    """A clause about what is put before and behind a text."""
    if ours.parts.get("post_processor") != theirs.parts.get("post_processor"):
        return "their post-processors differ"
    for key in (*SPECIAL, *SWITCHES):
        one, two = ours.settings.get(key), theirs.settings.get(key)
        if one != two and (key in SPECIAL or None not in (one, two)):
            return f"'{key}' is {one!r} in the one and {two!r} in the other"
    return ""


def read_tables(one: Path, other: Path) -> tuple[TokenTable, TokenTable]:
    """The tables of two folders; where the files differ, as the tokenizers library would write them."""
    raw = [read_tokenizer(folder) for folder in (one, other)]
    if raw[0] != raw[1]:
        raw = [as_written_today(each) for each in raw]
    first, second = (make_table(each, folder) for each, folder in zip(raw, (one, other), strict=True))
    return first, second


def read_tokenizer(folder: Path) -> Json:
    """The folder's tokenizer.json, or as much of one as vocab.json and merges.txt make."""
    if (folder / TOKENIZER).is_file():
        return read_object(folder / TOKENIZER)
    if not (folder / "vocab.json").is_file():
        return {}
    model: Json = {"type": "BPE", "vocab": read_object(folder / "vocab.json"), "merges": []}
    if (folder / "merges.txt").is_file():
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        model["merges"] = [line for line in lines if line and not line.startswith("#version")]
    return {"model": model}


def read_object(path: Path) -> Json:
    """A JSON object; `UserError` where the file is none, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path.name} of '{path.parent.name}' is no readable JSON object: save the tokenizer again.")
    return found


def as_written_today(tokenizer: Json) -> Json:
    """A tokenizer.json as the tokenizers library writes it; as it is where that can't read it."""
    from tokenizers import Tokenizer

    try:
        written: Json = json.loads(Tokenizer.from_str(json.dumps(tokenizer)).to_str())
    except Exception:
        return tokenizer
    return written


def make_table(tokenizer: Json, folder: Path) -> TokenTable:
    """What a tokenizer.json and the settings beside it say; `UserError` where it isn't of the format."""
    settings = read_object(folder / SETTINGS)
    try:
        model = {key: value for key, value in (tokenizer.get("model") or {}).items() if value and key != "type"}
        words = model.pop("vocab", {})
        scores = {} if isinstance(words, dict) else {"scores": {pair[0]: pair[1] for pair in words}}
        words = words if isinstance(words, dict) else {pair[0]: number for number, pair in enumerate(words)}
        if "merges" in model:
            model["merges"] = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
        added = {str(token["content"]): token for token in tokenizer.get("added_tokens") or []}
        beside = {str(t["content"]): int(n) for n, t in (settings.get("added_tokens_decoder") or {}).items()}
        ids = {**read_object(folder / "added_tokens.json"), **beside, **words}
        ids |= {token: int(about["id"]) for token, about in added.items()}
        flags = {token: tuple(bool(about.get(flag)) for flag in FLAGS) for token, about in added.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise UserError(f"The tokenizer of '{folder.name}' isn't of the usual format: save it again.") from None
    parts = {key: simplify(tokenizer.get(key)) for key in ("normalizer", "pre_tokenizer", "post_processor")}
    if isinstance(parts["post_processor"], dict) and parts["post_processor"].get("type") == "ByteLevel":
        parts["post_processor"] = None  # it moves offsets, and no id
    special = {key: content_of(settings.get(key)) for key in SPECIAL}
    return TokenTable(ids, beside, flags, model | scores, parts, {**settings, **special})


def simplify(part: Any) -> Any:
    """A step without what only moves offsets; a sequence of one step is that step."""
    if isinstance(part, list):
        return [simplify(each) for each in part]
    if not isinstance(part, dict):
        return part
    steps = next(
        (part[key] for key in PARTS if part.get("type") == "Sequence" and isinstance(part.get(key), list)), None
    )
    if steps is not None and len(steps) < 2:
        return simplify(steps[0]) if steps else None
    return {key: simplify(value) for key, value in part.items() if key != "trim_offsets"}


def content_of(token: Any) -> Any:
    """The text of a token that is a text or an object with its settings."""
    return token.get("content") if isinstance(token, dict) else token
