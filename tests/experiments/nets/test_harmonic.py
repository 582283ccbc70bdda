"""The harmonic filter bank, and the network on it."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from tangential import find_invariances
from tangential.blocks import Blocks
from tangential.experiments.nets.harmonic import (
    DIGIT_POOLS,
    EVENT_POOLS,
    KEYWORD_POOLS,
    TAGGING_POOLS,
    HarmonicBank,
    harmonic_net,
)

tiny = partial(harmonic_net, classes=4, width=4, sample_rate=8000, fft=256, per_semitone=1, pools=DIGIT_POOLS)


def tone(frequency, rate, samples):
    return torch.sin(2 * math.pi * frequency * torch.arange(samples, dtype=torch.float64) / rate).float()[None]


def test_grid_at_16_khz_with_six_harmonics_has_128_bands_from_c1():
    bank = HarmonicBank()
    assert bank.bands == 128
    assert bank.pitches[0].item() == pytest.approx(32.703, abs=1e-3)  # C1
    # half a semitone apart, the last one half a semitone below E6, the note nearest to 16000 / 12 Hz
    assert torch.allclose(bank.pitches[1:] / bank.pitches[:-1], torch.tensor(2 ** (1 / 24)))
    assert bank.pitches[-1].item() == pytest.approx(1318.510 / 2 ** (1 / 24), abs=1e-2)


@pytest.mark.parametrize(("rate", "bands"), [(8000, 104), (16000, 128), (22050, 140), (44100, 164)])
def test_all_harmonics_of_the_grid_can_be_heard(rate, bands):
    bank = HarmonicBank(sample_rate=rate)
    assert bank.bands == bands
    assert 6 * bank.pitches[-1] <= rate / 2


@pytest.mark.parametrize("quality", [0.5, 1.0, 3.0])
def test_filters_are_the_published_triangles(quality):
    bank = HarmonicBank()
    bank.quality.data.fill_(quality)
    filters = bank.filters()
    assert filters.shape == (6, 128, 257)
    for harmonic, band, bin_ in [(0, 0, 1), (0, 127, 41), (2, 100, 58), (5, 60, 31), (5, 127, 250)]:
        centre = (harmonic + 1) * 440 * 2 ** ((24 + band / 2 - 69) / 12)
        width = (0.1079 * centre + 24.7) / quality
        at = 31.25 * bin_
        expected = max(0.0, min(1 + 2 * (at - centre) / width, 1 - 2 * (at - centre) / width))
        assert filters[harmonic, band, bin_].item() == pytest.approx(expected, abs=1e-4)  # of numbers around 8000
    assert filters.min() == 0 and filters.max() <= 1


@pytest.mark.parametrize("band", [40, 60, 77, 100, 127])
@pytest.mark.parametrize("harmonic", range(6))
@torch.no_grad()
def test_the_right_band_wins_at_every_harmonic(harmonic, band):
    # spectra of 2 Hz, so that the grid and not the spectrum decides
    bank = HarmonicBank(fft=8192)
    frequency = (harmonic + 1) * float(bank.pitches[band])
    loud = bank(tone(frequency, 16000, 24576))[0, :, :, 3:4]
    assert loud[harmonic].argmax() == band
    # the same tone is heard by the other channels too, where their harmonics meet it
    for other in range(6):
        meets = frequency / (other + 1)
        nearest = (bank.pitches - meets).abs().argmin()
        if abs(math.log2(float(bank.pitches[nearest]) / meets)) < 1 / 48:
            assert abs(int(loud[other].argmax()) - int(nearest)) <= 1


@pytest.mark.parametrize("harmonic", range(6))
@torch.no_grad()
def test_at_the_published_resolution_the_right_band_wins_within_a_semitone(harmonic):
    bank = HarmonicBank()
    for band in range(100, 128):
        loud = bank(tone((harmonic + 1) * float(bank.pitches[band]), 16000, 16000))[0, harmonic, :, 20]
        assert abs(int(loud.argmax()) - band) <= 2


@torch.no_grad()
def test_a_tone_with_harmonics_is_loud_in_one_row_of_all_channels():
    bank = HarmonicBank(fft=8192)
    band = 80
    waves = sum(tone(h * float(bank.pitches[band]), 16000, 24576) for h in range(1, 7))
    assert bank(waves)[0, :, :, 3].mean(dim=0).argmax() == band


@torch.no_grad()
def test_decibels_are_those_of_power_and_end_at_minus_100():
    bank = HarmonicBank()
    waves = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    louder = bank(10 * waves) - bank(waves)
    heard = bank.filters().sum(dim=2) > 0
    assert torch.allclose(louder[0][heard], torch.tensor(20.0), atol=1e-3)
    assert (bank(torch.zeros(1, 8000)) == -100).all()


def test_low_filters_between_two_frequencies_hear_nothing_as_published():
    deaf = HarmonicBank().filters().sum(dim=2) == 0
    assert 0 < deaf.sum() < 40
    assert not (HarmonicBank(fft=4096).filters().sum(dim=2) == 0).any()


def test_gradient_reaches_the_quality_and_is_the_slope_of_the_loss():
    bank = HarmonicBank(sample_rate=8000, fft=256).double()
    waves = torch.randn(2, 2048, dtype=torch.float64)
    pull = torch.randn(bank(waves).shape, dtype=torch.float64)
    (bank(waves) * pull).mean().backward()
    slope = bank.quality.grad.item()
    values = []
    with torch.no_grad():
        for step in (1e-6, -1e-6):
            bank.quality.fill_(1 + step)
            values.append((bank(waves) * pull).mean().item())
    assert slope != 0
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize(("pools", "least"), [(TAGGING_POOLS, 73472), (EVENT_POOLS, 32512), (KEYWORD_POOLS, 16128)])
@torch.no_grad()
def test_the_least_length_is_enough_and_one_sample_less_is_refused(pools, least):
    net = harmonic_net(classes=3, width=2, pools=pools).eval()
    assert net.least_samples == least
    assert net(torch.randn(1, least)).shape == (1, 3)
    # one frame less, and pooling leaves nothing
    with pytest.raises(RuntimeError):
        net.stages(net.norm(net.bank(torch.randn(1, least - 1))))
    with pytest.raises(ValueError, match=f"{least - 1} samples: this net needs at least {least}"):
        net(torch.randn(1, least - 1))


def test_the_published_network_has_its_stages_and_ends_at_one_frequency():
    net = harmonic_net(classes=50)
    convs = [tuple(module.weight.shape) for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert convs == [(128, 6, 3, 3), *[(128, 128, 3, 3)] * 6, (256, 128, 3, 3), *[(256, 256, 3, 3)] * 4]
    assert [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Linear)] == [(256, 256), (50, 256)]
    assert math.prod(down for down, _ in TAGGING_POOLS) == net.bank.bands


def test_every_weight_before_a_batchnorm_is_scale_invariant_and_the_quality_is_not():
    net = tiny()
    found = find_invariances(net, 0.1 * torch.randn(4, 8192))
    before = {name for name, weight in net.named_parameters() if weight.ndim == 4} | {"head.0.weight"}
    assert {name for name, blocks in found.items() if blocks == Blocks()} == before
    assert {found["bank.quality"], found["head.4.weight"]} == {None}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_autocast_leaves_the_bank_in_full_precision(kind):
    bank, waves = HarmonicBank(), torch.randn(1, 4096)
    with torch.autocast("cpu", dtype=kind):
        assert torch.equal(bank(waves), bank(waves.clone()))
        inside = bank(waves)
    assert torch.equal(inside, bank(waves))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"harmonics": 0}, "harmonics=0: must be at least 1"),
        ({"per_semitone": 0}, "per_semitone=0"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"sample_rate": 300}, "leave no pitch above 33 Hz"),
        ({"fft": 255}, "fft=255: must be even"),
        ({"width": 0}, "width=0: must be at least 1"),
        ({"pools": ((2, 2),)}, "must be seven pairs"),
        ({"pools": ((2, 2),) * 6 + ((0, 1),)}, "must be seven pairs"),
        ({"pools": EVENT_POOLS}, "leave nothing of the 52 bands"),
    ],
)
def test_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
