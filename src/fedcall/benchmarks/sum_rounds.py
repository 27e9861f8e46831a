"""A round whose updates are hidden, made for a benchmark: agreed, uploaded, ordered."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.documents import sign
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.helper.desk import HelperDesk
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.pooling import SUM_GRID
from fedcall.privacy.terms import PrivacyTerms
from fedcall.protection.envelope import Envelope
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.protection.masks import Release, mask_update
from fedcall.study.claims import Claim
from fedcall.study.sums import vector_multiplier
from fedcall.study.terms import Study
from fedcall.weights import weights_bytes, weights_digest, write_weights

PATIENTS = 10
_PRIVACY = PrivacyTerms(noise="pooled", noise_multiplier=2.0, steps_per_round=1, delta=1e-3, max_epsilon=6.0)

Hide = Callable[[str, dict[str, np.ndarray]], tuple[Mapping[str, np.ndarray], Envelope]]
"""Hides the vector of a site."""


class SumCost(BaseModel):
    """What one round costs each part in one mode. Seconds are processor time, children included."""

    site_seconds: float  # hiding the update; sealed: verifying the enclave's evidence, too
    helper_seconds: float | None  # a first answer: order and claims verified, masks summed; encrypted: decrypted, too
    admitting_seconds: float  # at the aggregator: claims and updates of all sites checked and stored
    aggregator_seconds: float  # closing the round: the sum or average opened and checked, next model
    upload_bytes: int  # of one site
    helper_download_bytes: int  # by one helper: the order with all claims; encrypted: all listed updates, too
    helper_answer_bytes: int  # of one helper

    def taken_in(self, sites: int, helpers: int) -> int:
        """Return the bytes that the aggregator receives in a round."""
        return sites * self.upload_bytes + helpers * self.helper_answer_bytes

    def given_out(self, helpers: int) -> int:
        """Return the bytes that the aggregator gives to helpers in a round; models and receipts are as in each mode."""
        return helpers * self.helper_download_bytes


@dataclass(frozen=True)
class OrderedRound:
    """A round that is ordered: its aggregator, what sites sent, and the sum of their vectors in the clear."""

    folder: Path
    state: StudyState
    upload_bytes: int
    hiding_seconds: float
    admitting_seconds: float  # of all sites' uploads
    total: dict[str, np.ndarray]

    def order(self, helper: str) -> tuple[bytes, bytes]:
        """Return the order and the papers for a helper."""
        pending = self.state.sums.pending(helper)
        assert pending is not None
        return pending

    def desk(self, helper: str, answers: Path) -> HelperDesk:
        """Return a helper's desk with a log in a folder."""
        return HelperDesk(answers, self.folder / "keys" / helper, self.state.study)


def agree(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    count: int,
    helpers: Sequence[str],
    protection: Mapping[str, object],
) -> Study:
    """Make keys in `folder`, and a study of so many sites whose sums are opened with these helpers."""
    write_weights(folder / "initial.safetensors", tensors, {"architecture": "pileup_residual"})
    coordinator = create_keys(folder / "keys" / "coordinator", "coordinator")
    known = [create_helper_keys(folder / "keys" / name, name).model_dump() for name in helpers]
    identities = [create_keys(folder / "keys" / f"site-{number:02d}", f"site-{number:02d}") for number in range(count)]
    return Study.model_validate(
        {
            "name": "benchmark",
            "coordinator": coordinator.public_key,
            "sites": [{**identity.model_dump(), "patients": PATIENTS} for identity in identities],
            "model": {"initial_weights": weights_digest(tensors)},
            "rounds": 1,
            "privacy": _PRIVACY,
            "protection": {"minimum_sites": count, "helpers": known, **protection},
        }
    )


def hide_with_masks(folder: Path, study: Study) -> Hide:
    """Return how sites of a masked study hide their vectors."""
    helpers = {helper.name: helper.hpke_key for helper in study.protection.helpers}

    def hide(site: str, vector: dict[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], Envelope]:
        masked = mask_update(vector, release(study, site), read_secret(folder / "keys" / site), helpers)
        return masked.tensors, masked.envelope

    return hide


def release(study: Study, site: str) -> Release:
    """Return the release of a site's only round."""
    return Release(study.digest, site, 1, "0" * 64)


def processor_seconds() -> float:
    """Return the processor time of this process and, in steps of 10 ms, of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def ordered_round(
    folder: Path,
    study: Study,
    tensors: Mapping[str, np.ndarray],
    hide: Hide,
    clock: Callable[[], float] = time.perf_counter,
) -> OrderedRound:
    """Upload a vector of every site, nothing but noise, and order their sum."""
    key = read_signing_key(folder / "keys" / "coordinator")
    state = StudyState(folder / "state", study, key, folder / "initial.safetensors")
    names, scale = study.model.trainable_names(tensors), vector_multiplier(study) * SUM_GRID
    base, epsilon = weights_digest(tensors), study_epsilon(study.privacy, 1).pld
    total = {name: np.zeros(tensors[name].shape, np.int32) for name in names}
    seconds, admitting, size = [], 0.0, 0
    for site in study.sites:
        generator = np.random.default_rng(list(site.name.encode()))
        vector = {name: np.rint(generator.normal(0, scale, tensors[name].shape)).astype(np.int32) for name in names}
        for name in names:
            total[name] += vector[name]
        start = clock()
        hidden, envelope = hide(site.name, vector)
        seconds.append(clock() - start)
        claim = Claim(
            study=study.digest,
            site=site.name,
            round=1,
            outcome="update",
            base=base,
            update=weights_digest(hidden),
            privacy=study.privacy,
            epsilon=epsilon,
            ledger_head="0" * 64,
            software="benchmark",
            envelope=envelope,
        )
        signed = sign(claim, read_signing_key(folder / "keys" / site.name))
        update = weights_bytes(hidden, {"study": study.digest, "round": "1", "base": base})
        size = len(signed) + len(update)
        start = clock()
        state.answer(site.name, 1, signed, update)
        admitting += clock() - start
    state.close_round_if_due()
    return OrderedRound(folder, state, size, statistics.median(seconds), admitting, total)
