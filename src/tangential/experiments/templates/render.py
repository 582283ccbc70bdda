"""What all HTML pages share: one template to extend, and the escaping of whatever is put into it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder, which extends `base.html`. Every value is escaped.

    Args:
        template: Its name, without ".html".
        **values: What the template names, all of it.

    Returns:
        The page as HTML.

    Raises:
        jinja2.UndefinedError: The template names a value that was not given.
    """
    environment = Environment(
        loader=PackageLoader("tangential.experiments.templates", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"{template}.html").render(**values)
