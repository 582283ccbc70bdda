"""Fingerprints of data sets: the same for the same data wherever they lie, another one for any other."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from tangential.experiments.data.boxes.annotated import AnnotatedImage, AnnotatedImages, Thing
from tangential.experiments.data.boxes.synthetic import Shapes
from tangential.experiments.data.fingerprint import data_fingerprint, file_fingerprint, tensor_fingerprint
from tangential.experiments.data.images.folders import Folder
from tangential.experiments.data.images.synthetic import Gratings
from tangential.experiments.data.sounds.synthetic import Tones
from tangential.experiments.data.text.streams import Streams
from tangential.experiments.data.text.synthetic import SyntheticText


def plain(image, target):
    return image, target


GENERATED = {
    "images": lambda split, count: Gratings(count=count).load(split),
    "boxes": lambda split, count: Shapes(count=count).load(split, plain),
    "sounds": lambda split, count: Tones(count=count).load(split, samples=8, chunks=1),
    "text": lambda split, count: Streams(SyntheticText(count=count).load(split), streams=1, length=4),
}


@pytest.mark.parametrize("kind", GENERATED)
def test_equal_data_have_equal_fingerprints_and_others_have_others(kind):
    load = partial(GENERATED[kind])
    assert data_fingerprint(load("train", 20)) == data_fingerprint(load("train", 20))
    assert len({data_fingerprint(load(*each)) for each in (("train", 20), ("test", 20), ("train", 21))}) == 3


def test_a_data_set_without_a_fingerprint_has_none():
    assert data_fingerprint([1, 2]) is None


@pytest.mark.parametrize(
    "tensors", [(torch.arange(4),), (torch.arange(4.0),), (torch.zeros(2, 2),), (torch.zeros(4),), ()]
)
def test_dtype_shape_and_values_count(tensors):
    others = [(torch.arange(4),), (torch.arange(4.0),), (torch.zeros(2, 2),), (torch.zeros(4),), ()]
    same = [other for other in others if tensor_fingerprint(*other) == tensor_fingerprint(*tensors)]
    assert len(same) == 1


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "set" / split / name / f"{number}.png")
    return tmp_path


def mark(root):
    return data_fingerprint(Folder(root=str(root), name="set", side=8, resize=8).load("train"))


def test_files_count_with_names_classes_and_contents_and_not_with_their_place(folder, tmp_path):
    first = mark(folder)
    shutil.copytree(folder / "set", tmp_path / "elsewhere" / "set")
    assert mark(tmp_path / "elsewhere") == first
    path = tmp_path / "elsewhere" / "set" / "train" / "a" / "0.png"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert mark(tmp_path / "elsewhere") != first


def test_boxes_count(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    marks = {
        AnnotatedImages([AnnotatedImage(tmp_path / "a.png", (8, 8), things)], plain).fingerprint()
        for things in ((), (Thing(1, (0, 0, 2, 2)),), (Thing(2, (0, 0, 2, 2)),))
    }
    assert len(marks) == 3


def test_a_file_that_is_not_there_counts_with_its_name(tmp_path):
    assert file_fingerprint([tmp_path / "a"]) != file_fingerprint([tmp_path / "b"])
