import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedcall.privacy.mechanism import clipping
from fedcall.privacy.mechanism.clipping import GRID, clip_units, from_grid, grid_sum, norm_of, row_norms, to_grid

ANYTHING = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e38, 1e-45, 0.1])
GARBAGE = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=ANYTHING)
CLIP_NORMS = st.sampled_from([1e-6, 0.3, 1.0, 7.7, 1e5])
NORMS = st.sampled_from(["l2", "l1"])


def exact_norm_is_within_grid(row, norm):
    values = [int(value) for value in row]  # Python integers: no overflow, no rounding
    if norm == "l1":
        return sum(abs(value) for value in values) <= GRID
    return sum(value * value for value in values) <= GRID * GRID


@settings(max_examples=200, deadline=None)
@given(gradients=GARBAGE, clip_norm=CLIP_NORMS, norm=NORMS, data=st.data())
def test_grid_sum__the_unit_is_what_is_clipped(gradients, clip_norm, norm, data):
    """Invariant 1: adding or removing one unit moves the sum by at most the clip norm, whatever its values."""
    removed = data.draw(st.integers(0, len(gradients) - 1))
    everyone = grid_sum(gradients, clip_norm, norm)
    without = grid_sum(np.delete(gradients, removed, axis=0), clip_norm, norm)
    assert exact_norm_is_within_grid(everyone - without, norm)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), parameters=st.sampled_from([1, 2, 3, 100, 20_000]), norm=NORMS)
def test_to_grid__rows_at_the_clip_norm_stay_within_it_exactly(seed, parameters, norm):
    rows = np.random.default_rng(seed).normal(size=(4, parameters)) * 100
    rows[0] = 100.0  # all coordinates equal
    clipped = clip_units(rows, 0.7, norm)
    grid = to_grid(clipped, 0.7, norm)
    assert all(exact_norm_is_within_grid(row, norm) for row in grid)
    # Truncation is toward zero and costs less than one grid point per coordinate (two after the rare shrinking).
    exact = clipped * (GRID / 0.7)
    assert (np.abs(grid) <= np.abs(exact) + 1e-6).all()
    assert np.abs(grid - exact).max() < 2


def test_to_grid__shrinks_a_row_that_rounding_left_too_long():
    row = np.full((1, 4), 0.5 * (1 + 4e-7))  # norm 1 + 4·10⁻⁷, as a sloppy clip in float32 leaves it
    grid = to_grid(row, 1.0)
    assert exact_norm_is_within_grid(grid[0], "l2")
    np.testing.assert_allclose(grid[0], GRID / 2, atol=2)


def test_grid_sum__shrinks_a_row_whose_norm_was_rounded_down(monkeypatch):
    monkeypatch.setattr(clipping, "row_norms", lambda rows, norm: row_norms(rows, norm) * (1 - 5e-7))
    row = np.random.default_rng(1).normal(size=(1, 4))
    assert exact_norm_is_within_grid(grid_sum(row, 0.7), "l2")


@pytest.mark.parametrize(("norm", "row"), [("l2", [1.0, 2.0**-24]), ("l1", [0.5, 0.5 + 2.0**-24])])
def test_to_grid__one_grid_point_too_many_is_too_many(norm, row):
    """The sensitivity is 2^24 exactly: these rows are too long by less than float32 can tell."""
    assert exact_norm_is_within_grid(to_grid(np.array([row]), 1.0, norm)[0], norm)


def test_grid_sum__truncates_toward_zero():
    assert grid_sum(np.array([[1.7, -1.7, 0.6, -0.6]]) / GRID, 1.0).tolist() == [1, -1, 0, 0]


def test_to_grid__refuses_rows_that_were_not_clipped():
    with pytest.raises(ValueError, match="clip first"):
        to_grid(np.array([[2.0, 0.0]]), 1.0)
    with pytest.raises(ValueError, match="clip first"):
        to_grid(np.array([[np.nan, 0.0]]), 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clip_units__a_row_that_is_not_finite_contributes_zero(bad):
    gradients = np.array([[3.0, 4.0], [bad, 1.0], [0.1, 0.2]], dtype=np.float32)
    clipped = clip_units(gradients, 1.0)
    np.testing.assert_allclose(clipped, [[0.6, 0.8], [0, 0], np.float32([0.1, 0.2])], rtol=1e-12)


def test_clip_units__short_rows_are_unchanged_and_the_input_is_not_touched():
    gradients = np.array([[0.3, 0.4], [30.0, 40.0]])
    before = gradients.copy()
    clipped = clip_units(gradients, 0.5)
    np.testing.assert_array_equal(clipped[0], before[0])
    np.testing.assert_array_equal(gradients, before)


@pytest.mark.parametrize("excess", [1 + 1e-9, 1.001, 1.5, 1.99, 1000.0])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_clip_units__rows_a_little_too_long_are_shortened_too(norm, excess):
    row = np.random.default_rng(3).normal(size=(1, 30))
    row *= excess * 0.7 / row_norms(row, norm)
    clipped = clip_units(row, 0.7, norm)
    assert row_norms(clipped, norm)[0] == pytest.approx(0.7, rel=1e-12)
    np.testing.assert_allclose(clipped * excess, row, rtol=1e-12)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_clip_units__huge_finite_gradients_keep_their_direction(norm):
    clipped = clip_units(np.array([[3e307, -4e307, 0.0]]), 2.0, norm)
    assert row_norms(clipped, norm)[0] == pytest.approx(2.0)
    assert clipped[0, 0] / clipped[0, 1] == pytest.approx(-3 / 4)


def test_grid_sum__chunks_and_order_do_not_change_the_sum():
    gradients = np.random.default_rng(1).normal(size=(37, 50))
    whole = grid_sum(gradients, 0.8)
    chunks = sum(grid_sum(gradients[start : start + 5], 0.8) for start in range(0, 37, 5))
    np.testing.assert_array_equal(whole, chunks)
    np.testing.assert_array_equal(whole, grid_sum(gradients[::-1], 0.8))
    assert whole.dtype == np.int64


def test_grid_sum__no_units_give_zero():
    np.testing.assert_array_equal(grid_sum(np.empty((0, 3)), 1.0), np.zeros(3, np.int64))


def test_from_grid__returns_the_sum_in_units_of_the_gradient():
    gradients = np.random.default_rng(2).normal(size=(5, 10)) * 0.01
    np.testing.assert_allclose(from_grid(grid_sum(gradients, 0.5), 0.5), gradients.sum(axis=0), atol=5 * 0.5 / GRID)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, np.nan, np.inf])
def test_clip_units__refuses_a_clip_norm_that_bounds_nothing(clip_norm):
    with pytest.raises(ValueError, match="clip_norm must be positive"):
        clip_units(np.zeros((1, 1)), clip_norm)


def test_norm_of__laplace_is_calibrated_to_l1():
    assert (norm_of("gaussian"), norm_of("laplace")) == ("l2", "l1")
