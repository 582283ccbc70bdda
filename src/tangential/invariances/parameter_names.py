"""Parameter names: prefixes that wrappers add, patterns, and many similar names as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_WRAPPERS = ("module", "_forward_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

Numbers = tuple[int, ...]


def unprefixed(name: str) -> str:
    """The name without what DistributedDataParallel, Fabric, FSDP, checkpoint wrappers and torch.compile put into it.

    Examples:
        >>> unprefixed("_orig_mod.module.layer1._fsdp_wrapped_module.0.weight")
        'layer1.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a shell pattern matches, with or without wrappers' prefixes."""
    return [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(unprefixed(name), unprefixed(pattern))]


def collapsed(names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Names that differ in their numbers only as patterns with braces, and which of the names each pattern stands for.

    A pattern stands for exactly the names it expands to.

    Examples:
        >>> collapsed(["a.0.w1", "a.0.w2", "a.1.w1", "a.1.w2", "b"])
        [('a.{0-1}.w{1-2}', [0, 1, 2, 3]), ('b', [4])]
    """
    families: dict[tuple[str, ...], dict[Numbers, int]] = {}
    for index, name in enumerate(names):
        parts = re.split(r"(\d+)", name)
        families.setdefault(tuple(parts[::2]), {})[tuple(map(int, parts[1::2]))] = index
    found = []
    for words, members in families.items():
        for box in _boxes(sorted(members)):
            inside = sorted(members[numbers] for numbers in members if _contains(box, numbers))
            found.append((_pattern(words, box), inside))
    return sorted(found, key=lambda pair: pair[1][0])


def _boxes(points: Sequence[Numbers]) -> list[tuple[frozenset[int], ...]]:
    """Cut a set of number tuples into products of sets: the first numbers whose rests are the same go together."""
    if not points or not points[0]:
        return [()] if points else []
    rests: dict[int, list[Numbers]] = {}
    for first, *rest in points:
        rests.setdefault(first, []).append(tuple(rest))
    alike: dict[frozenset[Numbers], list[int]] = {}
    for first, rest in rests.items():
        alike.setdefault(frozenset(rest), []).append(first)
    return [(frozenset(firsts), *box) for rest, firsts in alike.items() for box in _boxes(sorted(rest))]


def _contains(box: tuple[frozenset[int], ...], numbers: Numbers) -> bool:
    return all(number in allowed for number, allowed in zip(numbers, box, strict=True))


def _pattern(words: Sequence[str], box: tuple[frozenset[int], ...]) -> str:
    braces = [_braces(sorted(numbers)) for numbers in box]
    return "".join(word + brace for word, brace in zip(words, [*braces, ""], strict=True))


def _braces(numbers: Sequence[int]) -> str:
    """`3` for one number, `{0-2,5}` for several."""
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "{" + ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) + "}"
