"""`tangential doctor`: the right verdict about known models, sentences that are true, code that runs."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from support.zoo import GPT
from tangential.blocks import Blocks
from tangential.experiments.viewers.baseline import Baseline
from tangential.experiments.viewers.diagnosis import TEST_STEPS, diagnose
from tangential.experiments.viewers.diagnosis_text import code, sections, verdict_sentence
from tangential.experiments.viewers.model_spec import ModelAndBatch, load
from tangential.experiments.viewers.norm_growth import default_loss, measure_growth
from tangential.invariances import find_invariances

FILE = """
import torch
from torch import nn

def build(width=8):
    features = nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width)
    net = nn.Sequential(*features, nn.Flatten(), nn.Linear(16 * width, 3))
    return net, (torch.randn(4, 3, 6, 6),)

def generator():
    def up(inner, outer):
        return nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()
    last = nn.ConvTranspose2d(16, 3, 4, 2, 1)
    return nn.Sequential(*up(8, 32), *up(32, 16), last, nn.Tanh()), torch.randn(4, 8, 4, 4)

def scalar_batch():
    return nn.Linear(3, 2), {"input": torch.randn(4, 3)}

def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        yield torch.randn(8, 3, 6, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)
"""

QWEN = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
QWEN |= dict(num_key_value_heads=1, head_dim=16)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    return path


def text_of(diagnosis):
    parts = [verdict_sentence(diagnosis)]
    for section in sections(diagnosis):
        parts += [section.heading, *section.sentences, *(" ".join(row) for row in section.rows)]
    return "\n".join(parts)


def subject_of(spec, settings=None, batch=None):
    package = spec.split(":")[0]
    if not package.endswith(".py"):
        pytest.importorskip(package)
    return load(spec, settings or {}, batch)


def labels(diagnosis):
    return {share.label: share.count for share in diagnosis.shares if share.projected}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spec", "settings", "batch", "verdict", "projected"),
    [
        ("torchvision:resnet50", {}, (4, 3, 32, 32), "most", {"channel": 53}),
        ("torchvision:mobilenet_v2", {}, (4, 3, 48, 48), "most", {"channel": 52, "layer": 2}),
        ("timm:convnext_atto", {}, (2, 3, 64, 64), "nothing", {}),
        ("timm:vit_tiny_patch16_224", {"img_size": 64}, (2, 3, 64, 64), "nothing", {}),
        ("transformers:qwen3", QWEN, (2, 12), "some", {"groups of 16": 1, "layer": 1}),
    ],
)
def test_models_of_packages_get_the_right_verdict_and_code_that_runs(spec, settings, batch, verdict, projected):
    diagnosis = diagnose(subject_of(spec, settings, batch), Baseline())
    assert (diagnosis.verdict, labels(diagnosis)) == (verdict, projected)
    assert ("nothing to project" in verdict_sentence(diagnosis)) == (verdict == "nothing")
    made: dict = {}
    exec(code(diagnosis), made)  # in this process, which has loaded the packages; a user's file runs in its own below
    assert sum(len(group["params"]) for group in made["optimizer"].param_groups) > 1


def runs(lines, folder):
    check = (
        "\nassert sum(len(group['params']) for group in optimizer.param_groups) > 1\nprint(type(optimizer).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", lines + check], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("name", "optimizer"), [("adamw", "AdamP"), ("sgd", "SGDP")])
def test_user_file_gets_code_for_its_optimizer_that_runs_where_the_file_is(file, name, optimizer):
    diagnosis = diagnose(subject_of(f"{file}:build", {"width": 4}), Baseline(name, lr=0.1))
    assert labels(diagnosis) == {"channel": 1}
    assert runs(code(diagnosis), file.parent) == optimizer


@pytest.mark.parametrize("batch", [None, (4, 8, 4, 4)])
def test_gan_is_projected_along_the_channels_of_its_transposed_convolutions(file, batch):
    diagnosis = diagnose(subject_of(f"{file}:generator", {}, batch), Baseline())
    assert labels(diagnosis) == {"channel (dim 1)": 2}
    assert "other blocks than the invariant ones" in text_of(diagnosis)
    assert runs(code(diagnosis), file.parent) == "AdamP"


def test_model_with_nothing_invariant_keeps_its_optimizer(file):
    diagnosis = diagnose(subject_of(f"{file}:scalar_batch"), Baseline("sgd", lr=0.1, momentum=0.9))
    assert "nothing to project" in verdict_sentence(diagnosis) and "Keep SGD" in verdict_sentence(diagnosis)
    assert runs(code(diagnosis), file.parent) == "SGD"


def test_query_key_norms_are_found_by_head():
    diagnosis = diagnose(ModelAndBatch(GPT(), (torch.randint(0, 101, (2, 12)),)), Baseline())
    assert labels(diagnosis) == {"groups of 8": 4}
    assert diagnosis.verdict == "some"


def test_only_the_invariant_rows_of_a_fused_projection_count():
    diagnosis = diagnose(ModelAndBatch(GPT(fused=True), (torch.randint(0, 101, (2, 12)),)), Baseline())
    projected, rest = ([s for s in diagnosis.shares if s.label.startswith(what)] for what in ("8 blocks", "rest"))
    assert [(s.count, s.elements) for s in (*projected, *rest)] == [(2, 2 * 64 * 32), (2, 2 * 32 * 32)]
    total = sum(p.numel() for p in diagnosis.subject.model.parameters())
    assert sum(s.elements for s in diagnosis.shares) == total
    assert diagnosis.share == pytest.approx(2 * 64 * 32 / total)


def test_bias_before_a_layer_norm_is_named_with_its_weight():
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    diagnosis = diagnose(ModelAndBatch(net, (torch.randn(8, 6),)), Baseline())
    assert diagnosis.verdict == "nothing"
    assert diagnosis.biased == [("0.weight", "0.bias")]
    assert "Build the layer with bias=False" in text_of(diagnosis)
    net = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    assert labels(diagnose(ModelAndBatch(net, (torch.randn(8, 6),)), Baseline())) == {"layer": 1}


def test_epsilon_that_outweighs_a_variance_is_named_with_its_module():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        net[0].weight *= 1e-2
    diagnosis = diagnose(ModelAndBatch(net, (torch.randn(8, 3, 6, 6),)), Baseline())
    (effect,) = diagnosis.epsilons
    assert (effect.where, effect.weight, effect.blocks) == ("1 (BatchNorm2d, eps=0.001)", "0.weight", 4)
    assert "keeps 4 of 4 blocks of 0.weight" in text_of(diagnosis)


@pytest.mark.parametrize(
    ("baseline", "present"),
    [
        (Baseline("adamw", lr=1e-2, weight_decay=0.1), "decay by 0.0001 of themselves per step instead of 0.001"),
        (
            Baseline("sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
            "decay by 1e-05 of themselves per step instead of 0.0001",
        ),
        (Baseline("sgd", lr=0.1), "No weight decays, as now."),
        (Baseline(), "default is weight_decay=0, torch's AdamW has 0.01"),
    ],
)
def test_change_of_the_decay_is_stated_in_numbers(file, baseline, present):
    assert present in text_of(diagnose(subject_of(f"{file}:build"), baseline))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_stated_decay_is_what_the_optimizers_do(name):
    """A zero gradient leaves the decay alone: the baseline's in the long run, the projected one's at its wd_ratio."""
    baseline = Baseline(name, lr=0.1, weight_decay=0.01, momentum=0.5 if name == "sgd" else 0.0)
    shrunk = {}
    for title, make in (("old", baseline.build), ("new", baseline.build_projected)):
        weight = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
        group = {"params": [weight], "weight_decay": 0.01, **({"blocks": Blocks()} if title == "new" else {})}
        optimizer = make([group])
        for _ in range(40):
            before = weight[0, 0].item()
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        shrunk[title] = 1 - weight[0, 0].item() / before
    assert shrunk["old"] == pytest.approx(baseline.decay_per_step, rel=0.01)
    assert shrunk["new"] == pytest.approx(0.1 * baseline.decay_per_step, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adam"},
        {"lr": -1.0},
        {"weight_decay": float("nan")},
        {"name": "sgd", "momentum": 1.0},
        {"momentum": 0.9},
    ],
)
def test_baselines_that_are_none_are_refused(settings):
    with pytest.raises(ValueError, match=r"must be|only sgd"):
        Baseline(**settings)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_real_steps_grow_norms_less_with_the_projection_and_leave_the_model_alone(file, name):
    subject = subject_of(f"{file}:build")
    before = [p.detach().clone() for p in subject.model.parameters()]
    found = find_invariances(subject.model, *subject.args)
    from_file = {}
    exec(FILE, from_file)
    batches = [*from_file["batches"]()]
    baseline = Baseline(name, lr=0.1 if name == "sgd" else 1e-2, momentum=0.9 if name == "sgd" else 0.0)
    growth = measure_growth(subject.model, found, baseline, batches, 30, default_loss)
    assert growth.norms[baseline.projected_title] < growth.norms[baseline.title]
    assert all(torch.equal(a, b) for a, b in zip(before, subject.model.parameters(), strict=True))
    assert growth.steps == 30


@pytest.mark.parametrize(
    ("batches", "steps", "message"),
    [
        ([], 2, "no batch"),
        ([1], 1, "at least 2"),
        ([3], 2, "--loss"),
        (iter([(torch.ones(2, 3, 6, 6), torch.tensor([0, 1]))]), 2, "cannot be read again"),
    ],
)
def test_data_that_cannot_be_watched_are_refused(file, batches, steps, message):
    subject = subject_of(f"{file}:build")
    found = find_invariances(subject.model, *subject.args)
    with pytest.raises(ValueError, match=message):
        measure_growth(subject.model, found, Baseline(), batches, steps, default_loss)


def test_text_counts_what_the_records_hold(file):
    diagnosis = diagnose(subject_of(f"{file}:build"), Baseline())
    assert all(each.channel + each.layer + each.neither == TEST_STEPS for each in diagnosis.records)
    assert "1 invariant matrix at every step" in text_of(diagnosis)
