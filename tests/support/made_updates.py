"""Updates of a round as vectors: signals that agree in part, noise of known size, and liars of every kind."""

import numpy as np

Z, RATIO = 6.0, 3.0


def make_round(generator, stds, d, strength, agreement=0.5, lie=None):
    """Updates of a round: float64, shape (sites, d); the last site lies.

    `strength` is the length of a signal over that of the first site's noise; `agreement` the cosine of two signals.
    Lengths of signals differ by 30 %, as those of hospitals with other patients would.
    """
    common = _unit(generator, d)
    updates = []
    for index, std in enumerate(stds):
        own = _unit(generator, d)
        length = strength * stds[0] * np.sqrt(d) * np.exp(0.3 * generator.normal())
        shared, rest = length * np.sqrt(agreement) * common, length * np.sqrt(1 - agreement) * own
        is_liar = lie is not None and index == len(stds) - 1
        if is_liar and lie == "sign flipped":
            shared, rest = -shared, -rest
        if is_liar and lie == "labels flipped":  # what labels teach is turned round, what is the site's own is not
            shared = -shared
        update = shared + rest + std * generator.normal(size=d)
        if is_liar and lie == "half the noise":
            update = shared + rest + 0.5 * (update - shared - rest)
        if is_liar and lie == "scaled":
            update = 10 * update
        if is_liar and lie == "spiked":
            update[7] += 60 * std
        updates.append(update)
    return np.array(updates)


def _unit(generator, d):
    vector = generator.normal(size=d)
    return vector / np.linalg.norm(vector)
