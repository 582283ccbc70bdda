"""Sound files, their cache, and windows of them."""

import json
import math
import os

import numpy as np
import pytest
import soundfile
import torch

from tangential.experiments.data.sounds import decoding
from tangential.experiments.data.sounds.clips import Clips
from tangential.experiments.data.sounds.decoding import Sounds, cached_sounds, read_sound

RATE = 8000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    decoding._cached.cache_clear()
    yield tmp_path / "cache" / "tangential"
    decoding._cached.cache_clear()


def sine(frequency=440.0, rate=RATE, seconds=0.5, height=0.5):
    return height * np.sin(2 * math.pi * frequency * np.arange(round(rate * seconds)) / rate)


@pytest.fixture
def folder(tmp_path):
    """Two good files, and one of every fault."""
    good = sine()
    soundfile.write(tmp_path / "good.wav", good, RATE)
    soundfile.write(tmp_path / "stereo.flac", np.stack([good, good], axis=1), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no sound at all")
    for name in ("cut.wav", "cut.flac", "cut.ogg"):
        whole = tmp_path / f"whole-{name}"
        soundfile.write(whole, good, RATE)
        (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return tmp_path


FAULTS = {
    "silent.wav": "silent",
    "empty.wav": "empty",
    "nan.wav": "not finite",
    "text.wav": "cannot be read",
    "cut.wav": "cut short",
    "cut.flac": "cannot be read",
    "cut.ogg": "cannot be read",
    "missing.wav": "not there",
}


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_files_are_read_to_the_bit(tmp_path, suffix):
    whole = np.arange(-32768, 32768, 17, dtype=np.int16)
    soundfile.write(tmp_path / f"a.{suffix}", whole, RATE, subtype="PCM_16")
    assert np.array_equal(read_sound(tmp_path / f"a.{suffix}", RATE), whole)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_files_are_read(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", sine(seconds=1.0), RATE)
    read = read_sound(tmp_path / f"a.{suffix}", RATE)
    assert abs(len(read) - RATE) < 2500  # mp3 pads at both ends
    assert np.abs(np.fft.rfft(read[2000:6000])).argmax() == 220  # 440 Hz in bins of 2 Hz


def test_channels_are_averaged(tmp_path):
    left, right = sine(300), sine(500)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE)
    expected = np.round(32768 * (left + right) / 2)
    assert np.abs(read_sound(tmp_path / "a.wav", RATE) - expected).max() <= 1  # each was rounded by itself


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_another_rate_is_changed_and_keeps_the_tone(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", sine(440, rate), rate)
    read = read_sound(tmp_path / "a.wav", RATE).astype(float) / 32768
    assert abs(len(read) - RATE // 2) <= 1
    assert np.abs(read[400:3600] - sine(440)[400:3600]).max() < 1e-3


def test_what_lies_above_the_new_highest_frequency_is_gone_and_not_mirrored(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(7000, 16000), 16000)
    with pytest.raises(ValueError, match="silent"):
        soundfile.write(tmp_path / "b.wav", read_sound(tmp_path / "a.wav", RATE)[400:-400], RATE)
        read_sound(tmp_path / "b.wav", RATE)


@pytest.mark.parametrize(("name", "why"), FAULTS.items())
def test_a_file_that_cannot_be_used_says_why(folder, name, why):
    with pytest.raises(ValueError, match=why):
        read_sound(folder / name, RATE)


def test_faulty_files_are_left_out_by_number_and_listed(folder, cache):
    paths = [folder / name for name in ("good.wav", *FAULTS, "stereo.flac")]
    sounds = cached_sounds("some", paths, RATE)
    assert sounds.lengths.tolist() == [4000, *[0] * len(FAULTS), 4000]
    assert sorted(sounds.faults) == list(range(1, 1 + len(FAULTS)))
    assert torch.equal(sounds.samples[:4000], torch.from_numpy(read_sound(paths[0], RATE)))
    assert torch.equal(sounds.samples[4000:], torch.from_numpy(read_sound(paths[-1], RATE)))
    (report,) = cache.glob("some-*/left-out.txt")
    assert len(report.read_text().splitlines()) == len(FAULTS)


def test_second_time_nothing_is_decoded_and_the_faults_are_still_known(folder, monkeypatch):
    paths = [folder / "good.wav", folder / "silent.wav"]
    first = cached_sounds("some", paths, RATE)
    decoding._cached.cache_clear()
    monkeypatch.setattr(decoding, "read_sound", None)
    again = cached_sounds("some", paths, RATE)
    assert torch.equal(again.samples, first.samples)
    assert again.faults == first.faults == {1: "silent"}


def test_a_replaced_file_another_rate_and_a_broken_cache_are_decoded_anew(folder, cache):
    path = folder / "good.wav"
    cached_sounds("some", [path], RATE)
    assert len(cached_sounds("some", [path], 2 * RATE).samples) == 8000
    soundfile.write(path, sine(seconds=0.25), RATE)
    assert len(cached_sounds("some", [path], RATE).samples) == 2000
    for name in ("samples.int16", "sounds.json"):
        for file in cache.glob(f"some-*/{name}"):
            os.truncate(file, 10)
        decoding._cached.cache_clear()
        assert len(cached_sounds("some", [path], RATE).samples) == 2000
    assert not list(cache.glob("*.split"))


def test_a_data_set_without_a_usable_file_is_refused(folder):
    with pytest.raises(ValueError, match=r"none of the 2 sound files of some can be used .*silent.wav: silent"):
        cached_sounds("some", [folder / "silent.wav", folder / "text.wav"], RATE)
    with pytest.raises(ValueError, match="none of the 0 sound files"):
        cached_sounds("none", [], RATE)


def test_many_files_keep_their_order(tmp_path):
    paths = [tmp_path / f"{number}.wav" for number in range(150)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.full(number + 1, (number + 2) / 32768), RATE)
    sounds = cached_sounds("many", paths, RATE)
    assert sounds.lengths.tolist() == list(range(1, 151))
    assert json.dumps(sounds.samples.unique_consecutive().tolist()) == json.dumps(list(range(2, 152)))


def clips(lengths, samples, chunks=None):
    """Sounds whose samples count from 1."""
    held = Sounds(torch.cat([torch.arange(1, n + 1) for n in lengths]).short(), torch.tensor(lengths))
    every = torch.arange(len(lengths))
    return Clips(held, every, every, samples=samples, chunks=chunks)


def heard(waves):
    return (32768 * waves).round().int()


def test_a_long_clip_is_cut_anywhere_in_training_and_everywhere_alike():
    waves, _ = clips([7], 5).__getitems__([0] * 600)
    starts = heard(waves)[:, 0]
    assert torch.equal(heard(waves), starts[:, None] + torch.arange(5))
    assert starts.bincount(minlength=4).tolist()[0] == 0
    assert (starts.bincount()[1:] > 150).all() and starts.max() == 3


def test_a_short_clip_lies_anywhere_in_silence_in_training_and_is_whole():
    waves, _ = clips([3], 5).__getitems__([0] * 600)
    starts = (waves != 0).int().argmax(dim=1)
    for start in (0, 1, 2):
        assert (starts == start).sum() > 150
        row = heard(waves[starts == start])[0].tolist()
        assert row == [0] * start + [1, 2, 3] + [0] * (2 - start)


def test_chunks_are_evenly_spaced_from_the_start_to_the_end():
    waves, _ = clips([100], 10, chunks=16).__getitems__([0])
    starts = heard(waves)[0, :, 0]
    assert (starts[0], starts[-1]) == (1, 91)
    assert starts.diff().unique().tolist() == [6]


@pytest.mark.parametrize(("length", "row"), [(3, [0, 1, 2, 3, 0]), (5, [1, 2, 3, 4, 5]), (7, [2, 3, 4, 5, 6])])
def test_one_chunk_is_the_middle(length, row):
    assert heard(clips([length], 5, chunks=1)[0][0]).tolist() == [row]


def test_a_short_clip_is_in_the_middle_of_all_chunks():
    assert heard(clips([3], 5, chunks=2)[0][0]).tolist() == [[0, 1, 2, 3, 0]] * 2


def test_places_are_decided_by_torchs_generator():
    several = clips([50, 3, 20], 10)
    torch.manual_seed(1)
    first = several.__getitems__([0, 1, 2])[0]
    torch.manual_seed(1)
    assert torch.equal(several.__getitems__([0, 1, 2])[0], first)
    assert not torch.equal(several.__getitems__([0, 1, 2])[0], first)


@pytest.mark.parametrize(("samples", "chunks", "name"), [(0, 1, "samples"), (5, 0, "chunks")])
def test_windows_without_length_or_number_are_refused(samples, chunks, name):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        clips([3], samples, chunks)
