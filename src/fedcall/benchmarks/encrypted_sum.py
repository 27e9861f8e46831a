"""Opening the sum of many encrypted updates, key holders included, beside masked ones and Flower's plain average."""

import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.benchmarks.aggregate import shipped_or_made
from fedcall.benchmarks.masked_sum import SumBenchmark, benchmark_masked_sum
from fedcall.benchmarks.sum_rounds import Hide, OrderedRound, agree, ordered_round, release
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.keys import read_secret
from fedcall.protection import bfv
from fedcall.protection.ceremony import commit, gather, read_joint_key, reveal, write_shares
from fedcall.protection.encrypting import encrypt_update
from fedcall.protection.envelope import Envelope
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.study.sums import SumLayout, mean_update
from fedcall.study.terms import Study

_HOLDERS = ("holder-a", "holder-b")


class EncryptedBenchmark(BaseModel):
    """One encrypted round with one size of model, and a masked one of the same size. Seconds are wall-clock."""

    parameters: int
    sites: int
    scheme: str
    site_seconds: float  # masking and encrypting, OpenFHE's start included
    holder_seconds: float  # verifying order and claims, adding the ciphertexts, one partial decryption
    aggregator_seconds: float  # fusing, taking the masks off, checks, next model
    upload_bytes: int  # of one site
    holder_download_bytes: int  # all listed updates
    holder_answer_bytes: int  # sum of masks and partial decryption
    shares_bytes: int  # beside the study, once
    site_ratio: float  # over masking
    holder_ratio: float  # over a helper's answer
    aggregator_ratio: float  # over the opening of a masked sum
    upload_ratio: float  # over a plain upload
    masked: SumBenchmark
    repeats: int


def benchmark_encrypted_sum(sites: int, parameters: int | None, repeats: int) -> EncryptedBenchmark:
    """Open the sum of `sites` encrypted updates; the shipped model without `parameters`.

    Raises
    ------
    FedcallError
        If OpenFHE is missing, or the opened sum is not bit for bit the sum in the clear.
    """
    terms, tensors = bfv.parameters(), shipped_or_made(parameters)
    masked = benchmark_masked_sum(sites, parameters, repeats)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        study = _agree(folder, tensors, max(sites, 2))
        made = ordered_round(folder, study, tensors, _hide(folder, study))
        holders, answer = _ask_holders(made, repeats)
        base = {name: np.array(tensor) for name, tensor in tensors.items()}
        opening = []
        for _ in range(repeats):
            start = time.perf_counter()
            closing = made.state.sums.close(base)
            opening.append(time.perf_counter() - start)
        assert closing is not None
        _check_exact(made, base, closing.made.tensors)
    holder, aggregator = statistics.median(holders), statistics.median(opening)
    return EncryptedBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=len(study.sites),
        scheme=terms.sentence(),
        site_seconds=made.hiding_seconds,
        holder_seconds=holder,
        aggregator_seconds=aggregator,
        upload_bytes=made.upload_bytes,
        holder_download_bytes=made.upload_bytes * len(study.sites),
        holder_answer_bytes=answer,
        shares_bytes=len(_HOLDERS) * terms.polynomial_bytes(1),
        site_ratio=made.hiding_seconds / masked.masking_seconds,
        holder_ratio=holder / masked.helper_seconds,
        aggregator_ratio=aggregator / masked.opening_seconds,
        upload_ratio=made.upload_bytes / masked.plain_upload_bytes,
        masked=masked,
        repeats=repeats,
    )


def as_text(result: EncryptedBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    masked = result.masked
    rows = [
        ("", "plain", "masked", "encrypted"),
        ("a site's hiding, s", "", f"{masked.masking_seconds:.3f}", f"{result.site_seconds:.3f}"),
        ("a helper or holder, s", "", f"{masked.helper_seconds:.3f}", f"{result.holder_seconds:.3f}"),
        (
            "aggregator, s",
            f"{masked.averaging_seconds:.3f}",
            f"{masked.opening_seconds:.3f}",
            f"{result.aggregator_seconds:.3f}",
        ),
        (
            "upload of a site, MB",
            f"{masked.plain_upload_bytes / 1e6:.2f}",
            f"{masked.upload_bytes / 1e6:.2f}",
            f"{result.upload_bytes / 1e6:.2f}",
        ),
        ("fetched by a holder, MB", "", "0", f"{result.holder_download_bytes / 1e6:.2f}"),
        ("sent by a holder, MB", "", f"{4e-6 * masked.parameters:.2f}", f"{result.holder_answer_bytes / 1e6:.2f}"),
    ]
    lines = [f"{name:<24}{plain:>12}{one:>12}{other:>12}" for name, plain, one, other in rows]
    return "\n".join([f"{result.sites} sites, {result.parameters:,} parameters", *lines])


def _agree(folder: Path, tensors: dict[str, np.ndarray], count: int) -> Study:
    keys = [folder / "keys" / name for name in _HOLDERS]
    for path, name in zip(keys, _HOLDERS, strict=True):
        create_helper_keys(path, name)
    files = [path / "helper.json" for path in keys]
    for path in keys:
        commit(path, "benchmark", folder / "ceremony")
    for path in keys:
        reveal(path, "benchmark", folder / "ceremony", files)
    joint, shares = gather("benchmark", folder / "ceremony", files)
    write_shares(folder / "study.json", shares)
    return agree(folder, tensors, count, _HOLDERS, {"mode": "encrypted", "encryption": joint.model_dump(mode="json")})


def _hide(folder: Path, study: Study) -> Hide:
    terms = study.protection
    assert terms.encryption is not None
    helpers = {helper.name: helper.hpke_key for helper in terms.helpers}
    key = read_joint_key(terms.encryption, terms.signing_keys, folder / "study.json")

    def hide(site: str, vector: dict[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], Envelope]:
        made = encrypt_update(vector, release(study, site), read_secret(folder / "keys" / site), helpers, key)
        return made.tensors, made.envelope

    return hide


def _ask_holders(made: OrderedRound, repeats: int) -> tuple[list[float], int]:
    """Have both holders answer; return the seconds of the first holder's answers, each as if it were the first."""
    first, seconds, size = _HOLDERS[0], [], 0
    order = {name: made.order(name) for name in _HOLDERS}
    for turn in range(repeats):
        for memory in (made.folder / "keys" / first).glob("answers-*.head"):
            memory.unlink()
        desk = made.desk(first, made.folder / f"answers-{turn}")
        start = time.perf_counter()
        given = desk.answer(*order[first], 1, partial(made.state.sums.listed, first))
        seconds.append(time.perf_counter() - start)
        size = len(given.masks)
    made.state.sums.take(first, given.statement, given.masks)
    for name in _HOLDERS[1:]:
        given = made.desk(name, made.folder / name).answer(*order[name], 1, partial(made.state.sums.listed, name))
        made.state.sums.take(name, given.statement, given.masks)
    return seconds, size


def _check_exact(made: OrderedRound, base: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    study = made.state.study
    layout = SumLayout.of({name: tensor.shape for name, tensor in made.total.items()})
    update = mean_update(study, layout, layout.flatten(made.total), [site.name for site in study.sites])
    expected = apply_update(base, update, study.aggregation).tensors
    if any(not np.array_equal(found[name], expected[name]) for name in expected):
        raise FedcallError("the opened sum is not the sum in the clear")
