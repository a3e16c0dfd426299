from __future__ import annotations

import pytest

from bench.core.errors import UserError, collecting, mistakes_in, report_mistake, shorten_reason


def test_mistakes_come_together_in_order_and_once() -> None:
    with pytest.raises(UserError) as told, collecting() as problems:
        report_mistake("a")
        with mistakes_in("--option: "):
            raise UserError("b", "c")
        report_mistake("a")
        assert problems == ["a", "--option: b", "--option: c", "a"]
    assert told.value.problems == ("a", "--option: b", "--option: c")


def test_a_mistake_outside_of_a_block_is_raised_at_once() -> None:
    with pytest.raises(UserError, match="alone"):
        report_mistake("alone")
    report_mistake()
    with collecting():
        pass


def test_what_ends_the_block_comes_after_what_was_kept() -> None:
    with pytest.raises(UserError) as told, collecting():
        report_mistake("kept")
        raise UserError("the end")
    assert told.value.problems == ("kept", "the end")


def test_another_error_goes_through_and_leaves_nothing_behind() -> None:
    with pytest.raises(KeyError), collecting():
        report_mistake("lost")
        raise KeyError("ours")
    with pytest.raises(UserError, match="now"):
        report_mistake("now")


def test_what_the_library_says_stands_in_one_line_without_places() -> None:
    assert shorten_reason(ValueError("\n  no '/home/me/models/x.json' here.\nmore")) == "no x.json here"
    assert shorten_reason(ValueError("")) == "ValueError" and len(shorten_reason("word " * 99)) <= 200
