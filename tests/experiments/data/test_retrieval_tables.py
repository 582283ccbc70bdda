"""The tables of the retrieval data sets and of Omniglot as a disk or a stranger hands them over."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tests.support.hostile import Refused, damaged, outcome, warned

from tangential.experiments.data.images.omniglot import Omniglot
from tangential.experiments.data.images.retrieval_sets import Cars196, Cub, InShop, OnlineProducts


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TANGENTIAL_DATA", str(tmp_path))


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def names(data, split):
    listing, _ = data.listed(split)
    return [(path.rpartition("/")[2], label) for path, label in listing]


# birds ----------------------------------------------------------------------------------------------------------------

IMAGES = "1 001.A/1.jpg\n2 001.A/2 b.jpg\n3 150.B/3.jpg\n"
LABELS = "3 150\n2 1\n1 1\n"


@pytest.fixture
def birds(tmp_path):
    home = tmp_path / "CUB_200_2011"
    for name in ("001.A/1", "001.A/2 b", "150.B/3"):
        image(home / "images" / f"{name}.jpg")

    def write(images=IMAGES, labels=LABELS):
        for name, text in (("images", images), ("image_class_labels", labels)):
            (home / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return names(Cub(), "train"), names(Cub(), "test")

    return write


BIRDS = ([("1.jpg", "1"), ("2 b.jpg", "1")], [("3.jpg", "150")])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, LABELS),
        (IMAGES.replace("\n", "\r\n"), LABELS.replace("\n", "\r\n\r\n")),
        ("\ufeff" + IMAGES, "\ufeff" + LABELS),
        (IMAGES.encode("utf-16"), LABELS),
        (IMAGES, LABELS.replace("3 150", " 3  150 ")),
    ],
    ids=["other order", "crlf", "bom", "utf-16", "spaces"],
)
def test_tables_are_joined_by_their_ids(birds, images, labels):
    assert birds(images, labels) == BIRDS


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (IMAGES, LABELS.replace("3 150\n", ""), "1 ids are in images.txt or image_class_labels.txt alone, as 3"),
        (IMAGES.replace("2 001.A/2 b.jpg\n", ""), LABELS, "1 ids .* alone, as 2"),
        (IMAGES, LABELS + "1 2\n", "image_class_labels.txt, line 4: the id '1' is there twice"),
        (IMAGES + "3 150.B/3.jpg\n", LABELS, "images.txt, line 4: the id '3' is there twice"),
        (IMAGES + "4 150.B/3.jpg\n", LABELS + "4 150\n", "lists .*3.jpg twice"),
        (IMAGES + "4 150.B/9.jpg\n", LABELS + "4 150\n", "lists .*9.jpg, which is not there"),
        (IMAGES, LABELS.replace("150", "201"), "image 3 has the class '201', not 1 to 200"),
        (IMAGES, LABELS.replace("150", "x"), "image 3 has the class 'x'"),
        (IMAGES, LABELS.replace("3 150", "3"), "line 1: '3' is not an id and a value"),
        (IMAGES, "", "alone"),
        ("", "", "lists no images"),
        (IMAGES, b"\0\0\0", "zero bytes"),
        (IMAGES.replace("A", "é").encode("latin-1"), LABELS, "is not text in UTF-8"),
        (IMAGES.replace("3 150.B/3.jpg\n", ""), "2 1\n1 1\n", "have no images of the classes from 101"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*in no table")
def test_tables_that_do_not_belong_together_are_refused(birds, images, labels, why):
    with pytest.raises(ValueError, match=why) as caught:
        birds(images, labels)
    assert "CUB_200_2011" in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_that_is_replaced_is_read_again(birds):
    assert birds() == BIRDS
    assert birds(labels="3 150\n2 2\n1 1\n")[0] == [("1.jpg", "1"), ("2 b.jpg", "2")]


def test_images_that_no_table_names_are_counted(birds, tmp_path):
    image(tmp_path / "CUB_200_2011" / "images" / "001.A" / "9.jpg")
    _, lines = warned(birds)
    assert lines == [f"{tmp_path}/CUB_200_2011: 1 images left out: 001.A/9.jpg (in no table)"]


# cars -----------------------------------------------------------------------------------------------------------------


def mat(kinds=(1, 99)):
    rows = np.zeros((1, len(kinds)), dtype=[("relative_im_path", "O"), ("class", "O")])
    for number, kind in enumerate(kinds):
        rows[0, number] = (f"car_ims/{number}.jpg", kind)
    file = io.BytesIO()
    savemat(file, {"annotations": rows}, do_compression=True)
    return file.getvalue()


def published(root, data):
    for number in range(2):
        image(root / "cars196" / "car_ims" / f"{number}.jpg")
    (root / "cars196" / "cars_annos.mat").write_bytes(data)
    return names(Cars196(), "train"), names(Cars196(), "test")


def test_no_damage_of_a_mat_file_ends_in_a_traceback(tmp_path):
    right = published(tmp_path, mat())
    assert right == ([("0.jpg", "1")], [("1.jpg", "99")])
    refused = 0
    for how, data in damaged(mat(), count=60):
        found = outcome(lambda data=data: published(tmp_path, data), name="cars")
        refused += isinstance(found, Refused)
        assert isinstance(found, Refused) or found == right, how
    assert refused > 60


def test_a_class_that_no_car_has_is_named(tmp_path):
    assert "has the class 197" in outcome(lambda: published(tmp_path, mat((1, 197))), name="cars_annos.mat")


ANNOTATIONS = "0.jpg,1,1,9,9,1\n"


def by_classes(root, train=ANNOTATIONS, test="1.jpg,1,1,9,9,99\n", count=196):
    home = root / "cars196"
    image(home / "car_data" / "car_data" / "train" / "Car 1" / "0.jpg")
    image(home / "car_data" / "car_data" / "test" / "Car 99" / "1.jpg")
    (home / "names.csv").write_text("".join(f"Car {number + 1}\n" for number in range(count)))
    (home / "anno_train.csv").write_bytes(train.encode())
    (home / "anno_test.csv").write_bytes(test.encode())
    return names(Cars196(), "train"), names(Cars196(), "test")


@pytest.mark.parametrize(
    "train", [ANNOTATIONS, "\ufeff" + ANNOTATIONS, "\n0.jpg,1,1,9,9, 1 \r\n\r\n", '"0.jpg",1,1,9,9,1']
)
def test_lists_of_cars_of_every_kind_are_read_alike(tmp_path, train):
    assert by_classes(tmp_path, train) == ([("0.jpg", "1")], [("1.jpg", "99")])


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"train": "0.jpg,1,1,9,9,0\n"}, "anno_train.csv, line 1: .* ends with no class from 1 to 196|does not end"),
        ({"train": "0.jpg,1,1,9,9,x\n"}, "anno_train.csv, line 1"),
        ({"train": "1\n"}, "anno_train.csv, line 1"),
        ({"count": 50}, "anno_test.csv, line 1"),
        ({"train": ANNOTATIONS * 2}, "lists .*0.jpg twice"),
        ({"train": "7.jpg,1,1,9,9,1\n"}, "lists .*7.jpg, which is not there"),
        ({"train": ""}, "no images of the classes up to 98"),
        ({"train": "\0\0"}, "zero bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*in no table")
def test_lists_of_cars_of_another_kind_are_refused(tmp_path, call, why):
    with pytest.raises(ValueError, match=why) as caught:
        by_classes(tmp_path, **call)
    assert "cars196" in str(caught.value)


# products -------------------------------------------------------------------------------------------------------------

HEAD = "image_id class_id super_class_id path\n"


def shop(root, train="1 1 1 bike/0 a.JPG\n", test="2 11319 1 bike/1.JPG\n", head=HEAD):
    home = root / "Stanford_Online_Products"
    for name in ("0 a.JPG", "1.JPG"):
        image(home / "bike" / name)
    (home / "Ebay_train.txt").write_bytes((head + train).encode())
    (home / "Ebay_test.txt").write_bytes((head + test).encode())
    return names(OnlineProducts(), "train"), names(OnlineProducts(), "test")


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_lists_of_products_of_every_kind_are_read_alike(tmp_path, start, end):
    found = shop(tmp_path, train=f"1 1 1 bike/0 a.JPG{end}", head=start + HEAD)
    assert found == ([("0 a.JPG", "1")], [("1.JPG", "11319")])


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"train": "1 1 1\n"}, "Ebay_train.txt, line 2: '1 1 1' is not an id, a class, a kind and a path"),
        ({"train": "1 x 1 bike/1.JPG\n"}, "Ebay_train.txt, line 2"),
        ({"train": ""}, "Ebay_train.txt lists no images"),
        ({"head": ""}, "lists no images"),
        ({"train": "1 11319 1 bike/0 a.JPG\n"}, "1 classes are in both lists, as 11319"),
        ({"train": "1 1 1 bike/8.JPG\n"}, "lists .*8.JPG, which is not there"),
    ],
)
def test_lists_of_products_of_another_kind_are_refused(tmp_path, call, why):
    with pytest.raises(ValueError, match=why):
        shop(tmp_path, **call)


# clothes --------------------------------------------------------------------------------------------------------------

ROWS = "img/a 1.jpg id_1 train\nimg/b.jpg id_2 query\nimg/c.jpg id_2 gallery\n"


def clothes(root, text):
    home = root / "Inshop_Clothes"
    for name in ("a 1", "b", "c"):
        image(home / "Img" / "img" / f"{name}.jpg")
    (home / "Eval").mkdir(exist_ok=True)
    (home / "Eval" / "list_eval_partition.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return names(InShop(), "train"), names(InShop(), "test")


@pytest.mark.parametrize(
    "text", [f"3\nhead\n{ROWS}", f"\ufeff3\r\nhead\r\n{ROWS}\r\n", f"3\n\nhead\n\n{ROWS}".replace(" id", "   id")]
)
def test_tables_of_clothes_of_every_kind_are_read_alike(tmp_path, text):
    assert clothes(tmp_path, text) == ([("a 1.jpg", "id_1")], [("b.jpg", "id_2"), ("c.jpg", "id_2")])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "announces '' images and has 0"),
        ("3\n", "announces '3' images and has 0"),
        (f"4\nhead\n{ROWS}", "announces '4' images and has 3"),
        (f"3\nhead\n{ROWS}".replace("query", "quest"), "line 4: .* is not a path, an item and train"),
        (f"3\nhead\n{ROWS}".replace("id_2 gallery", "id_3 gallery"), "1 items have queries and nothing in the gallery"),
        (f"3\nhead\n{ROWS}".replace("img/c", "img/d"), "lists .*d.jpg, which is not there"),
        (f"3\nhead\n{ROWS}".replace("img/c", "img/b"), "lists .*b.jpg twice"),
        (f"3\nhead\n{ROWS}\0".encode(), "zero bytes"),
    ],
)
def test_tables_of_clothes_of_another_kind_are_refused(tmp_path, text, why):
    with pytest.raises(ValueError, match=why) as caught:
        clothes(tmp_path, text)
    assert "list_eval_partition.txt" in str(caught.value)


# characters -----------------------------------------------------------------------------------------------------------


def omniglot(root, alphabets=(("Greek",), ("Tagalog",)), more=()):
    for number, chosen in enumerate(alphabets, start=1):
        path = root / "omniglot" / f"images_background_small{number}.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for alphabet in chosen:
                for drawer in (1, 2):
                    with file.open(f"{path.stem}/{alphabet}/character01/0001_0{drawer}.png", "w") as out:
                        Image.new("1", (105, 105), drawer - 1).save(out, "PNG")
            for name, data in more:
                file.writestr(name.format(path.stem), data)
    return Omniglot(side=7)


def test_hidden_files_are_no_drawings(tmp_path):
    hidden = [
        ("{}/Greek/character01/._0001_01.png", b"x"),
        ("{}/Greek/.x/0001_01.png", b"x"),
        ("__MACOSX/{}/a/b.png", b"x"),
    ]
    data = omniglot(tmp_path, more=hidden)
    assert data.names("train") == ["Greek/character01"] and len(data.load("train")) == 2


def test_a_drawing_that_cannot_be_read_is_named(tmp_path):
    data = omniglot(tmp_path, more=[("{}/Greek/character01/0001_03.png", b"x")])
    assert isinstance(outcome(lambda: data.load("train"), name="0001_03.png cannot be read as an image"), Refused)


def test_the_cache_knows_which_alphabets_are_left_out(tmp_path):
    data = omniglot(tmp_path, (("Greek",), ("Tagalog",)))
    first = data.load("test").images
    other = omniglot(tmp_path, (("Tagalog",), ("Greek",)))
    assert other.names("test") == ["Greek/character01"] and len(other.load("test").images) == len(first)
    assert len(list((tmp_path / "cache" / "tangential").glob("omniglot-test-*.pt"))) == 2
