"""Annotations of COCO and Pascal VOC as a stranger may hand them over: both sides of every join, and every damage."""

import json
import os

import pytest
from PIL import Image
from tests.support.hostile import Refused, damaged, outcome, warned

from tangential.experiments.data.boxes.annotated import Thing
from tangential.experiments.data.boxes.coco import Coco
from tangential.experiments.data.boxes.voc import Voc


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def plain(image, target):
    return image, target


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


# COCO -----------------------------------------------------------------------------------------------------------------

BOX = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}
THING = Thing(1, (1, 2, 4, 6))


def content(**changes):
    images = [{"id": number, "file_name": f"{number}.png", "height": 30, "width": 40} for number in (1, 2)]
    tables = {"images": images, "annotations": [{"id": 5, **BOX}], "categories": [{"id": 7, "name": "cat"}]}
    return {name: table for name, table in (tables | changes).items() if table is not None}


@pytest.fixture
def coco(tmp_path):
    """Writes a file of annotations beside two images, and gives what `load` gives: things of each image, warnings."""
    for number in (1, 2):
        image(tmp_path / "coco" / "t" / f"{number}.png")
    path = tmp_path / "coco" / "annotations" / "instances_t.json"
    path.parent.mkdir()

    def load(data):
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        data = Coco(root=str(tmp_path), categories=("cat",), train="t", test="t")
        files, lines = warned(lambda: data.load("train", plain))
        assert len(files.dropped) == sum("annotations left out" in line for line in lines)
        return [list(each.things) for each in files.images], lines

    return load


def annotated(*annotations):
    return content(annotations=[{"id": number, **each} for number, each in enumerate(annotations)])


ACCEPTED = {
    "as published": content(),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(content()).encode(),
    "spaces and line ends": json.dumps(content(), indent=2).replace("\n", "\r\n").encode(),
    "ids that are all texts": content(
        images=[{"id": f"{n}", "file_name": f"{n}.png", "height": 30, "width": 40} for n in (1, 2)],
        annotations=[BOX | {"image_id": "1"}],
    ),
    "sizes as floats": content(
        images=[{"id": n, "file_name": f"{n}.png", "height": 30.0, "width": 40.0} for n in (1, 2)]
    ),
    "no sizes": content(images=[{"id": n, "file_name": f"{n}.png"} for n in (1, 2)]),
    "no ids of annotations": content(annotations=[BOX]),
    "iscrowd as a text": content(annotations=[BOX | {"iscrowd": "0"}]),
    "iscrowd as null": content(annotations=[BOX | {"iscrowd": None}]),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_means_the_same_is_read_the_same(coco, name):
    assert coco(ACCEPTED[name]) == ([[THING], []], [])


LEFT_OUT = {
    "of an image that is not there": (
        annotated(BOX, BOX | {"image_id": 99}),
        "annotation 1 (of image 99, which is not",
    ),
    "there twice": (content(annotations=[{"id": 3, **BOX}] * 2), "annotation 3 (there twice)"),
    "no width": (annotated(BOX, BOX | {"bbox": [1, 2, 0, 4]}), "has no area"),
    "width below 0": (annotated(BOX, BOX | {"bbox": [9, 9, -4, 4]}), "has no area"),
    "outside": (annotated(BOX, BOX | {"bbox": [50, 2, 4, 4]}), "lies outside the image"),
    "not a number": (annotated(BOX, BOX | {"bbox": [float("nan"), 2, 4, 4]}), "is not finite"),
    "infinite": (annotated(BOX, BOX | {"bbox": [1, 2, float("inf"), 4]}), "is not finite"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_annotation_that_is_left_out_is_counted_and_named(coco, name):
    data, why = LEFT_OUT[name]
    things, (line,) = coco(data)
    assert things == [[THING], []] and "instances_t.json: 1 annotations left out: " in line and why in line


def one(**changes):
    return content(annotations=[BOX | changes])


REFUSED = {
    "no annotations": (content(annotations=None), "no table 'annotations'"),
    "no images": (content(images=None), "no table 'images'"),
    "images of nothing": (content(images=[], annotations=[]), "names no images"),
    "a list": ([1, 2], "no table 'images'"),
    "entries that are none": (content(images=[1]), "no table 'images'"),
    "ids as texts on one side": (one(image_id="1"), "has the image_id '1'; the ids of images are numbers"),
    "no image_id": (one(image_id=None), "has the image_id None"),
    "two images of one id": (
        content(images=[{"id": 1, "file_name": f"{n}.png", "height": 30, "width": 40} for n in "xy"]),
        "two images have the id 1: x.png and y.png",
    ),
    "ids of both kinds": (
        content(images=[{"id": 1, "file_name": "1.png"}, {"id": "2", "file_name": "2.png"}]),
        "some ids",
    ),
    "no file name": (content(images=[{"id": 1, "height": 3, "width": 4}]), "has the file_name None"),
    "a size below 0": (content(images=[{"id": 1, "file_name": "1.png", "height": -3, "width": 4}]), "height -3"),
    "an image that is not there": (
        content(images=[{"id": 1, "file_name": "1.png"}, {"id": 8, "file_name": "8.png"}]),
        "names 1 images that are not there, as .*8.png",
    ),
    "an unknown category": (one(category_id=8), "annotation number 0 has the category_id 8"),
    "a category that is a list": (one(category_id=[7]), r"has the category_id \[7\]"),
    "two categories of one id": (content(categories=[{"id": 7, "name": n} for n in ("cat", "dog")]), "two categorys"),
    "another category": (content(categories=[{"id": 7, "name": "cow"}]), "has the categories cow"),
    "a short box": (one(bbox=[1, 2, 3]), r"has the bbox \[1, 2, 3\]"),
    "a box of texts": (one(bbox=["1", "2", "3", "4"]), "has the bbox"),
    "a box of huge numbers": (one(bbox=[10**400, 2, 3, 4]), "has the bbox"),
    "no box": (one(bbox=None), "has the bbox None"),
    "iscrowd": (one(iscrowd="no"), "has iscrowd='no'"),
    "half": (json.dumps(content()).encode()[:80], "is not a file of COCO's boxes"),
    "empty": (b"", "is not a file of COCO's boxes"),
    "zero bytes": (bytes(100), "has zero bytes"),
    "latin-1": (
        json.dumps(content(), ensure_ascii=False).replace("cat", "é").encode("latin-1"),
        "is not text in UTF-8",
    ),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "is not a file of COCO's boxes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_another_kind_is_refused_by_name(coco, name):
    data, why = REFUSED[name]
    with pytest.raises(ValueError, match=why) as caught:
        coco(data)
    assert "instances_t.json" in str(caught.value) and "\n" not in str(caught.value)


def test_no_damage_of_a_file_ends_in_a_traceback(coco):
    for _, data in damaged(json.dumps(content()).encode(), count=100):
        try:
            outcome(lambda data=data: coco(data), name="instances_t.json")
        except ValueError as error:
            assert "has the categories" in str(error)


def test_images_that_no_table_names_are_counted(coco, tmp_path):
    image(tmp_path / "coco" / "t" / "3.png")
    assert coco(content())[1] == [f"{tmp_path}/coco/t: 1 images left out: 3.png (not in instances_t.json)"]


def test_a_file_that_is_replaced_is_read_again(coco):
    assert coco(content())[0] == [[THING], []]
    assert coco(annotated(BOX | {"image_id": 2}))[0] == [[], [THING]]


# Pascal VOC -----------------------------------------------------------------------------------------------------------


def xml(name="cat", box=(2, 3, 5, 7), size="<size><width>40</width><height>30</height></size>", more=""):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False)
    )
    return f"<annotation>{size}<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object></annotation>"


@pytest.fixture
def voc(tmp_path):
    """Writes a folder of images, annotations and a list, and gives things by name, and warnings."""
    home = tmp_path / "V"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (home / folder).mkdir(parents=True)

    def load(names=b"a\nb\n", images=("a.jpg", "b.jpg"), **annotations):
        for name in images:
            image(home / "JPEGImages" / name)
        for name, text in ({"a": xml(), "b": xml()} | annotations).items():
            data = text if isinstance(text, bytes) else text.encode()
            (home / "Annotations" / f"{name}.xml").write_bytes(data)
        (home / "ImageSets" / "Main" / "t.txt").write_bytes(names)
        data = Voc(root=str(tmp_path), places=("V",), categories=("cat",), train="t", test="t")
        files, lines = warned(lambda: data.load("test", plain))
        return {each.path.name: list(each.things) for each in files.images}, lines

    return load


IN_VOC = Thing(1, (1, 2, 5, 7))
BOTH = {"a.jpg": [IN_VOC], "b.jpg": [IN_VOC]}


@pytest.mark.parametrize(
    "names",
    [b"a\r\nb\r\n", b"a\rb", b"\xef\xbb\xbfa\nb", b"\n\na \n b\n\n", b"a -1\nb  1\n", "a\nb\n".encode("utf-16")],
    ids=["crlf", "cr", "bom", "blank lines", "flags", "utf-16"],
)
def test_lists_of_every_kind_name_the_same_images(voc, names):
    assert voc(names) == (BOTH, [])


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + xml().encode(),
        f"<?xml version='1.0' encoding='utf-16'?>{xml()}".encode("utf-16"),
        xml(name="\n cat ").replace("><", ">\r\n<"),
        xml(size=""),
        xml(more="<difficult> 0 </difficult>"),
        xml(more="<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"),
        f"<!DOCTYPE annotation>{xml()}",
    ],
    ids=["bom", "utf-16", "line ends", "no size", "difficult", "parts", "doctype"],
)
def test_annotations_that_mean_the_same_are_read_the_same(voc, text):
    assert voc(a=text) == (BOTH, [])


def test_names_with_spaces_and_dots_are_whole(voc):
    names = ("my image 1.jpg", "v1.2.jpg", "x -1.jpg", "x.jpg")
    found, lines = voc(b"my image 1\nv1.2\nx -1\nx 1\n", names, **{name[:-4]: xml() for name in names})
    assert set(found) == set(names) and lines == []


def test_hidden_files_are_no_images(voc, tmp_path):
    (tmp_path / "V" / "JPEGImages" / "._a.jpg").write_bytes(b"\0")
    (tmp_path / "V" / "JPEGImages" / ".a.jpg").write_bytes(b"\0")
    assert voc() == (BOTH, [])


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"names": b"a\nb\na\n"}, "a (in line 3 of the list t again)"),
        ({"a": xml(box=(5, 3, 2, 7)), "b": xml()}, "has no area"),
        ({"a": xml(box=(50, 3, 60, 7)), "b": xml()}, "lies outside the image"),
        ({"a": xml(box=("nan", 3, 4, 7)), "b": xml()}, "is not finite"),
        ({"a": xml(box=(1, 3, "inf", 7)), "b": xml()}, "is not finite"),
    ],
)
def test_what_is_left_out_is_counted_and_named(voc, call, why):
    found, (line,) = voc(**call)
    assert set(found) == {"a.jpg", "b.jpg"} and "V: 1 images and boxes left out: " in line and why in line


BROKEN = {
    "half": xml()[:60],
    "empty": "",
    "zeros": bytes(50),
    "latin-1": xml(name="é").encode("latin-1"),
    "unknown encoding": f"<?xml version='1.0' encoding='no-such'?>{xml()}",
    "another root": "<html></html>",
    "another class": xml(name="cow"),
    "no name": xml(name=""),
    "no box": "<annotation><object><name>cat</name></object></annotation>",
    "a short box": xml(box=(1, 2, 3)),
    "a box of words": xml(box=("one", 2, 3, 4)),
    "a huge size": xml(size="<size><width>1e999</width><height>30</height></size>"),
    "difficult": xml(more="<difficult>maybe</difficult>"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_annotation_is_named(voc, name):
    assert isinstance(outcome(lambda: voc(a=BROKEN[name]), name="a.xml is not an annotation of Pascal VOC ("), Refused)


def test_no_damage_of_an_annotation_ends_in_a_traceback(voc):
    for _, data in damaged(xml().encode(), count=100):
        outcome(lambda data=data: voc(a=data), name="a.xml")


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"names": b"a\nc\n"}, r"has no image c, which the list t names"),
        ({"names": b"a\n", "images": ("a.jpg", "a.png")}, r"has a.jpg and a.png for the image a of the list t"),
        ({"names": b""}, r"t.txt names no images"),
        ({"names": "é\n".encode("latin-1")}, r"t.txt is not text in UTF-8"),
        ({"names": b"a\n\0\0\0"}, r"t.txt has zero bytes"),
        ({"names": b"x\n", "images": ("x.jpg",)}, r"x.xml is not an annotation .*No such file"),
    ],
)
def test_what_does_not_belong_together_is_refused_by_name(voc, call, why):
    with pytest.raises(ValueError, match=why) as caught:
        voc(**call)
    assert "\n" not in str(caught.value)


def test_annotations_images_and_lists_that_change_are_read_again(voc, tmp_path):
    assert voc()[0] == BOTH
    assert voc(a=xml(box=(3, 3, 5, 7)))[0]["a.jpg"] == [Thing(1, (2, 2, 5, 7))]
    assert set(voc(b"a\n")[0]) == {"a.jpg"}
    path = tmp_path / "V" / "Annotations" / "a.xml"
    before = path.stat().st_size
    path.write_text(xml(box=(4, 3, 5, 7)))
    os.utime(path, (9, 9))
    assert path.stat().st_size == before
    data = Voc(root=str(tmp_path), places=("V",), categories=("cat",), train="t", test="t")
    assert data.load("train", plain).images[0].things == (Thing(1, (3, 2, 5, 7)),)


def test_two_folders_in_one_archive_are_refused(tmp_path):
    for name in ("VOC2007", "VOC2012"):
        (tmp_path / "V" / name / "Annotations").mkdir(parents=True)
    (tmp_path / "V" / "__MACOSX" / "Annotations").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"more than one Pascal VOC folder in it \(VOC2007 and VOC2012\)"):
        Voc(root=str(tmp_path), places=("V",)).load("test", plain)
