"""The pages in `docs/`, run as doctests."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoders import registry
from indexer import modalities

PAGES = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
DOCS = [page for page in PAGES if ">>> " in page.read_text("utf-8")]


@pytest.fixture(autouse=True)
def registrations() -> Iterator[None]:
    """What a page registers ends with it."""
    kinds, known = dict(registry._KINDS), dict(modalities._MODALITIES)
    yield
    for place, before in ((registry._KINDS, kinds), (modalities._MODALITIES, known)):
        place.clear()
        place.update(before)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_says_what_happens(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried > 5
    assert failed == 0


def test_there_are_pages_that_run() -> None:
    assert {page.name for page in DOCS} >= {"new-modality.md", "worked-example.md"}


def test_the_recipe_of_a_modality_is_short() -> None:
    text = (Path(__file__).parent.parent / "docs" / "new-modality.md").read_text("utf-8")
    recipe = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert sum(bool(line.strip()) for line in recipe.splitlines()) < 40
