"""What the model sees."""

from dataclasses import replace

import numpy as np
import pytest

from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, make_examples
from fedcall.genomics.priors import log_priors
from fedcall.model.encoding import FLOOR, INPUT_CHANNELS, encode, log_posteriors
from made_examples import sample_examples


def counted(counts: np.ndarray, reference: np.ndarray):  # type: ignore[no-untyped-def]
    rows = len(counts)
    return make_examples(
        [("A", "C")] * rows,
        {"contigs": '["1"]'},
        counts=counts,
        reference=reference,
        features=np.zeros((rows, len(FEATURES))),
        log_likelihoods=np.zeros((rows, 3)),
        labels=np.zeros(rows),
        contig=np.zeros(rows),
        position=np.zeros(rows),
        allele_depths=np.zeros((rows, 2)),
        depth=np.zeros(rows),
    )


@pytest.mark.parametrize("rows", [np.arange(0), np.array([3, 1, 1]), np.arange(5) % 2 == 0])
def test_encode__shapes_types_and_order(rows: np.ndarray) -> None:
    examples = sample_examples(5)
    windows, features, posteriors = encode(examples, rows)
    count = len(np.arange(5)[rows])
    assert windows.shape == (count, INPUT_CHANNELS, WINDOW)
    assert (windows.dtype, features.dtype, posteriors.dtype) == (np.float32, np.float32, np.float32)
    assert posteriors.shape == (count, 3)
    np.testing.assert_array_equal(features, examples.features[rows])
    assert np.abs(windows).max(initial=0) <= 2


def test_encode__row_does_not_depend_on_its_batch() -> None:
    examples = sample_examples(6)
    together = encode(examples, np.arange(6))
    alone = encode(examples, np.array([4]))
    for whole, single in zip(together, alone, strict=True):
        np.testing.assert_array_equal(whole[4:5], single)


def test_encode__depth_cancels() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 20, (3, len(COUNT_CHANNELS), WINDOW))
    reference = rng.integers(0, 5, (3, WINDOW))
    low, high = (encode(counted(counts * times, reference), np.arange(3))[0] for times in (1, 10))
    np.testing.assert_allclose(low, high, rtol=1e-5, atol=1e-6)


def test_encode__reference_bases_are_negative_and_mismatches_counted() -> None:
    counts = np.zeros((1, len(COUNT_CHANNELS), WINDOW), int)
    counts[0, 0] = counts[0, 9] = 10
    counts[0, 1, 16] = 20
    windows, _, _ = encode(counted(counts, np.zeros((1, WINDOW), int)), np.array([0]))
    assert (windows[0, [0, 9]] < 0).all()
    assert windows[0, 1, 16] > 0
    assert windows[0, -1, 16] == 0.5
    assert windows[0, -1, 15] == 0


def test_encode__no_reads_at_all() -> None:
    examples = counted(np.zeros((1, len(COUNT_CHANNELS), WINDOW), int), np.full((1, WINDOW), 4))
    assert np.isfinite(encode(examples, np.array([0]))[0]).all()


def likelihoods_of(values: list[list[float]]):  # type: ignore[no-untyped-def]
    examples = sample_examples(len(values))
    return replace(examples, log_likelihoods=np.array(values, np.float32))


def test_log_posteriors__without_evidence_the_prior() -> None:
    examples = likelihoods_of([[0.0, 0.0, 0.0]] * 6)
    prior = log_priors(examples.features, examples.reference)
    np.testing.assert_allclose(log_posteriors(examples), prior, rtol=1e-5)
    np.testing.assert_array_equal(log_posteriors(examples, np.array([4, 1])), log_posteriors(examples)[[4, 1]])


def test_log_posteriors__floor() -> None:
    found = log_posteriors(likelihoods_of([[0.0, -500.0, -1e30]]))
    assert found[0].tolist() == pytest.approx([0.0, FLOOR, FLOOR])
