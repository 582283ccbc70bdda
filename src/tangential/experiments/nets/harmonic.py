"""The harmonic CNN of Won et al. (2020): band-pass filters at the harmonics of a grid of pitches, then convolutions.

Waves `(batch, samples)` become a spectrogram `(batch, harmonics, bands, frames)` in decibels: channel h holds at row n
the energy near h times the n-th pitch, so that a convolution over (bands, frames) has all harmonics of a tone in its
channels at one place. The passes: the power spectrum of overlapping windows, a matrix of triangular filters (one row
per harmonic and pitch) times that spectrum, and the logarithm. The filters' width follows the ear's equivalent
rectangular bandwidth divided by Q, which is learned; every filter is a function of that one number, so the matrix is
computed in each forward pass and is no parameter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from tangential.experiments.settings.bounds import check_at_least

LOWEST = 24
"""The lowest pitch, as a MIDI number: C1, 32.7 Hz."""

FLOOR = 1e-10
"""Smallest power before the logarithm: -100 dB."""

Pools = tuple[tuple[int, int], ...]
"""Pooling of each of the seven stages: factors of frequency and time."""

TAGGING_POOLS: Pools = (*[(2, 2)] * 5, (2, 3), (2, 3))
EVENT_POOLS: Pools = ((2, 2),) * 7
KEYWORD_POOLS: Pools = (*[(2, 2)] * 6, (2, 1))
DIGIT_POOLS: Pools = (*[(2, 2)] * 5, (1, 1), (1, 1))


class HarmonicBank(nn.Module):
    """Harmonic filter bank: triangular band-pass filters at the harmonics of a grid of pitches, in decibels.

    The filter at a frequency f is `max(0, 1 - 2 |bin - f| / width)`, its width `(0.1079 f + 24.7) / Q` Hz. The grid
    goes from C1 up to the note nearest to `sample_rate / (2 * harmonics)`, whose highest harmonic is near the highest
    frequency there is.

    Args:
        sample_rate: Samples per second.
        harmonics: How many of each pitch, itself included.
        fft: Samples of one spectrum; two neighbours overlap by half.
        per_semitone: Pitches per semitone.

    Raises:
        ValueError: A number below one, an odd `fft`, or no pitch below the highest.

    Examples:
        >>> bank = HarmonicBank(sample_rate=16000)
        >>> bank(torch.randn(2, 16000)).shape
        torch.Size([2, 6, 128, 63])
    """

    pitches: Tensor
    bins: Tensor
    hann: Tensor

    def __init__(self, *, sample_rate: int = 16000, harmonics: int = 6, fft: int = 512, per_semitone: int = 2) -> None:
        super().__init__()
        check_at_least(1, harmonics=harmonics, per_semitone=per_semitone, sample_rate=sample_rate)
        if fft < 2 or fft % 2:
            raise ValueError(f"fft={fft}: must be even and at least 2")
        highest = round(69 + 12 * math.log2(sample_rate / (2 * harmonics) / 440))
        if highest <= LOWEST:
            raise ValueError(f"sample_rate={sample_rate}, harmonics={harmonics}: leave no pitch above 33 Hz")
        self.harmonics, self.fft, self.hop = harmonics, fft, fft // 2
        self.bands = (highest - LOWEST) * per_semitone
        midi = LOWEST + torch.arange(self.bands, dtype=torch.float64) / per_semitone
        self.register_buffer("pitches", (440 * 2 ** ((midi - 69) / 12)).float(), persistent=False)
        self.register_buffer("bins", torch.linspace(0, sample_rate / 2, fft // 2 + 1), persistent=False)
        self.register_buffer("hann", torch.hann_window(fft), persistent=False)
        self.quality = nn.Parameter(torch.ones(()))

    def filters(self) -> Tensor:
        """Weights of the filters at the frequencies of a spectrum, `(harmonics, bands, fft / 2 + 1)`."""
        order = torch.arange(1, self.harmonics + 1, device=self.pitches.device)
        centres = (order[:, None] * self.pitches)[:, :, None]
        width = (0.1079 * centres + 24.7) / self.quality
        return (1 - 2 * (self.bins - centres).abs() / width).clamp(min=0)

    def forward(self, waves: Tensor) -> Tensor:
        """Spectrogram `(batch, harmonics, bands, frames)` in decibels, of waves `(batch, samples)`."""
        # Half precision has no FFT on CPUs, and overflows at the square of 256.
        with torch.autocast(waves.device.type, enabled=False):
            kind = torch.promote_types(self.quality.dtype, torch.float32)
            spectrum = torch.stft(waves.to(kind), self.fft, self.hop, window=self.hann.to(kind), return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            energy = self.filters().to(kind).flatten(0, 1) @ power
            decibels = 10 * energy.clamp(min=FLOOR).log10()
        return decibels.unflatten(1, (self.harmonics, self.bands))


class HarmonicNet(nn.Module):
    """Filter bank, BatchNorm, seven stages of convolutions, global maximum pooling, and two linear layers.

    Args:
        bank: The filters.
        classes: Number of outputs.
        width: Channels of the first four stages; the others have twice as many.
        pools: Pooling of each of the seven stages: factors of frequency and time.
        dropout: Dropout probability of the hidden features.

    Raises:
        ValueError: A size below one, other than seven pools, or pools that leave nothing of the bands.
    """

    def __init__(self, bank: HarmonicBank, *, classes: int, width: int, pools: Pools, dropout: float) -> None:
        super().__init__()
        check_at_least(1, classes=classes, width=width)
        if len(pools) != 7 or min(min(pool) for pool in pools) < 1:
            raise ValueError(f"pools={pools}: must be seven pairs of numbers from 1")
        if math.prod(down for down, _ in pools) > bank.bands:
            raise ValueError(f"pools={pools}: leave nothing of the {bank.bands} bands; pool frequency by less")
        wide = 2 * width
        self.bank = bank
        self.norm = nn.BatchNorm2d(bank.harmonics)
        self.stages = nn.Sequential(
            _plain(bank.harmonics, width, pools[0]),
            *(_Residual(width, pool) for pool in pools[1:4]),
            _plain(width, wide, pools[4]),
            *(_Residual(wide, pool) for pool in pools[5:]),
        )
        self.head = nn.Sequential(
            nn.Linear(wide, wide, bias=False),
            nn.BatchNorm1d(wide),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(wide, classes),
        )
        frames = math.prod(across for _, across in pools)
        self.least_samples = max((frames - 1) * bank.hop, bank.hop + 1)

    def forward(self, waves: Tensor) -> Tensor:
        """Logits `(batch, classes)` of waves `(batch, samples)` from -1 to 1.

        Raises:
            ValueError: Fewer than `least_samples` samples, of which pooling leaves nothing.
        """
        if waves.shape[-1] < self.least_samples:
            raise ValueError(f"{waves.shape[-1]} samples: this net needs at least {self.least_samples}; pad the sounds")
        return self.head(self.stages(self.norm(self.bank(waves))).amax(dim=(2, 3)))


def harmonic_net(
    *,
    classes: int,
    sample_rate: int = 16000,
    harmonics: int = 6,
    fft: int = 512,
    per_semitone: int = 2,
    width: int = 128,
    pools: Pools = TAGGING_POOLS,
    dropout: float = 0.5,
) -> HarmonicNet:
    """Harmonic CNN, by default the published one for music at 16 kHz.

    Convolutions and the hidden linear layer have no biases: the BatchNorm after them would subtract them.

    Args:
        classes: Number of outputs.
        sample_rate: Samples per second of the waves.
        harmonics: See `HarmonicBank`, as for `fft` and `per_semitone`.
        fft: Samples of one spectrum.
        per_semitone: Pitches per semitone.
        width: Channels of the first four stages; the others have twice as many.
        pools: Pooling of each of the seven stages, factors of frequency and time: `EVENT_POOLS` for sound events,
            `KEYWORD_POOLS` for single words, `DIGIT_POOLS` for words at 8 kHz.
        dropout: Dropout probability of the hidden features.

    Returns:
        A net from `(batch, samples)` to logits `(batch, classes)`.

    Raises:
        ValueError: A size below one, other than seven pools, or pools that leave nothing of the bands.

    Examples:
        >>> net = harmonic_net(classes=35, width=8, pools=KEYWORD_POOLS)
        >>> net.least_samples, net(torch.randn(2, 16128)).shape
        (16128, torch.Size([2, 35]))
    """
    bank = HarmonicBank(sample_rate=sample_rate, harmonics=harmonics, fft=fft, per_semitone=per_semitone)
    return HarmonicNet(bank, classes=classes, width=width, pools=pools, dropout=dropout)


def _plain(inputs: int, outputs: int, pool: tuple[int, int]) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(pool))


class _Residual(nn.Module):
    """Residual block of two convolutions, then pooling."""

    def __init__(self, width: int, pool: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(relu(x + self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))))
