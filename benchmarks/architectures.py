"""The detector against brute force, over the architectures of torchvision, timm and transformers.

    nice python benchmarks/architectures.py [NAME ...]    all of them, or those whose name holds one of these words

Each model has random weights and a small batch, and is built without a network. What the detector calls invariant is
rescaled in a plain float64 copy of the real model, with its real epsilons and without any help of the detector's:
all blocks at once by random powers of two, and then each weight alone. Two things must hold, in the mode and with the
random states of the first run:

  - from a large scale to a larger one the outputs stay, within 1e-5: the epsilons are out of the way, and models that
    cast to float32 round. What moves because a product of scales leaves float32 stays at smaller ones;
  - from the weights as they are to 1.25 times them the outputs stay up to what an epsilon explains: within 1e-2, or
    what moves gets 64 times less when the weight is scaled by 16, once or again.

Each variant matrix is rescaled as well; those that could be scaled from 2^0 to 2^3 without a change of 1e-9 were
missed. Parameters, buffers, gradients, random states and the mode are compared bit by bit before and after. The score
goes to benchmarks/results/architectures.md and, model by model, to architectures.json.
"""

from __future__ import annotations

import copy
import gc
import importlib
import inspect
import json
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tangential.blocks import Blocks
from tangential.invariances import Invariances, find_invariances

PACKAGES = ("torch", "torchvision", "timm", "transformers")
RESULTS = Path(__file__).parent / "results"
Built = tuple[nn.Module, Mapping[str, Any] | tuple[Any, ...]]
STAYS, EXPLAINED, MISSED = 1e-5, 1e-2, 1e-9
Level = tuple[float, float, float]
LEVELS: tuple[Level, ...] = ((12, 13, 16), (6, 7, 8))
"""Powers of two that weights are multiplied by: at first, and the least and the greatest after that."""
_MOST_SINGLE = 6
_LARGEST_MODEL = 12_000_000

IMAGES = {"inception_v3": (4, 299), "googlenet": (4, 96), "maxvit_t": (2, 224), "efficientnet_b0": (4, 64)}
SKIPPED_IN_TORCHVISION = ("regnet_y_128gf",)
TIMM = (
    "botnet26t_256 cait_xxs24_224 coat_tiny coatnet_0_rw_224 convit_tiny convmixer_768_32 convnext_atto "
    "convnextv2_atto crossvit_tiny_240 cs3darknet_s cspresnet50 darknet17 davit_tiny deit_tiny_patch16_224 "
    "densenet121 dla34 dpn48b eca_resnet33ts edgenext_xx_small efficientformer_l1 efficientformerv2_s0 "
    "efficientnet_lite0 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim fastvit_t8 fbnetc_100 "
    "focalnet_tiny_srf gcresnet33ts gcvit_xxtiny gernet_s ghostnet_050 ghostnetv2_100 gmixer_12_224 gmlp_ti16_224 "
    "halonet26t hardcorenas_a haloregnetz_b hgnet_tiny hgnetv2_b0 hiera_tiny_224 hrnet_w18_small "
    "inception_next_atto lambda_resnet26t lcnet_035 levit_128s mambaout_femto maxvit_rmlp_pico_rw_256 "
    "mixer_s32_224 mixnet_s mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_050 "
    "mobilenetv3_small_050 mobilenetv4_conv_small mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny "
    "nf_resnet26 nf_regnet_b0 nest_tiny nextvit_small pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 "
    "regnetz_005 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_14w_8s resmlp_12_224 resnest14d resnet10t "
    "resnet14t resnet18 resnetv2_50 resnext26ts rexnet_100 sebotnet33ts_256 sehalonet33ts selecsls42 "
    "semnasnet_050 seresnext26t_32x4d shvit_s1 skresnet18 spnasnet_100 starnet_s1 swiftformer_xs "
    "swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 tf_efficientnetv2_b0 tf_mixnet_s tiny_vit_5m_224 tinynet_e "
    "tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vit_tiny_patch16_224 vit_small_patch16_18x2_224 vovnet39a "
    "wide_resnet50_2 xcit_nano_12_p16_224 xception41 visformer_tiny volo_d1_224 vitamin_small_224 "
    "beit_base_patch16_224 eva02_tiny_patch14_224 "
).split()
SMALL = {
    "vocab_size": 101, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 1, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "d_model": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
    "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "embedding_size": 32, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "emb_dim": 32, "ffn_dim": 48,
    "word_embed_proj_dim": 32, "rotary_dim": 4, "hidden_dropout": 0.0, "num_decoder_layers": 2,
    "shared_expert_intermediate_size": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "q_lora_rank": 16,
    "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1,
    "attention_window": 8, "block_size": 4, "d_inner": 48, "d_head": 8, "sliding_window": 16, "state_size": 8,
    "num_attention_layers": 1, "expert_interval": 1,
}  # fmt: skip
TRANSFORMERS = (
    "Albert Apertus Arcee Bert BertGeneration BigBird Biogpt Bloom Cohere Cohere2 Convbert Ctrl DebertaV2 Deberta "
    "DistilBert Electra Ernie Exaone4 Falcon Fnet Gemma Gemma2 Gemma3Text Glm Glm4 GPT2 GPTBigCode GPTNeo GPTNeoX "
    "GPTJ Granite GraniteMoe Helium IBert Jetmoe Llama Longformer Mamba Mamba2 MegatronBert Mistral Mixtral "
    "MobileBert ModernBert MPNet Mpt MT5 Nemotron Nystromformer Olmo Olmo2 Olmo3 Olmoe OpenAIGPT OPT Persimmon "
    "Phi Phi3 Qwen2 Qwen2Moe Qwen3 Qwen3Moe RemBert Roberta RoFormer SmolLM3 Splinter SqueezeBert StableLm "
    "Starcoder2 T5 UMT5 XGLM XLM XLMRoberta XLNet Yoso Seed_Oss Dots1 Ernie4_5 Bart Blenderbot Marian MBart "
    "Pegasus M2M100 PLBart Hunyuan_V1_Dense LFM2 DiffLlama Zamba "
).split()
VISION_SETTINGS = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8, "num_channels": 3, "num_labels": 5, "num_register_tokens": 2,
}  # fmt: skip
VISION = "ViT DeiT Beit Dinov2 DINOv3ViT ViTMAE ViTMSN SiglipVision CLIPVision Ijepa DPT ResNet RegNet".split()
PYRAMIDS: dict[str, dict[str, Any]] = {
    "ConvNext": {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]},
    "ConvNextV2": {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]},
    "Swin": {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 64},
    "Swinv2": {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 64},
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.35},
    "MobileViT": {"image_size": 128},
    "PoolFormer": {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]},
    "Segformer": {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1]},
    "Cvt": {"embed_dim": [16, 24, 32], "num_heads": [1, 2, 4], "depth": [1, 1, 2]},
    "Levit": {"image_size": 224},
    "Pvt": {
        "image_size": 64,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4],
    },
    "Hiera": {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 2, 1]},
    "Bit": {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1], "embedding_size": 16},
    "EfficientNet": {"width_coefficient": 0.5, "depth_coefficient": 0.5},
    "FocalNet": {"embed_dim": 16, "depths": [1, 1, 2], "image_size": 64},
    "Dinat": {"embed_dim": 16},
    "PvtV2": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "VitDet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
}
"""Vision models whose stages have widths and depths of their own."""


def images(count: int, size: int) -> Tensor:
    """Pictures of noise."""
    return torch.randn(count, 3, size, size)


def torchvision_models() -> Iterator[tuple[str, Callable[[], Built]]]:
    """Its classifiers, segmentations and video models."""
    models = importlib.import_module("torchvision.models")
    for name in models.list_models(module=models):
        if name not in SKIPPED_IN_TORCHVISION:
            yield f"torchvision {name}", partial(_classifier, name)
    offline = {"weights": None, "weights_backbone": None, "num_classes": 5}
    for name in models.list_models(module=models.segmentation):
        yield f"torchvision {name}", lambda n=name: (models.get_model(n, **offline), (images(2, 64),))
    for name in ("r3d_18", "mc3_18", "r2plus1d_18", "s3d"):
        clips = (torch.randn(2, 3, 16, 64, 64),)
        yield f"torchvision {name}", lambda n=name, c=clips: (models.get_model(n, weights=None), c)


def _classifier(name: str) -> Built:
    models = importlib.import_module("torchvision.models")
    options = {"image_size": 64} if name.startswith("vit_") else {}
    if name in ("inception_v3", "googlenet"):
        options["init_weights"] = False
    model = models.get_model(name, weights=None, **options)
    return model, (images(*IMAGES.get(name, (4, 64))),)


def timm_models() -> Iterator[tuple[str, Callable[[], Built]]]:
    """One of each family, with small pictures where it takes them."""
    timm = importlib.import_module("timm")

    def build(name: str) -> Built:
        own = timm.get_pretrained_cfg(name)
        fixed = own is not None and own.fixed_input_size
        return timm.create_model(name, pretrained=False), (images(2, own.input_size[-1]) if fixed else images(4, 64),)

    for name in TIMM:
        if timm.is_model(name):
            yield f"timm {name}", partial(build, name)


ENDINGS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration", "WithLMHeadModel", "Model")


def transformers_models() -> Iterator[tuple[str, Callable[[], Built]]]:
    """Language models and encoders, two narrow layers each, on tokens; vision models on pictures."""
    library = importlib.import_module("transformers")
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    known = {name.lower(): name.removesuffix("Config") for name in dir(library) if name.endswith("Config")}
    kinds = {**auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, **auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}.values()
    listed = (next((kind.removesuffix(end) for end in ENDINGS if kind.endswith(end)), kind) for kind in kinds)
    names = dict.fromkeys(known.get(f"{family}Config".lower()) for family in (*TRANSFORMERS, *listed))
    for family in filter(None, names):
        yield f"transformers {family}", partial(_from_config, family, SMALL, ENDINGS, tokens)
    kinds = ("ForImageClassification", "Model")
    for family in VISION:
        if f"{family}Config".lower() in known:
            yield f"transformers {family}", partial(_from_config, family, VISION_SETTINGS, kinds, pictures)
    for family, chosen in PYRAMIDS.items():
        if f"{family}Config".lower() in known:
            settings = {"num_channels": 3, "num_labels": 5, **chosen}
            yield f"transformers {family}", partial(_from_config, family, settings, kinds, pictures)


def _from_config(
    family: str, chosen: Mapping[str, Any], kinds: tuple[str, ...], batch: Callable[[Any], Mapping[str, Any]]
) -> Built:
    """A model of a family, with those of the chosen settings that its configuration has."""
    library = importlib.import_module("transformers")
    kind = getattr(library, f"{family}Config")
    known = set(inspect.signature(kind.__init__).parameters) | set(getattr(kind, "attribute_map", {}))
    known = known.union(*(getattr(base, "__annotations__", {}) for base in kind.__mro__))
    config = kind(**{name: value for name, value in chosen.items() if name in known})
    model = next(getattr(library, family + kind) for kind in kinds if hasattr(library, family + kind))
    return model(config), batch(config)


def tokens(config: Any) -> dict[str, Any]:
    """Random tokens, for the decoder as well where there is one."""
    ids = torch.randint(3, 101, (2, 24))
    return {"input_ids": ids, **({"decoder_input_ids": ids[:, :9]} if config.is_encoder_decoder else {})}


def pictures(config: Any) -> dict[str, Any]:
    """Noise of the size that the model takes."""
    size = getattr(config, "image_size", None)
    fixed = getattr(config, "model_type", "") == "levit"  # its attention biases belong to one size
    return {"pixel_values": images(4, size if fixed or (isinstance(size, int) and size <= 128) else 64)}


def own_state(model: nn.Module) -> dict[str, Any]:
    """What the detector may not change, as bytes."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "tensors": {
            n: (id(t), t._version, str(t.dtype), t.detach().flatten().view(torch.uint8).numpy().tobytes())
            for n, t in tensors.items()
            if t.numel()
        },
        "grads": [p.grad is None for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            sorted((k, len(v)) for k, v in vars(m).items() if k.endswith("_hooks") and v) for m in model.modules()
        ],
        "plain": [
            {k: v for k, v in vars(m).items() if isinstance(v, (int, float, str, bool, tuple))} for m in model.modules()
        ],
        "drawn": (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        "dtype": torch.get_default_dtype(),
    }


class Brute:
    """The real function in float64, and a batch: outputs for a rescaling of its weights."""

    def __init__(self, model: nn.Module, batch: Any):
        self.model = copy.deepcopy(model).double().train()
        if hasattr(self.model, "set_experts_implementation"):
            self.model.set_experts_implementation("eager")  # the fused one has no float64
        self.parameters = dict(self.model.named_parameters())
        self.batch = _doubled(batch)
        with torch.no_grad():
            # Weights at special values (zero heads, unit gains) hide what is not invariant.
            generator = torch.Generator().manual_seed(5)
            for p in self.model.parameters():
                if p.requires_grad and p.is_floating_point() and p.numel():
                    scale = p.std() if p.numel() > 1 and float(p.std()) > 0 else torch.tensor(0.3)
                    p.add_(0.2 * scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        self.buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.running = 0

    @torch.no_grad()
    def outputs(self, factors: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs with these weights multiplied; everything else as in any other call."""
        self.running += 1
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self.buffers[name])
        kept = {name: self.parameters[name].clone() for name in factors}
        for name, factor in factors.items():
            self.parameters[name].mul_(factor)
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        try:
            batch = copy.deepcopy(self.batch)
            found = self.model(**batch) if isinstance(batch, Mapping) else self.model(*batch)
        finally:
            for name, value in kept.items():
                self.parameters[name].copy_(value)
        return list(_outputs(found))


def _doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {name: _doubled(item) for name, item in value.items()}
    return type(value)(map(_doubled, value)) if isinstance(value, (list, tuple)) else value


def _outputs(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        for name, item in found.items():
            if name not in ("cache", "past_key_values", "cache_params", "mems", "encoder_cache"):
                yield from _outputs(item)
    elif isinstance(found, (list, tuple)):
        for item in found:
            yield from _outputs(item)


def moved(before: list[Tensor], after: list[Tensor]) -> float:
    """The largest relative difference of the outputs; infinite if one is not finite."""
    pairs = list(zip(before, after, strict=True))
    found = [float((a - b).norm() / (a.norm() or 1.0)) for a, b in pairs if a.numel()]
    return max((value if value == value else float("inf") for value in found), default=0.0)


def factor(weight: Tensor, blocks: Blocks, low: float, high: float, seed: int) -> Tensor:
    """A power of two between `low` and `high` for every block, 1 for the rows between them."""
    generator = torch.Generator().manual_seed(seed)
    lengths, invariant = torch.tensor(blocks.runs(weight.shape)).unbind(1)
    drawn = torch.empty(len(lengths), dtype=torch.float64).uniform_(low, high, generator=generator).exp2()
    values = torch.where(invariant.bool(), drawn, 1.0).repeat_interleave(lengths)
    return values.view([-1 if dim == blocks.dim else 1 for dim in range(weight.ndim)])


def contradictions(brute: Brute, found: Invariances) -> Iterator[str]:
    """What the real function says against the verdicts."""
    cuts = {name: blocks for name, blocks in found.items() if blocks is not None}
    if cuts:
        together, alone = jumps(brute, cuts, LEVELS)
        if STAYS < together < float("inf"):  # many scales multiplied overflow where the model casts to float32
            yield f"all invariant blocks together move the outputs by {together:.1e}"
        names = list(alone)
        for name in names:
            if alone[name] > STAYS:
                yield f"{name} ({found.verdict(name).label}) moves the outputs by {alone[name]:.1e}"
        plain = brute.outputs({})
        sure = [name for name in names if not found.verdict(name).doubtful][:_MOST_SINGLE]
        for name in sure:
            near = factor(brute.parameters[name], cuts[name], 0.32, 0.33, 2)
            real = moved(plain, brute.outputs({name: near}))
            if real > EXPLAINED and not fades(brute, name, near, real):
                yield f"{name} ({found.verdict(name).label}) moves the real outputs by {real:.1e} at 1.25 times"


def jumps(brute: Brute, cuts: Mapping[str, Blocks], levels: Sequence[Level]) -> tuple[float, dict[str, float]]:
    """How far the outputs move from a large scale to a larger one, of all weights together and of each.

    What moves is tried again on the next level, whose scales are smaller: products of many leave float32, where models
    cast to it. If nothing moves, a sample of the weights stands for all.
    """
    (start, low, high), *others = levels
    large = {n: factor(brute.parameters[n], b, start, start, 0) for n, b in cuts.items()}
    larger = {n: factor(brute.parameters[n], b, low, high, 1) for n, b in cuts.items()}
    base = brute.outputs(large)
    together = moved(base, brute.outputs(larger))
    names = list(cuts) if together > STAYS else random.Random(0).sample(list(cuts), min(len(cuts), _MOST_SINGLE))
    alone = {name: moved(base, brute.outputs({**large, name: larger[name]})) for name in names}
    if others and max(together, *alone.values()) > STAYS:
        return jumps(brute, cuts, others)
    return together, alone


def fades(brute: Brute, name: str, near: Tensor, before: float) -> bool:
    """Whether what 1.25 times moves gets at least 64 times less when the weight is scaled by 16, as by an epsilon."""
    for scale in (2.0**4, 2.0**8, 2.0**12):
        plain = brute.outputs({name: torch.full_like(near, scale)})
        after = moved(plain, brute.outputs({name: near * scale}))
        if after < before / 64:
            return True
        before = after
    return False


def missed(brute: Brute, found: Invariances) -> list[str]:
    """Variant matrices, a sample of them, that the outputs do not depend on the scale of after all."""
    variant = [n for n in found if found.verdict(n).kind == "none" and len(found.verdict(n).shape) > 1]
    chosen = random.Random(1).sample(variant, min(len(variant), _MOST_SINGLE // 2))
    plain = brute.outputs({}) if chosen else []
    whole = torch.tensor(8.0, dtype=torch.float64)
    return [name for name in chosen if moved(plain, brute.outputs({name: whole})) < MISSED]


def examine(build: Callable[[], Built]) -> dict[str, Any]:
    """One model: the verdicts counted, and everything that is wrong."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    try:
        model, batch = build()
    except Exception as error:  # settings that fit most families do not fit all
        return {
            "skipped": f"not built: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
        }
    size = sum(p.numel() for p in model.parameters())
    if size > _LARGEST_MODEL:
        return {"skipped": f"{size / 1e6:.0f} M parameters, more than {_LARGEST_MODEL / 1e6:.0f} M"}
    model.train()
    before, start = own_state(model), time.process_time()
    found = find_invariances(model, **batch) if isinstance(batch, Mapping) else find_invariances(model, *batch)
    seconds = time.process_time() - start
    after = own_state(model)
    brute = Brute(model, batch)
    matrices = [found.verdict(n) for n in found if len(found.verdict(n).shape) > 1]
    return {
        "parameters": size,
        "seconds": round(seconds, 1),
        "kinds": dict(Counter(verdict.kind for verdict in map(found.verdict, found))),
        "matrices": dict(Counter(verdict.kind for verdict in matrices)),
        "changed": [part for part in before if before[part] != after[part]],
        "wrong": list(contradictions(brute, found)),
        "missed": missed(brute, found),
        "inconclusive": sorted({found.verdict(n).reason for n in found if found.verdict(n).kind == "inconclusive"}),
    }


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The score over all models, and a line for each that is not clean."""
    done = {name: result for name, result in results.items() if "kinds" in result}
    kinds = sum((Counter(result["kinds"]) for result in done.values()), Counter())
    matrices = sum((Counter(result["matrices"]) for result in done.values()), Counter())
    blocks = ("channel", "groups", "layer", "partial")
    total = sum(kinds.values())
    lines = [
        "| | |",
        "| --- | --- |",
        f"| architectures | {len(done)} |",
        f"| parameters (tensors) | {total} |",
        f"| matrices | {sum(matrices.values())} |",
        f"| invariant | {sum(kinds[kind] for kind in blocks)} |",
        f"| contradicted by brute force | {sum(len(result['wrong']) for result in done.values())} |",
        f"| inconclusive | {kinds['inconclusive']} ({100 * kinds['inconclusive'] / max(total, 1):.2f} %) |",
        f"| variant matrices tried that do not change the outputs | {sum(len(r['missed']) for r in done.values())} |",
        f"| models whose state changed | {sum(bool(result['changed']) for result in done.values())} |",
        f"| {', '.join(PACKAGES)} | {', '.join(importlib.import_module(name).__version__ for name in PACKAGES)} |",
        "",
    ]
    for name, result in results.items():
        notes = [result.get("error", ""), result.get("skipped", "")]
        notes += [*result.get("wrong", []), *(f"changed: {part}" for part in result.get("changed", []))]
        notes += [f"missed: {weight}" for weight in result.get("missed", [])]
        notes += [f"inconclusive ({result['kinds']['inconclusive']}): {why}" for why in result.get("inconclusive", [])]
        lines += [f"- {name}: {note}" for note in notes if note]
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """Examine the models whose name holds one of the words."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path = RESULTS / "architectures.json"
    results: dict[str, Any] = json.loads(path.read_text()) if words and path.is_file() else {}
    for name, build in (*transformers_models(), *timm_models(), *torchvision_models()):
        if words and not any(word in name for word in words):
            continue
        try:
            results[name] = examine(build)
        except Exception as error:
            results[name] = {
                "error": f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
            }
        sys.stdout.write(f"{name}: {json.dumps(results[name])}\n")
        sys.stdout.flush()
        path.write_text(json.dumps(results, indent=1) + "\n")
        gc.collect()
    (RESULTS / "architectures.md").write_text(table(results) + "\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
