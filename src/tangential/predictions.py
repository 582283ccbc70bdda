"""What a trained detector finds in pictures: the boxes, drawn and in numbers, and the command that shows them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from tangential.checkpoints import load_checkpoint
from tangential.data.pictures import PICTURE_SUFFIXES, Picture, read_picture, viewed
from tangential.provenance import describe
from tangential.recipes import RECIPES
from tangential.runs import RunFolder, broken, make_folder, replace_file, replace_text
from tangential.tasks.detection import Detection

# Okabe and Ito's colours, which most colour-blind people can tell apart
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7", "#0072B2")


def detector(folder: RunFolder) -> tuple[Detection, nn.Module]:
    """Make a run's task and its network again, with the weights of the latest checkpoint, in evaluation mode.

    Args:
        folder: A run of a recipe of detection.

    Raises:
        ValueError: No run or no checkpoint there, a run of another task, or one that this version cannot make again.
    """
    if not folder.exists():
        raise ValueError(
            f"{folder.path} is no run folder; name one that `tangential train` made, as runs/RECIPE/adamp-seed0"
        )
    settings = folder.settings()
    recipe = RECIPES.get(settings.get("recipe", ""))
    if recipe is None or not isinstance(recipe.task, Detection):
        raise ValueError(f"{folder.path} is a run of {settings.get('recipe')!r}, which finds no boxes in pictures")
    task = recipe.task
    if describe(task.data)["class"] != settings["task"]["data"]["class"]:
        task = task.smoke()
    task = as_recorded(task, settings["task"], folder.path)
    state = load_checkpoint(folder)
    if state is None:
        raise ValueError(f"{folder.path} has no checkpoint yet; train at least one epoch")
    # what it started from is of no interest now, and may not be there
    model = replace(task, net=partial(task.net, weights=None)).model()
    try:
        model.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        raise broken(folder.checkpoint, str(error).partition("\n")[0]) from error
    return task, model.eval()


def as_recorded(value: Any, recorded: Any, where: Path) -> Any:
    """Change settings into those that a run folder records of them, in the form that `describe` gives.

    Args:
        value: Settings of the same classes.
        recorded: What `describe` made of the run's.
        where: The run folder, for the error.

    Raises:
        ValueError: The classes differ.
    """
    if recorded == describe(value):
        return value
    if isinstance(value, partial) or is_dataclass(value):
        if not isinstance(recorded, dict) or recorded.get("class") != describe(value)["class"]:
            raise ValueError(f"{where} was made by another version: it has {recorded!r:.200} for {value!r:.200}")
    if isinstance(value, partial):
        arguments = recorded["arguments"]
        return partial(value.func, **{n: as_recorded(value.keywords.get(n), arguments[n], where) for n in arguments})
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value) if each.name in recorded]
        return replace(value, **{name: as_recorded(getattr(value, name), recorded[name], where) for name in names})
    return tuple(recorded) if isinstance(recorded, list) else recorded


@torch.no_grad()
def found_in(picture: Any, task: Detection, model: nn.Module) -> dict[str, Tensor]:
    """Find things in one picture.

    Args:
        picture: Bytes `(3, height, width)`, as `tangential.data.pictures.read_picture` gives them.
        task: Says how the network sees it.
        model: The network, in evaluation mode.

    Returns:
        `boxes` `(n, 4)` in the picture's pixels and inside it, `labels` `(n,)` from 1 and `scores` `(n,)`.
    """
    image, target = viewed(picture, [], task.view.transform("test"), training=False)
    (found,) = model(image[None])
    left, top, right, bottom = target["frame"][0]
    height, width = picture.shape[-2:]
    sides = torch.tensor([width, height, width, height])
    corner, span = torch.stack([left, top, left, top]), torch.stack([right - left, bottom - top] * 2)
    boxes = ((found["boxes"] - corner) / span * sides).clamp(min=0).minimum(sides)
    return found | {"boxes": boxes}


def drawn(
    picture: Any, found: dict[str, Tensor], categories: Sequence[str], *, truth: Picture | None = None
) -> Image.Image:
    """Draw boxes on a picture, each with its class and score in per cent, and what was annotated as thin white lines.

    Args:
        picture: Bytes `(3, height, width)`.
        found: The boxes to draw, in its pixels.
        categories: The names of the classes, in the order of their labels.
        truth: The picture's annotations, if they are to be seen.
    """
    canvas = to_pil_image(picture)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(canvas.size) / 300))
    font = ImageFont.load_default(size=max(10, round(max(canvas.size) / 50)))
    for thing in truth.things if truth else ():
        pen.rectangle(thing.box, outline="white", width=1)
    for box, label, score in reversed(
        list(zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True))
    ):
        colour = _COLOURS[(label - 1) % len(_COLOURS)]
        pen.rectangle(box, outline=colour, width=line)
        text = f"{categories[label - 1]} {100 * score:.0f}"
        _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        x, y = min(box[0], canvas.width - right), max(box[1] - bottom, 0)
        pen.rectangle((x, y, x + right, y + bottom + 1), fill=colour)
        pen.text((x, y), text, fill="black", font=font)
    return canvas


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder: runs/bccd-centernet/adamp-seed0")],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PICTURE]...", help="Files or folders; else the run's test pictures."),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box that is shown.")] = 0.3,
    count: Annotated[int, typer.Option(min=1, help="How many of the test pictures.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder of the drawn pictures and boxes.json.")] = Path("predicted"),
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Draw the boxes that a trained detector finds, on any pictures or on those it was tested on."""
    task, model = detector(RunFolder(run))
    chosen = _given(pictures) if pictures else _tested(task, count)
    make_folder(out)
    console, report, names = Console(), [], Counter[str]()
    for truth in chosen:
        picture = read_picture(truth.path)
        found = found_in(picture, task, model)
        found = {name: values[found["scores"] >= threshold] for name, values in found.items()}
        names[truth.path.stem] += 1
        number = f"-{names[truth.path.stem]}" if names[truth.path.stem] > 1 else ""
        path = out / f"{truth.path.stem}{number}.png"
        image = drawn(picture, found, task.data.categories, truth=truth)
        replace_file(path, lambda file, image=image: image.save(file, format="PNG"))
        boxes = list(_named(found, task.data.categories))
        report.append({"picture": str(truth.path), "boxes": boxes})
        counts = Counter(box["class"] for box in boxes)
        summary = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "nothing"
        console.print(Text(f"{path}: {summary}", overflow="fold"), soft_wrap=True)
    replace_text(out / "boxes.json", json.dumps(report, indent=1))
    console.print(Text(str(out / "boxes.json"), overflow="fold"), soft_wrap=True)


def _given(paths: Sequence[Path]) -> list[Picture]:
    """The pictures of files and folders, without annotations."""
    files = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if file.suffix.lower() in PICTURE_SUFFIXES]
            if not inside:
                raise ValueError(f"{path} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
            files += inside
        else:
            files.append(path)
    return [Picture(file, (0, 0), ()) for file in files]


def _tested(task: Detection, count: int) -> list[Picture]:
    pictures = getattr(task.data.load("test", task.view.transform("test")), "pictures", None)
    if pictures is None:
        raise ValueError("this run's pictures were generated; name some pictures")
    return pictures[:count]


def _named(found: dict[str, Tensor], categories: Sequence[str]) -> Iterator[dict[str, Any]]:
    for box, label, score in zip(*(found[n].tolist() for n in ("boxes", "labels", "scores")), strict=True):
        yield {"class": categories[label - 1], "score": round(score, 4), "box": [round(edge, 2) for edge in box]}
