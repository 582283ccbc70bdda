"""What the documents say is so: their code runs, their links lead somewhere, the versions agree."""

import re
import subprocess
import sys

import pytest

import tangential
from support.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def code_of(page):
    """All Python of a page, in order: later blocks may use what earlier ones made."""
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


@pytest.mark.parametrize("page", [p for p in PAGES if code_of(p)], ids=lambda p: p.name)
def test_code_in_the_documents_runs(page):
    exec(compile(code_of(page), page.name, "exec"), {"__name__": "document"})


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(example):
    subprocess.run([sys.executable, "-W", "error", str(example)], check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), target


def test_changelog_has_an_entry_for_this_version():
    assert f"## [{tangential.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"`make ([a-z-]+)`", page.read_text())) <= targets, page.name
