"""Public training: corrects the likelihood where public data says so, never ships what is worse on held-back data."""

import numpy as np

from fedcall.genomics.examples import (
    COUNT_CHANNELS,
    SCALARS,
    WINDOW,
    Examples,
    empty_examples,
    make_examples,
    write_examples,
)
from fedcall.model.caller import build_model, load_model, posteriors, weights_of
from fedcall.study.terms import ModelTerms
from fedcall.training.public import train_on_public_examples, train_publicly
from fedcall.weights import weights_digest


def public_examples(rows: int, seed: int, artefact: bool) -> Examples:
    """Return rows whose likelihood is right, but for an artefact that one scalar gives away."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    likelihoods = np.where(np.arange(3) == labels[:, None], 0.0, -generator.uniform(1, 12, (rows, 3)))
    scalars = generator.uniform(-1, 1, (rows, len(SCALARS)))
    if artefact:
        labels = np.where(scalars[:, 3] > 0.5, 0, labels)
    return make_examples(
        [("A", "G")] * rows,
        {"contigs": '["chr1"]'},
        counts=generator.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 4, (rows, WINDOW)),
        scalars=scalars,
        log_likelihoods=likelihoods - likelihoods.max(1, keepdims=True),
        labels=labels,
        contig=np.zeros(rows),
        position=np.arange(rows) * 500,
        allele_depths=np.ones((rows, 2)),
        depth=np.full(rows, 20),
    )


def accuracy(model, examples: Examples) -> float:
    return float((posteriors(model, examples).argmax(1) == examples.labels).mean())


def test_train_publicly__learns_an_artefact_the_likelihood_cannot_see():
    unseen = public_examples(600, 2, artefact=True)
    trained = train_publicly(build_model(), public_examples(900, 1, artefact=True), *[lambda *_: None] * 2)
    assert accuracy(trained, unseen) > accuracy(build_model(), unseen) + 0.05


def test_train_publicly__noise_labels_leave_the_likelihood_alone():
    misleading = public_examples(150, 1, artefact=False)
    misleading.log_likelihoods[:] *= 20  # beyond any prior: the likelihood is right, and sure
    held_back = (misleading.position // 10_000) % 5 == 4
    # What the trained part says is the opposite of what the held-back part says.
    misleading.labels[~held_back] = (misleading.labels[~held_back] + 1) % 3
    trained = train_publicly(build_model(), misleading)
    assert weights_digest(weights_of(trained)) == weights_digest(weights_of(build_model()))


def test_train_on_public_examples__same_bytes_again_and_fresh_without_rows(tmp_path):
    path = tmp_path / "a.safetensors"
    write_examples(path, public_examples(80, 1, artefact=True))
    outputs = [tmp_path / "m1.safetensors", tmp_path / "m2.safetensors"]
    steps = []
    for output in outputs:
        train_on_public_examples(ModelTerms(), [path], output, on_step=lambda: steps.append(1))
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert len(steps) >= 200
    write_examples(path, empty_examples())
    train_on_public_examples(ModelTerms(), [path], outputs[0])
    assert weights_digest(weights_of(load_model(outputs[0]))) == weights_digest(weights_of(build_model()))
