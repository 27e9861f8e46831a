"""Where things lie in an aggregator's state folder.

study.json  admission.jsonl
rounds/{round}/global.safetensors, opening.json       the model going into the round, and its signed digest
rounds/{round}/moments.safetensors                    what fedadam remembers, going into the round
rounds/{round}/accepted/{site}.safetensors, .claim.json; of a sealed study both in one, {site}.sealed, as it came
rounds/{round}/masks/{helper}.masks, .json            a helper's sum of masks, and its signed answer; .refusal if none
rounds/{round}/masks/{helper}.partial                 a key holder's partial decryption, where updates are encrypted
rounds/{round}/receipts/{site}.json                   the answer that settled the round for the site
judgements/{site}.json, {site}.receipt.json           what held-out patients say of the final model, and the answer
judgements/verdict.json                               all of them, closed and signed
quarantine/{site}-{round}-{claim}/claim.json, update.safetensors (or upload.sealed), receipt.json
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyFiles:
    """The paths of one state folder."""

    folder: Path

    @property
    def study(self) -> Path:
        """The signed study."""
        return self.folder / "study.json"

    @property
    def log(self) -> Path:
        """The admission log."""
        return self.folder / "admission.jsonl"

    def model(self, number: int) -> Path:
        """The model going into a round."""
        return self._round(number) / "global.safetensors"

    def opening(self, number: int) -> Path:
        """The signed opening of a round."""
        return self._round(number) / "opening.json"

    def moments(self, number: int) -> Path:
        """Fedadam's moments going into a round."""
        return self._round(number) / "moments.safetensors"

    def update(self, number: int, site: str) -> Path:
        """An accepted update."""
        return self._round(number) / "accepted" / f"{site}.safetensors"

    def claim(self, number: int, site: str) -> Path:
        """The claim of an accepted or withheld update."""
        return self._round(number) / "accepted" / f"{site}.claim.json"

    def upload(self, number: int, site: str) -> Path:
        """An accepted or withheld upload of a sealed study."""
        return self._round(number) / "accepted" / f"{site}.sealed"

    def masks(self, number: int, helper: str) -> Path:
        """A helper's sum of masks."""
        return self._round(number) / "masks" / f"{helper}.masks"

    def partial(self, number: int, helper: str) -> Path:
        """A key holder's partial decryption of the sum."""
        return self._round(number) / "masks" / f"{helper}.partial"

    def mask_statement(self, number: int, helper: str) -> Path:
        """A helper's signed answer to a sum order."""
        return self._round(number) / "masks" / f"{helper}.json"

    def mask_refusal(self, number: int, helper: str) -> Path:
        """Why a helper does not answer a sum order."""
        return self._round(number) / "masks" / f"{helper}.refusal"

    def receipt(self, number: int, site: str) -> Path:
        """The receipt that settled a round for a site."""
        return self._round(number) / "receipts" / f"{site}.json"

    def judgement(self, site: str) -> Path:
        """An accepted or withheld judgement."""
        return self.folder / "judgements" / f"{site}.json"

    def judgement_receipt(self, site: str) -> Path:
        """The answer to it."""
        return self.folder / "judgements" / f"{site}.receipt.json"

    @property
    def verdict(self) -> Path:
        """The signed list of all judgements."""
        return self.folder / "judgements" / "verdict.json"

    def quarantine(self, identifier: str) -> Path:
        """The folder of a refused upload."""
        return self.folder / "quarantine" / identifier

    def _round(self, number: int) -> Path:
        return self.folder / "rounds" / str(number)
