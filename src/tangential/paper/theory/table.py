"""Checks as lines of text: a heading per statement, a row per loss and optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tangential.paper.theory.check import Check

WIDTHS = (40, 13, 13, 11)
HEADINGS = ("loss and optimizer", "predicted", "measured", "rel. error", "verdict")


def lines(check: Check, *, after: Check | None = None) -> Iterator[str]:
    """Lines of one check, to be shown as soon as it is done.

    Args:
        check: The check.
        after: The check written before it; what the two share is not repeated.

    Yields:
        Lines of up to 100 characters.

    Examples:
        >>> check = Check(law="1 + 1", formula="2", subject="two ones", predicted=2.0, measured=2.0, error=0.0)
        >>> [line.split() for line in lines(check, after=check)]
        [['two', 'ones', '2.000000', '2.000000', '0.0e+00', 'holds']]
    """
    if after is None:
        yield _row(*HEADINGS)
    if after is None or check.law != after.law:
        yield ""
        yield f"{check.law}   {check.formula}"
    if check.note and (after is None or (check.law, check.note) != (after.law, after.note)):
        yield f"  ({check.note})"
    yield _row(check.subject, _number(check.predicted), _number(check.measured), f"{check.error:.1e}", check.verdict)


def summary(found: Sequence[Check]) -> str:
    """Line with how many checks hold, and which do not.

    Args:
        found: The checks.

    Returns:
        One line.

    Examples:
        >>> check = Check(law="1 + 1", formula="3", subject="two ones", predicted=3.0, measured=2.0, error=0.5)
        >>> summary([check])
        '0 of 1 checks hold; failed: 1 + 1 (two ones)'
    """
    failed = [f"{check.law} ({check.subject})" for check in found if not check.holds]
    text = f"{len(found) - len(failed)} of {len(found)} checks hold"
    return f"{text}; failed: {', '.join(failed)}" if failed else text


def _row(subject: str, *cells: str) -> str:
    *numbers, verdict = cells
    padded = "".join(f"{cell:>{width}}" for cell, width in zip(numbers, WIDTHS[1:], strict=True))
    return f"  {subject:<{WIDTHS[0]}}{padded}  {verdict}"


def _number(x: float) -> str:
    """Seven digits; tiny numbers with an exponent."""
    return f"{x:.6f}" if x == 0 or abs(x) >= 1e-3 else f"{x:.1e}"
