"""`tangential inspect`: the model a user names, the facts about it, and the paper's test beside them."""

import json

import pytest
import torch
from torch import nn

from support.weights import tangent
from tangential.experiments.viewers.cosine_test import cosine_records, cosine_view
from tangential.experiments.viewers.inspection_page import save
from tangential.experiments.viewers.model_spec import ModelAndBatch, load, parse_settings, parse_shape
from tangential.invariances import Invariances, find_invariances
from tangential.invariances.verdicts import Verdict

NET = """
import torch
from torch import nn

def build(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width)), torch.randn(2, 3, 6, 6)

def named():
    return nn.Bilinear(2, 2, 1), {"input1": torch.randn(3, 2), "input2": torch.randn(3, 2)}

def bare():
    return nn.Linear(3, 2)

def wrong():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize(
    ("function", "settings", "batch"), [("build", {"width": 8}, None), ("named", {}, None), ("bare", {}, (4, 3))]
)
def test_functions_in_files_make_models_and_batches(file, function, settings, batch):
    subject = load(f"{file}:{function}", settings, batch)
    assert subject.model(*subject.args, **subject.kwargs).shape[0] in (2, 3, 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "must be torchvision:NAME"),
        ("keras:resnet", "must be torchvision:NAME"),
        ("missing.py:build", "no such file"),
        ("{file}:nothing", "has no function nothing"),
        ("{file}:wrong", "returned int"),
        ("{file}:bare", "returned no batch"),
        ("{file}:build", "TypeError: build"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(file, spec, message):
    with pytest.raises(ValueError, match=message):
        load(spec.format(file=file), {"depth": 1} if spec.endswith(":build") else {}, None)


@pytest.mark.parametrize("name", ["torchvision:nope", "timm:nope", "transformers:nope"])
@pytest.mark.filterwarnings("ignore")
def test_unknown_names_are_refused(name):
    pytest.importorskip(name.split(":")[0])
    with pytest.raises(ValueError, match="nope"):
        load(name, {}, None)


@pytest.mark.filterwarnings("ignore")
def test_transformers_configurations_make_models():
    pytest.importorskip("transformers")
    sizes = "hidden_size=32 num_hidden_layers=1 intermediate_size=32 vocab_size=50"
    heads = "num_attention_heads=2 num_key_value_heads=1 head_dim=16"
    subject = load("transformers:qwen3", parse_settings([*sizes.split(), *heads.split()]), (2, 8))
    found = find_invariances(subject.model, *subject.args, **subject.kwargs)
    assert found.verdict("model.layers.0.self_attn.q_proj.weight").label == "groups of 16"
    assert found["model.layers.0.self_attn.v_proj.weight"] is None


@pytest.mark.parametrize("text", ["", "3xx2", "axb", "0x3", "-1x3", "3.5"])
def test_shapes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="like 8x3x224x224"):
        parse_shape(text)


def test_views_are_those_of_the_paper():
    w = torch.randn(4, 50)
    x = torch.randn(4, 50)
    assert cosine_view(w, tangent(w, x)) == "channel"
    assert cosine_view(w, x - w * ((w * x).sum() / (w * w).sum())) == "layer"
    assert cosine_view(w, w) == "none"


def test_the_paper_test_agrees_on_a_plain_batch_norm_net(file):
    subject = load(f"{file}:build", {}, None)
    found = find_invariances(subject.model, *subject.args)
    (only,) = cosine_records(subject, found, 5)
    assert (only.fact, only.channel, only.wrong) == ("channel", 5, 0)


def test_disagreements_are_counted():
    subject = ModelAndBatch(nn.Linear(3, 2), (torch.randn(4, 3),))
    found = Invariances([Verdict("weight", (2, 3), "none"), Verdict("bias", (2,), "none")])
    (only,) = cosine_records(subject, found, 8)
    assert only.false_hits == only.channel + only.layer == only.wrong
    assert only.channel + only.layer + only.neither == 8


def test_names_are_escaped_on_the_page(tmp_path):
    hostile = "<script>alert(1)</script>"
    found = Invariances([Verdict(hostile, (2, 3), "none", reason=hostile)])
    save(tmp_path / "page.html", hostile, found)
    text = (tmp_path / "page.html").read_text()
    assert hostile not in text and "&lt;script&gt;alert(1)" in text


def test_command_writes_the_answer_and_the_page(file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("typer")
    from tangential.cli.app import run

    out = tmp_path / "out"
    arguments = ["tangential", "inspect", f"{file}:build", "width=6", "--against-cosine", "3", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "channel" in printed and "agrees on 1 of 1 weights" in printed
    found = Invariances.from_json((out / "invariances.json").read_text())
    assert found["0.weight"] is not None and json.loads(found.to_json())
    assert "0.weight (6x3x3x3): channel" in (out / "invariances.html").read_text()
