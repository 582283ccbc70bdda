"""Image files and their folders: one reader for all data sets, hidden files, links, and what is left out."""

import io
import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.hostile import Refused, damaged, outcome, warned

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages
from tangential.experiments.data.files import find_files, read_lines, read_text
from tangential.experiments.data.images.decoding import image_size, open_image, read_image
from tangential.experiments.data.images.folders import Cifar10Jpeg, Folder, class_folders
from tangential.experiments.data.images.in_memory import loader
from tangential.experiments.data.images.mnist_cifar import Mnist, read_idx


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TANGENTIAL_DATA", raising=False)


def noise(size=(12, 10), channels=3):
    return np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)


def exif_turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(path, exif=exif)


def palette_with_transparency(path):
    image = Image.fromarray(noise()).quantize(8)
    image.save(path, transparency=bytes([0, 128] + [255] * 6))


KINDS = {
    "rgb.png": lambda path: Image.fromarray(noise()).save(path),
    "grey.jpg": lambda path: Image.fromarray(noise(channels=1)[..., 0]).save(path),
    "one bit.png": lambda path: Image.fromarray(noise(channels=1)[..., 0]).convert("1").save(path),
    "16 bits.png": lambda path: Image.fromarray(noise(channels=1)[..., 0].astype(np.uint16) * 257).save(path),
    "16 bits.tif": lambda path: Image.fromarray(noise(channels=1)[..., 0].astype(np.uint16) * 257).save(path),
    "16 bits.pgm": lambda path: Image.fromarray(noise(channels=1)[..., 0].astype(np.uint16) * 257).save(path),
    "floats.tif": lambda path: Image.fromarray(noise(channels=1)[..., 0].astype(np.float32) / 255).save(path),
    "palette.PNG": lambda path: Image.fromarray(noise()).quantize(8).save(path),
    "clear palette.png": palette_with_transparency,
    "alpha.webp": lambda path: Image.fromarray(noise(channels=4)).save(path, lossless=True),
    "cmyk.jpeg": lambda path: Image.fromarray(noise()).convert("CMYK").save(path),
    "turned.jpg": exif_turned,
    "bitmap.BMP": lambda path: Image.fromarray(noise()).save(path),
}


@pytest.mark.parametrize("name", KINDS)
def test_all_data_sets_read_an_image_alike(tmp_path, name):
    folder = tmp_path / "set" / "train" / "a"
    folder.mkdir(parents=True)
    KINDS[name](folder / name)
    boxes = AnnotatedImages([AnnotatedImage(folder / name, (12, 10), ())], lambda image, target: (image, target))
    pixels = boxes[0][0]
    assert pixels.shape == (3, 12, 10) and pixels.dtype == torch.uint8
    files = class_folders(tmp_path / "set" / "train")
    assert np.array_equal(np.asarray(open_image(files.samples[0][0])).transpose(2, 0, 1), pixels.numpy())
    assert image_size(folder / name) == (12, 10)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "set" / "train").rename(tmp_path / "cifar10" / "train")
    assert torch.equal(Cifar10Jpeg(root=str(tmp_path)).read("train")[0][0], pixels.as_subclass(torch.Tensor))


@pytest.mark.parametrize("name", ["16 bits.png", "16 bits.tif", "16 bits.pgm", "floats.tif"])
def test_grey_of_any_depth_is_that_of_8_bits(tmp_path, name):
    KINDS[name](tmp_path / name)
    assert torch.equal(
        read_image(tmp_path / name)[0].as_subclass(torch.Tensor), torch.from_numpy(noise(channels=1)[..., 0])
    )


@pytest.mark.parametrize("top", [1, 200, 255, 256, 65535])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_a_grey_does_not_depend_on_the_brightest_pixel(tmp_path, top, suffix):
    levels = np.full((8, 8), 5140, np.uint16)
    levels[0, 0] = top
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}")[0, 4, 4] == 20


def bomb():
    head = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def saved(array, **how):
    file = io.BytesIO()
    Image.fromarray(array).save(file, **how)
    return file.getvalue()


BAD = {
    "empty.png": b"",
    "text.jpg": b"no image at all",
    "zeros.png": bytes(500),
    "half.jpg": saved(noise((64, 64)), format="JPEG")[:900],
    "half.png": saved(noise((64, 64)), format="PNG")[:900],
    "half.tif": saved(noise((64, 64)), format="TIFF")[:900],
    "bomb.png": bomb(),
    "floats to 255.tif": saved(np.full((4, 4), 255, np.float32), format="TIFF"),
    "below 0.tif": saved(np.full((4, 4), -1, np.float32), format="TIFF"),
    "nan.tif": saved(np.full((4, 4), np.nan, np.float32), format="TIFF"),
    "32 bits.tif": saved(np.full((4, 4), 9, np.int32), format="TIFF"),
}


@pytest.mark.parametrize(("name", "workers"), [*((name, 0) for name in BAD), ("half.png", 1), ("nan.tif", 1)])
def test_an_image_that_cannot_be_read_is_one_line_with_its_name(tmp_path, name, workers):
    for split in ("train", "val"):
        (tmp_path / "set" / split / "a").mkdir(parents=True)
        (tmp_path / "set" / split / "a" / name).write_bytes(BAD[name])
    data = Folder(root=str(tmp_path), name="set", side=8, resize=8).load("train")
    line = outcome(lambda: next(iter(loader(data, batch_size=1, workers=workers))), name=name)
    assert line == outcome(lambda: read_image(tmp_path / "set" / "train" / "a" / name), name=name)
    assert isinstance(line, Refused) and len(line) < 400


@pytest.mark.slow
@pytest.mark.parametrize("how", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"])
def test_no_damage_of_an_image_ends_in_a_traceback(tmp_path, how):
    whole = saved(noise((40, 40)), format=how)
    for _, data in damaged(whole, count=40):
        (tmp_path / "a.png").write_bytes(data)
        outcome(lambda: read_image(tmp_path / "a.png"), name="a.png")


# folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """Two classes of two images in each split."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(noise()).save(tmp_path / "set" / split / name / f"{number}.png")
    return tmp_path / "set"


def read(tree, split="train"):
    """Number of classes and images, and the warnings."""
    data = Folder(root=str(tree.parent), name="set", side=8, resize=8)
    files, lines = warned(lambda: data.load(split))
    return data.classes, len(files), lines


def plant(path, content=b"\0\5\x16\7"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


HIDDEN = ["a/._0.png", "a/.ipynb_checkpoints/0.png", ".ipynb_checkpoints/0.png", "__MACOSX/a/0.png", "a/.thumbs/0.jpg"]


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_files_and_folders_are_no_images_and_no_classes(tree, name):
    plant(tree / "train" / name)
    classes, count, (line,) = read(tree)
    assert (classes, count) == (2, 4)
    assert line.startswith(f"{tree}/train: 1 files and folders left out: ") and "(hidden)" in line


@pytest.mark.parametrize("name", ["Thumbs.db", "a/Thumbs.db", "a/.DS_Store", "a/desktop.ini", "labels.txt"])
def test_what_systems_leave_behind_and_lists_beside_the_classes_do_not_matter(tree, name):
    plant(tree / "train" / name)
    assert read(tree) == (2, 4, [])


@pytest.mark.parametrize(
    ("name", "why"),
    [("a/notes.txt", "its name ends otherwise"), ("3.png", "in no class folder"), ("a/0.gif", "its name")],
)
def test_what_is_no_image_of_a_class_is_named(tree, name, why):
    plant(tree / "train" / name)
    classes, count, (line,) = read(tree)
    assert (classes, count) == (2, 4) and name in line and why in line


def test_suffixes_may_be_in_upper_case_and_one_name_may_have_two(tree):
    Image.fromarray(noise()).save(tree / "train" / "a" / "0.JPG")
    Image.fromarray(noise()).save(tree / "train" / "a" / "9.JPEG")
    assert read(tree) == (2, 6, [])


@pytest.mark.parametrize("target", [".", "..", "../..", "../b", "../../val", "/"])
def test_links_into_what_is_listed_and_loops_add_nothing(tree, target):
    link = tree / "train" / "a" / "link"
    link.symlink_to(target)
    if target == "../../val":  # another folder: its images are there once more
        assert read(tree)[:2] == (2, 8)
    else:
        classes, count, (line,) = read(tree)
        assert (classes, count) == (2, 4) and "a/link (a link to a folder that is listed already)" in line


def test_links_to_images_and_classes_elsewhere_are_followed(tree, tmp_path):
    (tree / "train" / "a").rename(tmp_path / "elsewhere")
    (tree / "train" / "a").symlink_to(tmp_path / "elsewhere")
    (tree / "train" / "b" / "7.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    assert read(tree) == (2, 5, [])


@pytest.mark.parametrize("target", ["nowhere", "itself.png"])
def test_a_link_to_nothing_is_named(tree, target):
    (tree / "train" / "a" / "itself.png").symlink_to(target)
    _, count, (line,) = read(tree)
    assert count == 4 and "a/itself.png (a link to nothing, or no file)" in line


def test_a_class_without_images_is_named(tree):
    (tree / "train" / "empty").mkdir()
    assert "no images in empty" in outcome(lambda: read(tree), name="train")


def test_images_without_class_folders_are_refused(tree):
    for name in ("a", "b"):
        for path in (tree / "val" / name).iterdir():
            path.rename(tree / "val" / f"{name}-{path.name}")
        (tree / "val" / name).rmdir()
    assert "no folders in it" in outcome(lambda: read(tree, "test"), name="val")


def test_other_classes_are_named(tree):
    (tree / "val" / "b").rename(tree / "val" / "c")
    assert outcome(lambda: read(tree, "test"), name="val").endswith(": b, c in one of them only")


def test_a_folder_that_changes_is_listed_again(tree):
    for count in range(4, 9):
        assert read(tree) == (2, count, [])
        Image.fromarray(noise()).save(tree / "train" / "b" / f"{count}.png")
    past = 10**9
    for folder in (tree / "train", tree / "train" / "a", tree / "train" / "b"):
        os.utime(folder, (past, past))
    assert find_files(tree / "train", (".png",)) is find_files(tree / "train", (".png",))
    (tree / "train" / "b" / "0.png").unlink()
    assert read(tree) == (2, 8, [])


def test_decoded_images_are_not_stale_within_a_process(tree):
    tree.rename(tree.parent / "cifar10")
    data = Cifar10Jpeg(root=str(tree.parent))
    before = data.read("train")[0]
    Image.fromarray(255 - noise()).save(tree.parent / "cifar10" / "train" / "a" / "0.png")
    after = data.read("train")[0]
    assert torch.equal(after[0], 255 - before[0]) and torch.equal(after[1:], before[1:])


# lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"one\ntwo words\n",
        b"one\r\ntwo words\r\n",
        b"one\rtwo words\r",
        b"\xef\xbb\xbfone\ntwo words",
        "one\ntwo words\n".encode("utf-16"),
        b"\n\none  \n \t\n\ntwo words\t\n\n",
    ],
    ids=["plain", "crlf", "cr", "bom", "utf-16", "blank lines"],
)
def test_lists_of_every_kind_have_the_same_lines(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    assert [line for _, line in read_lines(tmp_path / "list.txt")] == ["one", "two words"]


@pytest.mark.parametrize("data", ["é\n".encode("latin-1"), b"one\n\0\0\0\0", b"\xff\xfea", None])
def test_a_list_that_is_no_text_is_named(tmp_path, data):
    path = tmp_path / "list.txt"
    path.mkdir() if data is None else path.write_bytes(data)
    assert isinstance(outcome(lambda: read_text(path), name="list.txt"), Refused)


# idx ------------------------------------------------------------------------------------------------------------------


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_is_named_or_has_as_many_bytes(tmp_path, packed):
    import gzip

    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    whole = gzip.compress(idx(values)) if packed else idx(values)
    path = tmp_path / ("file.gz" if packed else "file")
    for number, (_, data) in enumerate(damaged(whole)):
        path.write_bytes(data)
        found = outcome(lambda number=number: read_idx(path, (number,)), name=path.name)
        # without a checksum a flipped pixel cannot be noticed
        assert isinstance(found, Refused) or (
            found.shape == values.shape and (not packed or (found.numpy() == values).all())
        )


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (np.zeros((5, 28, 28), np.uint8), np.zeros(4, np.uint8), r"labels .* for the 5 images"),
        (np.zeros((5, 28, 28), np.uint8), np.zeros((5, 1), np.uint8), "labels of the shape"),
        (np.zeros(5, np.uint8), np.zeros(5, np.uint8), "are no grey images"),
        (np.zeros((5, 28, 28), np.uint8), np.full(5, 10, np.uint8), "has the label 10; there are 10 classes from 0"),
    ],
)
def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path, images, labels, why):
    plant(tmp_path / "mnist" / "t10k-images-idx3-ubyte", idx(images))
    plant(tmp_path / "mnist" / "t10k-labels-idx1-ubyte", idx(labels))
    with pytest.raises(ValueError, match=why):
        Mnist(root=str(tmp_path)).load("test")


def test_an_idx_file_that_is_replaced_is_read_again(tmp_path):
    for level in (1, 2):
        plant(tmp_path / "mnist" / "t10k-images-idx3-ubyte", idx(np.full((2, 28, 28), level, np.uint8)))
        plant(tmp_path / "mnist" / "t10k-labels-idx1-ubyte", idx(np.zeros(2, np.uint8)))
        os.utime(tmp_path / "mnist" / "t10k-images-idx3-ubyte", (level, level))
        assert Mnist(root=str(tmp_path)).load("test").images[0, 0, 0, 0] == level
