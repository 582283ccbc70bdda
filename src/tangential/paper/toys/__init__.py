"""The paper's two toy problems: scale-invariant losses in two and three dimensions, and plots of any optimizer on them.

`problems` holds the losses, `optimizers` the paper's settings, `trajectories.run` takes the steps, `published` holds
the numbers of the authors' videos and figure, `table`, `drawing` and `animation` show the result. Only the last two
need matplotlib (the extra `recipes`). Nothing that trains a net belongs here.
"""

from tangential.paper.toys.problems import CIRCLE, SPHERE, Toy
from tangential.paper.toys.trajectories import Trajectory, run, run_all

__all__ = ["CIRCLE", "SPHERE", "Toy", "Trajectory", "run", "run_all"]
