"""The tasks of sounds as the training loop sees them, their data sets and their recipes."""

import copy
import os
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from torch import nn

from tangential.experiments.data.sounds import decoding
from tangential.experiments.data.sounds.clips import SPLITS
from tangential.experiments.data.sounds.speech import COMMANDS, Fsdd, SpeechCommands
from tangential.experiments.data.sounds.synthetic import Tones
from tangential.experiments.data.sounds.tagged import EVENTS, MagnaTagATune, SoundEvents, tenth
from tangential.experiments.nets.harmonic import DIGIT_POOLS, harmonic_net
from tangential.experiments.recipes import RECIPES
from tangential.experiments.settings.overrides import override
from tangential.experiments.tasks.audio import Keyword, Tagging, areas, sample_f1
from tangential.experiments.training.loop import Training

NARROW = partial(harmonic_net, fft=256, per_semitone=1, width=8, pools=DIGIT_POOLS, dropout=0.0)
KEYWORD = Keyword(data=Tones(sample_rate=8000), net=NARROW, samples=4096)
TAGGING = Tagging(data=Tones(sample_rate=8000, several=True), net=NARROW, samples=4096, chunks=3)
REAL = Path(os.environ.get("TANGENTIAL_DATA", "/nowhere")) / "fsdd"
TREES = {"speech": SpeechCommands, "digits": Fsdd, "music": partial(MagnaTagATune, tags=3), "events": SoundEvents}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    decoding._cached.cache_clear()


def write(path, number=1, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(100 + number, 0.1), rate)


def plant_speech(root):
    words = root / "speech_commands_v0.02"
    for word in COMMANDS:
        for speaker in "abc":
            write(words / word / f"{speaker}_nohash_0.wav", rate=16000)
    write(words / "_background_noise_" / "tap.wav")
    (words / "validation_list.txt").write_text("".join(f"{word}/b_nohash_0.wav\n" for word in COMMANDS))
    (words / "testing_list.txt").write_text("".join(f"{word}/c_nohash_0.wav\n" for word in COMMANDS))


def plant_digits(root):
    for number, (digit, who, index) in enumerate(product(range(10), ("ann", "bob"), range(12))):
        write(root / "fsdd" / "recordings" / f"{digit}_{who}_{index}.wav", number)


def plant_music(root):
    rows = ["\t".join(["clip_id", "rare", "often", "never", "some", "mp3_path"])]
    for number, folder in enumerate("0123456789abcdef"):
        write(root / "mtat" / "mp3" / folder / "tune.wav", number)
        marks = [int(number == 0), int(number != 5), 0, number % 2]
        rows.append("\t".join([str(number), *map(str, marks), f"{folder}/tune.mp3"]))
    (root / "mtat" / "annotations_final.csv").write_text("\n".join(rows) + "\n")


def plant_events(root):
    for kind, count in (("training", 11), ("evaluation", 3)):
        lines = []
        for number, event in enumerate(EVENTS):
            for clip in range(count):
                name = f"{kind[0]}-{number}-{clip}_0.000_10.000.wav"
                write(root / "dcase2017-task4" / kind / f"Y{name}", number)
                lines += [f"{name}\t0.000\t10.000\t{each}" for each in {event, EVENTS[clip % 17]}]
        table = root / "dcase2017-task4" / f"groundtruth_weak_label_{kind}_set.csv"
        table.write_text("\n".join(lines) + "\n")


PLANT = {"speech": plant_speech, "digits": plant_digits, "music": plant_music, "events": plant_events}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A small tree of each data set, laid out as published, to be read only."""
    root = tmp_path_factory.mktemp("trees")
    for plant in PLANT.values():
        plant(root)
    return str(root)


def members(data):
    """The paths of each part."""
    listing = data.listing()
    return [
        {path for path, of in zip(listing.paths, listing.splits.tolist(), strict=True) if of == i} for i in range(3)
    ]


@pytest.mark.parametrize("name", TREES)
def test_no_clip_is_in_two_parts_and_each_part_has_some(trees, name):
    for test in ("test", "validation"):
        splits = members(TREES[name](root=trees, test=test))
        assert sum(map(len, splits)) == len(set.union(*splits))
        assert all(splits[i] for i in (0, SPLITS.index(test)))


@pytest.mark.parametrize("name", TREES)
def test_every_data_set_trains_and_tests_and_has_a_smoke_version(trees, name):
    data = TREES[name](root=trees)
    task = (Keyword if name in ("speech", "digits") else Tagging)(data=data, net=NARROW, samples=4096)
    train, test = (task.batches(split, batch_size=4) for split in ("train", "test"))
    assert {type(task.data.load(split, samples=10, chunks=1)).__name__ for split in ("train", "test")} == {"Clips"}
    waves, targets = next(iter(train))
    assert waves.shape == (4, 4096) and len(targets) == 4
    assert next(iter(test))[0].shape[1:] == (task.chunks, 4096)
    assert isinstance(task.smoke().data, Tones)
    assert len(data.categories) >= targets.max()


def test_speech_commands_are_split_by_their_lists_and_noise_is_no_word(trees):
    listing = SpeechCommands(root=trees).listing()
    assert len(listing.paths) == 3 * 35 and len(SpeechCommands.categories) == 35
    for path, word, split in zip(listing.paths, listing.targets, listing.splits, strict=True):
        assert path.parent.name == COMMANDS[word]
        assert split == {"a": 0, "b": 1, "c": 2}[path.name[0]]


def test_official_split_of_the_digits_is_by_index(trees):
    train, validation, test = ({int(path.stem.split("_")[2]) for path in split} for split in members(Fsdd(root=trees)))
    assert (train, validation, test) == (set(range(5, 12)), set(), set(range(5)))
    splits = members(Fsdd(root=trees, test="validation"))
    assert [{int(path.stem.split("_")[2]) for path in split} for split in splits] == [
        {10, 11},
        set(range(5, 10)),
        set(range(5)),
    ]


def test_a_speaker_who_is_left_out_is_only_tested_on(trees):
    train, _, test = ({path.stem.split("_")[1] for path in split} for split in members(Fsdd(root=trees, speaker="bob")))
    assert (train, test) == ({"ann"}, {"bob"})
    with pytest.raises(ValueError, match="speaker=eve: there is no such speaker; there are ann, bob"):
        Fsdd(root=trees, speaker="eve").listing()


def test_music_has_the_most_frequent_tags_and_no_clip_without_any(trees):
    data = MagnaTagATune(root=trees, tags=2)
    assert data.categories == ("often", "some")
    listing = data.listing()
    assert len(listing.paths) == 16 and listing.targets[5].tolist() == [0, 1]
    # the fifth has none but `some`
    assert len(MagnaTagATune(root=trees, tags=1).listing().paths) == 15
    assert [len(split) for split in members(data)] == [12, 1, 3]
    assert all(path.exists() for path in listing.paths)


def test_events_gather_all_lines_of_a_clip_and_keep_a_tenth_of_each_kind(trees):
    listing = SoundEvents(root=trees).listing()
    assert listing.targets.sum(dim=1).max() == 2 and listing.targets.sum(dim=1).min() == 1
    training = listing.splits < 2
    held = listing.targets[listing.splits == 1].sum(dim=0)
    assert (held >= (listing.targets[training].sum(dim=0) / 10)).all()
    assert torch.equal(SoundEvents(root=trees).listing().splits, listing.splits)
    assert (listing.splits == 2).sum() == 3 * 17


def test_a_tenth_of_one_tag_each_is_a_tenth():
    assert tenth(torch.eye(3).repeat(50, 1)).sum() == 15


def test_clips_that_cannot_be_used_are_left_out_with_a_warning_that_counts_and_names_them(tmp_path):
    plant_digits(tmp_path)
    folder = tmp_path / "fsdd" / "recordings"
    (folder / "3_ann_7.wav").write_bytes(b"no sound")
    soundfile.write(folder / "4_bob_8.wav", np.zeros(100), 8000)
    data = Fsdd(root=str(tmp_path))
    with pytest.warns(
        UserWarning, match=r"fsdd: 2 of 140 train clips left out: 3_ann_7.wav \(cannot.*4_bob_8.wav \(sil"
    ):
        clips = data.load("train", samples=10, chunks=1)
    assert len(clips) == 138 and (clips.lengths > 0).all()
    assert len(data.load("test", samples=10, chunks=1)) == 100  # nothing wrong there, so nothing is said


def test_a_clip_that_is_listed_and_not_there_is_named(tmp_path):
    plant_speech(tmp_path)
    (tmp_path / "speech_commands_v0.02" / "bed" / "c_nohash_0.wav").unlink()
    with pytest.warns(UserWarning, match=r"1 of 35 test clips left out: c_nohash_0.wav \(not there\)"):
        SpeechCommands(root=str(tmp_path)).load("test", samples=10, chunks=1)


def test_the_limit_takes_clips_from_all_over_the_list(trees):
    clips = Fsdd(root=trees, limit=10).load("train", samples=10, chunks=1)
    assert len(clips) == 10 and len(set(clips.targets.tolist())) == 10


@pytest.mark.parametrize("name", TREES)
def test_missing_data_are_one_line_with_a_place_to_get_them(tmp_path, name):
    with pytest.raises(ValueError, match=r"no \S+ in .*; get it from https?://.* and put it there") as error:
        TREES[name](root=str(tmp_path)).load("train", samples=10, chunks=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("speech", "speech_commands_v0.02/testing_list.txt", None, "has no testing_list.txt"),
        ("speech", "speech_commands_v0.02/testing_list.txt", "hello/x.wav", "words that are not among the 35: hello"),
        ("digits", "fsdd/recordings/ten_ann_0.wav", "", "is not named DIGIT_SPEAKER_INDEX"),
        ("music", "mtat/annotations_final.csv", "a,b\n1,2\n", "is not MagnaTagATune's table"),
        ("music", "mtat/annotations_final.csv", "", "is not MagnaTagATune's table"),
        ("events", "dcase2017-task4/groundtruth_weak_label_training_set.csv", "a\t0\t1\tMoo", "line 1: 'Moo' is none"),
        ("events", "dcase2017-task4/groundtruth_weak_label_training_set.csv", None, "is not a list of the challenge"),
    ],
)
def test_a_broken_data_set_is_named(tmp_path, name, file, text, message):
    PLANT[name](tmp_path)
    path = tmp_path / file
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        TREES[name](root=str(tmp_path)).load("train", samples=10, chunks=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fsdd(test="train"), "test=train: must be test or validation"),
        (lambda: Fsdd(test="validation", speaker="theo"), "no validation split beside speaker=theo"),
        (lambda: Fsdd(limit=0), "limit=0"),
        (lambda: Fsdd(sample_rate=0), "sample_rate=0"),
        (lambda: Keyword(samples=0), "samples=0"),
        (lambda: Tagging(chunks=0), "chunks=0"),
        (lambda: Tagging(threshold=1.5), "threshold=1.5: must be from 0 to 1"),
        (lambda: replace(KEYWORD, samples=100).model(), "samples=100: this net needs at least 3968"),
    ],
)
def test_setting_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.skipif(not REAL.exists(), reason="the spoken digits are not in TANGENTIAL_DATA")
def test_the_real_digits_are_3000_and_none_is_left_out(monkeypatch):
    official = Fsdd(root=str(REAL.parent))
    sizes = [len(official.load(split, samples=10, chunks=1)) for split in ("train", "test")]
    assert sizes == [2700, 300]
    held_out = replace(official, speaker="lucas")
    assert [len(held_out.load(split, samples=10, chunks=1)) for split in ("train", "test")] == [2500, 500]
    assert int(official.load("train", samples=10, chunks=1).lengths.max()) == 18262


def test_areas_and_f1_are_the_librarys_on_random_answers():
    shares, targets = torch.rand(200, 7), (torch.rand(200, 7) < 0.2).float()
    shares[:50] = shares[:50].round(decimals=1)  # ties
    given = shares >= 0.5
    assert areas(shares, targets) == pytest.approx(
        {
            "roc_auc": roc_auc_score(targets, shares, average="macro"),
            "pr_auc": average_precision_score(targets, shares, average="macro"),
        },
        abs=1e-6,  # float32
    )
    assert sample_f1(given, targets) == f1_score(targets, given, average="samples", zero_division=0.0)
    by_hand = [2 * float((g * t).sum()) / max(float(g.sum() + t.sum()), 1) for g, t in zip(given, targets, strict=True)]
    assert sample_f1(given, targets) == pytest.approx(np.mean(by_hand))


def test_tags_that_all_or_no_clips_have_do_not_count():
    shares = torch.rand(50, 3)
    targets = torch.stack([torch.zeros(50), torch.ones(50), (torch.rand(50) < 0.5).float()], dim=1)
    assert areas(shares, targets) == areas(shares[:, 2:], targets[:, 2:])
    with pytest.raises(ValueError, match="no tag has both"):
        areas(shares[:, :2], targets[:, :2])


class Knowing(nn.Module):
    """Gives the logits it was told, one batch of chunks after the other."""

    def __init__(self, logits):
        super().__init__()
        self.logits = list(logits)

    def forward(self, waves):
        return self.logits.pop(0)


def test_a_clip_is_answered_by_the_mean_of_its_chunks():
    waves = torch.zeros(1, 3, 4)
    shares = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    model = Knowing(shares.log()[:, None])
    scores = KEYWORD.score(model, [(waves, torch.tensor([1]))])
    assert scores == pytest.approx({"loss": -np.log(1.6 / 3), "accuracy": 1.0})


def test_perfect_answers_score_one():
    targets = torch.eye(4)
    logits = (200 * targets - 100)[None]
    perfect = TAGGING.score(Knowing(logits), [(torch.zeros(4, 1, 8), targets)])
    assert perfect == pytest.approx({"loss": 0.0, "roc_auc": 1.0, "pr_auc": 1.0, "f1": 1.0})
    words = KEYWORD.score(Knowing(logits), [(torch.zeros(4, 1, 8), torch.arange(4))])
    assert words == pytest.approx({"loss": 0.0, "accuracy": 1.0})


@pytest.mark.parametrize("task", [KEYWORD, TAGGING], ids=["keyword", "tagging"])
@torch.no_grad()
def test_score_is_that_of_the_clips_whatever_the_batches(task):
    model = task.model().eval()
    one, other = (task.score(model, task.batches("test", batch_size=size)) for size in (16, 5))
    assert one == pytest.approx(other, abs=1e-5)
    assert task.headline.name in one


@pytest.mark.parametrize("task", [KEYWORD, TAGGING], ids=["keyword", "tagging"])
def test_loss_falls_when_the_net_learns(task):
    model = task.model()
    batch = next(iter(task.batches("train", batch_size=16)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        losses.append(task.loss(model, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert model.bank.quality != 1


def test_training_leaves_out_a_smaller_last_batch_and_testing_does_not():
    sizes = {split: [len(t) for _, t in KEYWORD.batches(split, batch_size=5)] for split in ("train", "test")}
    assert sizes == {"train": [5, 5, 5], "test": [5, 5, 5, 1]}
    assert [len(t) for _, t in KEYWORD.batches("train", batch_size=64)] == [16]


def test_a_run_that_goes_on_ends_with_the_same_bits():
    recipe = replace(RECIPES["fsdd-harmonic"].smoke(), epochs=2)
    whole = Training(recipe.plan("adamp", 0))
    whole.run_epoch()
    state = copy.deepcopy(whole.state_dict())
    whole.run_epoch()
    resumed = Training(recipe.plan("adamp", 0))
    resumed.load_state_dict(state)
    resumed.run_epoch()
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "headline", "adam", "adamp"),
    [
        ("mtat-harmonic", "roc_auc", 91.12, 91.35),
        ("speech-commands-harmonic", "accuracy", 96.47, 96.89),
        ("dcase-harmonic", "f1", 55.24, 56.04),
    ],
)
def test_recipes_have_the_numbers_of_table_5(name, headline, adam, adamp):
    recipe = RECIPES[name]
    assert recipe.task.headline.name == headline
    assert {column: number.value for column, number in recipe.paper.items()} == {"adamw": adam, "adamp": adamp}
    assert (recipe.epochs, recipe.batch_size, recipe.task.samples) == (200, 16, 80_000)


def test_a_speaker_can_be_left_out_by_an_override():
    recipe = override(RECIPES["fsdd-harmonic-speaker"], "task.data.speaker=theo")
    assert recipe.task.data == Fsdd(speaker="theo")
