"""Published numbers of the toy problems, read off the authors' videos and figure.

The videos print the loss before each update to four decimals and the norm after it to two. The figure is a vector
graphic (`sgd_3d_toy.svg`, `sgd_wd_3d_toy.svg` and `sgdp_3d_toy.svg` of the page of clovaai/AdamP): its line gives the
points of each trajectory to 4e-5, its norm curve the norms to 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tangential.paper.toys.optimizers import DECAY, GD, MOMENTUM, OURS, PROJECTED_BUFFER
from tangential.paper.toys.problems import on_chart
from tangential.paper.toys.trajectories import Trajectory

LOSSES: dict[float, dict[int, dict[str, float]]] = {
    0.9: {
        40: {GD: 4.0, MOMENTUM: 3.7258, OURS: 3.7186},
        60: {GD: 3.9998, MOMENTUM: 0.4537, OURS: 0.0902},
        80: {GD: 3.9989, MOMENTUM: 0.1019, OURS: 0.0034},
        100: {GD: 3.9949, MOMENTUM: 0.0513, OURS: 0.001},
        150: {GD: 3.7614, MOMENTUM: 0.0205, OURS: 0.0004},
        200: {GD: 1.2861, MOMENTUM: 0.0114, OURS: 0.0002},
        300: {GD: 0.0726, MOMENTUM: 0.005, OURS: 0.0001},
        499: {GD: 0.0086, MOMENTUM: 0.0018, OURS: 0.0},
    },
    0.95: {499: {GD: 0.0086, MOMENTUM: 0.0043, OURS: 0.0}},
    0.99: {499: {GD: 0.0086, MOMENTUM: 0.0153, OURS: 0.0}},
}
"""Momentum, iteration and optimizer to the loss that the video prints, to four decimals."""

NORMS: dict[float, dict[int, dict[str, float]]] = {
    0.9: {60: {MOMENTUM: 2.12}, 499: {GD: 1.02, MOMENTUM: 2.93, OURS: 1.12}},
    0.95: {499: {GD: 1.02, MOMENTUM: 5.67, OURS: 1.14}},
    0.99: {499: {GD: 1.02, MOMENTUM: 27.87, OURS: 1.15}},
}
"""Momentum, iteration and optimizer to the norm that the video prints, to two decimals."""


@dataclass(frozen=True)
class Figure:
    """One trajectory of the 3-D figure.

    Args:
        final_norm: Length of the weight at the end.
        largest_norm: The greatest it had.
        first: `(psi, phi)` at the start and after each of the first 40 steps.
    """

    final_norm: float
    largest_norm: float
    first: tuple[tuple[float, float], ...]


# fmt: off
FIGURE: dict[str, Figure] = {
    MOMENTUM: Figure(3.162, 3.162, (
        (-2.00000, 1.99999), (-1.65232, 1.99552), (-1.05223, 1.95915), (-0.91122, 1.89155), (-1.03912, 1.81643),
        (-1.30864, 1.72791), (-1.63523, 1.61618), (-1.71228, 1.52045), (-1.64672, 1.44910), (-1.48831, 1.39570),
        (-1.26512, 1.35196), (-0.99901, 1.31161), (-0.87964, 1.24863), (-0.86379, 1.17469), (-0.91797, 1.09239),
        (-1.01900, 1.00223), (-1.03936, 0.94208), (-1.00180, 0.90826), (-0.91934, 0.89539), (-0.89850, 0.86424),
        (-0.92643, 0.81836), (-0.90493, 0.79535), (-0.84301, 0.79057), (-0.83052, 0.76714), (-0.85859, 0.72786),
        (-0.84222, 0.70698), (-0.78708, 0.69595), (-0.77466, 0.66709), (-0.79767, 0.62285), (-0.78219, 0.59861),
        (-0.73434, 0.59159), (-0.72337, 0.56590), (-0.74332, 0.52376), (-0.72970, 0.50288), (-0.68759, 0.50059),
        (-0.67731, 0.47810), (-0.69330, 0.43703), (-0.67951, 0.41760), (-0.64019, 0.41726), (-0.62134, 0.39004),
        (-0.60139, 0.33584),
    )),
    DECAY: Figure(0.836, 2.527, (
        (-2.00000, 1.99999), (-1.55597, 1.99091), (-0.82822, 1.93048), (-0.69310, 1.82299), (-0.84604, 1.70019),
        (-1.12488, 1.55614), (-1.44462, 1.38769), (-1.51287, 1.25439), (-1.44314, 1.16171), (-1.28346, 1.09957),
        (-1.05928, 1.05785), (-0.79000, 1.02899), (-0.66145, 0.96170), (-0.63317, 0.86909), (-0.67332, 0.75622),
        (-0.76059, 0.62690), (-0.87978, 0.48467), (-0.92110, 0.39264), (-0.90489, 0.34115), (-0.84384, 0.32240),
        (-0.74645, 0.33103), (-0.61952, 0.36355), (-0.46751, 0.41459), (-0.37050, 0.42146), (-0.31649, 0.39008),
        (-0.29530, 0.32542), (-0.29964, 0.23190), (-0.32454, 0.11384), (-0.35130, -0.02953), (-0.35038, -0.12034),
        (-0.32626, -0.16657), (-0.28333, -0.17443), (-0.22623, -0.14809), (-0.15997, -0.09046), (-0.08946, -0.00438),
        (-0.01175, 0.10445), (0.05695, 0.16334), (0.12207, 0.17941), (0.18822, 0.15941), (0.25915, 0.10945),
        (0.33834, 0.03566),
    )),
    PROJECTED_BUFFER: Figure(1.121, 1.121, (
        (-2.00000, 1.99999), (-1.72116, 1.99789), (-1.22197, 1.97514), (-1.08292, 1.92960), (-1.18725, 1.87811),
        (-1.44217, 1.81559), (-1.46257, 1.76176), (-1.32597, 1.71943), (-1.07458, 1.68034), (-1.00853, 1.62549),
        (-1.07688, 1.56121), (-1.23801, 1.48506), (-1.26006, 1.42632), (-1.17988, 1.38604), (-1.01666, 1.35490),
        (-0.96939, 1.30539), (-1.01396, 1.24160), (-1.12807, 1.16324), (-1.14545, 1.10869), (-1.08656, 1.07693),
        (-0.96309, 1.06396), (-0.92470, 1.02838), (-0.95787, 0.97380), (-1.04835, 0.90066), (-1.06245, 0.85459),
        (-1.01342, 0.83340), (-0.90959, 0.83367), (-0.86261, 0.79233), (-0.87671, 0.72900), (-0.83372, 0.69503),
        (-0.73641, 0.66339), (-0.70123, 0.60518), (-0.71785, 0.52315), (-0.76494, 0.40775), (-0.75972, 0.33233),
        (-0.71036, 0.29263), (-0.62309, 0.28549), (-0.50354, 0.30866), (-0.43238, 0.29107), (-0.40213, 0.23637),
        (-0.40566, 0.14754),
    )),
}
"""From an optimizer to its trajectory in the figure."""
# fmt: on


def distance_from_figure(trajectory: Trajectory) -> float:
    """Largest distance of a trajectory from the figure's over the first 40 steps, in units of psi and phi.

    Later steps cannot be compared: the normalised gradient jumps from one wall of a steep valley to the other, and a
    learning rate that differs by a millionth ends somewhere else in it.

    Args:
        trajectory: A run on the sphere, by one of the figure's optimizers.

    Returns:
        The largest distance of any of the first 41 points.

    Raises:
        ValueError: A trajectory that the figure does not have.
    """
    if trajectory.toy.name != "3d" or trajectory.name not in FIGURE:
        raise ValueError(
            f"the 3-D figure has no trajectory of {trajectory.name!r} on the {trajectory.toy.name} toy; it has"
            f" {[*FIGURE]}"
        )
    first = torch.tensor(FIGURE[trajectory.name].first, dtype=trajectory.points.dtype)
    return float((on_chart(trajectory.points[: len(first)]) - first).norm(dim=1).max())
