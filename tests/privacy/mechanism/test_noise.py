from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fedcall.privacy.mechanism.clipping import GRID
from fedcall.privacy.mechanism.noise import StepContext, Stream, derive_key, keyed_digest, noisy_sum, step_key

SECRET = bytes(range(32))
CONTEXT = StepContext("study", "north", 1, 1, "inputs")
TOTAL = np.arange(200_000, dtype=np.int64) * 1000


def noise(secret=SECRET, context=CONTEXT, total=TOTAL, mechanism="gaussian", scale=1.0, unit=1.0):
    return noisy_sum(secret, context, total, mechanism, scale, unit) - total


def changed_total():
    total = TOTAL.copy()
    total[-1] += 1
    return total


OTHER = {
    "secret": {"secret": bytes(range(1, 33))},
    "study": {"context": replace(CONTEXT, study="studz")},
    "site": {"context": replace(CONTEXT, site="south")},
    "round": {"context": replace(CONTEXT, round=2)},
    "step": {"context": replace(CONTEXT, step=2)},
    "round and step swapped": {"context": replace(CONTEXT, round=11, step=1)},
    "inputs, with an equal sum": {"context": replace(CONTEXT, inputs="inputt")},
    "sum, by one grid point": {"total": changed_total()},
    "clip norm, by one bit": {"unit": float(np.nextafter(1.0, 2.0))},
}


def test_noisy_sum__same_inputs_give_the_same_release():
    """Invariant 4, first half."""
    np.testing.assert_array_equal(noise(), noise())


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_noisy_sum__any_other_input_gives_independent_noise(mechanism, change):
    """Invariant 4, second half: unrelated, not merely different."""
    first, second = noise(mechanism=mechanism), noise(mechanism=mechanism, **change)
    # The correlation of 200,000 independent pairs has standard deviation .0022; the keys are fixed, so no flakes.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert (first == second).mean() < 1e-3


@pytest.mark.parametrize(
    ("mechanism", "distribution"), [("gaussian", stats.norm), ("laplace", stats.laplace)], ids=["gaussian", "laplace"]
)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_noisy_sum__noise_has_the_claimed_distribution(mechanism, distribution, scale):
    drawn = noise(mechanism=mechanism, scale=scale) / GRID
    assert stats.kstest(drawn, distribution(scale=scale).cdf).pvalue > 0.01
    expected = distribution(scale=scale).std()
    assert drawn.std() == pytest.approx(expected, rel=0.01)
    assert abs(drawn.mean()) < 4 * expected / np.sqrt(len(drawn))
    # Neighbouring coordinates are unrelated, also far from each other.
    half = len(drawn) // 2
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn[:half] ** 2, drawn[half:] ** 2)[0, 1]) < 0.02


def test_noisy_sum__no_noise_is_no_noise():
    np.testing.assert_array_equal(noise(scale=0.0), np.zeros_like(TOTAL))


def test_noisy_sum__refuses_what_it_cannot_protect():
    with pytest.raises(ValueError, match="noise multiplier"):
        noise(scale=-1.0)
    with pytest.raises(ValueError, match="noise multiplier"):
        noise(scale=float("nan"))
    with pytest.raises(ValueError, match="int64"):
        noisy_sum(SECRET, CONTEXT, np.zeros(3), "gaussian", 1.0)
    with pytest.raises(ValueError, match="32"):
        noise(secret=b"short")


def test_step_key__no_two_contexts_share_a_key():
    """Parts are length-prefixed, so shifting a character from one part to the next makes another key."""
    keys = set()
    contexts = [
        StepContext(study, site, round_, step, inputs)
        for study in ("a", "ab", "a1", "")
        for site in ("b", "bb", "b1", "")
        for round_ in (1, 11, 2, 12)
        for step in (1, 11, 2, 12)
        for inputs in ("d", "")
    ]
    for context in contexts:
        for purpose in ("noise", "sampling", "rows"):
            for binding in (b"", b"noise", b"\0"):
                keys.add(step_key(SECRET, context, purpose, binding))
    assert len(keys) == len(contexts) * 9
    assert derive_key(SECRET, b"a", b"b") != derive_key(SECRET, b"ab", b"")


def test_stream__is_chacha20_and_continues():
    # RFC 8439, appendix A.1, test vector 1: key and nonce zero, counter zero.
    assert Stream(bytes(32)).integers(2).tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"
    stream = Stream(SECRET)
    parts = np.concatenate([stream.integers(3), stream.integers(5)])
    np.testing.assert_array_equal(parts, Stream(SECRET).integers(8))


def test_keyed_digest__needs_the_secret_and_tells_parts_apart():
    digest = keyed_digest(SECRET, "inputs", b"a", b"b")
    assert digest == keyed_digest(SECRET, "inputs", b"a", b"b")
    others = {
        keyed_digest(SECRET, "inputs", b"ab", b""),
        keyed_digest(SECRET, "other", b"a", b"b"),
        keyed_digest(bytes(32), "inputs", b"a", b"b"),
    }
    assert len(others | {digest}) == 4
