"""Hyperparameter search: each optimizer of a recipe with the same number of trials, through Optuna.

A trial trains ordinary runs in run folders, by the training loop; nothing of training may be done here. Optuna and its
database are imported by `study` and `storage` alone.
"""
