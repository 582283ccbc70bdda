"""Telemetry of weights: norms, effective steps, angles and radial parts of any optimizer's steps.

`watch` measures through step hooks and makes records, sinks write them, callbacks serve Lightning and Transformers.
Everything that measures weights in training belongs here and nowhere else. What reads records again (curves, the
report, comparisons of runs) belongs to the experiments: telemetry imports none of them, and changes nothing that it
measures.
"""

from tangential.telemetry.records import Record
from tangential.telemetry.sinks import JsonLines, MLflow, TensorBoard, WandB, read_records
from tangential.telemetry.watch import Telemetry, watch
from tangential.telemetry.weight_norms import directions, effective_step, matrices, mean_norm

__all__ = [
    "JsonLines",
    "MLflow",
    "Record",
    "Telemetry",
    "TensorBoard",
    "WandB",
    "directions",
    "effective_step",
    "matrices",
    "mean_norm",
    "read_records",
    "watch",
]
