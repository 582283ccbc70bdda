"""Parts of a page between two marks, which a measurement rewrites."""

import re


def replaced(page: str, name: str, part: str) -> str:
    """The page with another part between `<!-- name -->` and `<!-- end name -->`.

    Raises:
        ValueError: The page does not have these marks once.
    """
    marks = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
    text, count = re.subn(marks, lambda found: found[1] + part + found[2], page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has the marks <!-- {name} --> and <!-- end {name} --> {count} times, not once")
    return text
