"""Which weights of a model are scale-invariant, known from the model instead of guessed at every step."""

from tangential.invariances.find import find_invariances
from tangential.invariances.result import Invariances

__all__ = ["Invariances", "find_invariances"]
