"""Names of revisions and numbers of tokens, read and written."""

from __future__ import annotations

import pytest

from bench.assets.history_names import format_tokens, parse_revision, parse_tokens
from bench.assets.known_models import KNOWN
from bench.core.errors import UserError
from tests.histories import BILLION


@pytest.mark.parametrize(
    ("name", "step", "tokens", "stage"),
    [
        ("stage1-step119000-tokens500B", 119_000, 500 * BILLION, "stage1"),
        ("stage2-ingredient1-step11000-tokens47B", 11_000, 47 * BILLION, "stage2-ingredient1"),
        ("step1000-tokens4B", 1000, 4 * BILLION, "pretraining"),
        ("step143000", 143_000, None, "pretraining"),
        ("stage1-step-40000", 40_000, None, "stage1"),
        ("ckpt_358", 358, None, "pretraining"),
        ("checkpoint-500", 500, None, "training"),
    ],
)
def test_the_names_of_the_suites_are_understood(name: str, step: int, tokens: int | None, stage: str) -> None:
    assert parse_revision(name) == (step, tokens, stage)


@pytest.mark.parametrize("name", ["main", "ckpt_final", "step", "checkpoint-last", "stage1-tokens4B", "step10-tokens4"])
def test_other_names_say_nothing(name: str) -> None:
    assert parse_revision(name) is None


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("500B", 500 * BILLION), ("4.2T", 4200 * BILLION), ("800M", 800_000_000), ("2097152", 2_097_152), ("1.5k", 1500)],
)
def test_tokens_are_read_exactly(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "B", "-4B", "4 billion", "1.5", "0.0001K", "1e9"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="500B, 4.2T, 800M"):
        parse_tokens(text)


def test_tokens_for_people() -> None:
    shown = [format_tokens(n) for n in (None, 0, 12, 64_000, 4 * BILLION, 3985 * BILLION, 299_892_736_000)]
    assert shown == ["?", "0", "12", "64K", "4B", "3985B", "299.9B"]


def test_the_known_names_of_revisions_are_understood_and_in_order() -> None:
    for model in KNOWN.values():
        steps = [parsed.step for name in model.revisions if (parsed := parse_revision(name))]
        assert len(steps) == len(model.revisions) and steps == sorted(steps)
        assert set(model.derived) <= set(model.revisions)
