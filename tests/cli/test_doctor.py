"""The command `doctor`: what it prints fits the terminal, and bad use is one line."""

import pytest

NET = """
import torch
from torch import nn

def build():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.GroupNorm(1, 8), nn.Flatten())
    return net, (torch.randn(4, 3, 6, 6),)

def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        yield torch.randn(8, 3, 6, 6, generator=generator), torch.randn(8, 128, generator=generator)

def loss(model, batch):
    return model(batch[0]).abs().mean()
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return path


def code_below(text):
    return text[text.index("Code to paste") :].splitlines()[1:]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_output_fits_the_terminal_and_the_code_stays_whole(tangential, file, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = tangential("doctor", f"{file}:build")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{file}:build"
    prose = out[: out.index("Code to paste")].splitlines()[1:]
    assert all(len(line) <= columns for line in prose)
    compile("\n".join(code_below(out)), "pasted", "exec")
    assert "\x1b" not in out


def test_real_steps_are_watched_on_a_loader_that_is_read_again(tangential, file):
    _, out, err = tangential("doctor", f"{file}:build", "--steps", 5, "--data", f"{file}:batches")
    assert err == "" and "Over 5 steps on your data" in out and "AdamW: norms" in out and "AdamP: norms" in out
    assert (
        "Over 3 steps"
        in tangential("doctor", f"{file}:build", "--steps", 3, "--data", f"{file}:batches", "--loss", f"{file}:loss")[1]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "--steps and --data need each other"),
        (["--data", "x.py:f"], "--steps and --data need each other"),
        (["--optimizer", "adam"], "optimizer 'adam'"),
        (["--steps", "3", "--data", "nets"], "must be FILE.py:FUNCTION"),
        (["--steps", "3", "--data", "nope.py:f"], "no such file"),
        (["--lr", "-1"], "lr=-1.0: must be at least 0"),
    ],
)
def test_bad_use_is_one_line_and_code_2(tangential, file, arguments, message):
    code, out, err = tangential("doctor", f"{file}:build", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
