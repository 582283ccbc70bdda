"""Architectures that were chosen after the detector was frozen, with the answers written down before the one run.

    python benchmarks/fresh.py [NAME ...]

Each expectation is the first pattern that matches a matrix. They are kept as they were written, the wrong one included
(FastViT's `stem.1.conv_scale` has rows of one element, which are dead).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from tangential.invariances import Invariances, find_invariances

Built = tuple[nn.Module, dict[str, Any] | tuple[Any, ...]]
VARIANT = "none|joint"
IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
SMALL = {
    "vocab_size": 101,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    **IDS,
}


def vision(module: str, name: str, *shape: int, **options: Any) -> Callable[[], Built]:
    """A torchvision model without weights, and images."""
    return lambda: (
        getattr(importlib.import_module(module), name)(weights=None, **options),
        (torch.randn(*shape),),
    )


def image(name: str, batch: int, size: int) -> Callable[[], Built]:
    """A timm model without weights, and images."""
    return lambda: (
        importlib.import_module("timm").create_model(name, pretrained=False),
        (torch.randn(batch, 3, size, size),),
    )


def text(
    family: str, kind: str = "ForCausalLM", batch: dict[str, Any] | None = None, **options: Any
) -> Callable[[], Built]:
    """A small transformers model, and tokens or what `batch` has."""

    def build() -> Built:
        library = importlib.import_module("transformers")
        model = getattr(library, family + kind)(getattr(library, f"{family}Config")(**options))
        return model, batch or {"input_ids": torch.randint(0, 101, (2, 24))}

    return build


MODELS = "torchvision.models"
WAVE = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
SEGMENTS = {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 8]}
T5_BATCH = {"input_ids": torch.arange(24).view(2, 12), "decoder_input_ids": torch.arange(18).view(2, 9)}
FRESH: dict[str, tuple[Callable[[], Built], list[tuple[str, str]]]] = {
    "Inception v3": (
        vision(MODELS, "inception_v3", 4, 3, 299, 299, init_weights=False),
        [("*fc.weight", VARIANT), ("*", "channel")],
    ),
    "MNASNet 0.5": (vision(MODELS, "mnasnet0_5", 4, 3, 96, 96), [("classifier*", VARIANT), ("*", "channel")]),
    "SqueezeNet 1.1": (vision(MODELS, "squeezenet1_1", 2, 3, 96, 96), [("*", VARIANT)]),
    "DeepLabV3": (
        vision(
            f"{MODELS}.segmentation", "deeplabv3_mobilenet_v3_large", 4, 3, 96, 96, weights_backbone=None, num_classes=5
        ),
        [("*.fc?.weight", VARIANT), ("classifier.4.weight", VARIANT), ("*", "channel")],
    ),
    "R3D-18": (vision(f"{MODELS}.video", "r3d_18", 2, 3, 8, 48, 48), [("fc.weight", VARIANT), ("*", "channel")]),
    "DLA-34": (image("dla34", 4, 64), [("fc.weight", VARIANT), ("*", "channel")]),
    "HRNet W18": (image("hrnet_w18_small", 4, 64), [("classifier.weight", VARIANT), ("*", "channel")]),
    "MobileNetV4": (image("mobilenetv4_conv_small", 4, 96), [("classifier.weight", VARIANT), ("*", "channel")]),
    "PoolFormer S12": (image("poolformer_s12", 2, 64), [("*", VARIANT)]),
    "MobileViT XXS": (
        image("mobilevit_xxs", 4, 128),
        [("*transformer*", VARIANT), ("stages.?.1.conv_1x1.weight", VARIANT), ("head*", VARIANT), ("*", "channel")],
    ),
    "Xception-41": (image("xception41", 4, 96), [("head*", VARIANT), ("*", "channel")]),
    "FastViT T8": (
        image("fastvit_t8", 4, 128),
        [
            ("stem*conv_scale*", "channel"),
            ("*conv_scale*", "dead"),
            ("*gamma", VARIANT),
            ("*.fc?.weight", VARIANT),
            ("*.fc.weight", VARIANT),
            ("*", "channel"),
        ],
    ),
    "T5": (
        text("T5", "ForConditionalGeneration", T5_BATCH, vocab_size=101, d_model=64, d_kv=16, d_ff=128, num_layers=2,
             num_heads=4, decoder_start_token_id=0, pad_token_id=0),
        [("*", VARIANT)],
    ),
    "ModernBERT": (text("ModernBert", "Model", **SMALL), [("*tok_emb*", "channel"), ("*", VARIANT)]),
    "Gemma 2": (
        text("Gemma2", num_key_value_heads=2, head_dim=16, **SMALL),
        [(f"*{name}_proj*", "layer") for name in ("v", "o", "up", "down")] + [("*", VARIANT)],
    ),
    "Cohere, QK-norm": (
        text("Cohere", num_key_value_heads=2, use_qk_norm=True, **SMALL),
        [("*[qk]_proj.weight", "groups of 16"), ("*", VARIANT)],
    ),
    "StableLM, QK-norm": (
        text("StableLm", num_key_value_heads=2, qk_layernorm=True, **SMALL),
        [("*[qk]_proj.weight", "groups of 16"), ("*", VARIANT)],
    ),
    "wav2vec 2.0": (
        text("Wav2Vec2", "Model", {"input_values": torch.randn(2, 4000)}, vocab_size=32, hidden_size=64,
             intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, apply_spec_augment=False, **WAVE),
        [("*conv_layers.0.conv.weight", "channel"), ("*original1", "channel (dim 2)"), ("*", VARIANT)],
    ),
    "OLMoE": (
        text("Olmoe", num_key_value_heads=2, num_experts=4, num_experts_per_tok=2, **SMALL),
        [("*[qk]_proj.weight", "layer"), ("*", VARIANT)],
    ),
    "SegFormer": (
        text("Segformer", "ForSemanticSegmentation", {"pixel_values": torch.randn(2, 3, 64, 64)}, num_labels=5,
             decoder_hidden_size=32, **SEGMENTS),
        [("*linear_fuse.weight", "channel"), ("*", VARIANT)],
    ),
    "Mamba": (text("Mamba", vocab_size=101, hidden_size=64, num_hidden_layers=2, **IDS), [("*", VARIANT)]),
}  # fmt: skip


def mismatches(found: Invariances, expected: list[tuple[str, str]]) -> Iterator[str]:
    """The matrices whose answer is another than was written down."""
    for name in (n for n in found if len(found.verdict(n).shape) > 1):
        wanted = next(answer for pattern, answer in expected if fnmatchcase(name, pattern))
        if found.verdict(name).label not in wanted.split("|"):
            yield f"{name}: expected {wanted}; {found.explain(name)}"


def main(names: list[str]) -> None:
    """Try these models and print the score."""
    warnings.simplefilter("ignore")
    total = wrong = 0
    for name in names:
        torch.manual_seed(0)
        build, expected = FRESH[name]
        model, batch = build()
        found = find_invariances(model, **batch) if isinstance(batch, dict) else find_invariances(model, *batch)
        matrices = sum(len(found.verdict(n).shape) > 1 for n in found)
        missed = list(mismatches(found, expected))
        total, wrong = total + matrices, wrong + len(missed)
        sys.stdout.write("\n    ".join([f"{name}: {matrices - len(missed)} of {matrices}", *missed]) + "\n")
    sys.stdout.write(f"{total - wrong} of {total}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or list(FRESH))
