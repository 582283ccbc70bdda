"""What all HTML pages share: one template to extend, and the escaping of whatever is put into it."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, **values: Any) -> str:
    """Fill the `page.html` of a package, which extends `base.html` here. Every value is escaped.

    Args:
        package: The package, by its full name.
        **values: What the template names, all of it.

    Returns:
        The page as HTML.

    Raises:
        jinja2.UndefinedError: The template names a value that was not given.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(__name__, ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html").render(**values)
