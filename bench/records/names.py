"""Names of scores that a person can read, for axes and headings; the table is ``names.toml``."""

from __future__ import annotations

from pathlib import Path

from bench.core.files import read_toml
from bench.core.texts import one_line

NAMES = read_toml(Path(__file__).with_suffix(".toml"))
ENDINGS = {"_greedy": ", greedy", "_lenient": ", lenient", "_peer": " (open-unlearning's)"}
"""What may follow any name, and how it is said."""


def score_name(score: str) -> str:
    """The name of a score for people, ``accuracy, forget set``; one that isn't in the table stands as it is."""
    for ending, said in ENDINGS.items():
        if score.endswith(ending) and (known := score_name(bare := score.removesuffix(ending))) != bare:
            return known + said
    if known := NAMES["scores"].get(score):
        return str(known)
    if score.startswith("kl_"):
        side, floors = score.removeprefix("kl_").removesuffix("_floors"), score.endswith("_floors")
        if side in NAMES["sides"]:
            return f"KL to the oracle, {NAMES['sides'][side]}{', in floors' * floors}"
    if score.startswith("lm_eval_"):
        return f"lm-eval: {one_line(score.removeprefix('lm_eval_')).replace('_', ' ')}"
    for side, said in NAMES["sides"].items():
        if measure := NAMES["measures"].get(score.removeprefix(f"{side}_")):
            return f"{measure}, {said}"
    return one_line(score)


def role_name(role: str) -> str:
    """The name of a role of a primary score for people: ``kept knowledge``."""
    return str(NAMES["roles"].get(role) or one_line(role).replace("_", " "))
