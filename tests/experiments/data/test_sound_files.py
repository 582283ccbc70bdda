"""Sound files and their lists as a disk or a stranger hands them over: cut, patched, out of scale, renamed."""

import os
import struct

import numpy as np
import pytest
import soundfile
import torch
from tests.support.hostile import Refused, damaged, outcome, warned

from tangential.experiments.data.sounds import decoding
from tangential.experiments.data.sounds.clips import SPLITS
from tangential.experiments.data.sounds.decoding import cached_sounds, read_sound
from tangential.experiments.data.sounds.speech import Fsdd, SpeechCommands
from tangential.experiments.data.sounds.tagged import EVENTS, MagnaTagATune, SoundEvents

RATE = 8000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    decoding._cached.cache_clear()


def sine(height=0.25, count=4000):
    return height * np.sin(np.arange(count) / 5)


def write(path, samples=None, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sine(count=400) if samples is None else samples, RATE, **how)


# levels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [0.25, 0.999, 1.0, 1.01, 1.5, 1.99])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_never_saturated(tmp_path, height, subtype):
    write(tmp_path / "a.wav", sine(height), subtype=subtype)
    read = read_sound(tmp_path / "a.wav", RATE) / 32768
    assert np.abs(read - sine(min(height, 1.0))).max() < 1e-3
    assert np.mean(np.abs(read) >= 32767 / 32768) < 0.02


@pytest.mark.parametrize("height", [2.5, 100, 32768, 2.0**31])
def test_floats_of_another_scale_are_named(tmp_path, height):
    write(tmp_path / "a.wav", sine(height), subtype="FLOAT")
    assert "goes beyond 1" in outcome(lambda: read_sound(tmp_path / "a.wav", RATE), name="a.wav")


def test_what_resampling_overshoots_is_not_clipped(tmp_path):
    write(tmp_path / "a.wav", np.sign(sine()))
    read = read_sound(tmp_path / "a.wav", 5512)
    assert np.mean(np.abs(read.astype(int)) >= 32767) < 0.01


@pytest.mark.parametrize("share", [0.0, 1e-3])
def test_opposite_phase_is_not_called_silence(tmp_path, share):
    write(tmp_path / "a.wav", np.stack([sine(), -(1 - share) * sine()], axis=1), subtype="FLOAT")
    assert "channels cancel each other" in outcome(lambda: read_sound(tmp_path / "a.wav", RATE), name="a.wav")


@pytest.mark.parametrize("other", [np.zeros(4000), sine(), 0.5 * sine(), -0.9 * sine()])
def test_other_channels_are_averaged(tmp_path, other):
    write(tmp_path / "a.wav", np.stack([sine(), other], axis=1), subtype="FLOAT")
    assert np.abs(read_sound(tmp_path / "a.wav", RATE) / 32768 - (sine() + other) / 2).max() < 1e-4


# damage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac", "ogg"])
def test_a_cut_sound_is_named_wherever_it_is_cut(tmp_path, suffix):
    write(tmp_path / f"whole.{suffix}", sine())
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for place in range(0, len(whole) - 1, max(len(whole) // 50, 1)):
        path.write_bytes(whole[:place])
        assert isinstance(outcome(lambda: read_sound(path, RATE), name=path.name), Refused), place


def patched(path, *, whole, samples):
    """A wav file of 8,000 bytes of samples whose header states other lengths."""
    data = sine(count=4000)
    body = (32768 * data).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", samples)
    path.write_bytes(b"RIFF" + struct.pack("<I", whole) + b"WAVE" + chunks + body)


WHOLE = 36 + 8000


@pytest.mark.parametrize(
    ("whole", "samples", "right"),
    [
        (WHOLE, 8000, True),
        (0, 0xFFFFFFFF, True),
        (0xFFFFFFFF, 0xFFFFFFFF, True),
        (WHOLE, 16000, False),
        (WHOLE + 8000, 16000, False),
        (WHOLE + 8000, 8000, False),
        (0, 16000, False),
        (0xFFFFFFFF, 16000, False),
    ],
)
def test_every_length_that_a_wav_file_states_is_compared(tmp_path, whole, samples, right):
    patched(tmp_path / "a.wav", whole=whole, samples=samples)
    found = outcome(lambda: read_sound(tmp_path / "a.wav", RATE), name="a.wav")
    assert len(found) == 4000 if right else found.endswith("cut short")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac", "ogg", "mp3"])
def test_no_damage_of_a_sound_ends_in_a_traceback(tmp_path, suffix):
    write(tmp_path / f"whole.{suffix}", sine())
    path = tmp_path / f"a.{suffix}"
    for how, data in damaged((tmp_path / f"whole.{suffix}").read_bytes(), count=40):
        path.write_bytes(data)
        found = outcome(lambda: read_sound(path, RATE), name=path.name)
        if suffix in ("flac", "ogg"):  # which have checksums
            assert isinstance(found, Refused) or len(found) == 4000, how


def test_what_the_machine_refuses_is_not_stored_as_a_fault(tmp_path, monkeypatch):
    write(tmp_path / "a.wav")
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "is_cut", lambda path: (_ for _ in ()).throw(PermissionError(13, "no", str(path))))
        with pytest.raises(PermissionError):
            cached_sounds("some", [tmp_path / "a.wav"], RATE)
    assert cached_sounds("some", [tmp_path / "a.wav"], RATE).lengths.tolist() == [400]


def test_a_damaged_cache_is_decoded_anew(tmp_path):
    write(tmp_path / "a.wav")
    cached_sounds("some", [tmp_path / "a.wav"], RATE)
    (path,) = (tmp_path / "cache").rglob("sounds.json")
    for text in (
        "[]",
        "null",
        '{"lengths": [400]}',
        '{"lengths": [200, 200], "faults": {}}',
        '{"lengths": "x"}',
        "[" * 9999,
    ):
        path.write_text(text)
        decoding._cached.cache_clear()
        assert cached_sounds("some", [tmp_path / "a.wav"], RATE).lengths.tolist() == [400]


def test_names_that_no_terminal_can_show_are_listed_all_the_same(tmp_path):
    path = tmp_path / os.fsdecode(b"a\xff\n.wav")
    path.write_bytes(b"none")
    write(tmp_path / "b.wav")
    assert cached_sounds("some", [path, tmp_path / "b.wav"], RATE).lengths.tolist() == [0, 400]
    (report,) = (tmp_path / "cache").rglob("left-out.txt")
    assert len(report.read_text().splitlines()) == 1


# Speech Commands ------------------------------------------------------------------------------------------------------


def speech(root, files, validation=b"", testing=b""):
    """Names by split, and the warnings of `load`."""
    home = root / "speech_commands_v0.02"
    for name in files:
        write(home / name)
    (home / "validation_list.txt").write_bytes(validation)
    (home / "testing_list.txt").write_bytes(testing)
    data = SpeechCommands(root=str(root), sample_rate=RATE)
    listing = data.listing()
    found = {split: [] for split in SPLITS}
    for path, number in zip(listing.paths, listing.splits.tolist(), strict=True):
        found[SPLITS[number]].append(path.relative_to(home).as_posix())
    return found, warned(lambda: data.load("train", samples=10, chunks=1))[1]


FILES = ("bed/a.wav", "bed/b.WAV", "bed/c.flac", "cat/d e.wav", "cat/f.ogg")


@pytest.mark.parametrize(
    "testing",
    [
        b"cat/d e.wav\ncat/f.wav\n",
        b"\xef\xbb\xbfcat/d e.wav\r\n\r\n cat/f.wav \r\n",
        "cat/d e.wav\ncat/f.wav".encode("utf-16"),
    ],
)
def test_clips_of_any_kind_are_joined_with_their_lists_by_name(tmp_path, testing):
    found, lines = speech(tmp_path, FILES, b"bed/b.wav\n", testing)
    assert found == {
        "train": ["bed/a.wav", "bed/c.flac"],
        "validation": ["bed/b.WAV"],
        "test": ["cat/d e.wav", "cat/f.ogg"],
    }
    assert lines == []


def test_what_lies_in_the_folders_of_words_and_is_no_clip_is_named(tmp_path):
    (tmp_path / "speech_commands_v0.02" / "bed").mkdir(parents=True)
    (tmp_path / "speech_commands_v0.02" / "bed" / "notes.txt").write_text("x")
    (tmp_path / "speech_commands_v0.02" / "bed" / "._a.wav").write_text("x")
    found, (line,) = speech(tmp_path, FILES)
    assert sum(map(len, found.values())) == 5
    assert line.endswith("2 files left out: bed/._a.wav (hidden), bed/notes.txt (its name ends otherwise)")


@pytest.mark.parametrize(
    ("files", "lists", "why"),
    [
        (("bed/a.wav", "bed/a.flac"), (b"", b""), "has bed/a twice, as a.flac and a.wav"),
        (FILES, (b"bed/a.wav\n", b"bed/a.wav\n"), "1 clips are in both lists, as bed/a.wav"),
        (FILES, (b"bed/\xe9.wav\n", b""), "validation_list.txt is not text in UTF-8"),
        (FILES, (b"\0\0\0\0", b""), "validation_list.txt has zero bytes"),
        (FILES, (b"hello/a.wav\n", b""), "not among the 35: hello"),
    ],
)
def test_lists_and_files_that_do_not_belong_together_are_refused(tmp_path, files, lists, why):
    with pytest.raises(ValueError, match=why):
        speech(tmp_path, files, *lists)


# spoken digits --------------------------------------------------------------------------------------------------------


def digits(root, *names):
    home = root / "fsdd" / "recordings"
    for name in names:
        write(home / name)
    data = Fsdd(root=str(root))
    return sorted(path.name for path in data.listing().paths), warned(lambda: data.load("train", samples=9, chunks=1))[
        1
    ]


def test_recordings_may_be_of_any_kind_and_speakers_of_any_name(tmp_path):
    names = ["0_theo_9.wav", "1_theo_9.WAV", "2_anna_maria_10.flac"]
    assert digits(tmp_path, *names) == (names, [])


def test_hidden_files_and_others_are_named(tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    (tmp_path / "fsdd" / "recordings" / "._0_theo_0.wav").write_bytes(b"x")
    names, (line,) = digits(tmp_path, "0_theo_9.wav", "noise.wav")
    assert names == ["0_theo_9.wav"]
    assert "._0_theo_0.wav (hidden), noise.wav (not named DIGIT_SPEAKER_INDEX)" in line


@pytest.mark.parametrize("names", [("0_theo_9.wav", "0_theo_9.flac"), ("0_theo_9.wav", "0_theo_09.wav")])
def test_one_recording_in_two_files_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match="are the same recording"):
        digits(tmp_path, *names)


@pytest.mark.parametrize("name", ["ten_theo_0.wav", "0_theo_x.wav", "²_theo_0.wav", "0_theo_٣.wav"])
def test_another_name_of_that_kind_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"is not named DIGIT_SPEAKER_INDEX\.wav"):
        digits(tmp_path, name, "0_theo_9.wav")


# music ----------------------------------------------------------------------------------------------------------------

TABLE = "clip_id\trock\tjazz\tmp3_path\n1\t1\t0\t0/a.mp3\n2\t1\t1\tf/b c.mp3\n"


def music(root, table=TABLE, files=("0/a.wav", "mp3/f/b c.flac")):
    for name in files:
        write(root / "mtat" / name)
    (root / "mtat" / "annotations_final.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    data = MagnaTagATune(root=str(root), tags=2, sample_rate=RATE)
    listing, lines = data.listing(), warned(lambda: data.load("train", samples=9, chunks=1))[1]
    home = root / "mtat"
    rows = zip(listing.paths, listing.targets.tolist(), listing.splits.tolist(), strict=True)
    return {path.relative_to(home).as_posix(): (target, split) for path, target, split in rows}, lines


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        TABLE + "\n\n",
        TABLE.encode("utf-16"),
        TABLE.replace("rock", '"rock"'),
    ],
    ids=["plain", "crlf", "bom", "blank lines", "utf-16", "quotes"],
)
def test_tables_of_every_kind_are_read_alike(tmp_path, table):
    assert music(tmp_path, table) == ({"0/a.wav": ([1, 0], 0), "mp3/f/b c.flac": ([1, 1], 2)}, [])


def test_clips_that_no_row_names_are_counted(tmp_path):
    _, (line,) = music(tmp_path, files=("0/a.wav", "mp3/f/b c.flac", "3/z.wav"))
    assert line == "magnatagatune: 1 files left out: 3/z (not in annotations_final.csv)"


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (TABLE + "3\t1\t0/d.mp3\n", "line 4 has not 4 columns"),
        (TABLE + "3\t1\t0\t0\t0/d.mp3\n", "line 4 has not 4 columns"),
        (TABLE + "3\t2\t0\t0/d.mp3\n", "line 4 has not 4 columns with 0 or 1"),
        (TABLE + "3\t1\t\t0/d.mp3\n", "line 4 has not 4 columns with 0 or 1"),
        (TABLE + "3\t1\t0\t0/a.mp3\n", "lines 2 and 4 are both of '0/a.mp3'"),
        (TABLE + "3\t1\t0\tx/a.mp3\n", "clips of MagnaTagATune lie in folders 0 to f"),
        (TABLE[:20], "its columns are not"),
        (TABLE.splitlines()[0], "it names no clips"),
        ("", "its columns are not"),
        (TABLE.encode() + b"\0\0", "has zero bytes"),
        (TABLE.replace("rock", "é").encode("latin-1"), "is not text in UTF-8"),
    ],
)
def test_a_table_of_another_kind_is_named(tmp_path, table, why):
    with pytest.raises(ValueError, match=why) as caught:
        music(tmp_path, table)
    assert "mtat/" in str(caught.value) and "\n" not in str(caught.value)


def test_one_clip_in_two_folders_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 0/a twice"):
        music(tmp_path, files=("0/a.wav", "mp3/0/a.mp3", "f/b c.wav"))


def test_a_table_that_is_replaced_is_read_again(tmp_path):
    assert music(tmp_path)[0]["0/a.wav"] == ([1, 0], 0)
    table = TABLE.replace("1\t1\t0\t0/a", "1\t0\t1\t0/a")
    os.utime(tmp_path / "mtat" / "annotations_final.csv", (9, 9))
    assert music(tmp_path, table)[0]["0/a.wav"] == ([1, 0], 0)  # now jazz is the most frequent
    assert MagnaTagATune(root=str(tmp_path), tags=2).categories == ("jazz", "rock")


# sound events ---------------------------------------------------------------------------------------------------------


def events(root, training, evaluation=("e",), files=()):
    home = root / "dcase2017-task4"
    for name in files:
        write(home / name)
    for kind, names in (("training", training), ("evaluation", evaluation)):
        table = home / f"groundtruth_weak_label_{kind}_set.csv"
        if isinstance(names, bytes):
            table.write_bytes(names)
        else:
            table.write_text("".join(f"{name}\t0.000\t10.000\t{EVENTS[0]}\n" for name in names))
    data = SoundEvents(root=str(root), sample_rate=RATE)
    listing, lines = data.listing(), warned(lambda: data.load("test", samples=9, chunks=1))[1]
    return [path.relative_to(home).as_posix() for path in listing.paths], lines


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a.wav", "Ya.wav"), ("Ya.wav", "YYa.wav")),
        (("a.wav", "Ya.wav"), ("a.wav", "Ya.wav")),
        (("Ya.wav", "b.wav"), ("YYa.wav", "Yb.flac")),
        (("a_0.000_10.000", "b_0.000_10.000.wav"), ("Ya_0.000_10.000.wav", "Yb_0.000_10.000.WAV")),
        (("a.wav", "b.wav"), ("x/Ya.wav", "y/Yb.ogg")),
    ],
)
def test_an_id_may_begin_with_the_letter_that_files_are_marked_with(tmp_path, names, files):
    found, lines = events(tmp_path, names, files=(*files, "e.wav"))
    assert found == [*files, "e.wav"] and lines == []


def test_clips_in_no_list_and_lists_without_clips_are_named(tmp_path):
    found, lines = events(tmp_path, ("a.wav",), ("e.wav", "gone.wav"), files=("a.wav", "e.wav", "other.wav"))
    assert found == ["a.wav", "e.wav", "gone.wav"]
    assert lines == [
        "dcase2017-task4: 1 of 2 test clips left out: gone.wav (not there)",
        "dcase2017-task4: 1 files left out: other.wav (in no list)",
    ]


ROW = f"a.wav\t0.000\t10.000\t{EVENTS[0]}"


@pytest.mark.parametrize(
    "table",
    [f"{ROW}\n", f"{ROW}\r\n\r\n", f"\ufeff{ROW}", f"\n{ROW}  \n{ROW}\n"],
    ids=["plain", "crlf", "bom", "twice"],
)
def test_lists_of_every_kind_are_read_alike(tmp_path, table):
    assert events(tmp_path, table.encode(), files=("a.wav", "e.wav")) == (["a.wav", "e.wav"], [])


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (f"{ROW}\na.wav\tCar\n", r"line 2: .* is no clip, start, end and kind"),
        (f"{ROW}\t1\n", "line 1"),
        (ROW.replace(EVENTS[0], "Moo"), "line 1: 'Moo' is none of the 17 kinds"),
        ("", "names no clips"),
        (f"{ROW}\0", "zero bytes"),
        (ROW.replace("a.wav", "e"), "clips are in both lists"),
    ],
)
def test_a_list_of_another_kind_is_named(tmp_path, table, why):
    with pytest.raises(ValueError, match=why) as caught:
        events(tmp_path, table.encode(), files=("a.wav", "e.wav"))
    assert "dcase2017-task4" in str(caught.value) and "\n" not in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="have the same name"):
        events(tmp_path, ("a.wav",), files=("x/Ya.wav", "y/Ya.flac", "e.wav"))


def test_targets_stay_with_their_clips(tmp_path):
    events(tmp_path, ("b.wav", "a.wav"), files=("a.wav", "b.wav", "e.wav"))
    listing = SoundEvents(root=str(tmp_path), sample_rate=RATE).listing()
    assert torch.equal(listing.targets[:, 0], torch.ones(3))
