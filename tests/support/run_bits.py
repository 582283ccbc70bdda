"""What a training leaves in its folders that no clock measured: equal if and only if it was the same training."""

from tangential.experiments.runs.checkpoint import load_checkpoint
from tangential.experiments.runs.folder import RunFolder


def bits(out):
    """Weights, generators and metrics of every run, without the times."""
    found = {}
    for path in sorted(out.rglob("settings.json")):
        run = RunFolder(path.parent)
        times = {"seconds", "ms_per_step"}
        metrics = [{name: x for name, x in record.items() if name not in times} for record in run.metrics()]
        state = load_checkpoint(run) or {"model": {}}
        weights = {name: weight.numpy().tobytes() for name, weight in state["model"].items()}
        rest = repr([state.get(name) for name in ("epoch", "batch", "objectives", "random", "generator")])
        found[str(path.parent.relative_to(out))] = (metrics, weights, rest)
    return found
