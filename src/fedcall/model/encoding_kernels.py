"""Loops that turn counts into the model's windows."""

import numpy as np

from fedcall.compiled import kernel

_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
def write_windows(counts: np.ndarray, reference: np.ndarray, limit: float, windows: np.ndarray) -> None:
    """Write counts as shares of the window's mean depth, and what follows from them and the reference.

    Parameters
    ----------
    counts : uint16, shape (b, 2 · strand, positions); per strand A, C, G, T first and deleted last
    reference : uint8, shape (b, positions); 0..3 = ACGT
    limit : largest share
    windows : float32, shape (b, 2 · strand + 6, positions), written; behind the counts the reference one-hot, the
        depth less the mean, and the share of reads unlike the reference
    """
    rows, channels, positions = counts.shape
    strand, largest = channels // 2, np.float32(limit)
    depth = np.empty(positions, np.float32)
    for row in range(rows):
        mean = _ZERO
        for position in range(positions):
            total = np.int64(0)
            for channel in range(4):
                total += np.int64(counts[row, channel, position]) + np.int64(counts[row, strand + channel, position])
            total += np.int64(counts[row, strand - 1, position]) + np.int64(counts[row, channels - 1, position])
            depth[position] = np.float32(total)
            mean += depth[position]
        mean = max(mean / np.float32(positions), _ONE)
        for channel in range(channels):
            for position in range(positions):
                windows[row, channel, position] = min(np.float32(counts[row, channel, position]) / mean, largest)
        for position in range(positions):
            for base in range(4):
                windows[row, channels + base, position] = _ZERO
            windows[row, channels + 4, position] = min(depth[position] / mean, largest) - _ONE
            own, unlike = np.int64(reference[row, position]), _ZERO
            if own < 4:
                # Negative, so that what disagrees with the reference stands out (Clair3's convention).
                windows[row, own, position] = -windows[row, own, position]
                windows[row, strand + own, position] = -windows[row, strand + own, position]
                windows[row, channels + own, position] = _ONE
                like = np.float32(counts[row, own, position]) + np.float32(counts[row, strand + own, position])
                unlike = (depth[position] - like) / max(depth[position], _ONE)
            windows[row, channels + 5, position] = unlike
