"""Examples of random content, for tests of how they are kept."""

import json

import numpy as np

from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, Examples, make_examples


def sample_examples(rows: int, seed: int = 0, contigs: tuple[str, ...] = ("1", "2")) -> Examples:
    """Return so many examples, the same for a seed."""
    rng = np.random.default_rng(seed)
    alleles = [("ACGT"[k % 4], "ACGT"[(k + 1) % 4] * (1 + k % 3)) for k in range(rows)]
    return make_examples(
        alleles,
        {"contigs": json.dumps(contigs), "sample": f"p{seed}", "label_types": "all"},
        counts=rng.integers(0, 60_000, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=rng.integers(0, 5, (rows, WINDOW)),
        features=rng.normal(size=(rows, len(FEATURES))),
        log_likelihoods=-rng.random((rows, 3)),
        labels=rng.integers(-1, 3, rows),
        contig=rng.integers(0, len(contigs), rows),
        position=np.arange(rows) + (1 << 40),
        allele_depths=rng.integers(0, 90, (rows, 2)),
        depth=rng.integers(0, 90, rows),
    )
