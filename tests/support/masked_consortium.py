"""A consortium of masked updates: sites with honest vectors, helpers, and an aggregator's state, in one process."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from consortium import Consortium, make_consortium
from fedcall.documents import sign
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.helper.desk import HelperDesk, SignedMasks
from fedcall.keys import read_secret, read_signing_key
from fedcall.privacy.mechanism.pooling import SUM_GRID
from fedcall.privacy.terms import PrivacyTerms
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.protection.masks import Release, mask_update
from fedcall.study.sums import vector_multiplier
from fedcall.weights import Weights, read_weights, weights_bytes

SITES = {"east": 20, "north": 40, "south": 20}
PRIVACY = PrivacyTerms(noise="pooled", noise_multiplier=2.0, steps_per_round=1, delta=1e-3, max_epsilon=6.0)


@dataclass(frozen=True)
class MaskedConsortium(Consortium):
    """Adds vectors, helpers and their desks to a consortium."""

    @property
    def helpers(self) -> tuple[str, ...]:
        return tuple(helper.name for helper in self.study.protection.helpers)

    def vector(self, site: str, number: int, base: Weights) -> dict[str, np.ndarray]:
        """Return a vector that is nothing but the site's share of the noise."""
        generator = np.random.default_rng([number, *site.encode()])
        scale = vector_multiplier(self.study) * SUM_GRID
        names = self.study.model.trainable_names(base.tensors)
        return {name: np.rint(generator.normal(0, scale, base.tensors[name].shape)).astype(np.int32) for name in names}

    def answer(
        self, site: str, number: int, base: Weights, /, vector: dict[str, np.ndarray] | None = None, **changes
    ) -> tuple[bytes, bytes]:
        """Return the signed claim and the masked update of a site, with `changes` made to the claim."""
        hidden = self.vector(site, number, base) if vector is None else vector
        helpers = {helper.name: helper.hpke_key for helper in self.study.protection.helpers}
        release = Release(self.study.digest, site, number, "0" * 64)
        masked = mask_update(hidden, release, read_secret(self.keys(site)), helpers)
        claim = self.claim(site, number, base.digest, masked.tensors, **{"envelope": masked.envelope, **changes})
        metadata = {"study": self.study.digest, "round": str(number), "base": base.digest}
        return self.sign_claim(claim, site), weights_bytes(masked.tensors, metadata)

    def write_answer(self, site: str, number: int, model: Path, folder: Path) -> tuple[Path, Path]:
        claim, update = self.answer(site, number, read_weights(model))
        paths = folder / f"{site}.{number}.safetensors", folder / f"{site}.{number}.claim.json"
        paths[0].write_bytes(update)
        paths[1].write_bytes(claim)
        return paths

    def desk(self, helper: str, state: Path | None = None) -> HelperDesk:
        return HelperDesk(state or self.folder / "helpers" / helper, self.keys(helper), self.study)

    def open_state(self, folder: Path | None = None) -> StudyState:
        return StudyState(folder or self.state, self.study, read_signing_key(self.keys("coordinator")), self.initial)

    def upload_all(self, state: StudyState, number: int, sites: list[str] | None = None) -> None:
        base = read_weights(state.model_path(number))
        for site in sites or [site.name for site in self.study.sites]:
            state.answer(site, number, *self.answer(site, number, base))

    def help(self, state: StudyState, helper: str, seconds: int = 1) -> SignedMasks:
        """Return a helper's answer to the open order."""
        pending = state.sums.pending(helper)
        assert pending is not None
        return self.desk(helper).answer(*pending, seconds, lambda site: state.sums.listed(helper, site))

    def ask_helpers(self, state: StudyState) -> None:
        """Bring each helper the open order and its answer back."""
        for helper in self.helpers:
            pending = state.sums.pending(helper)
            if pending is not None:
                given = self.help(state, helper, int(time.time()))
                state.sums.take(helper, given.statement, given.masks)

    def play_round(self, state: StudyState, number: int) -> None:
        self.upload_all(state, number)
        assert not state.close_round_if_due()
        self.ask_helpers(state)
        assert state.close_round_if_due()

    def total(self, number: int, base: Weights, sites: list[str] | None = None) -> dict[str, np.ndarray]:
        """Return the sum of the vectors in the clear."""
        vectors = [self.vector(site, number, base) for site in sites or [site.name for site in self.study.sites]]
        return {name: sum(vector[name] for vector in vectors) for name in vectors[0]}

    def sign_as_coordinator(self, document) -> bytes:
        return sign(document, read_signing_key(self.keys("coordinator")))


def make_masked_consortium(
    folder: Path,
    rounds: int = 2,
    patients: dict[str, int] | None = None,
    helpers: tuple[str, ...] = ("notary",),
    minimum_sites: int = 3,
    **terms,
) -> MaskedConsortium:
    """Make a consortium of three sites by default, and keys of its helpers."""
    identities = [create_helper_keys(folder / "keys" / name, name) for name in helpers]
    protection = {
        "mode": "masked",
        "minimum_sites": minimum_sites,
        "helpers": [identity.model_dump() for identity in identities],
        **terms.pop("more_protection", {}),
    }
    given = {"privacy": PRIVACY, "protection": protection, **terms}
    made = make_consortium(folder, rounds, patients or SITES, **given)
    return MaskedConsortium(made.folder, made.study)
