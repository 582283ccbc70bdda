"""Data sets of annotated images for object detection, and their transforms."""
