"""How long weights are, and how far each step turns them, for any optimizer."""

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
