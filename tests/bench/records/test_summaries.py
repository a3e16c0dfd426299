"""The short table: its columns, and the three forms that it is written in."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pytest

from bench.core.errors import UserError
from bench.records.summaries import (
    FORMATS,
    Summary,
    as_csv,
    as_latex,
    as_markdown,
    choose_columns,
    find_section,
    latex_text,
    summarise,
)
from bench.records.tables import Section, build_sections
from tests.factories import record, study
from tests.pages import compared

HOSTILE = r"50% of_a & b #1 {x} \input{/etc/passwd} $y$ ~^ <a>|"


def section_of_compared() -> Section:
    (section,) = build_sections(compared())
    return section


def test_the_columns_are_the_primary_scores_and_the_cost() -> None:
    columns = choose_columns(section_of_compared())
    assert [(column.name, column.head) for column in columns] == [
        ("x", "forgetting: x"),
        ("y", "kept knowledge: y"),
        ("cost", "tokens, of one retraining's"),
    ]
    (section,) = build_sections(study())
    assert [column.name for column in choose_columns(section)] == [c.name for c in section.headline][:5]


def test_columns_are_named_by_score_by_role_or_by_cost() -> None:
    section = section_of_compared()
    assert [c.name for c in choose_columns(section, ["kept", "x", "cost"])] == ["y", "x", "cost"]
    with pytest.raises(
        UserError, match=r"Unknown column of lab-tofu 'kep'\. Did you mean 'kept'\? Known: .*forgetting"
    ):
        choose_columns(section, ["kep"])


def test_markdown_as_computed_by_hand() -> None:
    """x: mean .52, half of the interval .0196; y: .902 and half of .0039; npo costs 60 of 100 tokens."""
    assert as_markdown(summarise(section_of_compared())).splitlines() == [
        "|  | forgetting: x →oracle | kept knowledge: y ↑ | tokens, of one retraining's |",
        "| --- | --: | --: | --: |",
        "| *retrain* | 0.520 ± 0.020 | 1.000 | 1.000 |",
        "| msa | 0.520 ± 0.020 | **0.902** ± 0.002 | 0.200 |",
        "| npo ▲ | 0.520 ± 0.020 | 0.802 ± 0.002 | 0.600 |",
        "| ga ⚠ | 0.520 ± 0.020 | 0.952 ± 0.002 | 0.100 |",
    ]


def test_csv_has_every_number_with_its_interval_and_seeds() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(summarise(section_of_compared(), ["kept"])))))
    assert [line["row"] for line in lines] == ["retrain", "msa", "npo", "ga"]
    assert {line["table"] for line in lines} == {"tofu (lab)"}, "a lab row says that it is one"
    assert [line["kind"] for line in lines] == ["oracle", "method", "method", "method"]
    assert [line["fate"] for line in lines] == ["", "", "", "collapsed"]
    msa = lines[1]
    assert (float(msa["y"]), msa["y_n"]) == (pytest.approx(0.902), "5")
    assert float(msa["y_high"]) - float(msa["y"]) == pytest.approx(2.776445 * 0.00158114 / 5**0.5, rel=1e-4)


def test_a_csv_holds_no_formula_and_no_second_line() -> None:
    one = dataclasses.replace(record("npo", 0, {"s": 0.5}, goals={"s": "up"}), label='=cmd|"/C calc"!A1\n"')
    (section,) = build_sections([one])
    (line,) = list(csv.DictReader(io.StringIO(as_csv(summarise(section, ["s"])))))
    assert line["table"] == '\'=cmd|"/C calc"!A1 "'


def test_latex_is_booktabs_with_one_cell_a_column() -> None:
    text = as_latex(summarise(section_of_compared()))
    assert all(f"\\{rule}" in text for rule in ("toprule", "midrule", "bottomrule"))
    assert "msa & 0.520 $\\pm$ 0.020 & \\textbf{0.902} $\\pm$ 0.002 & 0.200 \\\\" in text
    assert "ga $\\dagger$ &" in text and "collapsed on some seed" in text
    check_latex(text)


def test_latex_takes_no_name_for_a_command() -> None:
    scores = {HOSTILE: 0.5}
    made = [
        dataclasses.replace(record(method, 0, scores, goals={HOSTILE: "up"}), label=HOSTILE)
        for method in ("retrain", "npo", "50% of_a & b #1 {x} $y$ ~^ <a>|")
    ]
    (section,) = build_sections([dataclasses.replace(one, facts={"headline": [HOSTILE]}) for one in made])
    text = as_latex(summarise(section))
    assert "\\input" not in text and "\\textbackslash{}input" in text
    check_latex(text)


def check_latex(text: str) -> None:
    """Read a table as LaTeX would: braces and environments closed, no bare special sign, as many cells in every line."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[&%$#_{}\\]", "", body)
    assert not re.search(r"[#%_^~<>|]", bare), "a sign that means something"
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0 and bare.count("$") % 2 == 0
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", body) == ["table", "tabular", "tabular", "table"]
    found = re.search(r"\{(lr+)\}", body)
    lines = [line for line in bare.splitlines() if " & " in line]
    assert found and lines and all(line.count("&") == len(found[1]) - 1 for line in lines)
    known = {"begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "shortstack", "textbf", "pm",
             "rightarrow", "uparrow", "downarrow", "dagger", "triangle", "textbackslash", "textasciitilde",
             "textasciicircum", "textless", "textgreater", "textbar"}  # fmt: skip
    assert set(re.findall(r"\\([a-z]+)", body.replace("\\\\", " "))) <= known


def test_signs_of_latex() -> None:
    assert latex_text("a_b & 5% → ±") == r"a\_b \& 5\% $\rightarrow$ $\pm$"


def test_a_table_is_found_by_its_task_or_its_own_name() -> None:
    real = [record(m, 0, tier="real", model="smol", label="TOFU subset") for m in ("retrain", "npo")]
    other = [record(m, 0, tier="real", model="big", label="TOFU subset") for m in ("retrain", "npo")]
    sections = build_sections([*study(), *real, *other])
    assert find_section(sections, "tofu").slug == "lab-tofu"
    assert (
        find_section(sections, "tofu", "smol").slug == "real-tofu-smol" == find_section(sections, "real-tofu-smol").slug
    )
    assert find_section(build_sections(real), "tofu").slug == "real-tofu-smol", "where there is no other"
    with pytest.raises(UserError, match="Unknown table 'tofuu'. Did you mean 'tofu'?"):
        find_section(sections, "tofuu")
    with pytest.raises(UserError, match="-t tofu names 2 tables; name one of: real-tofu-big, real-tofu-smol"):
        find_section(build_sections([*real, *other]), "tofu")
    with pytest.raises(UserError, match="-t tofu --model none names 0 tables"):
        find_section(sections, "tofu", "none")
    with pytest.raises(UserError, match="There are no records with scores yet"):
        find_section([], "tofu")


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_says_which_table_it_is(form: str) -> None:
    summary: Summary = summarise(section_of_compared())
    assert "tofu (lab)" in FORMATS[form](summary)
