"""A round in the modes whose aggregator reads single updates: plain, and sealed to a simulated machine."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fedcall.attestation.enclave import create_simulated
from fedcall.benchmarks.aggregate import agree
from fedcall.benchmarks.alternation import median_seconds
from fedcall.benchmarks.sum_rounds import SumCost, processor_seconds
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.enclave import EnclaveKeys
from fedcall.federation.aggregator.responses import respond
from fedcall.federation.aggregator.round_closing import Closing, admitted_sites, close_round
from fedcall.federation.aggregator.state import StudyState
from fedcall.federation.flower.messages import Request
from fedcall.federation.site.sealing import SealedUpload
from fedcall.keys import read_signing_key
from fedcall.study.protection import Protection
from fedcall.study.terms import Study
from fedcall.weights import read_weights

_TLS_KEY = "ab" * 32  # nothing is sent here

Prepare = Callable[[StudyState, str, bytes, bytes], Request]
"""Makes a site's request of its claim and update."""


def measure_plain(folder: Path, tensors: dict[str, np.ndarray], sites: int, repeats: int) -> SumCost:
    """Play a round of plain updates."""
    study, files = agree(folder, tensors, sites)
    return _measure(_open(folder, study), files, _as_it_is, repeats)


def measure_sealed(folder: Path, tensors: dict[str, np.ndarray], sites: int, repeats: int) -> SumCost:
    """Play a round in which each site asks for evidence, verifies it, and seals; all that is its hiding."""
    machine = create_simulated(folder / "machine")
    study, files = agree(folder, tensors, sites, Protection(mode="sealed", minimum_sites=2, evidence=machine.policy))

    def seal(state: StudyState, site: str, claim: bytes, update: bytes) -> Request:
        keys = folder / "keys" / site
        upload = SealedUpload(study, site, 1, claim, update, keys, read_signing_key(keys))
        return upload.seal(respond(state, site, upload.wish), None)

    return _measure(_open(folder, study, EnclaveKeys(machine, study, _TLS_KEY)), files, seal, repeats)


def _open(folder: Path, study: Study, enclave: EnclaveKeys | None = None) -> StudyState:
    key = read_signing_key(folder / "keys" / "coordinator")
    return StudyState(folder / "state", study, key, folder / "initial.safetensors", enclave)


def _as_it_is(state: StudyState, site: str, claim: bytes, update: bytes) -> Request:
    return Request("upload", state.study.digest, 1, claim, update)


def _measure(state: StudyState, files: Mapping[str, tuple[Path, Path]], prepare: Prepare, repeats: int) -> SumCost:
    hiding, admitting, size = [], [], 0
    for site, (update, claim) in files.items():
        contents = claim.read_bytes(), update.read_bytes()
        start = processor_seconds()
        request = prepare(state, site, *contents)
        hiding.append(processor_seconds() - start)
        size = len(request.claim) + len(request.update)
        start = processor_seconds()
        respond(state, site, request)
        admitting.append(processor_seconds() - start)
    admitted = admitted_sites(state.study, state.log)
    if len(admitted) != len(files):
        raise FedcallError(f"{len(admitted)} of {len(files)} updates were admitted")
    base = read_weights(state.model_path(1)).tensors

    def close() -> Closing:
        earlier = state.uploads.earlier(b"benchmark", state.log)
        with state.uploads.opened([state.log.site(site).settled[1].entry for site in admitted]):
            return close_round(state.study, state.files, state.log, base, earlier)

    return SumCost(
        site_seconds=statistics.median(hiding),
        helper_seconds=None,
        admitting_seconds=sum(admitting),
        aggregator_seconds=median_seconds(close, repeats, processor_seconds),
        upload_bytes=size,
        helper_download_bytes=0,
        helper_answer_bytes=0,
    )
