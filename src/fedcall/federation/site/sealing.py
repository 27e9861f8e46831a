"""A site's side of a sealed upload: it asks for evidence, verifies it offline, and seals to the key it verified.

Nothing of the update is sent before that, and nothing but what is sealed after it.
"""

import datetime
import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.certificates import key_digest
from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.evidence import Evidence, verify_evidence
from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.federation.flower.messages import Answer, Request
from fedcall.files import make_private_folder, write_bytes
from fedcall.protection.sealed_upload import UploadPlace, seal_upload
from fedcall.study.claims import Receipt
from fedcall.study.evidence_exchange import EvidenceOffer, EvidenceWish, SealedTo, keep_record, record_folder
from fedcall.study.terms import Study


@dataclass
class SealedUpload:
    """One upload of a site to an enclave.

    Attributes
    ----------
    key : Ed25519PrivateKey
        The site's signing key, which one-time keys follow from.
    draws_nonce : bool
        Whether the nonce is drawn. Where a request may be carried for days it follows from the key and the upload, so
        that the same command, run again, finds the answer that came meanwhile; nobody else can foresee it.
    """

    study: Study
    site: str
    round: int
    claim: bytes
    update: bytes
    keys: Path
    key: Ed25519PrivateKey
    draws_nonce: bool = True
    _nonce: str = ""
    _newest: tuple[bytes, Receipt] | None = field(default=None, repr=False)
    _kept: tuple[Evidence, Binding, SealedTo] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        content = hashlib.sha512(self.claim + self.update).digest()
        foreseen = hashlib.blake2b(
            content + str(self.round).encode(), key=self._secret[:32], person=b"fedcall nonce"
        ).hexdigest()[:64]
        self._nonce = secrets.token_hex(32) if self.draws_nonce else foreseen
        self._newest = newest_receipt(self.keys, self.study)

    @property
    def _secret(self) -> bytes:
        return hashlib.sha256(b"fedcall sealing\0" + self.key.private_bytes_raw()).digest()

    @property
    def wish(self) -> Request:
        """The request for evidence."""
        wish = EvidenceWish(nonce=self._nonce, receipt=None if self._newest is None else self._newest[0].decode())
        return Request("evidence", self.study.digest, self.round, wish.canonical())

    def seal(self, answer: Answer, certificate: bytes | None) -> Request:
        """Verify evidence, and return the sealed upload.

        Parameters
        ----------
        certificate : bytes or None
            Of the server on this connection, DER; None where nothing of it is seen: a folder that somebody carries.

        Raises
        ------
        EvidenceRefused
            If the evidence is not an enclave's of the study's policy, bound to this nonce, this connection, this study,
            and a log that holds the site's newest receipt.
        """
        try:
            offered = EvidenceOffer.model_validate_json(answer.document)
            evidence = offered.evidence()
        except (ValueError, FedcallError) as error:
            raise EvidenceRefused("malformed", f"not evidence of an enclave ({type(error).__name__})") from None
        tls_key = offered.tls_key if certificate is None else _tls_key(certificate)
        if tls_key != offered.tls_key:
            raise EvidenceRefused(
                "tls-key",
                f"the enclave ends TLS with key {offered.tls_key[:16]}…, this connection ends at {tls_key[:16]}…: the"
                " evidence was relayed, or a proxy stands before the enclave",
            )
        binding = Binding(
            nonce=self._nonce,
            tls_key=tls_key,
            hpke_key=offered.hpke_key,
            study=self.study.digest,
            log_head=None if self._newest is None else self._newest[1].log_head,
        )
        policy = self.study.protection.evidence
        assert policy is not None  # read_study refuses an incomplete study
        verdict = verify_evidence(evidence, policy, report_data(binding), now())
        record = SealedTo(
            site=self.site,
            study=self.study.digest,
            round=self.round,
            platform=verdict.platform,
            details=verdict.details,
            measurement=verdict.measurement,
            verified=verdict.time,
            checks=len(verdict.checks),
            tls_seen=certificate is not None,
        )
        self._kept = evidence, binding, record
        place = UploadPlace(self.study.digest, self.site, self.round)
        recipient = bytes.fromhex(offered.hpke_key)
        return Request(
            "upload",
            self.study.digest,
            self.round,
            b"",
            seal_upload(self.claim, self.update, place, recipient, self._secret),
        )

    def keep(self, receipt: bytes, output: Path) -> None:
        """Keep the receipt as the newest, and what was verified as a folder beside where the receipt will lie."""
        assert self._kept is not None  # there is no receipt without a sealed upload
        keep_record(record_folder(output), *self._kept)
        folder = self.keys / "receipts"
        make_private_folder(folder)
        write_bytes(folder / f"{self.study.digest}.json", receipt)


def newest_receipt(keys: Path, study: Study) -> tuple[bytes, Receipt] | None:
    """Return the newest signed receipt of a sealed study that this site keeps with its keys; None before the first."""
    path = Path(keys) / "receipts" / f"{study.digest}.json"
    try:
        signed = path.read_bytes()
        return signed, read_unverified(signed, Receipt)[0]
    except FileNotFoundError:
        return None
    except (OSError, FedcallError) as error:
        raise FedcallError(f"{path}: not the receipt that was kept ({error}); restore it from your backup") from None


def now() -> datetime.datetime:
    """Return the time that certificates, lists and collateral must be current at."""
    return datetime.datetime.now(datetime.UTC)


def _tls_key(certificate: bytes) -> str:
    try:
        return key_digest(x509.load_der_x509_certificate(certificate))
    except ValueError:
        raise EvidenceRefused(
            "tls-key", "this connection shows no certificate, so nothing ties it to the enclave"
        ) from None
