"""What becomes of uploads at an aggregator: how they are kept, who may read them when, and what may be told of them.

Here as they came, for the coordinator to read. `enclave.SealedUploads` keeps them sealed, and lets no number out that
was measured on one.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from fedcall.federation.aggregator.admission import MAX_CLAIM_BYTES
from fedcall.federation.aggregator.noise_checks import EarlierUpdates
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import StudyLog
from fedcall.files import write_bytes
from fedcall.study.admission_log import Decided
from fedcall.study.claims import ReasonCode


class Uploads:
    """The uploads of one study, in the files of its state folder."""

    def __init__(self, files: StudyFiles) -> None:
        self.files = files

    def earlier(self, secret: bytes, log: StudyLog) -> EarlierUpdates:
        """Return the samples of accepted updates, with which later ones are compared."""
        return EarlierUpdates(secret)

    def opened(self, answers: Sequence[Decided]) -> AbstractContextManager[None]:
        """Make accepted uploads readable for a while."""
        return nullcontext()

    def told(self, reason: ReasonCode, sentence: str, before: str = "") -> str:
        """Return what a site, the log and the operator are told of a decision; `before` is how the sentence begins."""
        return sentence

    def keep(self, entry: Decided, claim: bytes, update: bytes, sealed: bytes) -> None:
        """Store an upload that counts."""
        if update:
            write_bytes(self.files.update(entry.round, entry.site), update)
        write_bytes(self.files.claim(entry.round, entry.site), claim)

    def set_aside(self, place: Path, claim: bytes, update: bytes, sealed: bytes) -> None:
        """Store an upload that was refused in a folder of the quarantine."""
        write_bytes(place / "claim.json", claim[:MAX_CLAIM_BYTES])
        if update:
            write_bytes(place / "update.safetensors", update)

    def set_outlier_aside(self, place: Path, number: int, site: str) -> None:
        """Copy an upload that was kept into a folder of the quarantine."""
        write_bytes(place / "claim.json", self.files.claim(number, site).read_bytes())
        write_bytes(place / "update.safetensors", self.files.update(number, site).read_bytes())
