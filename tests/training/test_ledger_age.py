"""A copied-back old ledger is not trained on: receipts and the key folder remember what it must hold."""

import shutil

import pytest

from example_patients import write_patient
from fedcall.documents import read_signed, write_signed
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.keys import create_keys, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim, Receipt
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.training import dp_sgd
from fedcall.training.ledger_age import MEMORY
from fedcall.training.rounds import RoundFiles, train_round
from fedcall.weights import weights_digest

TERMS = PrivacyTerms(noise_multiplier=4.0, sampling_rate=0.5, steps_per_round=1, rows_per_unit=4, delta=0.1)


class Hospital:
    """A site, its coordinator and one patient; `back_up` and `restore` are what an administrator would do."""

    def __init__(self, folder):
        self.folder = folder
        self.identity = create_keys(folder / "keys", "north")
        self.coordinator = create_keys(folder / "coordinator", "coordinator")
        model = build_model()
        save_model(folder / "initial.safetensors", model)
        self.initial = weights_digest(weights_of(model))
        self.patients = [write_patient(folder / "p0.safetensors", 0)]
        self.ledger = folder / "private" / "ledger.sqlite"

    def study(self, name="tiny"):
        return Study(
            name=name,
            coordinator=self.coordinator.public_key,
            sites=(Site(name="north", public_key=self.identity.public_key, node_key="ssh", patients=1),),
            model=ModelTerms(initial_weights=self.initial),
            rounds=5,
            privacy=TERMS,
        )

    def train(self, number, receipts=(), name="tiny"):
        """Train a round, let the coordinator answer, and return the receipt."""
        study, out = self.study(name), self.folder / name / str(number)
        initial, update, claim_path = (
            self.folder / "initial.safetensors",
            out / "update.safetensors",
            out / "claim.json",
        )
        files = RoundFiles(
            self.folder / "keys", initial, self.patients, self.ledger, update, claim_path, receipts=receipts
        )
        train_round(study, "north", number, files)
        claim = read_signed(out / "claim.json", Claim, self.identity.public_key)
        receipt = Receipt(
            study=study.digest, site="north", round=number, claim=claim.digest, status="accepted", reason="ok",
            sentence="accepted", epsilon=claim.epsilon, accepted_rounds=number, ledger_head=claim.ledger_head,
            log_head="0" * 64,
        )  # fmt: skip
        write_signed(out / "receipt.json", receipt, read_signing_key(self.folder / "coordinator"))
        return out / "receipt.json"

    def back_up(self):
        shutil.copytree(self.ledger.parent, self.folder / "backup", dirs_exist_ok=True)

    def restore(self):
        shutil.rmtree(self.ledger.parent)
        shutil.copytree(self.folder / "backup", self.ledger.parent)

    def rows(self):
        with Ledger.open_to_read(self.ledger) as ledger:
            assert ledger.verify() is None
            return list(ledger.rows())


@pytest.fixture
def hospital(tmp_path):
    return Hospital(tmp_path)


def test_train_round__claim_names_the_row_that_charged_it(hospital):
    receipt = hospital.train(1)
    claim = read_signed(receipt.with_name("claim.json"), Claim, hospital.identity.public_key)
    assert [row.kind for row in hospital.rows() if row.digest == claim.ledger_head] == ["reserve"]
    hospital.train(2, [receipt])


@pytest.mark.parametrize("witness", ["receipt", "receipt, with the key folder copied back too", "key folder"])
def test_train_round__a_copied_back_ledger_is_refused(hospital, witness):
    hospital.train(1)
    hospital.back_up()
    memory = hospital.folder / "keys" / MEMORY
    old = memory.read_text()
    receipt = hospital.train(2)
    hospital.restore()
    if witness == "receipt":
        memory.unlink()
    elif witness != "key folder":
        memory.write_text(old)
    before = hospital.rows()
    with pytest.raises(PrivacyRefusal, match=r"ledger\.sqlite: lacks the row [0-9a-f]{12}… that .*, so it is old"):
        hospital.train(3, [] if witness == "key folder" else [receipt])
    assert hospital.rows() == before


def test_train_round__a_round_is_remembered_before_it_is_trained(hospital, monkeypatch):
    hospital.train(1)
    hospital.back_up()

    def crash(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dp_sgd, "train_privately", crash)
        with pytest.raises(KeyboardInterrupt):
            hospital.train(2)
    hospital.restore()
    with pytest.raises(PrivacyRefusal, match=r"that .*ledger\.head names, so it is old"):
        hospital.train(2)


def test_train_round__a_copied_back_ledger_is_refused_in_another_study_too(hospital):
    hospital.train(1)
    hospital.back_up()
    hospital.train(2)
    hospital.restore()
    with pytest.raises(PrivacyRefusal, match=r"that .*ledger\.head names, so it is old"):
        hospital.train(1, name="another")


def test_train_round__a_ledger_that_is_gone_is_not_begun_anew(hospital):
    receipt = hospital.train(1)
    shutil.rmtree(hospital.ledger.parent)
    for receipts in ([receipt], []):
        with pytest.raises(PrivacyRefusal, match="no ledger here, but"):
            hospital.train(2, receipts)
    assert not hospital.ledger.exists()


def test_train_round__the_newest_ledger_may_be_restored_and_a_rerun_of_an_old_round_is_no_step_back(hospital):
    first = hospital.train(1)
    second = hospital.train(2, [first])
    hospital.back_up()
    hospital.restore()
    claim = first.with_name("claim.json").read_bytes()
    hospital.train(1)  # returned from the ledger
    assert first.with_name("claim.json").read_bytes() == claim
    hospital.train(3, [first, second])
    assert len([row for row in hospital.rows() if row.kind == "reserve"]) == 3


def test_train_round__a_receipt_must_be_the_coordinators_and_of_this_study(hospital):
    foreign = hospital.train(1, name="another")
    with pytest.raises(FedcallError, match="answers site 'north' in study"):
        hospital.train(1, [foreign])
    forged = hospital.folder / "forged.json"
    forged.write_bytes(foreign.read_bytes().replace(b'"accepted_rounds":1', b'"accepted_rounds":2'))
    with pytest.raises(FedcallError, match="signature does not match"):
        hospital.train(1, [forged])
