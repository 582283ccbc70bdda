"""The paper's two toys: scale-invariant problems small enough to watch any optimizer on.

`problems` has them, `trails.run` lets an optimizer run, `published` holds what the authors' pictures show, `table` and
`drawing` show it. Drawing needs matplotlib (the extra `recipes`); nothing else does.
"""

from tangential.paper.toys.problems import CIRCLE, SPHERE, Toy
from tangential.paper.toys.trajectories import Trail, run, run_all

__all__ = ["CIRCLE", "SPHERE", "Toy", "Trail", "run", "run_all"]
