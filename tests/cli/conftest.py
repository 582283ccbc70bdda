"""The command line in this process."""

import sys

import pytest

from tangential.cli import app as cli


@pytest.fixture
def tangential(monkeypatch, capsys):
    """The command, run in this process: arguments -> (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tangential", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.run()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run
