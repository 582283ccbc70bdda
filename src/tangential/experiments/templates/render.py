"""Filling of the HTML templates. Every page extends `base.html`, and whatever is put into it is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder, which extends `base.html`. Every value is escaped.

    Args:
        template: Its name, without ".html".
        **values: All variables of the template.

    Returns:
        The page as HTML.

    Raises:
        jinja2.UndefinedError: The template names a value that was not given.
    """
    return _environment().get_template(f"{template}.html").render(**values)


@cache
def _environment() -> Environment:
    """One for all pages: it keeps the templates that it has compiled."""
    return Environment(
        loader=PackageLoader("tangential.experiments.templates", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
