"""Loops over rows of the caller's trunk: what lies between its matrix products, channels last, float32.

A row is computed from itself alone and in a fixed order, so its values depend on no other row and on no batch. What is
not a number stays so: a rectifier that made zeros of them would hide a bad row from clipping.
"""

import numpy as np

from fedcall.compiled import kernel

_ZERO = np.float32(0)


@kernel
def unfold_windows(windows: np.ndarray, unfolded: np.ndarray) -> None:
    """Write windows, shape (b, channels, positions), as a convolution's input: shape (b, positions, 3, channels)."""
    rows, channels, positions = windows.shape
    for row in range(rows):
        for position in range(positions):
            for tap in range(3):
                source = position + tap - 1
                inside = 0 <= source < positions
                for channel in range(channels):
                    unfolded[row, position, tap, channel] = windows[row, channel, source] if inside else _ZERO


@kernel
def unfold(x: np.ndarray, unfolded: np.ndarray) -> None:
    """Write x, shape (b, positions, channels), as a convolution's input: shape (b, positions, 3, channels)."""
    rows, positions, channels = x.shape
    for row in range(rows):
        unfolded[row, 0, 0, :] = _ZERO
        unfolded[row, positions - 1, 2, :] = _ZERO
        for position in range(positions):
            for channel in range(channels):
                unfolded[row, position, 1, channel] = x[row, position, channel]
        for position in range(1, positions):
            for channel in range(channels):
                unfolded[row, position, 0, channel] = x[row, position - 1, channel]
            for channel in range(channels):
                unfolded[row, position - 1, 2, channel] = x[row, position, channel]


@kernel
def norm_relu(
    z: np.ndarray,
    biases: np.ndarray,
    weights: np.ndarray,
    shifts: np.ndarray,
    groups: int,
    epsilon: float,
    scale: np.ndarray,
    x: np.ndarray,
) -> None:
    """Add relu(GroupNorm(z + bias)) to x; z becomes the normalised values and `scale` their 1 / deviation.

    z and x have shape (b, positions, channels), `scale` (b, channels), the parameters (units, channels).
    """
    rows, positions, channels = z.shape
    width, rows_per_unit = channels // groups, rows // len(biases)
    count = np.float32(positions * width)
    sums, squares = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for row in range(rows):
        unit = row // rows_per_unit
        bias, weight, shift = biases[unit], weights[unit], shifts[unit]
        sums[:] = _ZERO
        squares[:] = _ZERO
        for position in range(positions):
            for channel in range(channels):
                value = z[row, position, channel] + bias[channel]
                z[row, position, channel] = value
                sums[channel] += value
        _share(sums, width, count)
        for position in range(positions):
            for channel in range(channels):
                value = z[row, position, channel] - sums[channel]
                z[row, position, channel] = value
                squares[channel] += value * value
        _share(squares, width, count)
        for channel in range(channels):
            scale[row, channel] = np.float32(1) / np.sqrt(squares[channel] + np.float32(epsilon))
        for position in range(positions):
            for channel in range(channels):
                value = z[row, position, channel] * scale[row, channel]
                z[row, position, channel] = value
                value = value * weight[channel] + shift[channel]
                x[row, position, channel] += _ZERO if value <= _ZERO else value


@kernel
def norm_relu_backward(
    gradient: np.ndarray,
    normalised: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    shifts: np.ndarray,
    groups: int,
    result: np.ndarray,
    gradients: np.ndarray,
) -> None:
    """Set `result` to the gradient of z, and `gradients` to those of each unit, from the gradient of y.

    `weights` and `shifts` have shape (units, channels), `gradients` (units, 3, channels): of the norm's weight and bias
    and of the convolution's bias.
    """
    rows, positions, channels = normalised.shape
    width, rows_per_unit = channels // groups, rows // len(gradients)
    count = np.float32(positions * width)
    sums, products = np.empty(channels, np.float32), np.empty(channels, np.float32)
    means, slopes = np.empty(channels, np.float32), np.empty(channels, np.float32)
    gradients[:] = _ZERO
    for row in range(rows):
        unit = row // rows_per_unit
        weight, shift = weights[unit], shifts[unit]
        sums[:] = _ZERO
        products[:] = _ZERO
        for position in range(positions):
            for channel in range(channels):
                seen = normalised[row, position, channel]
                output = seen * weight[channel] + shift[channel]
                value = _ZERO if output <= _ZERO else gradient[row, position, channel]
                result[row, position, channel] = value
                sums[channel] += value
                products[channel] += value * seen
        for channel in range(channels):
            gradients[unit, 0, channel] += products[channel]
            gradients[unit, 1, channel] += sums[channel]
            means[channel] = sums[channel] * weight[channel]
            slopes[channel] = products[channel] * weight[channel]
        _share(means, width, count)
        _share(slopes, width, count)
        sums[:] = _ZERO
        for position in range(positions):
            for channel in range(channels):
                value = result[row, position, channel] * weight[channel] - means[channel]
                value = (value - normalised[row, position, channel] * slopes[channel]) * scale[row, channel]
                result[row, position, channel] = value
                sums[channel] += value
        for channel in range(channels):
            gradients[unit, 2, channel] += sums[channel]


@kernel
def fold(unfolded: np.ndarray, gradient: np.ndarray) -> None:
    """Add the gradient of a convolution's input, shape (b, positions, 3, channels), to that of x."""
    rows, positions, channels = gradient.shape
    for row in range(rows):
        for position in range(positions):
            for channel in range(channels):
                gradient[row, position, channel] += unfolded[row, position, 1, channel]
        for position in range(1, positions):
            for channel in range(channels):
                gradient[row, position - 1, channel] += unfolded[row, position, 0, channel]
                gradient[row, position, channel] += unfolded[row, position - 1, 2, channel]


@kernel
def taps_last(taps: np.ndarray, result: np.ndarray) -> None:
    """Write (units, outputs, 3, inputs) as a weight lies: (units, outputs, inputs, 3)."""
    for unit in range(len(taps)):
        for output in range(taps.shape[1]):
            for channel in range(taps.shape[3]):
                for tap in range(3):
                    result[unit, output, channel, tap] = taps[unit, output, tap, channel]


@kernel
def pool(x: np.ndarray, centre: int, pooled: np.ndarray) -> None:
    """Write centre, mean and largest of x, shape (b, positions, channels), as (b, 3, channels)."""
    rows, positions, channels = x.shape
    for row in range(rows):
        for channel in range(channels):
            pooled[row, 0, channel] = x[row, centre, channel]
            pooled[row, 1, channel] = x[row, 0, channel]
            pooled[row, 2, channel] = x[row, 0, channel]
        for position in range(1, positions):
            for channel in range(channels):
                value = x[row, position, channel]
                pooled[row, 1, channel] += value
                largest = pooled[row, 2, channel]
                pooled[row, 2, channel] = largest if value <= largest else value
        for channel in range(channels):
            pooled[row, 1, channel] /= np.float32(positions)


@kernel
def pool_backward(x: np.ndarray, centre: int, pooled: np.ndarray, backprops: np.ndarray) -> None:
    """Replace x by its gradient, from that of `pooled`; equal largest values share theirs (`model.Largest`)."""
    rows, positions, channels = x.shape
    shares, means = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for row in range(rows):
        shares[:] = _ZERO
        for position in range(positions):
            for channel in range(channels):
                shares[channel] += np.float32(x[row, position, channel] == pooled[row, 2, channel])
        for channel in range(channels):
            equal = shares[channel]  # none where x is not a number
            shares[channel] = backprops[row, 2, channel] / equal if equal else np.float32(np.nan)
            means[channel] = backprops[row, 1, channel] / np.float32(positions)
        for position in range(positions):
            for channel in range(channels):
                largest = x[row, position, channel] == pooled[row, 2, channel]
                x[row, position, channel] = means[channel] + (shares[channel] if largest else _ZERO)
        for channel in range(channels):
            x[row, centre, channel] += backprops[row, 0, channel]


@kernel
def _share(values: np.ndarray, width: int, count: np.float32) -> None:
    """Replace each channel's sum by the mean of its group."""
    for start in range(0, len(values), width):
        total = _ZERO
        for channel in range(start, start + width):
            total += values[channel]
        values[start : start + width] = total / count
