"""Tasks: what is learned, as frozen settings with the four methods of `tangential.experiments.training.fit.Task`."""
