"""A round at a site: reserve before release, the same release again, withheld without a trace of the data."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from example_patients import write_patient
from fedcall.documents import read_signed
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.genomics.examples import open_examples, write_examples
from fedcall.keys import create_keys
from fedcall.model import chemistry
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.training import dp_sgd
from fedcall.training.rounds import RoundFiles, train_round
from fedcall.weights import STAND_DOWN, read_weights, weights_digest, write_weights


class Hospital:
    """A site with keys, three patients and a study of its own."""

    def __init__(self, folder, **privacy):
        self.folder = folder
        self.identity = create_keys(folder / "keys", "north")
        model = build_model()
        save_model(folder / "initial.safetensors", model)
        values = {"noise_multiplier": 2.0, "sampling_rate": 0.5, "steps_per_round": 2, "rows_per_unit": 8}
        self.study = Study(
            name="tiny",
            coordinator=self.identity.public_key,
            sites=(Site(name="north", public_key=self.identity.public_key, node_key="ssh", patients=3),),
            model=ModelTerms(initial_weights=weights_digest(weights_of(model))),
            rounds=5,
            privacy=PrivacyTerms(**values | {"delta": 0.03} | privacy),
        )
        self.patients = [write_patient(folder / f"p{index}.safetensors", index) for index in range(3)]
        self.ledger = folder / "ledger.sqlite"

    def train(self, number=1, *, study=None, patients=None, model="initial.safetensors", keys="keys"):
        out = self.folder / str(number)
        self.update, self.claim = out / "update.safetensors", out / "claim.json"
        files = RoundFiles(
            self.folder / keys,
            self.folder / model,
            patients or self.patients,
            self.ledger,
            self.update,
            self.claim,
        )
        return train_round(study or self.study, "north", number, files)

    def outputs(self):
        return self.update.read_bytes(), self.claim.read_bytes()

    def kinds(self):
        with Ledger.open_to_read(self.ledger) as ledger:
            return [row.kind for row in ledger.rows()]


@pytest.fixture
def hospital(tmp_path):
    return Hospital(tmp_path)


def test_train_round__update_and_claim_fit_together(hospital):
    outcome = hospital.train()
    assert outcome.state == "trained"
    claim = read_signed(hospital.claim, Claim, hospital.identity.public_key)
    update = read_weights(hospital.update)
    assert claim.update == update.digest
    assert claim.base == hospital.study.model.initial_weights
    assert claim.epsilon == study_epsilon(hospital.study.privacy, 1).pld
    assert update.metadata.items() >= {"study": hospital.study.digest, "round": "1", "base": claim.base}.items()
    assert sorted(update.tensors) == hospital.study.model.trainable_names(weights_of(build_model()))


def test_train_round__of_chemistry_sends_the_likelihoods_constants_and_nothing_else(hospital):
    changed = hospital.study.model.model_copy(update={"trainable": "chemistry"})
    study = hospital.study.model_copy(update={"model": changed})
    assert hospital.train(study=study).state == "trained"
    update = read_weights(hospital.update)
    assert update.tensors.keys() == set(chemistry.SHAPES)
    assert all(tensor.all() for tensor in update.tensors.values())  # noise in every number
    assert read_signed(hospital.claim, Claim, hospital.identity.public_key).update == update.digest
    assert hospital.kinds() == ["reserve", "release"]


def test_train_round__rerun_returns_the_stored_bytes_and_charges_once(hospital, monkeypatch):
    hospital.train()
    first = hospital.outputs()
    hospital.update.unlink()
    monkeypatch.setattr(dp_sgd, "train_privately", lambda *_, **__: pytest.fail("trained again"))
    assert hospital.train().state == "returned"
    assert hospital.outputs() == first
    assert hospital.kinds() == ["reserve", "release"]


def test_train_round__lost_artefact_is_recomputed_to_the_same_bytes(hospital):
    hospital.train()
    first = hospital.outputs()
    shutil.rmtree(hospital.ledger.with_name("ledger.sqlite.artefacts"))
    hospital.update.unlink()
    hospital.claim.unlink()
    assert hospital.train().state == "trained"
    assert hospital.outputs() == first
    assert hospital.kinds() == ["reserve", "release"]


def test_train_round__a_crash_in_training_stays_charged_and_costs_nothing_again(hospital, monkeypatch):
    with monkeypatch.context() as patch:

        def crash(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(dp_sgd, "train_privately", crash)
        with pytest.raises(KeyboardInterrupt):
            hospital.train()
    assert hospital.kinds() == ["reserve"]
    assert not hospital.update.exists()
    assert hospital.train().state == "trained"
    assert hospital.kinds() == ["reserve", "release"]


def test_train_round__nothing_leaves_before_the_ledger_has_released_it(hospital, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "release", crash)
    with pytest.raises(KeyboardInterrupt):
        hospital.train()
    assert not hospital.update.exists()
    assert not hospital.claim.exists()


def test_train_round__other_data_under_the_same_round_is_refused(hospital):
    hospital.train()
    write_patient(hospital.patients[0], 99)
    with pytest.raises(PrivacyRefusal, match="inputs"):
        hospital.train()


def test_train_round__another_model_under_the_same_round_is_refused(hospital):
    hospital.train(2)
    tensors = weights_of(build_model())
    write_weights(hospital.folder / "other.safetensors", tensors | {"head.bias": np.ones(3, np.float32)}, {})
    with pytest.raises(PrivacyRefusal, match=r"different: inputs"):
        hospital.train(2, model="other.safetensors")


def test_train_round__epsilon_counts_the_rounds_so_far(hospital):
    for number in (1, 2, 3):
        outcome = hospital.train(number)
        assert outcome.claim.epsilon == study_epsilon(hospital.study.privacy, number).pld


def test_train_round__withheld_when_the_cap_would_be_passed(tmp_path):
    first = study_epsilon(Hospital(tmp_path / "a").study.privacy, 1).pld
    hospital = Hospital(tmp_path / "b", max_epsilon=first * 1.01)
    assert hospital.train(1).state == "trained"
    outcome = hospital.train(2)
    assert outcome.state == "withheld"
    claim = read_signed(hospital.claim, Claim, hospital.identity.public_key)
    assert (claim.outcome, claim.update) == ("withheld", None)
    assert claim.epsilon == pytest.approx(first)
    assert read_weights(hospital.update).tensors == {}
    assert hospital.kinds() == ["reserve", "release", "withhold"]
    before = hospital.outputs()
    hospital.train(2)
    assert hospital.outputs() == before


def test_train_round__without_noise_claims_no_epsilon(tmp_path):
    hospital = Hospital(tmp_path, noise_multiplier=0, max_epsilon=None)
    assert hospital.train().claim.epsilon is None


def test_train_round__what_leaves_does_not_tell_the_number_of_patients_or_rows(hospital):
    hospital.train(patients=hospital.patients[:1])
    claim = read_signed(hospital.claim, Claim, hospital.identity.public_key)
    assert set(claim.model_dump()) == {
        "study", "site", "round", "outcome", "base", "update", "privacy", "epsilon",
        "clipping", "ledger_head", "software",
    }  # fmt: skip
    assert claim.epsilon == study_epsilon(hospital.study.privacy, 1).pld
    assert read_weights(hospital.update).metadata.keys() == {"study", "round", "base", "software"}


def test_train_round__mistakes_are_found_before_the_ledger_is_charged(hospital, tmp_path):
    other = tmp_path / "other"
    create_keys(other, "south")
    with pytest.raises(FedcallError, match="holds other keys than study 'tiny' registers"):
        hospital.train(keys="other")
    with pytest.raises(FedcallError, match="declared 3"):
        hospital.train(patients=[*hospital.patients, write_patient(tmp_path / "p3.safetensors", 3)])
    tensors = weights_of(build_model())
    write_weights(tmp_path / "changed.safetensors", tensors | {"head.bias": np.ones(3, np.float32)}, {})
    with pytest.raises(FedcallError, match="not the initial weights"):
        hospital.train(model="changed.safetensors")
    write_weights(tmp_path / "alien.safetensors", {"x": np.ones(3, np.float32)}, {})
    with pytest.raises(FedcallError, match="missing"):
        hospital.train(2, model="alien.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(hospital.patients[0].read_bytes()[:500])
    with pytest.raises(FedcallError, match="damaged"):
        hospital.train(patients=[damaged])
    assert not hospital.ledger.exists()


def test_promise_11__no_private_count_stops_a_round(tmp_path):
    hospital = Hospital(tmp_path, unit="example", examples_per_patient=10, delta=1e-3)
    assert sum(int((open_examples(path).labels >= 0).sum()) for path in hospital.patients) > 30
    assert hospital.train().state == "trained"


def test_promise_1__what_leaves_is_the_same_with_and_without_somebody_whose_budget_is_spent(tmp_path):
    """Two runs of one study at one hospital: the same kinds, fields and lengths; only noise differs."""
    first = study_epsilon(Hospital(tmp_path / "terms").study.privacy, 1).pld
    seen = {}
    for spent in (False, True):
        hospital = Hospital(tmp_path / str(spent), max_epsilon=first * 1.01)
        if spent:
            earlier = hospital.study.model_copy(update={"name": "earlier"})
            hospital.train(study=earlier, patients=hospital.patients[:1])
            assert hospital.kinds() == ["reserve", "release"]
        outcome = hospital.train()
        claim = read_signed(hospital.claim, Claim, hospital.identity.public_key)
        seen[spent] = (outcome, claim.model_dump(), read_weights(hospital.update), hospital.outputs())
        with Ledger.open_to_read(hospital.ledger) as ledger:
            assert ledger.exhausted(hospital.study.digest) == {1: int(spent)}
    (one, claim, update, files), (other, other_claim, other_update, other_files) = seen[False], seen[True]
    assert (one.state, one.sentence) == (other.state, other.sentence) == ("trained", "trained and charged")
    differing = {key for key in claim if claim[key] != other_claim[key]}
    assert differing <= {"study", "update", "ledger_head"}, "digests and nothing else"
    assert {key: len(str(value)) for key, value in claim.items()} == {k: len(str(v)) for k, v in other_claim.items()}
    assert [len(file) for file in files] == [len(file) for file in other_files]
    assert update.metadata.keys() == other_update.metadata.keys()
    assert {name: tensor.shape for name, tensor in update.tensors.items()} == {
        name: tensor.shape for name, tensor in other_update.tensors.items()
    }
    for name, tensor in update.tensors.items():
        if tensor.size > 100:
            assert np.linalg.norm(tensor) == pytest.approx(np.linalg.norm(other_update.tensors[name]), rel=0.3), name


def test_promise_1__an_update_of_noise_alone_is_a_normal_update(tmp_path):
    first = study_epsilon(Hospital(tmp_path / "terms").study.privacy, 1).pld
    hospital = Hospital(tmp_path / "site", max_epsilon=first * 1.01)
    hospital.train(study=hospital.study.model_copy(update={"name": "earlier"}))
    outcome = hospital.train()
    assert (outcome.state, outcome.claim.outcome) == ("trained", "update")
    assert outcome.claim.epsilon == study_epsilon(hospital.study.privacy, 1).pld
    assert all(np.any(tensor) for tensor in read_weights(hospital.update).tensors.values())
    with Ledger.open_to_read(hospital.ledger) as ledger:
        assert ledger.exhausted(hospital.study.digest) == {1: 3}
    again = hospital.outputs()
    hospital.update.unlink()
    assert hospital.train().state == "returned"
    assert hospital.outputs() == again


def test_promise_2__renamed_examples_are_no_fresh_budget(hospital, tmp_path):
    copies = [hospital.patients[0], Path(shutil.copy(hospital.patients[0], tmp_path / "copy.safetensors"))]
    with pytest.raises(PrivacyRefusal, match="patients 'copy' and 'p0' have the same data"):
        hospital.train(patients=copies)
    hospital.train()
    renamed = [Path(shutil.copy(path, tmp_path / f"new-{path.name}")) for path in hospital.patients]
    with pytest.raises(PrivacyRefusal, match="knows this data as another person's"):
        hospital.train(study=hospital.study.model_copy(update={"name": "next"}), patients=renamed)


def test_train_round__inputs_digest_is_keyed(hospital):
    hospital.train()
    secret = hospital.folder / "keys" / "secret"
    secret.write_bytes(secret.read_bytes()[::-1])  # the same site, study and data under another secret
    first, hospital.ledger = hospital.ledger, hospital.folder / "another.sqlite"
    (hospital.folder / "keys" / "ledger.head").unlink()  # else another ledger is refused
    hospital.train()
    with Ledger.open_to_read(first) as one, Ledger.open_to_read(hospital.ledger) as two:
        assert next(iter(one.rows())).inputs != next(iter(two.rows())).inputs


def test_train_round__a_patient_without_candidates_stays_a_patient(hospital):
    examples = open_examples(hospital.patients[1])
    unlabelled = replace(examples, labels=np.full(len(examples), -1, np.int8))
    write_examples(hospital.patients[1], unlabelled)
    assert hospital.train().state == "trained"


def test_train_round__told_to_stand_down_spends_nothing_but_returns_what_was_released(hospital):
    weights = read_weights(hospital.folder / "initial.safetensors")
    write_weights(hospital.folder / "closed.safetensors", weights.tensors, {**weights.metadata, STAND_DOWN: "closed"})
    outcome = hospital.train(model="closed.safetensors")
    assert (outcome.state, outcome.claim.outcome, outcome.sentence) == ("withheld", "withheld", "closed")
    assert hospital.kinds() == ["withhold"]
    assert hospital.train().state == "trained", "the next time nobody says so"
    released = hospital.outputs()
    assert hospital.train(model="closed.safetensors").state == "returned"
    assert hospital.outputs() == released
