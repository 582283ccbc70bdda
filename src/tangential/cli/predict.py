"""The command `predict`: the boxes of a trained detector."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tangential.cli.terminal import console, print_line
from tangential.experiments.data.boxes.annotated import read_image
from tangential.experiments.runs.files import make_folder, replace_file, replace_text
from tangential.experiments.runs.folder import RunFolder
from tangential.experiments.viewers import detections


def predict(*, run: Path, pictures: list[Path] | None, threshold: float, count: int, out: Path) -> None:
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
