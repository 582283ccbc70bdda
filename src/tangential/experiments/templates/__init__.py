"""The HTML templates of every page, and the one function that fills them."""

from tangential.experiments.templates.render import render

__all__ = ["render"]
