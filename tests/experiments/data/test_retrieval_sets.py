"""The data sets of retrieval: which images are read, as which classes, and what is said of broken ones."""

import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from tangential.experiments.data.images.omniglot import Omniglot
from tangential.experiments.data.images.retrieval_sets import Cars196, Cub, InShop, OnlineProducts
from tangential.experiments.recipes import RECIPES


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path))


def picture(path, level=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (level, 0, 0)).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def levels(data, split):
    """The red of every image, which tells which file it is, and its class."""
    images, classes, *marks = data.load(split).__getitems__(range(len(data.load(split))))
    return [round(255 * float(image[0].mean())) for image in images], classes.tolist(), *(m.tolist() for m in marks)


def jpeg_close(found, wanted):
    return len(found) == len(wanted) and all(abs(a - b) <= 3 for a, b in zip(found, wanted, strict=True))


@pytest.fixture
def birds(tmp_path):
    home = tmp_path / "CUB_200_2011"
    kinds = [1, 100, 101, 101, 200]
    names = [f"{kind:03}.Bird/{number}.jpg" for number, kind in enumerate(kinds)]
    for number, name in enumerate(names):
        picture(home / "images" / name, 40 * number)
    write(home / "images.txt", *(f"{n + 1} {name}" for n, name in enumerate(names)))
    write(home / "image_class_labels.txt", *(f"{n + 1} {kind}" for n, kind in enumerate(kinds)))
    return home


def test_birds_train_on_the_first_hundred_classes_and_test_on_the_others(birds):
    data = Cub(side=16, resize=20)
    assert data.classes == 2
    found, classes = levels(data, "test")
    assert jpeg_close(found, [80, 120, 160]) and classes == [0, 0, 1]
    assert jpeg_close(levels(data, "train")[0], [0, 40]) and levels(data, "train")[1] == [0, 1]


def test_birds_are_read_from_the_archive_too(birds, tmp_path):
    (tmp_path / "other").mkdir()
    with tarfile.open(tmp_path / "other" / "CUB_200_2011.tgz", "w:gz") as file:
        file.add(birds, "CUB_200_2011")
    assert levels(Cub(root=str(tmp_path / "other"), side=16), "test")[1] == [0, 0, 1]


def test_images_that_are_not_there_are_named(birds):
    (birds / "images" / "101.Bird" / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"lists .*2\.jpg, which is not there"):
        Cub().load("test")
    (birds / "images.txt").unlink()
    with pytest.raises(ValueError, match="not laid out as CUB is published"):
        Cub(side=17).load("train")


def test_cars_are_read_from_either_layout(tmp_path):
    first = tmp_path / "a" / "cars196"
    kinds = [(1, 0), (98, 60), (99, 120), (196, 180)]
    rows = np.zeros((1, 4), dtype=[("relative_im_path", "O"), ("class", "O"), ("test", "O")])
    for number, (kind, level) in enumerate(kinds):
        picture(first / "car_ims" / f"{number}.jpg", level)
        rows[0, number] = (f"car_ims/{number}.jpg", kind, number % 2)
    savemat(first / "cars_annos.mat", {"annotations": rows})
    second = tmp_path / "b" / "cars196"
    write(second / "names.csv", *(f"Car {n + 1}" for n in range(196)))
    for part, chosen in (("train", kinds[::2]), ("test", kinds[1::2])):
        write(second / f"anno_{part}.csv", *(f"{kind}.jpg,1,1,9,9,{kind}" for kind, _ in chosen))
        for kind, level in chosen:
            picture(second / "car_data" / "car_data" / part / f"Car {kind}" / f"{kind}.jpg", level)
    for root in ("a", "b"):
        data = Cars196(root=str(tmp_path / root), side=16)
        assert data.classes == 2
        for split, wanted in (("train", [0, 60]), ("test", [120, 180])):
            found, classes = levels(data, split)
            assert jpeg_close(found, wanted) and classes == [0, 1]


def test_a_broken_table_of_cars_is_named(tmp_path):
    write(tmp_path / "cars196" / "cars_annos.mat", "this is not a table")
    with pytest.raises(ValueError, match="is not the table of Cars-196"):
        Cars196().load("train")


def test_products_are_split_by_their_own_lists(tmp_path):
    home = tmp_path / "Stanford_Online_Products"
    for part, numbers in (("train", (1, 1, 2)), ("test", (11319, 11320))):
        rows = [f"{n} {kind} 1 bike_final/{part}{n}.JPG" for n, kind in enumerate(numbers)]
        write(home / f"Ebay_{part}.txt", "image_id class_id super_class_id path", *rows)
        for n in range(len(numbers)):
            picture(home / "bike_final" / f"{part}{n}.JPG", 50 * n)
    data = OnlineProducts(side=16)
    assert data.classes == 2
    assert levels(data, "train")[1] == [0, 0, 1] and levels(data, "test")[1] == [0, 1]


CLOTHES = [
    ("img/a/1.jpg", "id_07", "train"),
    ("img/a/2.jpg", "id_07", "train"),
    ("img/b/1.jpg", "id_10", "train"),
    ("img/c/1.jpg", "id_09", "query"),
    ("img/c/2.jpg", "id_09", "gallery"),
    ("img/d/1.jpg", "id_02", "gallery"),
]


def shop(home, rows=CLOTHES, count=None, inside="Img"):
    for number, row in enumerate(rows):
        picture(home / inside / row[0], 40 * number)
    head = [str(len(rows) if count is None else count), "image_name item_id evaluation_status"]
    write(home / "Eval" / "list_eval_partition.txt", *head, *("   ".join(row) for row in rows))


@pytest.mark.parametrize("inside", ["Img", "."])
def test_clothes_have_queries_and_a_gallery(tmp_path, inside):
    shop(tmp_path / "Inshop_Clothes", inside=inside)
    data = InShop(side=16)
    assert data.classes == 2
    assert levels(data, "train")[1] == [0, 0, 1]
    found, classes, queries = levels(data, "test")
    assert jpeg_close(found, [120, 160, 200])
    assert (classes, queries) == ([1, 1, 0], [True, False, False])


@pytest.mark.parametrize(
    ("rows", "count", "message"),
    [
        ([*CLOTHES, ("img/e/1.jpg", "id_3", "valid")], None, "line 9: .* is not a path, an item and train, query"),
        (CLOTHES, 7, "announces '7' images and has 6"),
        (CLOTHES[:3], None, "announces '3' images and has 3"),
    ],
)
def test_a_broken_table_of_clothes_is_named(tmp_path, rows, count, message):
    shop(tmp_path / "Inshop_Clothes", rows, count)
    with pytest.raises(ValueError, match=message):
        InShop().load("train")
    (tmp_path / "Inshop_Clothes" / "Eval" / "list_eval_partition.txt").unlink()
    with pytest.raises(ValueError, match="get the folder Eval too"):
        InShop().load("train")


@pytest.fixture
def characters(tmp_path):
    """Two zip files that have one alphabet in common; each drawing has a black square of another place."""
    for number, alphabets in ((1, ("Greek", "Korean")), (2, ("Greek", "Tagalog"))):
        path = tmp_path / "omniglot" / f"images_background_small{number}.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for alphabet in alphabets:
                for character in (1, 2):
                    for drawer in (1, 2, 3):
                        image = Image.new("1", (105, 105), 1)
                        image.paste(0, (15 * character, 15 * drawer, 15 * character + 15, 15 * drawer + 15))
                        name = f"{path.stem}/{alphabet}/character0{character}/000{character}_0{drawer}.png"
                        with file.open(name, "w") as out:
                            image.save(out, "PNG")
    return tmp_path


def test_alphabets_to_train_on_are_not_tested(characters):
    data = Omniglot(side=7)
    assert data.names("train") == [f"{a}/character0{n}" for a in ("Greek", "Korean") for n in (1, 2)]
    assert data.names("test") == ["Tagalog/character01", "Tagalog/character02"]
    assert data.classes == 4
    train, test = data.load("train"), data.load("test")
    assert train.classes.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert test.classes.tolist() == [0, 0, 0, 1, 1, 1]
    ink = torch.zeros(1, 7, 7)
    ink[0, 2, 1] = 1
    assert torch.equal(test[1][0], ink)
    assert torch.equal(Omniglot(side=7).load("test").images, test.images)  # now from the cache


def test_a_test_without_new_alphabets_is_refused(characters):
    with pytest.raises(ValueError, match="no alphabets that images_background_small1 has not"):
        Omniglot(test="images_background_small1").load("test")


def test_a_zip_file_of_something_else_is_named(tmp_path):
    (tmp_path / "omniglot").mkdir()
    with zipfile.ZipFile(tmp_path / "omniglot" / "images_background_small1.zip", "w") as file:
        file.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match=r"no ALPHABET/CHARACTER/\*\.png"):
        Omniglot().load("train")
    with pytest.raises(ValueError, match="side=0"):
        Omniglot(side=0)


@pytest.mark.parametrize("name", ["cub-proxy-anchor", "omniglot-triplet"])
def test_smoke_data_are_generated_and_have_pairs(name):
    task = RECIPES[name].task.smoke()
    assert task.data.classes == 4
    assert torch.bincount(task.data.load("train").classes).tolist() == [4, 4, 4, 4]
