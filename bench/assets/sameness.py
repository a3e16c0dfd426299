"""Whether checkpoints may be summed: the same tensors, the same tokens, and configs that give weights one meaning."""

from __future__ import annotations

from collections.abc import Sequence

from bench.assets.configs import config_difference
from bench.assets.headers import FLOATS, TensorEntry
from bench.assets.tensors import CONSTANTS, HEADS, TensorFiles
from bench.assets.tokens import has_own_tokenizer, tokenizer_difference
from bench.core.errors import UserError, raise_problems


def check_match(readers: Sequence[TensorFiles]) -> None:
    """Raise `UserError` when a term's tensors have other names, shapes, tokens or settings than the first term's."""
    first = readers[0]
    problems = [problem for reader in readers[1:] for problem in [describe_mismatch(first, reader)] if problem]
    raise_problems(list(dict.fromkeys(problems)))


def describe_mismatch(first: TensorFiles, other: TensorFiles) -> str:
    """The first difference that forbids a sum, as a sentence; empty when there is none."""
    return (
        describe_other_tensors(first, other)
        or describe_other_config(first, other)
        or describe_other_tokens(first, other)
    )


def describe_other_tensors(first: TensorFiles, other: TensorFiles) -> str:
    """A sentence about a tensor that one lacks, or that has another shape or kind of entries; empty when there is none."""
    one, two = (tensors_to_compare(reader) for reader in (first, other))
    if odd := sorted(one.keys() ^ two.keys()):
        head = HEADS.search(odd[0]) and len(odd) == 1
        tied = f" ('{odd[0]}' is there when a model's head isn't tied to its embedding)" if head else ""
        return (
            f"'{first.label}' and '{other.label}' don't hold the same tensors: {len(odd)} differ, "
            f"the first is '{odd[0]}'{tied}."
        )
    for name, entry in one.items():
        if entry.shape != two[name].shape:
            return (
                f"Tensor '{name}' has shape {entry.shape} in '{first.label}' and {two[name].shape} in "
                f"'{other.label}'. A resized embedding is the usual cause: use checkpoints with one vocabulary."
            )
        if (entry.dtype in FLOATS) != (two[name].dtype in FLOATS):
            return (
                f"Tensor '{name}' is {entry.dtype} in '{first.label}' and {two[name].dtype} in '{other.label}': "
                "one of them is quantised or isn't the same model."
            )
    return ""


def tensors_to_compare(reader: TensorFiles) -> dict[str, TensorEntry]:
    """The tensors that all terms must have, by name."""
    return {name: reader.entries[name] for name in reader.names if not CONSTANTS.search(name)}


def describe_other_config(first: TensorFiles, other: TensorFiles) -> str:
    """A sentence about a setting under which the same weights are another model; empty when there is none."""
    found = config_difference(first.config, other.config)
    if found is None:
        return ""
    return (
        f"The setting '{found.key}' is {found.one!r} in the config of '{first.label}' and {found.other!r} in that of "
        f"'{other.label}': the same weights are another model under each, so that a sum of both is neither; use "
        "checkpoints of one model."
    )


def describe_other_tokens(first: TensorFiles, other: TensorFiles) -> str:
    """A sentence about what the one tokenizer does otherwise than the other; empty when nothing is."""
    folders = [reader.folder for reader in (first, other)]
    if not all(map(has_own_tokenizer, folders)):
        return ""
    names = f"'{first.label}'", f"'{other.label}'"
    try:
        clause = tokenizer_difference(folders[0], folders[1], names, only_tokens=True)
    except UserError as error:
        return str(error)
    if not clause:
        return ""
    where = "" if names[0] in clause else f" of {names[0]} and {names[1]}"
    return (
        f"{clause[0].upper()}{clause[1:]}{where and f' (tokenizers{where})'}: their tokens are not the same, and a row of "
        "the one embedding isn't that of the other; use checkpoints with one tokenizer."
    )
