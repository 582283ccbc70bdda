"""The command `predict`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tangential.experiments.runs.folder import RunFolder, make_folder, replace_file, replace_text


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
    # torchvision takes seconds to import that other commands need not wait
    from tangential.experiments.data.boxes.annotated import read_picture
    from tangential.experiments.viewers import detections as boxes

    task, model = boxes.detector(RunFolder(run))
    chosen = boxes.given(pictures) if pictures else boxes.tested(task, count)
    make_folder(out)
    console, report, names = Console(), [], Counter[str]()
    for truth in chosen:
        picture = read_picture(truth.path)
        found = boxes.found_in(picture, task, model)
        found = {name: values[found["scores"] >= threshold] for name, values in found.items()}
        names[truth.path.stem] += 1
        number = f"-{names[truth.path.stem]}" if names[truth.path.stem] > 1 else ""
        path = out / f"{truth.path.stem}{number}.png"
        image = boxes.drawn(picture, found, task.data.categories, truth=truth)
        replace_file(path, lambda file, image=image: image.save(file, format="PNG"))
        seen = list(boxes.named(found, task.data.categories))
        report.append({"picture": str(truth.path), "boxes": seen})
        counts = Counter(box["class"] for box in seen)
        summary = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "nothing"
        console.print(Text(f"{path}: {summary}", overflow="fold"), soft_wrap=True)
    replace_text(out / "boxes.json", json.dumps(report, indent=1))
    console.print(Text(str(out / "boxes.json"), overflow="fold"), soft_wrap=True)
