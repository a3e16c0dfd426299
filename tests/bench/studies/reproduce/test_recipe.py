"""What a recipe says of itself."""

from __future__ import annotations

from dataclasses import replace

from bench.studies.reproduce.published import PublishedTable
from bench.studies.reproduce.recipe import LAST, Recipe, RecipePanel, RecipeRow

ONE, TWO, THREE = (PublishedTable(name, "a page", (), ()) for name in ("one", "two", "three"))
ROWS = (
    RecipeRow("MSA", "msa", {"before": "step2"}),
    RecipeRow("NPO", "npo", {"before": "no checkpoint: NPO has none"}),
    RecipeRow("MSA last", "msa", {"before": LAST}),
    RecipeRow("MSA plain", "msa"),
    RecipeRow("MSA other", "msa", {"before": "owner/name"}),
    RecipeRow("MSA again", "msa", {"before": "step2", "alpha": 2}),
)
PANEL = RecipePanel("p", ONE, "some/model", ROWS, {})


def test_the_past_is_what_msas_rows_begin_at_each_once_but_the_model_itself() -> None:
    assert PANEL.past == ("step2", "owner/name")
    assert replace(PANEL, arms=ROWS[1:4]).past == ()


def test_its_tables_are_those_of_its_panels_and_then_the_others() -> None:
    recipe = Recipe("r", "A title", "a paper", panels=(PANEL, replace(PANEL, table=TWO)), others=(THREE,))
    assert [table.name for table in recipe.tables] == ["one", "two", "three"]
    assert Recipe("r", "", "").tables == ()


def test_its_line_of_the_list_has_what_a_reader_chooses_by() -> None:
    recipe = Recipe("r", "A title", "a paper", "tofu", status="not delivered", note="why")
    assert recipe.row() == {
        "name": "r",
        "title": "A title",
        "source": "a paper",
        "status": "not delivered",
        "note": "why",
        "task": "tofu",
    }
