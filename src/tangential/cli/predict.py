"""The command `predict`: the boxes of a trained detector."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tangential.cli.options import Debug, path
from tangential.cli.terminal import console, print_line
from tangential.experiments.data.boxes.annotated import read_image
from tangential.experiments.runs.files import make_folder, replace_file, replace_text
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.viewers import detections


def predict(
    run: Annotated[
        Path, typer.Argument(parser=path, metavar="RUN", help="A run folder: runs/bccd-centernet/adamp-seed0")
    ],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=path, metavar="[IMAGE]...", help="Image files or folders of them; else images of the run's test set."
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of a box that is drawn.")] = 0.3,
    count: Annotated[int, typer.Option(min=1, help="How many images of the test set.")] = 8,
    out: Annotated[Path, typer.Option(parser=path, help="Folder of the drawn images and boxes.json.")] = Path(
        "predicted"
    ),
    debug: Debug = False,
) -> None:
    """Draw the boxes that a trained detector predicts, on any images or on those of its test set."""
    task, model = detections.detector(RunFolder(run))
    chosen = detections.images_in(pictures) if pictures else detections.first_test_images(task, count)
    paths = detections.output_paths(chosen, out)
    make_folder(out)
    terminal, report = console(), []
    for truth, target in zip(chosen, paths, strict=True):
        image = read_image(truth.path)
        found = detections.detect(image, task, model)
        found = {name: values[found["scores"] >= threshold] for name, values in found.items()}
        drawn = detections.draw_boxes(image, found, task.data.categories, truth=truth)
        replace_file(target, lambda file, drawn=drawn: drawn.save(file, format="PNG"))
        boxes = detections.as_json(found, task.data.categories)
        report.append({"picture": str(truth.path), "boxes": boxes})
        counts = Counter(box["class"] for box in boxes)
        summary = ", ".join(f"{number} {name}" for name, number in counts.most_common()) or "nothing"
        print_line(terminal, f"{target}: {summary}")
    replace_text(out / "boxes.json", json.dumps(report, indent=1))
    print_line(terminal, out / "boxes.json")
