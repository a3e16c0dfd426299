"""`bench ls`, `show` and `compare` as commands: their options, and what each prints as JSON."""

from __future__ import annotations

import json

import pytest

from tests.processes import Place
from tests.shell import Shell


def test_listings_are_data_too(shell: Shell) -> None:
    methods = {one["name"]: one for one in json.loads(shell("ls", "methods", "--json").out)}
    assert methods["npo"]["needs"] == ["retain"] and methods["npo"]["parameters"]["beta"]["meaning"]
    assert json.loads(shell("ls", "methods", "graddi", "--json").out)["name"] == "graddiff", "as only one begins"
    tasks = {one["name"]: one for one in json.loads(shell("ls", "tasks", "--json").out)}
    assert [*tasks["tofu"]["tiers"]] == ["lab", "real"] and "authors" in tasks["tofu"]["tiers"]["lab"]["parameters"]
    for what in ("models", "metrics", "attacks"):
        found = json.loads(shell("ls", what, "--json").out)
        assert len(found) > 5 and all(one["name"] for one in found), what
    assert json.loads(shell("ls", "runs", "--json").out) == []
    assert json.loads(shell("ls", "history", "--json").out)["history"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ls", "methods", "--history", "x"), "ls methods takes no --history: that goes with `ls history`."),
        (("ls", "tasks", "--status", "done"), "ls tasks takes no --status: that goes with `ls runs`."),
        (("ls", "history", "tofu"), "ls history takes no name"),
        (("ls", "runs", "--seeds", "x"), "--seeds x: write whole numbers or ranges"),
        (("compare", "msa"), "compare takes two methods or records at least"),
    ],
)
def test_options_that_go_with_another_listing_are_a_sentence(
    words: tuple[str, ...], sentence: str, shell: Shell
) -> None:
    done = shell(*words)
    assert done.code == 2 and done.errors[0].startswith(sentence)


def test_show_and_compare_give_what_they_print_as_data(finished: Place, shell: Shell) -> None:
    place = ("--from", str(finished.out), "--store", str(finished.store), "--examples", "1", "--json")
    shown = json.loads(shell("show", "msa", *place).out)
    assert shown["record"] == finished.records()["msa"] and shown["beside"]["oracle"]
    compared = json.loads(shell("compare", "msa", "target", *place).out)
    assert [*compared["records"]] == ["msa", "target"] and compared["scores"]["msa"].keys() == shown["record"][
        "scores"
    ].keys()
