"""Opening the sum of many masked updates, helper included, against Flower's plain average of as many updates."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.benchmarks.aggregate import plain_updates, shipped_or_made
from fedcall.benchmarks.alternation import alternate, median_ratio
from fedcall.documents import sign
from fedcall.federation.aggregator.aggregation import Contribution, next_global, quiet_flower
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.helper.desk import HelperDesk
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.pooling import SUM_GRID
from fedcall.privacy.terms import PrivacyTerms
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.protection.masks import Release, mask_update
from fedcall.study.claims import Claim
from fedcall.study.sums import vector_multiplier
from fedcall.study.terms import AggregationTerms, Study
from fedcall.weights import weights_bytes, weights_digest, write_weights

_PRIVACY = PrivacyTerms(noise="pooled", noise_multiplier=2.0, steps_per_round=1, delta=1e-3, max_epsilon=6.0)
_PATIENTS = 10


class SumBenchmark(BaseModel):
    """One masked round with one size of model. Seconds are wall-clock."""

    parameters: int
    sites: int
    opening_seconds: float  # the aggregator's: masked updates minus masks, checks, average, next model
    helper_seconds: float  # verifying the order and all claims, opening the seeds, adding the masks
    averaging_seconds: float  # of as many plain updates, by Flower's strategy, as in a plain study
    opening_ratio: float  # opening over averaging, median of turns measured side by side
    opening_and_helper_ratio: float
    masking_seconds: float  # of one site
    upload_bytes: int  # masked update and claim of one site
    plain_upload_bytes: int
    upload_ratio: float
    repeats: int


@dataclass(frozen=True)
class _Round:
    """A round that is ordered: its aggregator, its helper, and what sites sent."""

    state: StudyState
    desk: HelperDesk
    order: tuple[bytes, bytes]
    upload_bytes: int
    masking_seconds: float


def benchmark_masked_sum(sites: int, parameters: int | None, repeats: int) -> SumBenchmark:
    """Open the sum of `sites` masked updates; the shipped model without `parameters`."""
    quiet_flower()
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        tensors = shipped_or_made(parameters)
        plain = plain_updates(folder / "plain", tensors, max(sites, 2))
        study = _agree(folder, tensors, max(sites, 2))
        made = _ordered(folder, study, tensors)
        base = {name: np.array(tensor) for name, tensor in tensors.items()}
        contributions = [Contribution(site, update, _PATIENTS) for site, (update, _) in plain.items()]
        given = made.desk.answer(*made.order, 1)
        made.state.sums.take(made.desk.helper.name, given.statement, given.masks)
        turns = {
            "opening": lambda: made.state.sums.close(base),
            "helper": lambda: made.desk.answer(*made.order, 1),
            "averaging": lambda: next_global(tensors, contributions, AggregationTerms()),
        }
        seconds = alternate(turns, repeats)
        update, claim = next(iter(plain.values()))
        plain_bytes = update.stat().st_size + claim.stat().st_size
    both = [one + other for one, other in zip(seconds["opening"], seconds["helper"], strict=True)]
    return SumBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=max(sites, 2),
        opening_seconds=statistics.median(seconds["opening"]),
        helper_seconds=statistics.median(seconds["helper"]),
        averaging_seconds=statistics.median(seconds["averaging"]),
        opening_ratio=median_ratio(seconds["opening"], seconds["averaging"]),
        opening_and_helper_ratio=median_ratio(both, seconds["averaging"]),
        masking_seconds=made.masking_seconds,
        upload_bytes=made.upload_bytes,
        plain_upload_bytes=plain_bytes,
        upload_ratio=made.upload_bytes / plain_bytes,
        repeats=repeats,
    )


def as_text(result: SumBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    return "\n".join(
        [
            f"{result.sites} sites, {result.parameters:,} parameters, masked",
            f"  opening          {result.opening_seconds:8.3f} s   ({result.opening_ratio:.2f} times plain averaging:"
            f" {result.averaging_seconds:.3f} s)",
            f"  helper           {result.helper_seconds:8.3f} s   (with opening {result.opening_and_helper_ratio:.2f}"
            " times)",
            f"  masking, a site  {result.masking_seconds:8.3f} s",
            f"  upload           {result.upload_bytes:,} bytes   ({result.upload_ratio:.3f} times a plain one)",
        ]
    )


def _agree(folder: Path, tensors: dict[str, np.ndarray], count: int) -> Study:
    write_weights(folder / "initial.safetensors", tensors, {"architecture": "pileup_residual"})
    coordinator = create_keys(folder / "keys" / "coordinator", "coordinator")
    helper = create_helper_keys(folder / "keys" / "helper", "helper")
    identities = [create_keys(folder / "keys" / f"site-{number:02d}", f"site-{number:02d}") for number in range(count)]
    return Study.model_validate(
        {
            "name": "benchmark",
            "coordinator": coordinator.public_key,
            "sites": [{**identity.model_dump(), "patients": _PATIENTS} for identity in identities],
            "model": {"initial_weights": weights_digest(tensors)},
            "rounds": 1,
            "privacy": _PRIVACY,
            "protection": {"mode": "masked", "minimum_sites": count, "helpers": [helper.model_dump()]},
        }
    )


def _ordered(folder: Path, study: Study, tensors: dict[str, np.ndarray]) -> _Round:
    """Upload a vector of every site, nothing but noise, and order their sum."""
    key = read_signing_key(folder / "keys" / "coordinator")
    state = StudyState(folder / "state", study, key, folder / "initial.safetensors")
    names, scale = study.model.trainable_names(tensors), vector_multiplier(study) * SUM_GRID
    helpers = {helper.name: helper.hpke_key for helper in study.protection.helpers}
    base, epsilon = weights_digest(tensors), study_epsilon(study.privacy, 1).pld
    seconds, size = [], 0
    for site in study.sites:
        generator = np.random.default_rng(list(site.name.encode()))
        vector = {name: np.rint(generator.normal(0, scale, tensors[name].shape)).astype(np.int32) for name in names}
        keys = folder / "keys" / site.name
        start = time.perf_counter()
        masked = mask_update(vector, Release(study.digest, site.name, 1, "0" * 64), read_secret(keys), helpers)
        seconds.append(time.perf_counter() - start)
        claim = Claim(
            study=study.digest,
            site=site.name,
            round=1,
            outcome="update",
            base=base,
            update=weights_digest(masked.tensors),
            privacy=study.privacy,
            epsilon=epsilon,
            ledger_head="0" * 64,
            software="benchmark",
            envelope=masked.envelope,
        )
        signed = sign(claim, read_signing_key(keys))
        update = weights_bytes(masked.tensors, {"study": study.digest, "round": "1", "base": base})
        size = len(signed) + len(update)
        state.answer(site.name, 1, signed, update)
    state.close_round_if_due()
    desk = HelperDesk(folder / "answers", folder / "keys" / "helper", study)
    order = state.sums.pending(desk.helper.name)
    assert order is not None
    return _Round(state, desk, order, size, statistics.median(seconds))
