"""Tasks: data, model, losses and metrics of a kind of learning, as frozen dataclasses that implement `Task`.

The metrics that a task computes lie beside it. A task may not import an optimizer, a recipe or the training loop: it is
trained by whatever a recipe puts beside it.
"""
