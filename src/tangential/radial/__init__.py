"""Radial policies: what becomes of the part of a step along the weight, over any torch optimizer.

Here belong policies (formulas on sums per block), the wrapper that applies them, and ready compositions. Moments are
the base optimizer's, which weights are scale-invariant is found in `tangential.invariances`.
"""

from tangential.radial.adamw import OrthoAdamW, RVAdamW
from tangential.radial.decay import CautiousDecay, CorrectedDecay
from tangential.radial.hyperball import AdamH, MuonH
from tangential.radial.norms import Brake, Fix, RecordBrake
from tangential.radial.projected import LionP, MuonP, NAdamP, RAdamP
from tangential.radial.projections import OrthogonalGradient, Project, SphericalCaution
from tangential.radial.rotation import Rotate
from tangential.radial.wrapper import Radial

__all__ = [
    "AdamH",
    "Brake",
    "CautiousDecay",
    "CorrectedDecay",
    "Fix",
    "LionP",
    "MuonH",
    "MuonP",
    "NAdamP",
    "OrthoAdamW",
    "OrthogonalGradient",
    "Project",
    "RAdamP",
    "RVAdamW",
    "Radial",
    "RecordBrake",
    "Rotate",
    "SphericalCaution",
]
