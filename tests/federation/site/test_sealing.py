"""A site seals to nothing that it did not verify: each kind of evidence that is not the enclave's is refused."""

import base64
import datetime
from dataclasses import dataclass, field
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from fedcall.attestation.certificates import key_digest, pinned_root
from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.enclave import SimulatedEnclave, create_simulated
from fedcall.attestation.evidence import Evidence
from fedcall.attestation.policy import EvidencePolicy
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.federation.aggregator.enclave import EnclaveKeys
from fedcall.federation.flower.messages import Answer
from fedcall.federation.site import sealing
from fedcall.federation.site.sealing import SealedUpload, newest_receipt
from fedcall.study.evidence_exchange import EvidenceOffer, offer, read_record, record_folder, sentence, verify_record
from real_evidence import MadeUpGenoa, snp_evidence, snp_policy
from sealed_consortium import TLS_KEY, SealedConsortium, make_sealed_consortium

CLAIM, UPDATE = b"claim", b"update"


@pytest.fixture
def consortium(tmp_path) -> SealedConsortium:
    return make_sealed_consortium(tmp_path)


def certificate() -> bytes:
    """Return a certificate (DER) with a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aggregator")])
    now = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def refused(upload: SealedUpload, answer: Answer, seen: bytes | None = None) -> str:
    """Return the code of the refusal; whatever is refused costs exit status 3, and nothing was sealed."""
    with pytest.raises(EvidenceRefused) as caught:
        upload.seal(answer, seen)
    assert isinstance(caught.value, PrivacyRefusal)
    assert upload._kept is None
    return caught.value.code


def drawn(consortium: SealedConsortium, **changes) -> SealedUpload:
    """Return an upload with a drawn nonce, under the study or another policy."""
    prepared = consortium.prepare("north", 1, CLAIM, UPDATE)
    study = consortium.study
    if changes:
        protection = study.protection.model_copy(update=changes)
        study = study.model_copy(update={"protection": protection})
    return SealedUpload(study, "north", 1, CLAIM, UPDATE, prepared.keys, prepared.key)


def test_seal__to_the_verified_key_over_the_connection_seen(consortium):
    seen = certificate()
    tls_key = key_digest(x509.load_der_x509_certificate(seen))
    keys = EnclaveKeys(create_simulated(consortium.machine), consortium.study, tls_key)
    upload = drawn(consortium)
    answer = Answer("evidence", keys.answer("north", upload.wish.claim, iter(())).canonical())
    request = upload.seal(answer, seen)
    assert (request.kind, request.claim) == ("upload", b"")
    assert keys.open("north", 1, request.update) == (CLAIM, UPDATE)
    assert CLAIM not in request.update


def test_seal__an_old_nonce(consortium):
    """Evidence of an earlier exchange, played again."""
    state = consortium.open_state()
    earlier = drawn(consortium)
    answer = consortium.ask(state, earlier)
    earlier.seal(answer, None)
    assert refused(drawn(consortium), answer) == "binding"


def test_seal__another_tls_key(consortium):
    """Relayed: the enclave ends TLS somewhere else than this connection ends."""
    state = consortium.open_state()
    upload = drawn(consortium)
    honest = consortium.ask(state, upload)
    seen = certificate()
    assert refused(upload, honest, seen) == "tls-key"
    offered = EvidenceOffer.model_validate_json(honest.document)
    own = key_digest(x509.load_der_x509_certificate(seen))
    relayed = Answer("evidence", offered.model_copy(update={"tls_key": own}).canonical())
    assert refused(upload, relayed, seen) == "binding"
    assert refused(upload, relayed, None) == "binding"
    assert refused(upload, honest, b"") == "tls-key"


def test_seal__a_key_put_in_by_who_carries_it(consortium):
    state = consortium.open_state()
    upload = drawn(consortium)
    offered = EvidenceOffer.model_validate_json(consortium.ask(state, upload).document)
    own = Answer("evidence", offered.model_copy(update={"hpke_key": "07" * 32}).canonical())
    assert refused(upload, own) == "binding"


def test_seal__evidence_for_another_study(consortium, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_sealed_consortium(tmp_path / "other", rounds=3)
    machine = create_simulated(consortium.machine)
    keys = EnclaveKeys(machine, other.study, TLS_KEY)
    upload = drawn(consortium)
    assert (
        refused(upload, Answer("evidence", keys.answer("north", upload.wish.claim, iter(())).canonical())) == "binding"
    )


def test_seal__another_image_machine_or_policy(consortium, tmp_path):
    machine = create_simulated(consortium.machine)
    other = create_simulated(tmp_path / "another")
    upload = drawn(consortium)
    for one, code in (
        (SimulatedEnclave(machine.root, machine.chip_secret, bytes(48)), "measurement"),
        (other, "root"),
        (SimulatedEnclave(other.root, other.chip_secret, machine.measurement), "root"),
    ):
        given = consortium.enclave(one).answer("north", upload.wish.claim, iter(()))
        assert refused(upload, Answer("evidence", given.canonical())) == code
        with pytest.raises(EvidenceRefused):
            consortium.enclave(one).check()
    honest = consortium.ask(consortium.open_state(), upload)
    assert refused(drawn(consortium, evidence=other.policy), honest) == "root"
    upload.seal(honest, None)


@pytest.fixture(scope="module")
def machine() -> MadeUpGenoa:
    return MadeUpGenoa()


@pytest.fixture
def production(tmp_path, machine, monkeypatch) -> SealedConsortium:
    """A study whose policy is that of real processors; the root of a made-up one stands in AMD's place."""

    def root(name: str) -> x509.Certificate:
        return machine.root if name == "ark-genoa" else pinned_root(name)

    monkeypatch.setattr("fedcall.attestation.snp.pinned_root", root)
    monkeypatch.setattr(sealing, "now", lambda: machine.time)
    protection = {"mode": "sealed", "minimum_sites": 2, "evidence": machine.policy()}
    return make_sealed_consortium(tmp_path, protection=protection)


@dataclass(frozen=True)
class Guest:
    """A guest on the made-up processor, whose reports say what a test wants."""

    machine: MadeUpGenoa
    changes: dict = field(default_factory=dict)
    revoked: bytes | None = None

    def evidence(self, data: bytes) -> Evidence:
        return self.machine.evidence(self.machine.report(data, **self.changes), self.revoked)

    def secret(self) -> bytes:
        return bytes(32)


def answer_of(consortium: SealedConsortium, guest: Guest | SimulatedEnclave, upload: SealedUpload) -> Answer:
    keys = EnclaveKeys(guest, consortium.study, TLS_KEY)
    return Answer("evidence", keys.answer(upload.site, upload.wish.claim, iter(())).canonical())


def test_seal__a_real_platform(production, machine):
    upload = drawn(production)
    assert upload.seal(answer_of(production, Guest(machine), upload), None).kind == "upload"
    assert upload._kept[2].details == "Genoa, SEV firmware 1.55.43"


def test_seal__a_simulated_machine_against_a_production_policy(production):
    upload = drawn(production)
    simulated = create_simulated(production.machine)
    assert refused(upload, answer_of(production, simulated, upload)) == "platform"
    with pytest.raises(EvidenceRefused):
        production.enclave(simulated).check()  # nor would such an aggregator start


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("debug", {"policy": 0xB0000}),
        ("migration", {"policy": 0x70000}),
        ("measurement", {"measurement": bytes(48)}),
        ("firmware", {"firmware": bytes([42, 55, 1])}),
        ("key-tcb", {"tcb": bytes([10, 0, 0, 0, 0, 0, 24, 84])}),
        ("vmpl", {"vmpl": 2}),
    ],
)
def test_seal__a_genuine_machine_that_is_not_allowed(production, machine, code, changes):
    upload = drawn(production)
    assert refused(upload, answer_of(production, Guest(machine, changes), upload)) == code


def test_seal__firmware_below_the_floor(production, machine, monkeypatch):
    """A key that AMD gave for the old firmware, so that the report is in order but for the floor."""
    old = machine.key_certificate(snp=24)
    report = partial(machine.report, tcb=bytes([10, 0, 0, 0, 0, 0, 24, 84]))
    guest = Guest(machine)
    monkeypatch.setattr(Guest, "evidence", lambda _, data: machine.evidence(report(data), key=old))
    upload = drawn(production)
    assert refused(upload, answer_of(production, guest, upload)) == "tcb"


def test_seal__a_revoked_key(production, machine):
    upload = drawn(production)
    guest = Guest(machine, revoked=machine.revocation_list(2))
    assert refused(upload, answer_of(production, guest, upload)) == "revoked"


def test_seal__a_stale_list_of_revoked_keys(production, machine, monkeypatch):
    upload = drawn(production)
    given = answer_of(production, Guest(machine), upload)
    monkeypatch.setattr(sealing, "now", lambda: machine.time + datetime.timedelta(days=31))
    assert refused(upload, given) == "revocation-list-dates"
    monkeypatch.setattr(sealing, "now", lambda: machine.time)
    upload.seal(given, None)


def test_seal__what_is_no_evidence(consortium):
    honest = EvidenceOffer.model_validate_json(consortium.ask(consortium.open_state(), drawn(consortium)).document)
    for document in (
        b"",
        b"{}",
        honest.model_copy(update={"files": {"report.bin": "?"}}).canonical(),
        honest.model_copy(update={"files": {}}).canonical(),
        honest.model_copy(update={"files": {"report.bin": base64.b64encode(b"x").decode()}}).canonical(),
        honest.canonical().replace(b'"simulated"', b'"unheard of"'),
    ):
        assert refused(drawn(consortium), Answer("evidence", document)) in ("malformed", "report-format")


def test_seal__a_log_without_the_sites_newest_receipt(consortium):
    """The enclave gives evidence bound to the head in the receipt; without it in its log it gives none."""
    state = consortium.open_state()
    signed = consortium.send(state, "north", 1)
    assert newest_receipt(consortium.keys("north"), consortium.study)[0] == signed
    upload = drawn(consortium)
    first = create_simulated(consortium.machine)
    keys = EnclaveKeys(first, consortium.study, TLS_KEY)
    blind = keys._binding(upload._nonce, None)  # what an enclave says that was asked without a receipt
    given = offer(first.evidence(sealing.report_data(blind)), TLS_KEY, keys.public)
    assert refused(upload, Answer("evidence", given.canonical())) == "binding"
    upload.seal(consortium.ask(state, upload), None)


def test_keep__the_record_beside_the_receipt_verifies_again(consortium):
    state = consortium.open_state()
    consortium.send(state, "north", 1)
    folder = record_folder(consortium.receipt("north", 1))
    record = read_record(folder)
    assert folder.name == "receipt.evidence"
    machine = create_simulated(consortium.machine)
    assert record.measurement == machine.measurement.hex()
    assert (record.site, record.round, record.tls_seen) == ("north", 1, False)
    said = sentence(record)
    assert said.startswith(f"sealed to measurement {record.measurement[:16]}…, platform simulated (SIMULATED")
    policy = consortium.study.protection.evidence
    assert verify_record(folder, policy, consortium.study.digest)[1].measurement == record.measurement
    with pytest.raises(EvidenceRefused):
        verify_record(folder, create_simulated(consortium.folder / "other").policy, consortium.study.digest)
    with pytest.raises(FedcallError, match="not of this study"):
        verify_record(folder, policy, "0" * 64)
    binding = (folder / "binding.json").read_bytes()
    (folder / "binding.json").write_bytes(binding.replace(b'"hpke_key":"', b'"hpke_key":"00')[:-3] + b'"}')
    with pytest.raises((EvidenceRefused, FedcallError)):
        verify_record(folder, policy, consortium.study.digest)
    (folder / "verdict.json").unlink()
    with pytest.raises(FedcallError, match="no record of what the update was sealed to"):
        read_record(folder)


def test_newest_receipt__a_broken_one_is_not_silently_none(consortium):
    folder = consortium.keys("north") / "receipts"
    folder.mkdir()
    (folder / f"{consortium.study.digest}.json").write_bytes(b"{")
    with pytest.raises(FedcallError, match="not the receipt that was kept"):
        newest_receipt(consortium.keys("north"), consortium.study)


def test_wish__the_nonce_is_drawn_where_there_is_a_connection_and_unguessable_where_not(consortium):
    assert len({drawn(consortium).wish.claim for _ in range(3)}) == 3
    prepared = [
        consortium.prepare("north", number, CLAIM, update) for number, update in ((1, b"a"), (1, b"b"), (2, b"a"))
    ]
    assert len({upload.wish.claim for upload in prepared}) == 3
    assert consortium.prepare("north", 1, CLAIM, b"a").wish == prepared[0].wish
    other = SealedUpload(
        consortium.study, "north", 1, CLAIM, b"a", consortium.keys("north"), Ed25519PrivateKey.generate(), False
    )
    assert other.wish != prepared[0].wish


def test_evidence_policy__the_production_one_has_no_place_for_a_simulated_root():
    assert snp_policy(snp_evidence("oak_genoa_v5")).simulated is None
    assert EvidencePolicy.model_fields["simulated"].default is None
