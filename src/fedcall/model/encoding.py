"""Turn stored examples into the model's input: counts become shares of the depth, likelihoods become posteriors."""

import numpy as np

from fedcall.genomics.examples import COUNT_CHANNELS, WINDOW, Examples
from fedcall.genomics.priors import log_priors
from fedcall.model.chemistry import FLOOR
from fedcall.model.encoding_kernels import write_windows

INPUT_CHANNELS: int = len(COUNT_CHANNELS) + 6
"""Counts as shares of the depth (18), reference one-hot (4), relative depth, share of reads unlike the reference."""

_SHARE_LIMIT = 2.0
_ALL = slice(None)


def encode(examples: Examples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encode some rows for the model.

    Parameters
    ----------
    examples : Examples
    rows : integers or booleans, shape (b,) or (n,)
        Rows to take, in this order.

    Returns
    -------
    windows : float32, shape (b, INPUT_CHANNELS, 33)
        Counts divided by the window's mean depth, at most 2; the channel of the reference base is negative, so that
        what disagrees with the reference stands out (Clair3's convention).
    features : float32, shape (b, len(FEATURES))
    log_posteriors : float32, shape (b, 3)
        Log likelihood + log prior, normalised; as examples hold it, before chemistry and `FLOOR`.
    """
    counts, reference = np.asarray(examples.counts[rows]), np.asarray(examples.reference[rows])
    features = np.ascontiguousarray(examples.features[rows])
    windows = np.empty((len(counts), INPUT_CHANNELS, WINDOW), np.float32)
    write_windows(counts, reference, _SHARE_LIMIT, windows)
    return windows, features, unfloored_log_posteriors(examples, rows)


def unfloored_log_posteriors(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Return the last of what `encode` returns, without the rest."""
    return _log_posteriors(examples, rows).astype(np.float32)


def log_posteriors(examples: Examples, rows: np.ndarray | slice = _ALL) -> np.ndarray:
    """Add the log prior of each candidate's kind to its log likelihoods, and normalise.

    Returns
    -------
    float32, shape (b, 3)
        Natural logarithms of P(0/0, 0/1, 1/1 | reads), not below `FLOOR`.
    """
    floored: np.ndarray = np.maximum(_log_posteriors(examples, rows), FLOOR).astype(np.float32)
    return floored


def _log_posteriors(examples: Examples, rows: np.ndarray | slice) -> np.ndarray:
    prior = log_priors(examples.features[rows], examples.reference[rows])
    joint = examples.log_likelihoods[rows].astype(np.float64) + prior
    joint -= joint.max(1, keepdims=True, initial=-np.inf)
    posteriors: np.ndarray = joint - np.log(np.exp(joint).sum(1, keepdims=True))
    return posteriors
