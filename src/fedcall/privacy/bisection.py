"""Find where a condition begins or ends to hold, and return a value at which it was seen to hold.

Which side is returned decides whether a rounded number is still safe: a noise multiplier is rounded up, a sampling rate
down. So there is one function for each side, and neither returns a value at which the condition was not tried.
"""

import math
from collections.abc import Callable

Condition = Callable[[float], bool]


def least(holds: Condition, low: float, high: float, precision: float, relative: bool = False) -> float:
    """Return a value at which `holds`, at most `precision` above one at which it does not; from there up it holds.

    Parameters
    ----------
    holds : callable
        False below some value, True from there on.
    low, high : float
        Where to look; `low` itself is returned never, and is not tried.
    precision : float
        Width at which the search ends: a difference, or (`relative`) a ratio less 1.

    Raises
    ------
    ValueError
        If the condition does not hold at `high`.

    Examples
    --------
    >>> found = least(lambda x: x * x >= 2, 0.0, 2.0, 1e-6)
    >>> found * found >= 2, found < 1.41422
    (True, True)
    """
    if not holds(high):
        raise ValueError(f"the condition does not hold at {high:g}.")
    return _narrow(holds, low, high, precision, relative)[1]


def greatest(holds: Condition, low: float, high: float, precision: float, relative: bool = False) -> float:
    """Return a value at which `holds`, at most `precision` below one at which it does not; up to there it holds.

    As `least`, mirrored: the condition is True up to some value and False above; `high` is neither returned nor tried.

    Raises
    ------
    ValueError
        If the condition does not hold at `low`.

    Examples
    --------
    >>> found = greatest(lambda x: x * x <= 2, 0.0, 2.0, 1e-6)
    >>> found * found <= 2, found > 1.41421
    (True, True)
    """
    if not holds(low):
        raise ValueError(f"the condition does not hold at {low:g}.")
    return _narrow(lambda value: not holds(value), low, high, precision, relative)[0]


def most(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest whole number in 0 … `limit` that fits, where smaller ones fit if a larger one does.

    0 fits always, and is not tried. The search begins at 1 and doubles: large numbers may be costly to try.

    Examples
    --------
    >>> most(lambda rounds: rounds * 0.9 <= 4, limit=100)
    4
    """
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _narrow(is_high: Condition, low: float, high: float, precision: float, relative: bool) -> tuple[float, float]:
    while high > low * (1 + precision) if relative else high - low > precision:
        middle = math.sqrt(low * high) if relative else (low + high) / 2
        if not low < middle < high:
            break  # neighbours among floating-point numbers
        low, high = (low, middle) if is_high(middle) else (middle, high)
    return low, high
