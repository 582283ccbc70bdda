"""HTML templates of all pages, and `render`, the one function that fills them.

Only templates belong here, and no knowledge of what they show: values come from the report and the viewers, escaped.
"""

from tangential.experiments.templates.render import render

__all__ = ["render"]
