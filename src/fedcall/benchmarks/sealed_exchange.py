"""An exchange with an enclave, on a simulated machine, against a plain one: both aggregators serve at the same time."""

import datetime
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import BaseModel

from fedcall.attestation.enclave import create_simulated
from fedcall.attestation.evidence import expected_report_data, read_evidence, verify_evidence
from fedcall.attestation.policy import EvidencePolicy
from fedcall.benchmarks.aggregate import agree, exchange, serving, shipped_or_made
from fedcall.benchmarks.alternation import median_ratio, median_seconds
from fedcall.protection.sealed_upload import UploadPlace, open_upload, seal_upload
from fedcall.study.protection import Protection
from fedcall.yaml_files import read_yaml

_UPLOAD_BYTES = 240_000


class SealedBenchmark(BaseModel):
    """What sealing adds. Wall-clock seconds; an exchange is fetch and upload of one site, evidence included."""

    parameters: int
    sites: int
    sealing_seconds: float  # of 240 kB
    opening_seconds: float
    verification_seconds: float | None  # of the evidence given; None without
    verified: str  # what it was
    plain_exchange_seconds: float
    sealed_exchange_seconds: float
    exchange_ratio: float  # sealed over plain, median of sites that went to both, one after the other
    repeats: int


class RealEvidence(BaseModel):
    """Evidence of a real processor to time: a folder, its policy, what it is bound to, and when to verify it."""

    folder: Path
    policy: Path
    report_data: str | None = None
    time: datetime.datetime


def benchmark_sealed_exchange(
    sites: int, parameters: int | None, repeats: int, real: RealEvidence | None = None
) -> SealedBenchmark:
    """Let `sites` sites each go to a plain and to a sealed aggregator; the shipped model without `parameters`."""
    sites = max(sites, 2)
    verified, verification = _verification(real, repeats)
    sealing, opening = _sealing(repeats)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        tensors = shipped_or_made(parameters)
        plain, sealed = Path(name) / "plain", Path(name) / "sealed"
        machine = create_simulated(sealed / "machine")
        protection = Protection(mode="sealed", minimum_sites=2, evidence=machine.policy)
        plain_study, plain_files = agree(plain, tensors, sites)
        sealed_study, sealed_files = agree(sealed, tensors, sites, protection)
        seconds: dict[str, list[float]] = {"plain": [], "sealed": []}
        with serving(plain) as (there, _), serving(sealed, "--enclave", f"simulated:{sealed / 'machine'}") as (here, _):
            for number, site in enumerate(plain_files):
                turns: list[tuple[str, Callable[[], float]]] = [
                    ("plain", lambda: exchange(plain, plain_study, site, there, plain_files[site])),  # noqa: B023
                    ("sealed", lambda: exchange(sealed, sealed_study, site, here, sealed_files[site])),  # noqa: B023
                ]
                for kind, turn in turns if number % 2 else reversed(turns):
                    seconds[kind].append(turn())
    return SealedBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=sites,
        sealing_seconds=sealing,
        opening_seconds=opening,
        verification_seconds=verification,
        verified=verified,
        plain_exchange_seconds=statistics.median(seconds["plain"]),
        sealed_exchange_seconds=statistics.median(seconds["sealed"]),
        exchange_ratio=median_ratio(seconds["sealed"], seconds["plain"]),
        repeats=repeats,
    )


def as_text(result: SealedBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    verification = "not timed: give --evidence and --policy"
    if result.verification_seconds is not None:
        verification = f"{1000 * result.verification_seconds:6.1f} ms  ({result.verified})"
    return "\n".join(
        [
            f"{result.sites} sites, {result.parameters:,} parameters, sealed to a simulated machine",
            f"  exchange, a site {result.sealed_exchange_seconds:6.2f} s   ({result.exchange_ratio:.2f} times a plain"
            f" one: {result.plain_exchange_seconds:.2f} s)",
            f"  sealing 240 kB   {1000 * result.sealing_seconds:6.1f} ms  (opening"
            f" {1000 * result.opening_seconds:.1f} ms)",
            f"  verification     {verification}",
        ]
    )


def _sealing(repeats: int) -> tuple[float, float]:
    key, place, update = X25519PrivateKey.generate(), UploadPlace("0" * 64, "site", 1), bytes(_UPLOAD_BYTES)
    public, secret = key.public_key().public_bytes_raw(), bytes(32)
    sealed = seal_upload(b"", update, place, public, secret)
    return (
        median_seconds(lambda: seal_upload(b"", update, place, public, secret), repeats),
        median_seconds(lambda: open_upload(sealed, key, place), repeats),
    )


def _verification(real: RealEvidence | None, repeats: int) -> tuple[str, float | None]:
    if real is None:
        return "", None
    policy = read_yaml(real.policy, EvidencePolicy)
    expected = expected_report_data(real.folder, real.report_data)

    def verify() -> str:
        verdict = verify_evidence(read_evidence(real.folder), policy, expected, real.time)
        return f"{verdict.platform}, {verdict.details}, {len(verdict.checks)} checks"

    return verify(), median_seconds(verify, repeats)
