"""Annotated images for object detection: COCO and Pascal VOC folders, and the transforms of images with boxes.

Boxes are left, top, right, bottom in pixels, labels count from 1. Detectors, their targets and average precision are
not here; they belong to `nets` and `tasks`.
"""
