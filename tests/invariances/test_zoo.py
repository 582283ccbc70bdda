"""Whole networks: how many of their matrices are invariant, and how. `TANGENTIAL_SLOW=1` adds the big ones."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from support.zoo import (
    GPT,
    Batch,
    Normalised,
    dcgan,
    detector,
    group_norm,
    images,
    small_retinanet,
    small_swin_v2,
    small_vit,
    timm,
    tokens,
    torchvision,
    transformer,
    vgg16_bn,
)
from tangential import Blocks
from tangential.invariances import Invariances, find_invariances

pytestmark = pytest.mark.slow


class Model(NamedTuple):
    """A builder, and the answers for parameters of two dimensions or more, counted."""

    build: Callable[[], tuple[nn.Module, Batch]]
    counts: dict[str, int]


def gpt(**options):
    return lambda: (GPT(**options), (tokens(),))


LAYERS = [f"layers.{i}.attention" for i in range(2)]
SMALL = {
    "resnet18": Model(lambda: torchvision("resnet18", lambda: images(4, 32)), {"channel": 20, "none": 1}),
    "resnet18 with zero gains": Model(
        lambda: torchvision("resnet18", lambda: images(4, 32), zero_init_residual=True), {"channel": 20, "none": 1}
    ),
    "resnet18 with group norm": Model(
        lambda: torchvision("resnet18", lambda: images(2, 32), norm_layer=group_norm), {"groups": 20, "none": 1}
    ),
    "vgg16_bn": Model(vgg16_bn, {"channel": 13, "none": 2}),
    "mobilenet_v2": Model(lambda: torchvision("mobilenet_v2"), {"channel": 52, "none": 1}),
    "shufflenet_v2": Model(lambda: torchvision("shufflenet_v2_x0_5"), {"channel": 56, "none": 1}),
    "convnextv2_atto": Model(lambda: timm("convnextv2_atto", lambda: images(2)), {"none": 28, "joint": 13}),
    "vit": Model(small_vit, {"none": 12}),
    "swin_v2": Model(small_swin_v2, {"none": 17, "partial": 4, "joint": 9, "layer": 1}),
    "ssdlite": Model(
        lambda: detector("ssdlite320_mobilenet_v3_large", 128), {"channel": 64, "none": 27, "inconclusive": 7}
    ),
    "repvgg_a0": Model(lambda: timm("repvgg_a0"), {"channel": 44, "none": 1}),
    "levit on two images": Model(lambda: timm("levit_128s", lambda: images(2, 224)), {"inconclusive": 61, "none": 2}),
    "mixer": Model(lambda: timm("mixer_s32_224", lambda: images(2), img_size=64), {"none": 34}),
    "normalised weights": Model(lambda: (Normalised(), (images(2, 24),)), {"channel": 2, "layer": 3, "none": 4}),
    "dcgan": Model(lambda: (dcgan(), (torch.randn(4, 20, 1, 1),)), {"channel": 3, "none": 1}),
    "lstm": Model(lambda: (nn.LSTM(12, 8, 2), (torch.randn(5, 3, 12),)), {"none": 4}),
    "gpt": Model(gpt(), {"groups": 4, "none": 10}),
    "gpt, fused": Model(gpt(fused=True), {"partial": 2, "none": 8}),
    "gpt with biases": Model(gpt(bias=True), {"joint": 4, "none": 10}),
    "gpt, normalised over the width": Model(gpt(norm="full"), {"layer": 4, "none": 10}),
    "gpt, tied": Model(gpt(tied=True), {"groups": 4, "none": 9}),
    "gpt without qk-norm": Model(gpt(norm=None), {"none": 14}),
    "qwen3": Model(lambda: transformer("Qwen3", num_key_value_heads=2, head_dim=16), {"groups": 4, "none": 12}),
    "olmo2": Model(lambda: transformer("Olmo2", num_key_value_heads=2), {"layer": 12, "none": 4}),
    "gemma3": Model(
        lambda: transformer("Gemma3", num_key_value_heads=2, head_dim=16), {"groups": 4, "layer": 8, "none": 3}
    ),
    "llama": Model(lambda: transformer("Llama"), {"none": 16}),
    "bert": Model(lambda: transformer("Bert", "ForMaskedLM"), {"none": 16}),
    "qwen3 with experts": Model(
        lambda: transformer(
            "Qwen3Moe",
            num_key_value_heads=2,
            head_dim=16,
            moe_intermediate_size=32,
            num_experts=8,
            num_experts_per_tok=2,
        ),
        {"groups": 4, "none": 12},
    ),
}
BIG = {
    "retinanet": Model(small_retinanet, {"channel": 20, "none": 18}),
    "densenet121": Model(lambda: torchvision("densenet121", lambda: images(4, 48)), {"channel": 120, "none": 1}),
    "efficientnet_b0": Model(lambda: torchvision("efficientnet_b0"), {"channel": 49, "none": 33}),
    "swin_v2_t": Model(
        lambda: torchvision("swin_v2_t", lambda: images(2)), {"none": 49, "joint": 25, "partial": 12, "layer": 3}
    ),
    "resnet50 with zero gains": Model(
        lambda: torchvision("resnet50", lambda: images(4, 32), zero_init_residual=True), {"channel": 53, "none": 1}
    ),
    "resnet50 with group norm": Model(
        lambda: torchvision("resnet50", lambda: images(2, 48), norm_layer=group_norm), {"groups": 53, "none": 1}
    ),
    "resnet50": Model(lambda: torchvision("resnet50"), {"channel": 53, "none": 1}),
    "vit_b_16": Model(lambda: torchvision("vit_b_16", lambda: images(2), image_size=64), {"none": 52}),
    "convnext_tiny": Model(lambda: torchvision("convnext_tiny", lambda: images(2)), {"none": 58, "joint": 19}),
    "swin_t": Model(lambda: torchvision("swin_t", lambda: images(2)), {"none": 64, "joint": 1}),
    "ssd300": Model(lambda: detector("ssd300_vgg16", 300), {"none": 21, "inconclusive": 14}),
    "fasterrcnn": Model(
        lambda: detector(
            "fasterrcnn_resnet50_fpn_v2",
            128,
            min_size=128,
            max_size=128,
            rpn_pre_nms_top_n_train=40,
            rpn_post_nms_top_n_train=20,
            box_batch_size_per_image=12,
        ),
        {"channel": 65, "none": 7},
    ),
    "seresnet50": Model(lambda: timm("seresnet50"), {"channel": 53, "none": 33}),
    "nf_resnet50": Model(lambda: timm("nf_resnet50", lambda: images(2)), {"channel": 53, "none": 54}),
    "vit with qk-norm": Model(
        lambda: timm("vit_small_patch16_224", lambda: images(2), img_size=64, qk_norm=True, qkv_bias=False),
        {"partial": 12, "none": 40},
    ),
    "levit": Model(lambda: timm("levit_128s", lambda: images(6, 224)), {"channel": 50, "none": 13}),
    "convmixer": Model(lambda: timm("convmixer_768_32", lambda: images(2)), {"joint": 65, "none": 1}),
    "ghostnet": Model(lambda: timm("ghostnet_100", lambda: images(4, 96)), {"channel": 80, "none": 16}),
}
slow = pytest.mark.skipif(not os.environ.get("TANGENTIAL_SLOW"), reason="TANGENTIAL_SLOW=1 runs the big models")
MODELS = [pytest.param(model, id=name) for name, model in SMALL.items()]
MODELS += [pytest.param(model, id=name, marks=slow) for name, model in BIG.items()]


def find(model: nn.Module, batch: Batch) -> Invariances:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "find_invariances: .*epsilon")  # small activations, as at initialisation
        return find_invariances(model, **batch) if isinstance(batch, dict) else find_invariances(model, *batch)


def counted(found: Invariances) -> Counter[str]:
    return Counter(verdict.kind for verdict in map(found.verdict, found) if len(verdict.shape) >= 2)


def state(model: nn.Module) -> list[torch.Tensor]:
    tensors = [*model.parameters(), *model.buffers()]
    return [torch.get_rng_state(), *(tensor.detach().clone() for tensor in tensors)]


@pytest.mark.parametrize("case", MODELS)
def test_answer_is_the_theory_s_and_the_model_untouched(case):
    model, batch = case.build()
    before, drawn = state(model), random.getstate()
    found = find(model, batch)
    assert counted(found) == case.counts, str(found)
    assert all(torch.equal(a, b) for a, b in zip(before, state(model), strict=True))
    assert random.getstate() == drawn
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(found.verdict(name).absorbers for name, blocks in found.items() if blocks is not None)


def test_transposed_convolutions_are_cut_along_dimension_1():
    found = find(dcgan(), (torch.randn(4, 20, 1, 1),))
    assert [found[f"{i}.weight"] for i in (0, 3, 6, 9)] == [Blocks(dim=1)] * 3 + [None]


@pytest.mark.parametrize(
    ("options", "name", "blocks"),
    [
        ({}, "q", Blocks(size=8)),
        ({}, "v", None),
        ({"norm": "full"}, "k", Blocks(size=None)),
        ({"fused": True}, "qkv", Blocks(segments=((0, 64, 8),))),
        ({"bias": True}, "q", None),
    ],
)
def test_query_and_key_norms_decide_the_heads(options, name, blocks):
    found = find(GPT(**options), (tokens(),))
    assert [found[f"{layer}.{name}.weight"] for layer in LAYERS] == [blocks] * 2


def test_norms_after_the_sublayers_make_their_projections_invariant_as_a_whole():
    found = find(*transformer("Olmo2", num_key_value_heads=2))
    whole = {name.split(".")[-2] for name, blocks in found.items() if blocks == Blocks(size=None)}
    assert whole == {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}


def test_mobilenets_depthwise_chains_have_dead_biases_and_whole_gains():
    found = find(*SMALL["mobilenet_v2"].build())
    vectors = Counter(verdict.kind for verdict in map(found.verdict, found) if len(verdict.shape) == 1)
    assert (vectors["dead"], vectors["layer"]) == (17, 2)


def test_resnet50_fits_a_screen():
    case = BIG["resnet50 with zero gains"]
    found = find(*case.build())
    assert counted(found) == case.counts
    lines = str(found).splitlines()
    assert len(lines) <= 25
    assert sum(line.startswith("layer") and " channel" in line for line in lines) <= 5
