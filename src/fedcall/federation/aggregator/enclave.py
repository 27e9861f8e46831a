"""The aggregator of a sealed study, inside its enclave: its keys, its evidence, and the uploads that only it reads.

Everything follows from one secret that the hardware gives to this image alone, mixed with the study: the key that sites
seal to, and the key that marks the log's lines as the enclave's own. A restart of the same image finds both again;
another image, another machine or another study finds others, and can neither open an update nor go on with the log.
"""

import datetime
import hashlib
import hmac
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcall.attestation.binding import Binding, report_data
from fedcall.attestation.enclave import Enclave
from fedcall.attestation.evidence import VerifiedEvidence, verify_evidence
from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.noise_checks import EarlierUpdates
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import StudyLog
from fedcall.federation.aggregator.uploads import Uploads
from fedcall.files import make_private_folder, write_bytes
from fedcall.protection.sealed_upload import UploadPlace, open_upload
from fedcall.study.admission_log import Decided
from fedcall.study.claims import ReasonCode, Receipt
from fedcall.study.evidence_exchange import EvidenceOffer, EvidenceWish, offer
from fedcall.study.terms import Study

log = logging.getLogger("fedcall.aggregator")

MEMORY = Path("/dev/shm")

_TOLD_OUTSIDE: dict[ReasonCode, str] = {
    "noise-floor": "the update is too short, or of another shape, for the agreed noise",
    "norm-ceiling": "the update is longer than agreed contributions and noise can make it",
    "range": "the update has values outside of the agreed range",
    "not-finite": "the update has values that are not finite",
    "outlier": "the update is unlike the other sites'",
}


class EnclaveKeys:
    """What an enclave knows of itself in one study.

    Parameters
    ----------
    tls_key : str
        SHA-256 of the key of the TLS certificate that sites see, in hexadecimal.
    """

    def __init__(self, enclave: Enclave, study: Study, tls_key: str) -> None:
        self._enclave, self._study, self.tls_key = enclave, study, tls_key
        secret = enclave.secret()
        self._opening = X25519PrivateKey.from_private_bytes(_derive(secret, b"updates", study))
        self.log_key = _derive(secret, b"log", study)
        self.public = self._opening.public_key().public_bytes_raw()
        self.is_rolled_back = False

    def check(self) -> VerifiedEvidence:
        """Verify this machine's own evidence, before any site does.

        Raises
        ------
        EvidenceRefused
            If the study's policy does not accept this machine.
        """
        policy = self._study.protection.evidence
        assert policy is not None  # read_study refuses an incomplete study
        data = report_data(self._binding("00" * 32, None))
        return verify_evidence(self._enclave.evidence(data), policy, data, datetime.datetime.now(datetime.UTC))

    def answer(self, site: str, wish: bytes, heads: Iterator[str]) -> EvidenceOffer:
        """Return evidence for a site's nonce, unless the log lacks what the site was told.

        Parameters
        ----------
        wish : bytes
            An `EvidenceWish`.
        heads : iterator of str
            Heads of all lines of the log.

        Raises
        ------
        FedcallError
            If it is no wish, its receipt is not the coordinator's for this site, or the log was rolled back.
        """
        try:
            asked = EvidenceWish.model_validate_json(wish)
        except ValueError:
            raise FedcallError("not a request for evidence") from None
        head = None if asked.receipt is None else self._head(site, asked.receipt)
        if head is not None and head not in heads:
            self.is_rolled_back = True
            log.error("site %s holds a receipt that this log does not: the state was rolled back", site)
        if self.is_rolled_back:
            raise FedcallError(
                "the aggregator's state was rolled back: a receipt that it signed is not in its log. It gives no"
                " evidence and closes no round; ask the coordinator for the newest state"
            )
        data = report_data(self._binding(asked.nonce, head))
        return offer(self._enclave.evidence(data), self.tls_key, self.public)

    def open(self, site: str, number: int, sealed: bytes) -> tuple[bytes, bytes]:
        """Return claim and update of a sealed upload.

        Raises
        ------
        FedcallError
            If it was not sealed to this enclave, for this study, site and round.
        """
        opened = open_upload(sealed, self._opening, UploadPlace(self._study.digest, site, number))
        if opened is None:
            raise FedcallError(
                f"this study's updates are sealed to its enclave; what site '{site}' sent for round {number} is not"
                " sealed to this one: ask for its evidence again, then upload"
            )
        return opened

    def _binding(self, nonce: str, head: str | None) -> Binding:
        return Binding(
            nonce=nonce, tls_key=self.tls_key, hpke_key=self.public.hex(), study=self._study.digest, log_head=head
        )

    def _head(self, site: str, signed: str) -> str:
        assert self._study.coordinator is not None
        receipt = verify(signed.encode(), Receipt, self._study.coordinator)
        if (receipt.study, receipt.site) != (self._study.digest, site):
            raise FedcallError(f"the receipt is of site '{receipt.site}' in another study or of another site")
        return receipt.log_head


@dataclass(frozen=True)
class SealedFiles(StudyFiles):
    """A state folder in which uploads lie as they came; opened ones lie in memory, and only while a round closes."""

    keys: EnclaveKeys
    room: Path

    def update(self, number: int, site: str) -> Path:
        """An opened update; there only inside `opened`."""
        return self.room / str(number) / f"{site}.safetensors"

    def claim(self, number: int, site: str) -> Path:
        """The claim of an opened upload; there only inside `opened`."""
        return self.room / str(number) / f"{site}.claim.json"

    @contextmanager
    def opened(self, answers: Sequence[Decided]) -> Iterator[None]:
        """Open accepted uploads for a while.

        Raises
        ------
        FedcallError
            If one is not the upload that the log says was accepted. Anybody can seal something to the enclave's key: an
            average over an upload that was exchanged on the disk would tell the others.
        """
        try:
            for answer in answers:
                self.open(answer)
            yield
        finally:
            shutil.rmtree(self.room, ignore_errors=True)

    def open(self, answer: Decided) -> None:
        """Open one accepted upload into memory."""
        number, site = answer.round, answer.site
        path = self.upload(number, site)
        try:
            claim, update = self.keys.open(site, number, path.read_bytes())
        except (OSError, FedcallError):
            claim, update = b"", b""
        if (_sha256(claim), _sha256(update)) != (answer.claim, answer.update):
            raise FedcallError(f"{path}: not the upload that was accepted; restore it from your backup")
        make_private_folder(self.room)
        write_bytes(self.claim(number, site), claim)
        write_bytes(self.update(number, site), update)


class SealedEarlierUpdates(EarlierUpdates):
    """Samples of accepted updates, each opened once, by itself."""

    def __init__(self, secret: bytes, files: SealedFiles, log: StudyLog) -> None:
        super().__init__(secret)
        self._files, self._log = files, log

    def sample(self, path: Path) -> np.ndarray:
        """Return the compared coordinates, opening the upload for as long as that takes."""
        if path in self._samples or path.exists():
            return super().sample(path)
        number, site = int(path.parent.name), path.name.removesuffix(".safetensors")
        self._files.open(self._log.site(site).settled[number].entry)
        try:
            return super().sample(path)
        finally:
            path.unlink()


class SealedUploads(Uploads):
    """The uploads of a sealed study: on disk as they came, and nothing is told that was measured on one."""

    def __init__(self, files: SealedFiles) -> None:
        super().__init__(files)
        self._sealed = files

    def earlier(self, secret: bytes, log: StudyLog) -> EarlierUpdates:
        """Return samples for which each upload is opened by itself."""
        return SealedEarlierUpdates(secret, self._sealed, log)

    def opened(self, answers: Sequence[Decided]) -> AbstractContextManager[None]:
        """Open accepted uploads in memory for a while; FedcallError as `SealedFiles.opened`."""
        return self._sealed.opened(answers)

    def told(self, reason: ReasonCode, sentence: str, before: str = "") -> str:
        """Return what leaves the enclave."""
        return before + told_outside(reason, sentence) if reason in _TOLD_OUTSIDE else sentence

    def keep(self, entry: Decided, claim: bytes, update: bytes, sealed: bytes) -> None:
        """Store an upload as it came."""
        write_bytes(self.files.upload(entry.round, entry.site), sealed)

    def set_aside(self, place: Path, claim: bytes, update: bytes, sealed: bytes) -> None:
        """Store a refused upload as it came."""
        write_bytes(place / "upload.sealed", sealed)

    def set_outlier_aside(self, place: Path, number: int, site: str) -> None:
        """Copy an upload as it came."""
        write_bytes(place / "upload.sealed", self.files.upload(number, site).read_bytes())


def sealed_files(folder: Path, study: Study, keys: EnclaveKeys) -> SealedFiles:
    """Return the files of a sealed study; what a killed process left in memory is removed.

    Raises
    ------
    FedcallError
        If this machine has no memory for files (`/dev/shm`): opened updates would lie on a disk.
    """
    if not MEMORY.is_dir():
        raise FedcallError(f"{MEMORY}: not there; a sealed study keeps opened updates in memory only")
    place = hashlib.sha256(f"{study.digest} {Path(folder).resolve()}".encode()).hexdigest()[:24]
    room = MEMORY / f"fedcall-{place}"
    shutil.rmtree(room, ignore_errors=True)
    return SealedFiles(Path(folder), keys, room)


def told_outside(reason: ReasonCode, sentence: str) -> str:
    """Return what leaves the enclave of a decision: no number that was measured on one update."""
    if reason not in _TOLD_OUTSIDE:
        return sentence
    return f"{_TOLD_OUTSIDE[reason]}; what was measured stays in the enclave"


def mark(key: bytes, head: str) -> str:
    """Return the enclave's mark of a line of its log."""
    return hmac.digest(key, b"fedcall log line\0" + head.encode(), "sha256").hex()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _derive(secret: bytes, purpose: bytes, study: Study) -> bytes:
    info = b"fedcall enclave v1\0" + purpose + b"\0" + study.digest.encode()
    return HKDF(hashes.SHA256(), length=32, salt=b"fedcall", info=info).derive(secret)
