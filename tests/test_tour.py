"""The tour in CONTRIBUTING.md names what exists, and every folder."""

import ast
import re

import pytest

from support.paths import ROOT

SOURCE = ROOT / "src" / "tangential"
TOUR = (ROOT / "CONTRIBUTING.md").read_text()
QUOTED = re.findall(r"`([^`\n]+)`", TOUR)
PATHS = sorted({each for each in QUOTED if re.fullmatch(r"[\w./]+(?:\.\w+|/)", each)})
PLACES = sorted({each for each in QUOTED if re.fullmatch(r"[\w./]+\.py:[\w.]+", each)})


def defined(path):
    """The names that a file defines, `Class.method` for methods."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


def there(path):
    """A path of the tour lies in the package or in the project."""
    return (SOURCE / path).exists() or (ROOT / path).exists()


@pytest.mark.parametrize("path", [each for each in PATHS if each not in ("settings.json", "metrics.jsonl")])
def test_every_path_of_the_tour_exists(path):
    assert there(path)


@pytest.mark.parametrize("place", PLACES)
def test_every_definition_of_the_tour_exists(place):
    file, name = place.split(":")
    assert name in defined(SOURCE / file)


def test_no_folder_is_missing_from_the_tour():
    folders = {f"{path.parent.relative_to(SOURCE)}/" for path in SOURCE.rglob("*.py")} - {"./"}
    folders |= {"kernels/c/", "experiments/report/static/"}
    assert folders <= set(PATHS)


def test_no_file_at_the_top_is_missing_from_the_tour():
    files = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert files <= set(PATHS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([\w-]+)`", TOUR))))
def test_every_make_target_of_the_tour_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_a_missing_name_would_be_seen():
    assert "Projected.stepp" not in defined(SOURCE / "optimizers" / "base.py")
    assert not there("experiments/nowhere.py")
    assert len(PLACES) > 20
