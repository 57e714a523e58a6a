"""The README: what a newcomer sees first leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))

LINKS = sorted(set(re.findall(r"\]\(([^)#:]+)\)", README)))
TARGETS = sorted(set(re.findall(r"make (\w+)", README)))


def test_readme_is_short() -> None:
    """The README has at most 120 lines."""
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("link", LINKS)
def test_every_link_of_the_readme_leads_somewhere(link: str) -> None:
    """Each relative link names a file of the repository."""
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_of_the_readme_exists(target: str) -> None:
    """Each `make` command is a target of the Makefile."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_in_the_navigation(page: str) -> None:
    """Each page of the documentation can be reached from its menu."""
    assert page.removeprefix("docs/") in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
