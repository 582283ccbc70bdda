"""The task of detection as the training loop sees it, its recipes, and `predict`."""

import copy
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from tangential.cli.signatures.predict import predict
from tangential.experiments.data.boxes.annotated import AnnotatedImage, transformed
from tangential.experiments.data.boxes.synthetic import Shapes
from tangential.experiments.data.boxes.transforms import SquareView, StretchedView
from tangential.experiments.data.images.decoding import read_image
from tangential.experiments.nets.centernet import centernet, plain_neck
from tangential.experiments.nets.ssd import ssd_resnet
from tangential.experiments.recipes import RECIPES
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.settings.overrides import override
from tangential.experiments.settings.record import describe
from tangential.experiments.tasks.detection import Detection
from tangential.experiments.training.fit import fit
from tangential.experiments.training.loop import Training
from tangential.experiments.viewers.detections import detect, detector, draw_boxes, output_paths
from tangential.experiments.viewers.trained_model import as_recorded

pytestmark = pytest.mark.slow

SMALL = Detection(
    data=Shapes(count=12),
    view=SquareView(size=64, keep_size=False),
    net=partial(centernet, width=8, blocks=1, neck=partial(plain_neck)),
)
TASKS = {
    "centernet": SMALL,
    "ssd": replace(SMALL, view=StretchedView(size=64, zoom_out=0.0), net=partial(ssd_resnet, width=8, blocks=1)),
}
DETECTION = [name for name, recipe in RECIPES.items() if isinstance(recipe.task, Detection)]


class Knowing(torch.nn.Module):
    """Gives the true boxes of the batches it was told of."""

    def __init__(self, batches):
        super().__init__()
        self.answers = [targets for _, targets in batches]

    def forward(self, images):
        return [t | {"scores": torch.ones(len(t["labels"]))} for t in self.answers.pop(0)]


def test_score_of_the_truth_is_one():
    batches = list(SMALL.batches("test", batch_size=4))
    assert SMALL.score(Knowing(batches), batches) == pytest.approx({"ap": 1.0, "ap50": 1.0, "ap75": 1.0, "voc_ap": 1.0})


@pytest.mark.parametrize("name", TASKS)
@torch.no_grad()
def test_score_is_that_of_the_pictures_whatever_the_batches(name):
    task = TASKS[name]
    model = task.model().eval()
    one, other = (task.score(model, task.batches("test", batch_size=size)) for size in (16, 5))
    assert one == pytest.approx(other, abs=1e-6)
    assert set(one) == {"ap", "ap50", "ap75", "voc_ap"}


def test_pictures_that_keep_their_size_come_one_by_one():
    task = replace(SMALL, view=SquareView(size=64))
    sizes = [images.shape for images, _ in task.batches("test", batch_size=8)]
    assert sizes == [(1, 3, 96, 96)] * 12


@pytest.mark.parametrize("name", TASKS)
def test_detector_learns_what_lies_where(name):
    task = TASKS[name]
    model = task.model()
    images, targets = next(iter(task.batches("test", batch_size=16)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(model, (images, targets)).backward()
        optimizer.step()
    # one pass without steps, so that the running averages are those of the last weights
    with torch.no_grad():
        for _ in range(20):
            model(images, targets)
        assert task.score(model.eval(), [(images, targets)])["ap50"] > 0.6


def test_resumed_run_with_augmentation_has_the_same_bits():
    plan = replace(RECIPES["bccd-ssd"], task=TASKS["ssd"], epochs=2, batch_size=8).plan("adamp", 0)
    whole = Training(plan)  # one training at a time: all draw from torch's global generator
    whole.run_epoch()
    state = copy.deepcopy(whole.state_dict())
    loss = whole.run_epoch()["train_loss"]
    torch.manual_seed(99)
    resumed = Training(plan)
    resumed.load_state_dict(state)
    assert resumed.run_epoch()["train_loss"] == loss
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.parametrize("name", DETECTION)
def test_recipes_say_where_their_data_are_from_and_what_was_measured(name):
    recipe = RECIPES[name]
    assert recipe.task.data.get.startswith("http") and recipe.task.data.size
    assert recipe.task.headline.name == ("ap" if name.startswith("coco") else "ap50")
    assert set(recipe.paper) == ({"adamw", "adamp"} if name.startswith("coco") else set())


def test_decay_is_the_papers_share_per_step():
    for name in ("coco-centernet", "coco-ssd"):
        settings = RECIPES[name].optimizers["adamp"].keywords
        assert settings["lr"] * settings["weight_decay"] == pytest.approx(1e-5)


def trained(tmp_path, *assignments):
    """A run folder of a recipe's smoke, with overrides."""
    recipe = RECIPES["bccd-centernet"].smoke()
    for each in assignments:
        recipe = override(recipe, each)
    folder = RunFolder(tmp_path / "run")
    folder.start(recipe.settings("adamp", 0), {})
    list(fit(recipe.plan("adamp", 0), folder))
    return recipe, folder


def test_detector_is_made_again_from_its_run_folder(tmp_path):
    recipe, folder = trained(tmp_path, "task.net.width=4", "task.view.size=64", "task.data.count=4")
    task, model = detector(folder)
    assert describe(task) == describe(recipe.task)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in recipe.task.model().parameters())
    assert not model.training


def test_settings_come_back_from_what_was_recorded(tmp_path):
    for name in DETECTION:
        recipe = override(override(RECIPES[name], "task.view.size=320"), "task.net.weights=w.pt")
        recorded = json.loads(json.dumps(describe(recipe.task)))
        assert describe(as_recorded(RECIPES[name].task, recorded, tmp_path)) == recorded
    with pytest.raises(ValueError, match="was made by another version"):
        as_recorded(RECIPES["bccd-ssd"].task, describe(RECIPES["bccd-centernet"].task), tmp_path)


@pytest.mark.parametrize("size", [(64, 64), (50, 120), (97, 60)])
@pytest.mark.parametrize("name", TASKS)
def test_boxes_come_back_in_the_pixels_of_the_picture(name, size):
    task = TASKS[name]
    true = torch.tensor([[10.0, 12, 40, 45]])

    class Framed(torch.nn.Module):
        def forward(self, images):
            _, target = transformed(picture, [], task.view.transform("test"), training=False)
            left, top, right, bottom = target["frame"][0]
            scale = torch.stack([(right - left) / size[1], (bottom - top) / size[0]] * 2)
            inside = true * scale + torch.stack([left, top, left, top])
            beyond = torch.tensor([[-50.0, -50, 500, 500]])
            return [
                {
                    "boxes": torch.cat([inside, beyond]),
                    "labels": torch.ones(2, dtype=torch.long),
                    "scores": torch.ones(2),
                }
            ]

    picture = tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8))
    found = detect(picture, task, Framed())
    assert torch.allclose(found["boxes"][0], true[0], atol=1e-3)
    assert found["boxes"][1].tolist() == [0, 0, size[1], size[0]]


def test_boxes_are_drawn_where_they_are_and_the_rest_is_left_alone():
    picture = torch.zeros(3, 80, 120, dtype=torch.uint8)
    found = {"boxes": torch.tensor([[30.0, 30, 90, 70]]), "labels": torch.tensor([2]), "scores": torch.tensor([0.75])}
    image = draw_boxes(picture, found, ("cat", "dog"))
    assert image.getpixel((60, 70)) == image.getpixel((30, 50)) != (0, 0, 0)
    assert image.getpixel((60, 50)) == image.getpixel((110, 75)) == (0, 0, 0)
    assert picture.sum() == 0


def test_predict_draws_and_writes_every_box(tmp_path, capsys):
    _, folder = trained(tmp_path, "task.net.width=4", "task.view.size=64")
    for name in ("a/one.png", "b/one.JPG", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("") if name.endswith("txt") else Image.new("L", (70, 50)).save(tmp_path / name)
    out = tmp_path / "out"
    predict(folder.path, [tmp_path / "a" / "one.png", tmp_path / "b"], threshold=0.0, out=out)
    report = json.loads((out / "boxes.json").read_text())
    assert [each["picture"] for each in report] == [str(tmp_path / "a" / "one.png"), str(tmp_path / "b" / "one.JPG")]
    assert all(box["class"] in ("square", "disc") and len(box["box"]) == 4 for each in report for box in each["boxes"])
    assert read_image(out / "one.png").shape == read_image(out / "one-2.png").shape == (3, 50, 70)
    assert "one-2.png" in capsys.readouterr().out
    predict(folder.path, [tmp_path / "a"], threshold=1.0, out=out)
    assert "nothing" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in out.iterdir()}
    for images in ([out], [tmp_path / "b", out / "one-2.png"]):  # what an earlier call wrote, and beside another
        with pytest.raises(ValueError, match=r"one(-2)?.png is one of the images and would be overwritten; choose"):
            predict(folder.path, images, threshold=0.0, out=tmp_path / "a" / ".." / "out")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    "names",
    [
        ["a/1.png", "b/1.png", "c/1.jpg"],
        ["a/1.png", "b/1.png", "c/1-2.png"],
        ["c/1-2.png", "a/1.png", "b/1.png"],
        ["a/x.png", "b/X.png", "a/x.jpg"],
        ["a/x.tar.png", "a/x.tar.jpg", "a/.png", "b/.png"],
    ],
    ids=str,
)
def test_no_two_images_are_written_to_one_file(names, tmp_path):
    images = [AnnotatedImage(tmp_path / name, (0, 0), ()) for name in names]
    paths = output_paths(images, tmp_path / "out")
    assert len({str(path).casefold() for path in paths}) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "out"}


def test_predict_says_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        predict(tmp_path / "none", [])
    folder = RunFolder(tmp_path / "digits")
    folder.start(RECIPES["digits"].settings("sgd", 0), {})
    with pytest.raises(ValueError, match="a run of 'digits', which finds no boxes"):
        predict(folder.path, [])
    unborn = RunFolder(tmp_path / "unborn")
    unborn.start(RECIPES["bccd-ssd"].smoke().settings("sgd", 0), {})
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        predict(unborn.path, [])
    _, made = trained(tmp_path, "task.net.width=4", "task.view.size=64")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        predict(made.path, [tmp_path / "empty"])
    with pytest.raises(ValueError, match="were generated; name some pictures"):
        predict(made.path, [])
