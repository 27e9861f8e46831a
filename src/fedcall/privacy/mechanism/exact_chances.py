"""Chances as intervals of integers, as narrow as asked for, and uniforms that get as many bits as a decision takes.

A chance p is given by two integers, low ≤ p 2^bits ≤ high. A uniform is a growing number n of random words: it is
known to lie in [drawn, drawn + 1) 2^-64n, and words are added until that interval lies on one side of every bound. No
decision is ever made within a rounding error, so that decisions have exactly the chances they should have.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

Bounds = tuple[int, int]
WORD = 64  # bits
_GUARD = 32  # bits that intermediate results have beyond the wanted ones


def is_below(word: int, more: Callable[[], int], bounds_of: Callable[[int], Bounds]) -> bool:
    """Decide whether a uniform that begins with `word` is below a chance.

    Parameters
    ----------
    word : int
        The first 64 bits of the uniform.
    more : callable
        Returns the next random word.
    bounds_of : callable
        Returns low and high of the chance for a number of bits.
    """
    drawn, bits = word, WORD
    while True:
        low, high = bounds_of(bits + WORD)
        if (drawn + 1) << WORD <= low:
            return True
        if drawn << WORD >= high:
            return False
        drawn, bits = drawn << WORD | more(), bits + WORD


def exp_bounds(x: Fraction, bits: int) -> Bounds:
    """Return bounds of exp(-x) for x ≥ 0, a few units apart."""
    work = bits + _GUARD
    whole, rest = divmod(x, 1)
    low, high = _series(rest, work)
    power_low, power_high = _inverse_e(int(whole), work)
    low, high = low * power_low >> work, -(-high * power_high >> work)
    return low >> _GUARD, -(-high >> _GUARD)


def _series(x: Fraction, work: int) -> Bounds:
    """Return bounds of exp(-x) for 0 ≤ x < 1: the alternating series, until its terms vanish.

    Terms fall, so what is left out is less than one term. Each division loses less than 1, and what it inherits less
    than 1 (x/n ≤ 1, and terms beyond the second at most half of the error before), so each term is wrong by at most 2.
    """
    term, total, count = 1 << work, 0, 0
    while term:
        total += -term if count % 2 else term
        count += 1
        term = term * x.numerator // (x.denominator * count)
    return max(0, total - 2 * count - 4), total + 2 * count + 4


@lru_cache(maxsize=4096)
def _inverse_e(power: int, work: int) -> Bounds:
    """Return bounds of e^-power, by squaring bounds."""
    if power == 0:
        return 1 << work, 1 << work
    if power == 1:
        low, high = _series(Fraction(1, 2), work)
        return low * low >> work, -(-high * high >> work)
    half, other = _inverse_e(power // 2, work), _inverse_e(power - power // 2, work)
    return half[0] * other[0] >> work, -(-half[1] * other[1] >> work)
