"""Tests mirror the tree: whoever changes a module finds its tests at the same place below ``tests``."""

from __future__ import annotations

from pathlib import Path

from tests.paths import ROOT

LONG = 100
"""A module of more lines than this has a test module of its own."""
ELSEWHERE = {
    "bench/cli/studies.py": "options of three commands: the tests of ablations, recipes and claims run what they call",
}
"""Long modules whose tests lie elsewhere -> the reason, which says where."""
PRODUCT = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "bench").rglob("*.py"))]


def mirror_of(module: str) -> Path:
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def is_long(module: str) -> bool:
    return len((ROOT / module).read_text().splitlines()) > LONG


def test_every_long_module_has_a_test_module_at_its_place() -> None:
    wanted = [name for name in PRODUCT if is_long(name) and not name.endswith("__init__.py") and name not in ELSEWHERE]
    lacking = [name for name in wanted if not mirror_of(name).is_file()]
    assert lacking == [], "write tests/<its folder>/test_<its name>, or say in ELSEWHERE where its tests are, and why"


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    needed = {name for name in PRODUCT if not mirror_of(name).is_file()}
    assert set(ELSEWHERE) <= needed, "a module that has its tests at its place is no exception"
    assert all(ELSEWHERE.values())
