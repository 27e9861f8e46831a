"""A consortium of a sealed study: a simulated machine, sites that seal to it, an aggregator's state inside it."""

from dataclasses import dataclass
from pathlib import Path

from consortium import Consortium, make_consortium
from fedcall.attestation.enclave import SimulatedEnclave, create_simulated
from fedcall.federation.aggregator.enclave import EnclaveKeys
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Answer, Request
from fedcall.federation.site.sealing import SealedUpload
from fedcall.keys import read_signing_key
from fedcall.weights import Weights, read_weights, weights_bytes

SITES = {"east": 20, "north": 40, "south": 20}
TLS_KEY = "ab" * 32  # where no connection is made


@dataclass(frozen=True)
class SealedConsortium(Consortium):
    """Adds the machine, and sites that verify and seal, to a consortium."""

    @property
    def machine(self) -> Path:
        return self.folder / "machine"

    def enclave(self, machine: SimulatedEnclave | None = None) -> EnclaveKeys:
        return EnclaveKeys(machine or create_simulated(self.machine), self.study, TLS_KEY)

    def open_state(self, folder: Path | None = None, enclave: EnclaveKeys | None = None) -> StudyState:
        key = read_signing_key(self.keys("coordinator"))
        return StudyState(folder or self.state, self.study, key, self.initial, enclave or self.enclave())

    def contents(self, site: str, number: int, base: Weights, **changes) -> tuple[bytes, bytes]:
        """Return the signed claim and the update of a site."""
        tensors = self.update(site, number, base)
        claim = self.claim(site, number, base.digest, tensors, **changes)
        metadata = {"study": self.study.digest, "round": str(number), "base": base.digest}
        return self.sign_claim(claim, site), weights_bytes(tensors, metadata)

    def prepare(self, site: str, number: int, claim: bytes, update: bytes) -> SealedUpload:
        keys = self.keys(site)
        return SealedUpload(self.study, site, number, claim, update, keys, read_signing_key(keys), draws_nonce=False)

    def ask(self, state: StudyState, upload: SealedUpload) -> Answer:
        return respond(state, upload.site, upload.wish)

    def sealed(self, state: StudyState, site: str, number: int, **changes) -> Request:
        """Return a site's sealed upload, after it verified the evidence."""
        base = read_weights(state.model_path(min(number, state.log.open_round)))
        upload = self.prepare(site, number, *self.contents(site, number, base, **changes))
        return upload.seal(self.ask(state, upload), None)

    def send(self, state: StudyState, site: str, number: int, keep: bool = True, **changes) -> bytes:
        """Ask, verify, seal, upload, and keep the receipt as a site does; return the signed receipt."""
        base = read_weights(state.model_path(min(number, state.log.open_round)))
        upload = self.prepare(site, number, *self.contents(site, number, base, **changes))
        request = upload.seal(self.ask(state, upload), None)
        receipt = respond(state, site, request).document
        if keep:
            upload.keep(receipt, self.receipt(site, number))
        return receipt

    def receipt(self, site: str, number: int) -> Path:
        return self.folder / "results" / site / "rounds" / str(number) / "receipt.json"

    def play_round(self, state: StudyState, number: int) -> None:
        for site in self.study.sites:
            self.send(state, site.name, number)
        assert state.close_round_if_due()


def make_sealed_consortium(folder: Path, rounds: int = 2, patients: dict[str, int] | None = None, **terms):
    """Make a consortium of three sites by default, whose policy accepts its own simulated machine."""
    machine = create_simulated(folder / "machine")
    protection = {"mode": "sealed", "minimum_sites": 2, "evidence": machine.policy.model_dump()}
    made = make_consortium(folder, rounds, patients or SITES, **{"protection": protection, **terms})
    return SealedConsortium(made.folder, made.study)
