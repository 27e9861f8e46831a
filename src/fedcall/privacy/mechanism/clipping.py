"""Bound what one unit can contribute to a sum, on real numbers and then exactly on integers."""

from typing import Literal

import numpy as np

from fedcall.privacy.terms import Mechanism

GRID = 2**24  # grid points per clip norm (invariant 4)
CHUNK_VALUES = 2**15  # clipped at once: what stays in a processor's cache
EXACT_CHUNKS = 2**12  # added as float64: of at most 2^15 units of at most 2^24 grid points each
Norm = Literal["l1", "l2"]


def norm_of(mechanism: Mechanism) -> Norm:
    """Return the norm in which a mechanism bounds a unit: L2 for gaussian, L1 for laplace."""
    return "l2" if mechanism == "gaussian" else "l1"


def clip_units(gradients: np.ndarray, clip_norm: float, norm: Norm = "l2") -> np.ndarray:
    """Scale each unit's gradient to a norm of at most `clip_norm`.

    Parameters
    ----------
    gradients : float32 or float64, shape (units, parameters)
        One row per privacy unit; a row with a non-finite value counts as zero.
    clip_norm : float
        Largest norm kept, in units of the gradient. Must be positive and finite.
    norm : "l2" or "l1"
        The norm that the mechanism's noise is calibrated to.

    Returns
    -------
    float64, shape (units, parameters)
        A new array; rows already short enough are unchanged.

    Raises
    ------
    ValueError
        If `clip_norm` is not positive, or `gradients` is not two-dimensional.

    Notes
    -----
    Abadi et al. 2016, algorithm 1, line "clip gradient".

    Examples
    --------
    >>> clip_units(np.array([[3.0, 4.0], [0.3, 0.4], [np.nan, 1.0]]), clip_norm=1.0)
    array([[0.6, 0.8],
           [0.3, 0.4],
           [0. , 0. ]])
    """
    _check(gradients, clip_norm)
    clipped = np.array(gradients, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = row_norms(clipped, norm)
    for row in np.flatnonzero(~np.isfinite(norms)):
        if not np.isfinite(clipped[row]).all():
            clipped[row] = 0.0
        else:  # finite, but its norm overflows: only the direction matters
            clipped[row] /= np.abs(clipped[row]).max()
        norms[row] = row_norms(clipped[row : row + 1], norm)[0]
        if norms[row] > 0:
            clipped[row] *= clip_norm / norms[row]
            norms[row] = clip_norm
    long = np.flatnonzero(norms > clip_norm)
    clipped[long] *= (clip_norm / norms[long])[:, None]
    return clipped


def to_grid(clipped: np.ndarray, clip_norm: float, norm: Norm = "l2", grid: int = GRID) -> np.ndarray:
    """Truncate clipped rows toward zero onto a grid of `clip_norm` / `grid`.

    Parameters
    ----------
    clipped : float64, shape (units, parameters)
        Rows of norm at most `clip_norm`, up to floating-point rounding.
    clip_norm : float
        The clip norm, in units of the gradient.
    norm : "l2" or "l1"
        The norm that was clipped.
    grid : int
        Grid points per clip norm, at most 2^24.

    Returns
    -------
    int64, shape (units, parameters)
        In grid points. The norm of every row, computed exactly, is at most `grid`.

    Raises
    ------
    ValueError
        If a row is longer than `clip_norm` by more than rounding explains.

    Notes
    -----
    Rounding may leave a clipped row longer than the clip norm by a few parts in 10^16; such rows, found by exact
    integer arithmetic, are shrunk until they fit, so the sensitivity of the sum is `grid` and not "about" that.

    Examples
    --------
    >>> to_grid(np.array([[0.6, -0.8]]), clip_norm=1.0)
    array([[ 10066329, -13421772]])
    """
    _check(clipped, clip_norm)
    scaled = clipped.astype(np.float64) * (grid / clip_norm)
    if not (row_norms(scaled, norm) <= grid * (1 + 1e-6)).all():
        raise ValueError("to_grid: a row is longer than the clip norm; clip first")
    points = np.trunc(scaled)
    for row in np.flatnonzero(~_fits(points, norm, grid)):
        shrink = 1.0
        while not _fits(points[row : row + 1], norm, grid)[0]:
            shrink -= 1e-12
            points[row] = np.trunc(scaled[row] * (shrink * grid / max(grid, row_norms(scaled[row : row + 1], norm)[0])))
    return points.astype(np.int64)


def grid_sum(gradients: np.ndarray, clip_norm: float, norm: Norm = "l2", grid: int = GRID) -> np.ndarray:
    """Clip units, put them on the grid and add them: int64, shape (parameters,), in points of `clip_norm` / `grid`.

    The sum is exact, so sums of chunks of units may be added in any order with the same result. Adding or removing
    one unit moves it by at most `grid` (invariant 1).
    """
    _check(gradients, clip_norm)
    total = np.zeros(gradients.shape[1], np.int64)
    units = max(1, CHUNK_VALUES // max(1, gradients.shape[1]))
    for start in range(0, len(gradients), units * EXACT_CHUNKS):
        # Whole numbers, at most 2^24 each and 2^53 together, which float64 adds exactly and faster than int64.
        part = np.zeros(gradients.shape[1])
        for chunk in range(start, min(len(gradients), start + units * EXACT_CHUNKS), units):
            points = _points(gradients[chunk : chunk + units], clip_norm, norm, grid)
            part += points.sum(axis=0) if len(points) > 1 else points[0]
        total += part.astype(np.int64)
    return total


def _points(gradients: np.ndarray, clip_norm: float, norm: Norm, grid: int) -> np.ndarray:
    """Return `to_grid(clip_units(gradients))` as float64, in one pass for units of an ordinary norm.

    The fit of each row is checked exactly; a row that is not finite, or does not fit, goes the careful way.
    """
    points = gradients.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = row_norms(points, norm)
        points *= (grid / np.maximum(norms, clip_norm))[:, None]
    np.trunc(points, out=points)
    careful = np.flatnonzero(~(np.isfinite(norms) & _fits(points, norm, grid)))
    if len(careful):
        points[careful] = to_grid(clip_units(gradients[careful], clip_norm, norm), clip_norm, norm, grid)
    return points


def from_grid(total: np.ndarray, clip_norm: float, grid: int = GRID) -> np.ndarray:
    """Return a sum in grid points as float64 in units of the gradient."""
    return total.astype(np.float64) * (clip_norm / grid)


def row_norms(rows: np.ndarray, norm: Norm) -> np.ndarray:
    """Return the L1 or L2 norm of each row of a matrix, in floating point."""
    norms: np.ndarray = np.abs(rows).sum(axis=1) if norm == "l1" else np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return norms


def _fits(points: np.ndarray, norm: Norm, grid: int) -> np.ndarray:
    """Say of each row of whole numbers (float64), exactly, whether its norm is at most `grid`, itself at most 2^24.

    Exactly: all terms and partial sums are whole and, as norms are at most 2^24 (1 + 10^-6), below 2^49, where float64
    holds every whole number.
    """
    if norm == "l1":
        short: np.ndarray = np.abs(points).sum(axis=1) <= grid
    else:
        short = np.einsum("ij,ij->i", points, points) <= float(grid) ** 2
    return short


def _check(gradients: np.ndarray, clip_norm: float) -> None:
    if not (0 < clip_norm < np.inf):
        raise ValueError(f"clip_norm must be positive and finite. Found {clip_norm}.")
    if gradients.ndim != 2:
        raise ValueError(f"gradients must have shape (units, parameters). Found {gradients.shape}.")
