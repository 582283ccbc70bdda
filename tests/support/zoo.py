"""Models whose scale-invariant weights are known: small ones written here, and builders for those of the packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Any, ...] | dict[str, Any]


class RMS(nn.Module):
    """RMSNorm as models write it by hand, its epsilon in plain arithmetic."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Causal attention; `norm` is None, "head" or "full": what the queries and keys are normalised over."""

    def __init__(self, width: int, heads: int, fused: bool = False, bias: bool = False, norm: str | None = "head"):
        super().__init__()
        self.heads, self.fused, self.norm = heads, fused, norm
        if fused:
            self.qkv = nn.Linear(width, 3 * width, bias=bias)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.o = nn.Linear(width, width, bias=bias)
        if norm:
            size = width // heads if norm == "head" else width
            self.qn, self.kn = RMS(size), RMS(size)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).chunk(3, -1) if self.fused else (self.q(x), self.k(x), self.v(x))
        if self.norm == "full":
            q, k = self.qn(q), self.kn(k)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        if self.norm == "head":
            q, k = self.qn(q), self.kn(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, **attention: Any):
        super().__init__()
        self.n1, self.n2 = RMS(width), RMS(width)
        self.attention = Attention(width, heads, **attention)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.down(F.gelu(self.up(self.n2(x))))


class GPT(nn.Module):
    """A language model of two layers whose residual branches and head start at zero, unless it is tied."""

    def __init__(self, vocabulary: int = 101, width: int = 32, heads: int = 4, tied: bool = False, **attention: Any):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, **attention) for _ in range(2))
        self.norm = RMS(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for layer in self.layers:
            nn.init.zeros_(layer.attention.o.weight)
            nn.init.zeros_(layer.down.weight)
        nn.init.zeros_(self.head.weight)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Normalised(nn.Module):
    """Spectral and weight normalisation, in torch's new and old forms, and an orthogonal map."""

    def __init__(self):
        super().__init__()
        new = nn.utils.parametrizations
        self.spectral = new.spectral_norm(nn.Conv2d(3, 16, 3))
        self.weight = new.weight_norm(nn.Conv2d(16, 16, 3))
        self.plain = nn.Conv2d(16, 16, 3)
        self.old_spectral = nn.utils.spectral_norm(nn.Conv2d(16, 16, 3))
        self.old_weight = old_weight_norm(nn.Conv2d(16, 16, 3))
        self.whole = new.weight_norm(nn.Linear(16, 10), dim=None)
        self.orthogonal = new.orthogonal(nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.spectral, self.weight, self.plain, self.old_spectral, self.old_weight):
            x = F.leaky_relu(convolution(x))
        return self.whole(self.orthogonal(x.mean((2, 3))))


def old_weight_norm(module: nn.Module) -> nn.Module:
    """`torch.nn.utils.weight_norm`, deprecated but found in many models, without its warning."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(module)


def dcgan() -> nn.Module:
    up, norm = nn.ConvTranspose2d, nn.BatchNorm2d
    return nn.Sequential(
        *(up(20, 64, 4, bias=False), norm(64), nn.ReLU(True)),
        *(up(64, 32, 4, 2, 1, bias=False), norm(32), nn.ReLU(True)),
        *(up(32, 16, 4, 2, 1, groups=2, bias=False), norm(16), nn.ReLU(True)),
        *(up(16, 3, 4, 2, 1), nn.Tanh()),
    )


def group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32 if channels % 32 == 0 else 1, channels)


def images(count: int = 4, size: int = 64) -> Tensor:
    return torch.randn(count, 3, size, size)


def tokens(vocabulary: int = 101, length: int = 24) -> Tensor:
    return torch.randint(0, vocabulary, (2, length))


def torchvision(name: str, batch: Callable[[], Tensor] = images, **options: Any) -> tuple[nn.Module, Batch]:
    models = importlib.import_module("torchvision.models")
    return getattr(models, name)(weights=None, **options), (batch(),)


def timm(name: str, batch: Callable[[], Tensor] = images, **options: Any) -> tuple[nn.Module, Batch]:
    return importlib.import_module("timm").create_model(name, pretrained=False, **options), (batch(),)


def detector(name: str, size: int, **options: Any) -> tuple[nn.Module, Batch]:
    models = importlib.import_module("torchvision.models.detection")
    model = getattr(models, name)(weights=None, weights_backbone=None, num_classes=5, **options)
    pictures = [torch.rand(3, size, size), torch.rand(3, size, size)]
    boxes = [[[10.0, 12.0, 60.0, 70.0], [30.0, 20.0, 100.0, 110.0]], [[5.0, 5.0, 90.0, 60.0]]]
    labels = [[1, 2], [3]]
    targets = [
        {"boxes": torch.tensor(b), "labels": torch.tensor(label)} for b, label in zip(boxes, labels, strict=True)
    ]
    return model, (pictures, targets)


_SMALL = {"vocab_size": 101, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
_ENDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def transformer(family: str, head: str = "ForCausalLM", **options: Any) -> tuple[nn.Module, Batch]:
    library = importlib.import_module("transformers")
    settings = {**_SMALL, "num_attention_heads": 4, **_ENDS, **options}
    config = getattr(library, f"{family}Config" if family != "Gemma3" else "Gemma3TextConfig")(**settings)
    return getattr(library, f"{family}{head}")(config), {"input_ids": tokens()}


def vgg16_bn() -> tuple[nn.Module, Batch]:
    """VGG16-BN with a narrow classifier: the wide one is 100 million weights of nothing new."""
    model, batch = torchvision("vgg16_bn", lambda: images(2, 32), init_weights=False)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))
    return model, batch


def small_vit() -> tuple[nn.Module, Batch]:
    sizes = {"patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
    kind = importlib.import_module("torchvision.models.vision_transformer").VisionTransformer
    return kind(image_size=32, **sizes), (images(2, 32),)


def small_swin_v2() -> tuple[nn.Module, Batch]:
    swin = importlib.import_module("torchvision.models.swin_transformer")
    net = swin.SwinTransformer(
        [4, 4], 12, [2, 2], [2, 4], [4, 4], num_classes=10, block=swin.SwinTransformerBlockV2,
        downsample_layer=swin.PatchMergingV2,
    )  # fmt: skip
    return net, (images(2, 32),)


def small_retinanet() -> tuple[nn.Module, Batch]:
    detection = importlib.import_module("torchvision.models.detection")
    backbones = importlib.import_module("torchvision.models.detection.backbone_utils")
    body = backbones.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    _, batch = detector("retinanet_resnet50_fpn", 128)
    return detection.RetinaNet(body, num_classes=5, min_size=64, max_size=64), batch
