"""Examples files of patients who never lived, and a model as if trained on them, for tests of training."""

from pathlib import Path

import numpy as np
import torch

from fedcall.genomics.examples import COUNT_CHANNELS, FEATURES, WINDOW, make_examples, write_examples
from fedcall.model.caller import VariantCaller, build_model


def write_patient(path: Path, seed: int, rows: int = 40) -> Path:
    generator = np.random.default_rng(seed)
    likelihoods = -generator.exponential(5.0, (rows, 3))
    examples = make_examples(
        [("C", "T")] * rows,
        {"contigs": '["chr1"]'},
        counts=generator.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 4, (rows, WINDOW)),
        features=generator.uniform(-2, 2, (rows, len(FEATURES))),
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True),
        labels=generator.integers(-1, 3, rows),
        contig=np.zeros(rows),
        position=np.arange(rows) * 1000,
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 20),
    )
    write_examples(path, examples)
    return path


def trained_model() -> VariantCaller:
    """Return a model as training leaves it: the head of a fresh one is zero, and no gradient passes a zero head."""
    generator = np.random.default_rng(5)
    model = build_model()
    with torch.no_grad():
        for _, parameter in sorted(item for item in model.named_parameters() if item[1].requires_grad):
            parameter.add_(torch.from_numpy(generator.normal(0, 0.1, tuple(parameter.shape)).astype(np.float32)))
    return model
