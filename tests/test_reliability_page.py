"""Every command in docs/reliability.md finds the tests that it promises."""

import re

import pytest

from support.paths import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
COMMANDS = re.findall(r'`(tests/\S+\.py)(?: -k (?:"([^"]+)"|(\w+)))?`', PAGE)


def test_every_promise_has_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(rows) > 15
    assert all("`tests/" in row.rsplit("|", 2)[1] for row in rows)


@pytest.mark.parametrize(("path", "several", "one"), COMMANDS)
def test_command_finds_tests(path, several, one):
    names = re.findall(r"def (test_\w+)", (ROOT / path).read_text())
    assert names
    for word in (several or one).split(" or ") if several or one else ():
        assert any(word in name for name in names), f"{path} -k {word}"
