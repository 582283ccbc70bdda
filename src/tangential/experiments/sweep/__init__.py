"""Tuning: the search space, the validation split and the study that searches."""
