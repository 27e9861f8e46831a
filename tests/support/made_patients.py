"""Patients of random rows."""

import numpy as np

from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples

SECRET = bytes(range(32))


def patient(seed: int, rows: int = 60) -> Examples:
    generator = np.random.default_rng(seed)
    likelihoods = -generator.exponential(5.0, (rows, 3))
    return make_examples(
        [("G", "T")] * rows,
        {"contigs": '["chr1"]'},
        counts=generator.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 4, (rows, WINDOW)),
        features=generator.uniform(-2, 2, (rows, len(FEATURES))),
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True, initial=-np.inf),
        labels=generator.integers(-1, 3, rows),
        contig=np.zeros(rows),
        position=np.arange(rows) * 100,
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 20),
    )
