"""Public training: corrects the likelihood where public data says so, never ships what is worse on held-back data."""

import numpy as np
import pytest

from fedcall.errors import PrivacyRefusal
from fedcall.genomics.examples import (
    COUNT_CHANNELS,
    FEATURES,
    WINDOW,
    Examples,
    empty_examples,
    make_examples,
    open_examples,
    write_examples,
)
from fedcall.genomics.fingerprints import content_fingerprints
from fedcall.keys import create_keys, read_secret
from fedcall.model.caller import build_model, load_model, posteriors, weights_of
from fedcall.privacy.events import Event
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.study.terms import ModelTerms
from fedcall.training.public import refuse_charged_people, train_on_public_examples, train_publicly
from fedcall.weights import weights_digest


def public_examples(rows: int, seed: int, artefact: bool) -> Examples:
    """Return rows whose likelihood is right, but for an artefact that one scalar gives away."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    likelihoods = np.where(np.arange(3) == labels[:, None], 0.0, -generator.uniform(1, 12, (rows, 3)))
    features = generator.uniform(-1, 1, (rows, len(FEATURES)))
    if artefact:
        labels = np.where(features[:, 3] > 0.5, 0, labels)
    return make_examples(
        [("A", "G")] * rows,
        {"contigs": '["chr1"]'},
        counts=generator.integers(0, 30, (rows, len(COUNT_CHANNELS), WINDOW)),
        reference=generator.integers(0, 4, (rows, WINDOW)),
        features=features,
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


def test_promise_2__who_was_charged_as_private_trains_no_public_model(tmp_path):
    create_keys(tmp_path / "keys", "north")
    files = [tmp_path / f"{name}.safetensors" for name in ("renamed", "charged", "simulated", "other")]
    for number, path in enumerate(files):
        write_examples(path, public_examples(20, number, artefact=False))
    renamed, charged, simulated, other = files
    ledgers = [(tmp_path / "none.sqlite", tmp_path / "no-keys"), (tmp_path / "ledger.sqlite", tmp_path / "keys")]
    refuse_charged_people(files, ledgers)  # nobody was charged yet
    event = Event(unit="patient", mechanism="gaussian", noise_multiplier=4.0, sampling_rate=1.0, steps=1)
    members = (
        Member("p7", "p7", content_fingerprints(open_examples(renamed))),
        Member("charged", "charged"),
        Member("simulated", "simulated", is_private=False),
    )
    with Ledger.open(ledgers[1][0], read_secret(ledgers[1][1])) as ledger:
        ledger.reserve(ReleaseRequest("a" * 64, "north", 1, event, 1e-3, 8.0, members, "f" * 64))
    refuse_charged_people([simulated, other], ledgers)
    for path in (renamed, charged):
        with pytest.raises(PrivacyRefusal, match=f"'{path.stem}': .*as private.*leave these examples out"):
            refuse_charged_people([other, path], ledgers)


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
