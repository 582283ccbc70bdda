"""Data sets of images: what is read, what is augmented, and what is said when they are not there."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from tangential.experiments.data.images.folders import Cifar10Jpeg, Folder
from tangential.experiments.data.images.in_memory import CropAndFlip, Images, even, loader
from tangential.experiments.data.images.mnist_cifar import Cifar10, Cifar100, FashionMnist, Mnist, read_idx
from tangential.experiments.data.images.synthetic import Gratings, SegmentDigits


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def digits(tmp_path):
    """Four small files as MNIST's, the training ones packed."""
    draw = np.random.default_rng(0)
    for stem, ending, count in (("train", ".gz", 30), ("t10k", "", 20)):
        for kind, array in (
            ("images-idx3", draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)),
            ("labels-idx1", np.arange(count, dtype=np.uint8) % 10),
        ):
            path = tmp_path / "mnist" / f"{stem}-{kind}-ubyte{ending}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(idx(array)) if ending else idx(array))
    return tmp_path


@pytest.fixture
def pictures(tmp_path):
    """Two classes of four photographs of different sizes."""
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = draw.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path


def test_mnist_reads_what_torchvision_reads(digits):
    raw = digits / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (digits / "mnist").iterdir():
        data = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
    for split in ("train", "test"):
        theirs = datasets.MNIST(digits, train=split == "train")
        images, classes = Mnist(root=str(digits)).read(split)
        assert torch.equal(images[:, 0], theirs.data) and torch.equal(classes, theirs.targets)


def test_bytes_become_shares_of_white(digits):
    images = Mnist(root=str(digits)).load("train")
    batch, classes = images.__getitems__([3, 5])
    assert torch.equal(batch, images.images[[3, 5]] / 255.0)
    assert classes.tolist() == [3, 5]


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b"x" + b[1:], lambda b: b"", lambda b: b + b"x"])
def test_a_broken_idx_file_is_named(tmp_path, spoil):
    path = tmp_path / "file"
    path.write_bytes(spoil(idx(np.zeros((2, 3), np.uint8))))
    with pytest.raises(ValueError, match="file is not a whole IDX file"):
        read_idx(path)


def test_a_cut_gz_file_is_named(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((2, 3), np.uint8)))[:-9])
    with pytest.raises(ValueError, match=r"file\.gz cannot be unpacked .*; get it again"):
        read_idx(path)


def test_cifar_is_torchvisions(tmp_path, monkeypatch):
    class Theirs:
        def __init__(self, root, train):
            assert (root, train) == (tmp_path, True)
            self.data, self.targets = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), [1, 0]

    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr(datasets, "CIFAR10", Theirs)
    images, classes = Cifar10(root=str(tmp_path)).read("train")
    assert images[1, 2, 3, 0] == Theirs(tmp_path, True).data[1, 3, 0, 2]
    assert classes.tolist() == [1, 0]


def test_broken_cifar_files_are_one_line(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    with pytest.raises(ValueError, match=r"CIFAR files in .* are broken"):
        Cifar100(root=str(tmp_path)).read("train")


@pytest.mark.parametrize("data", [Mnist(), FashionMnist(), Cifar10(), Cifar100(), Cifar10Jpeg(), Folder()], ids=repr)
def test_missing_data_are_one_line_that_says_where_to_get_them(data, tmp_path):
    for asked in (data, replace(data, root=str(tmp_path))):
        with pytest.raises(ValueError, match=r"https://.*B\)") as caught:
            asked.load("train")
        assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "MNIST", lambda root, **how: asked.append((root, how)))
    with pytest.raises(ValueError, match="no mnist"):
        Mnist(root=str(tmp_path)).load("test")
    assert asked == []
    with pytest.raises(ValueError, match="no mnist"):  # nothing came, and that is said
        Mnist(root=str(tmp_path), download=True).load("test")
    assert asked == [(str(tmp_path), {"train": False, "download": True})]
    with pytest.raises(ValueError, match="no folder to download into"):
        Mnist(download=True).load("test")


def test_a_limit_takes_the_first_of_each_class():
    classes = torch.tensor([2, 2, 2, 2, 0, 1, 0, 1, 1, 0])
    assert even(classes, 6).tolist() == [0, 1, 4, 5, 6, 7]
    assert classes[even(classes, 6)].bincount().tolist() == [2, 2, 2]
    assert even(classes, 99).tolist() == list(range(10))


def test_limits_are_per_split():
    data = Gratings(count=40, limit=20, test_limit=10)
    assert len(data.load("train")) == 20
    assert data.load("test").classes.bincount().tolist() == [1] * 10


@pytest.mark.parametrize("setting", [{"limit": 0}, {"test_limit": -1}, {"padding": -1}, {"count": 0}, {"side": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.*must be at least"):
        Gratings(**setting)


def test_augmented_images_are_shifted_and_mirrored_copies_on_black():
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 1, 5, 5)
    bordered = torch.nn.functional.pad(image, [2] * 4)
    allowed = {
        bytes(version[0, 0].flatten().tolist())
        for top in range(5)
        for left in range(5)
        for crop in [bordered[:, :, top : top + 5, left : left + 5]]
        for version in (crop, crop.flip(3))
    }
    seen = {bytes(each[0].flatten().tolist()) for each in CropAndFlip(2, True)(image.repeat(2000, 1, 1, 1))}
    assert seen == allowed  # 50 versions, all of them


def test_channels_are_augmented_alike():
    images = torch.randint(0, 256, (8, 1, 6, 6), dtype=torch.uint8).repeat(1, 3, 1, 1)
    changed = CropAndFlip(2, True)(images)
    assert torch.equal(changed[:, 0], changed[:, 1]) and torch.equal(changed[:, 0], changed[:, 2])


def test_augmentation_is_decided_by_torchs_generator_and_spares_the_test():
    def first(split):
        torch.manual_seed(3)
        return next(iter(loader(Gratings(padding=4, flip=True).load(split), batch_size=16)))[0]

    assert torch.equal(first("train"), first("train"))
    plain = Gratings()
    assert not torch.equal(first("train"), next(iter(loader(plain.load("train"), batch_size=16)))[0])
    assert torch.equal(first("test"), next(iter(loader(plain.load("test"), batch_size=16)))[0])


@pytest.mark.parametrize("make", [Gratings, SegmentDigits])
def test_generated_images_are_the_same_at_every_call_and_differ_between_splits(make):
    torch.manual_seed(1)
    one = make(count=20).load("train").images
    torch.manual_seed(2)
    assert torch.equal(one, make(count=20).load("train").images)
    assert not torch.equal(one, make(count=20).load("test").images)


def test_a_folder_of_photographs_is_cut_to_one_size(pictures):
    data = Folder(root=str(pictures), name="pets", side=16, resize=20)
    assert data.classes == 2
    torch.manual_seed(0)
    images, classes = next(iter(loader(data.load("train"), batch_size=8)))
    assert images.shape == (8, 3, 16, 16) and 0 <= images.min() < images.max() <= 1
    assert classes.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    torch.manual_seed(0)
    assert torch.equal(next(iter(loader(data.load("train"), batch_size=8)))[0], images)
    test = loader(data.load("test"), batch_size=8)
    assert torch.equal(next(iter(test))[0], next(iter(test))[0])


def test_workers_load_the_same_images_and_repeat_with_the_seed(pictures):
    data = Folder(root=str(pictures), name="pets", side=16, resize=20)

    def epoch(workers, seed=5):
        generator = torch.Generator().manual_seed(seed)
        return [images for images, _ in loader(data.load("train"), batch_size=4, generator=generator, workers=workers)]

    assert all(torch.equal(a, b) for a, b in zip(epoch(2), epoch(2), strict=True))
    assert not torch.equal(epoch(2)[0], epoch(2, seed=6)[0])
    tests = [list(loader(data.load("test"), batch_size=4, workers=n)) for n in (0, 1)]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*tests, strict=True))


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "pets" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="not a folder of class folders"):
        Folder(root=str(tmp_path), name="pets").load("train")


def test_splits_with_different_classes_are_refused(pictures):
    (pictures / "pets" / "val" / "dog").rename(pictures / "pets" / "val" / "mouse")
    with pytest.raises(ValueError, match="has other classes than"):
        Folder(root=str(pictures), name="pets").load("test")


@pytest.fixture
def jpegs(tmp_path):
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "cifar10" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return tmp_path


def test_jpegs_are_decoded_once_and_anew_when_they_change(jpegs, tmp_path):
    from tangential.experiments.data.images import folders

    data = Cifar10Jpeg(root=str(jpegs))
    images, classes = data.read("train")
    first = tmp_path / "cifar10" / "train" / "a" / "0.jpg"
    theirs = torch.from_numpy(np.array(Image.open(first)))
    assert torch.equal(images[0], theirs.permute(2, 0, 1)) and classes.tolist() == [0, 0, 0, 1, 1, 1]
    kept = list((tmp_path / "cache" / "tangential").glob("*.pt"))
    assert len(kept) == 1
    folders._decoded.cache_clear()
    assert torch.equal(data.read("train")[0], images)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(first)
    folders._decoded.cache_clear()
    assert data.read("train")[0][0].sum() == 0
    assert not list((tmp_path / "cache" / "tangential").glob("*.part"))


def test_a_cut_cache_is_made_anew(jpegs, tmp_path):
    from tangential.experiments.data.images import folders

    data = Cifar10Jpeg(root=str(jpegs))
    images, _ = data.read("test")
    (kept,) = (tmp_path / "cache" / "tangential").glob("*.pt")
    kept.write_bytes(kept.read_bytes()[:100])
    folders._decoded.cache_clear()
    assert torch.equal(data.read("test")[0], images)


def test_jpegs_of_different_sizes_are_refused(jpegs):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(jpegs / "cifar10" / "train" / "a" / "9.jpg")
    with pytest.raises(ValueError, match="not all of one size"):
        Cifar10Jpeg(root=str(jpegs)).read("train")


def test_marks_travel_with_their_images():
    marks = torch.arange(4), torch.arange(8).reshape(4, 2)
    images = Images(torch.zeros(4, 1, 2, 2), torch.arange(4), *marks)
    _, _, first, second = images.__getitems__([2, 0])
    assert first.tolist() == [2, 0] and second.tolist() == [[4, 5], [0, 1]]
