"""Pairwise covering: a short list of cases in which every two values of different factors occur together.

Faults of a program with many options mostly need one or two particular values to show (Cohen et al., "The AETG System",
IEEE TSE 1997), so all pairs find nearly what the full product would: 30 or so cases instead of half a million. The
method is greedy, as theirs: a case begins with the first pair that no case has yet, and takes for each further factor,
the largest first, the value that makes the most new pairs with what is already chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import combinations, product

Case = dict[str, str]
"""A value of each factor; a partial case has some factors only."""
Pair = frozenset[tuple[str, str]]


def pairs_of(factors: Mapping[str, Sequence[str]]) -> list[Case]:
    """Every two values of different factors, as partial cases in the order of the factors.

    Examples:
        >>> pairs_of({"a": "xy", "b": "z"})
        [{'a': 'x', 'b': 'z'}, {'a': 'y', 'b': 'z'}]
    """
    return [{a: x, b: y} for a, b in combinations(factors, 2) for x, y in product(factors[a], factors[b])]


def pairs_in(case: Case) -> set[Pair]:
    """The pairs that occur in a case."""
    return {frozenset(two) for two in combinations(case.items(), 2)}


def pairwise(factors: Mapping[str, Sequence[str]], possible: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Cases that hold every possible pair; the same ones every time.

    Args:
        factors: The values of each factor. Of values that make as many new pairs the first is taken, so put what is
            cheap to test first.
        possible: Whether a partial case may be completed. What it refuses it must refuse with more factors too.

    Raises:
        ValueError: A pair that is possible, but that no complete case may have.

    Examples:
        >>> [*map(tuple, (case.values() for case in pairwise({"a": "xy", "b": "xy", "c": "xy"})))]
        [('x', 'x', 'x'), ('x', 'y', 'y'), ('y', 'x', 'y'), ('y', 'y', 'x')]
    """
    missing = {frozenset(pair.items()): pair for pair in pairs_of(factors) if possible(pair)}
    cases = []
    while missing:
        start = next(iter(missing.values()))
        cases.append(completed(start, factors, possible, missing.keys()))
        for pair in pairs_in(cases[-1]):
            missing.pop(pair, None)
    return cases


def completed(
    case: Case,
    factors: Mapping[str, Sequence[str]],
    possible: Callable[[Case], bool] = lambda case: True,
    missing: Set[Pair] = frozenset(),
) -> Case:
    """A complete case that holds a partial one, and as many of the missing pairs as greed finds.

    Raises:
        ValueError: No possible case holds it.

    Examples:
        >>> completed({"b": "y"}, {"a": "xy", "b": "xy"})
        {'a': 'x', 'b': 'y'}
    """
    largest_first = sorted(factors, key=lambda name: -len(factors[name]))
    found = next(_completions(case, factors, largest_first, possible, missing), None)
    if found is None:
        raise ValueError(f"no possible case holds {case}, though that is called possible")
    return {name: found[name] for name in factors}


def _completions(
    case: Case,
    factors: Mapping[str, Sequence[str]],
    order: Sequence[str],
    possible: Callable[[Case], bool],
    missing: Set[Pair],
) -> Iterator[Case]:
    """Complete cases that begin with this one, the greediest first."""
    name = next((name for name in order if name not in case), None)
    if name is None:
        yield case
        return
    longer = [{**case, name: value} for value in factors[name]]
    for option in sorted(longer, key=lambda option: -len(pairs_in(option) & missing)):
        if possible(option):
            yield from _completions(option, factors, order, possible, missing)
