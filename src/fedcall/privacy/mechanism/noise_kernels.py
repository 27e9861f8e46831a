"""The loop of the noise sampler: the decisions that float64 can make without doubt, which is nearly all of them."""

import numpy as np

from fedcall.compiled import kernel

WORDS = 3
"""Random words of a trial: block; place in the block and sign; acceptance."""


@kernel
def fill_values(
    words: np.ndarray,
    at: int,
    values: np.ndarray,
    filled: int,
    cumulative: np.ndarray,
    guide: np.ndarray,
    shift: int,
    linear: float,
    quadratic: float,
    zero_chance: float,
    margin: float,
) -> tuple[int, int, bool]:
    """Write accepted trials into `values` until it is full, the words end, or a decision is too close for float64.

    Parameters
    ----------
    words : uint64, shape (words,)
        Uniform random words; trials take `WORDS` of them each, from index `at`.
    values : int64, shape (count,), written from index `filled`
    cumulative : float64, shape (blocks,)
        Chance of block 0 … v, ascending, each correct to 2^-52.
    guide : int64, shape (256,)
        The first block that a word with these upper eight bits can mean.
    shift : int
        A block has 2^shift values.
    linear, quadratic : float
        A value at place u of block v is accepted with chance exp(-(linear u + quadratic u (u + 2 v 2^shift))).
    zero_chance : float
        Zero is accepted with this chance; 1 for certain.
    margin : float
        Comparisons closer than this are left to exact arithmetic.

    Returns
    -------
    at, filled : int
        Where to go on.
    close : bool
        Whether the trial at `at` has a decision that float64 cannot make.
    """
    mask = (np.uint64(1) << np.uint64(shift)) - np.uint64(1)
    blocks = len(cumulative)
    while filled < len(values) and at + WORDS <= len(words):
        uniform = np.float64(words[at] >> np.uint64(11)) * 2.0**-53
        block = guide[np.int64(words[at] >> np.uint64(56))]
        while block < blocks and uniform >= cumulative[block]:
            block += 1
        if block == blocks or cumulative[block] - uniform < margin:
            return at, filled, True
        if block > 0 and uniform - cumulative[block - 1] < margin:
            return at, filled, True
        place = np.int64(words[at + 1] & mask)
        negative = (words[at + 1] >> np.uint64(63)) != 0
        value = (np.int64(block) << np.int64(shift)) + place
        if negative and value == 0:
            at += WORDS
            continue
        if place > 0 or (value == 0 and zero_chance < 1.0):
            far = np.float64(place)
            chance = np.exp(-(linear * far + quadratic * far * (far + 2.0 * np.float64(value - place))))
            if value == 0:
                chance = zero_chance
            drawn = np.float64(words[at + 2] >> np.uint64(11)) * 2.0**-53
            if abs(drawn - chance) < margin:
                return at, filled, True
            if drawn >= chance:
                at += WORDS
                continue
        values[filled] = -value if negative else value
        filled += 1
        at += WORDS
    return at, filled, False
