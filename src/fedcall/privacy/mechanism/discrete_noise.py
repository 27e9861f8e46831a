"""Whole-numbered noise with exactly the distribution it claims, from a stream of random words (docs/noise.md).

Two distributions over the integers, for any scale:

- discrete Gaussian: P(y) ∝ exp(-y² / 2σ²) (Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential
  privacy", definition 1);
- rounded Laplace: the integer nearest to a real Laplace variable of scale b.

Values are drawn by rejection. Non-negative integers are cut into blocks of 2^k; a block is chosen with a chance in
proportion to its largest weight, a place in it evenly, and the value is kept with the chance weight / largest weight
(96 % of the trials for a large scale). A sign is added; "minus zero" is thrown away. Every comparison of a random
number with a chance is made in float64 where the two are further apart than any rounding error, and in exact arithmetic
otherwise (`exact_chances`), with as many random bits as it takes. Values are thus exact in distribution, at every
distance from zero, and do not depend on the processor.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

import numpy as np

from fedcall.privacy.mechanism.exact_chances import WORD, Bounds, exp_bounds, is_below
from fedcall.privacy.mechanism.noise_kernels import WORDS, fill_values
from fedcall.privacy.terms import Mechanism

LARGEST_SCALE = 2.0**46
"""Of either distribution, in grid points: places in a block stay whole numbers in float64."""

_MARGIN = 2.0**-45
"""Between a random number and a chance, where float64 decides. Their errors stay below 2^-49: see docs/noise.md."""

_BLOCKS_PER_SCALE = 8
_TAIL = 2.0**-47  # the kernel's table ends where less than this is left


class Words(Protocol):
    """A stream of uniform random words, such as `noise.Stream`."""

    def integers(self, count: int) -> np.ndarray:
        """Return uniform uint64 values, shape (count,)."""


def discrete_gaussian(stream: Words, sigma: float, count: int) -> np.ndarray:
    """Draw from the discrete Gaussian.

    Parameters
    ----------
    stream : Words
        Where the randomness comes from. Same stream, same values, on every processor.
    sigma : float
        The parameter σ, in (0, 2^46]: the standard deviation, but for a relative difference below 10^-6 from σ = 1 on.
    count : int
        How many values.

    Returns
    -------
    int64, shape (count,)

    Examples
    --------
    >>> from fedcall.privacy.mechanism.noise import Stream
    >>> discrete_gaussian(Stream(bytes(32)), 3.0, 5).dtype
    dtype('int64')
    """
    return _draw(stream, Target("gaussian", sigma), count)


def rounded_laplace(stream: Words, scale: float, count: int) -> np.ndarray:
    """Draw integers nearest to Laplace variables of scale b: int64, shape (count,); parameters as above."""
    return _draw(stream, Target("laplace", scale), count)


@dataclass(frozen=True)
class Target:
    """A distribution over the integers, by the weights of y ≥ 0; its negative half mirrors it.

    The weight of y is exp(-y² / 2σ²) (gaussian) or exp(-y / b) (laplace). P(rint(Laplace(b)) = y) is in proportion to
    exp(-|y| / b) but for y = 0, where it is 2 / (1 + exp(1 / 2b)) of that: `zero_bounds`.
    """

    mechanism: Mechanism
    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale <= LARGEST_SCALE:
            raise ValueError(f"noise scale must be in (0, {LARGEST_SCALE:g}] grid points. Found {self.scale}.")

    @property
    def shift(self) -> int:
        """k, where a block has 2^k values: the largest that cuts the scale into eight blocks or more."""
        return max(0, math.frexp(self.scale / _BLOCKS_PER_SCALE)[1] - 1)

    def exponent(self, value: int) -> Fraction:
        """Return -log weight of a value, exactly."""
        scale = Fraction(self.scale)
        return value / scale if self.mechanism == "laplace" else value * value / (2 * scale * scale)

    def zero_bounds(self, bits: int) -> Bounds:
        """Return bounds of 2 / (1 + exp(1 / 2b)) = 2 e / (1 + e) with e = exp(-1 / 2b), which grows with e."""
        low, high = exp_bounds(1 / (2 * Fraction(self.scale)), bits + 2)
        one = 1 << (bits + 2)
        return (2 * low << bits) // (one + low), -(-(2 * high << bits) // (one + high))


def exact_trial(target: Target, more: Callable[[], int]) -> int | None:
    """Make one trial in exact arithmetic; the kernel does the same, word for word.

    Parameters
    ----------
    more : callable
        Returns the next random word.

    Returns
    -------
    int or None
        The value; None if the trial was rejected.
    """
    first, second, third = more(), more(), more()
    block = _choose_block(target, first, more)
    place, negative = second & ((1 << target.shift) - 1), second >> (WORD - 1)
    start = block << target.shift
    value = start + place
    if negative and value == 0:
        return None
    if place > 0:
        less = target.exponent(value) - target.exponent(start)
        if not is_below(third, more, lambda bits: exp_bounds(less, bits)):
            return None
    elif value == 0 and target.mechanism == "laplace" and not is_below(third, more, target.zero_bounds):
        return None
    return -value if negative else value


def _draw(stream: Words, target: Target, count: int, margin: float = _MARGIN) -> np.ndarray:
    table = _table(target)
    values, filled, at = np.empty(count, np.int64), 0, 0
    words = np.empty(0, np.uint64)
    while True:
        at, filled, close = fill_values(words, at, values, filled, *table, margin)
        if filled == count:
            return values
        if not close:
            words, at = np.concatenate([words[at:], stream.integers(_needed(count - filled))]), 0
            continue
        rest = _WordReader(words[at:], stream)
        value = exact_trial(target, rest.next)
        if value is not None:
            values[filled] = value
            filled += 1
        words, at = rest.left(), 0


def _needed(values: int) -> int:
    return WORDS * (values + values // 16 + 8)


class _WordReader:
    """Words one at a time, from those at hand and then from their stream."""

    def __init__(self, words: np.ndarray, stream: Words) -> None:
        self._words, self._stream = deque([words]), stream
        self._at = 0

    def next(self) -> int:
        while self._at == len(self._words[0]):
            self._words.popleft()
            self._at = 0
            if not self._words:
                self._words.append(self._stream.integers(_needed(0)))
        word = int(self._words[0][self._at])
        self._at += 1
        return word

    def left(self) -> np.ndarray:
        return self._words[0][self._at :]


@lru_cache(maxsize=64)
def _table(target: Target) -> tuple[np.ndarray, np.ndarray, int, float, float, float]:
    """Return what the kernel needs to know of a target, rounded to float64."""
    bits = 2 * WORD
    cumulative = []
    for low, high in _cumulative_bounds(target, bits):
        cumulative.append((low + high) / 2 ** (bits + 1))
        if 1 - cumulative[-1] < _TAIL:
            break
    chances = np.array(cumulative)
    guide = np.searchsorted(chances, np.arange(256) / 256, side="right")
    exact = Fraction(target.scale)
    linear, quadratic = (float(1 / exact), 0.0) if target.mechanism == "laplace" else (0.0, float(1 / (2 * exact**2)))
    low, high = target.zero_bounds(bits)
    zero_chance = (low + high) / 2 ** (bits + 1) if target.mechanism == "laplace" else 1.0
    return chances, guide, target.shift, linear, quadratic, zero_chance


def _choose_block(target: Target, word: int, more: Callable[[], int]) -> int:
    """Choose a block: the one whose part of [0, 1) a uniform that begins with `word` falls in."""
    drawn, bits = word, WORD
    while True:
        before = 0  # upper bound on the chance of all blocks before
        for block, (low, high) in enumerate(_cumulative_bounds(target, bits + WORD)):
            if drawn << WORD < before:
                break
            if (drawn + 1) << WORD <= low:
                return block
            before = high
        drawn, bits = drawn << WORD | more(), bits + WORD


@lru_cache(maxsize=16)
def _cumulative_bounds(target: Target, bits: int) -> tuple[Bounds, ...]:
    """Return bounds of the chance of blocks 0 … v for every v that `bits` bits can tell from 1.

    Weights fall from block to block, in the end by a factor of at most exp(-1/16) each (a block is at least a sixteenth
    of the scale, or 1 if that is more), so all that follow the last one counted weigh at most 17 times as much as it.
    """
    work = bits + WORD
    sums: list[Bounds] = []
    low = high = 0
    while True:
        weight = exp_bounds(target.exponent(len(sums) << target.shift), work)
        low, high = low + weight[0], high + weight[1]
        sums.append((low, high))
        if weight[1] < 1 << _BLOCKS_PER_SCALE:
            break
    total = low, high + 17 * weight[1]
    return tuple(((one[0] << bits) // total[1], -(-(one[1] << bits) // total[0])) for one in sums)
