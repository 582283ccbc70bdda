"""Data sets of images: classes, and galleries for retrieval."""
