"""Opening the sum of many encrypted updates, key holders included, beside masked, sealed and plain ones in one run."""

import math
import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fedcall.benchmarks.aggregate import shipped_or_made
from fedcall.benchmarks.alternation import median_seconds
from fedcall.benchmarks.single_updates import measure_plain, measure_sealed
from fedcall.benchmarks.sum_rounds import (
    Hide,
    OrderedRound,
    SumCost,
    agree,
    hide_with_masks,
    ordered_round,
    processor_seconds,
    release,
)
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update, quiet_flower
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
    """One round in each mode of protection, with one size of model and as many sites."""

    parameters: int
    sites: int
    scheme: str
    plain: SumCost
    sealed: SumCost
    masked: SumCost
    encrypted: SumCost
    shares_bytes: int  # beside an encrypted study, once
    site_ratio: float  # encrypted over masked
    helper_ratio: float
    aggregator_ratio: float
    upload_ratio: float
    repeats: int


def benchmark_encrypted_sum(sites: int, parameters: int | None, repeats: int) -> EncryptedBenchmark:
    """Open the sum of `sites` encrypted updates; the shipped model without `parameters`.

    Raises
    ------
    FedcallError
        If OpenFHE is missing, or an opened sum is not bit for bit the sum in the clear.
    """
    quiet_flower()
    count, terms, tensors = max(sites, 2), bfv.parameters(), shipped_or_made(parameters)
    with tempfile.TemporaryDirectory(prefix="fedcall-") as name:
        folder = Path(name)
        study = agree(folder / "masked", tensors, count, _HOLDERS, {"mode": "masked"})
        masked = _measure(folder / "masked", study, hide_with_masks(folder / "masked", study), tensors, repeats)
        study = _agree(folder / "encrypted", tensors, count)
        hide = _hide(folder / "encrypted", study)
        encrypted = _measure(folder / "encrypted", study, hide, tensors, repeats)
        plain = measure_plain(folder / "plain", tensors, count, repeats)
        sealed = measure_sealed(folder / "sealed", tensors, count, repeats)
    return EncryptedBenchmark(
        parameters=sum(tensor.size for tensor in tensors.values()),
        sites=count,
        scheme=terms.sentence(),
        plain=plain,
        sealed=sealed,
        masked=masked,
        encrypted=encrypted,
        shares_bytes=len(_HOLDERS) * terms.polynomial_bytes(1),
        site_ratio=encrypted.site_seconds / masked.site_seconds,
        helper_ratio=(encrypted.helper_seconds or math.nan) / (masked.helper_seconds or math.nan),
        aggregator_ratio=encrypted.aggregator_seconds / masked.aggregator_seconds,
        upload_ratio=encrypted.upload_bytes / masked.upload_bytes,
        repeats=repeats,
    )


def as_text(result: EncryptedBenchmark) -> str:
    """Return the result for people, at most 80 columns."""
    modes = result.plain, result.sealed, result.masked, result.encrypted

    def row(name: str, *cells: str) -> str:
        return f"{name:<25}" + "".join(f"{cell:>13}" for cell in cells)

    def seconds(one: float | None) -> str:
        return "" if one is None else f"{one:.3f}"

    def megabytes(one: int) -> str:
        return f"{one / 1e6:.2f}" if one else ""

    sites, helpers = result.sites, len(_HOLDERS)
    return "\n".join(
        [
            f"{sites} sites, {result.parameters:,} parameters, two helpers or holders",
            row("processor seconds", "plain", "sealed", "masked", "encrypted"),
            row("  a site hides its update", *(seconds(one.site_seconds) for one in modes)),
            row("  a helper or holder", *(seconds(one.helper_seconds) for one in modes)),
            row("  aggregator admits all", *(seconds(one.admitting_seconds) for one in modes)),
            row("  aggregator closes", *(seconds(one.aggregator_seconds) for one in modes)),
            "megabytes",
            row("  sent by a site", *(megabytes(one.upload_bytes) for one in modes)),
            row("  fetched by a holder", *(megabytes(one.helper_download_bytes) for one in modes)),
            row("  sent by a holder", *(megabytes(one.helper_answer_bytes) for one in modes)),
            row("  taken by aggregator", *(megabytes(one.taken_in(sites, helpers)) for one in modes)),
            row("  given by aggregator", *(megabytes(one.given_out(helpers)) for one in modes)),
            f"encrypted against masked: a site's seconds {result.site_ratio:.0f} times, a holder's"
            f" {result.helper_ratio:.0f},",
            f"closing {result.aggregator_ratio:.0f}, the upload {result.upload_ratio:.1f};"
            " each opened sum is bit for bit that in the clear",
        ]
    )


def _measure(folder: Path, study: Study, hide: Hide, tensors: Mapping[str, np.ndarray], repeats: int) -> SumCost:
    """Play a round; each of a helper's answers is a first one, with a log of its own."""
    made = ordered_round(folder, study, tensors, hide, processor_seconds)
    base = {name: np.array(tensor) for name, tensor in tensors.items()}
    asked, size, listed = [], 0, made.upload_bytes * len(study.sites) if study.protection.is_encrypted else 0
    for name in _HOLDERS:
        order = made.order(name)
        for turn in range(repeats if name == _HOLDERS[0] else 1):
            for memory in (folder / "keys" / name).glob("answers-*.head"):
                memory.unlink()
            desk = made.desk(name, folder / f"answers-{name}-{turn}")
            start = processor_seconds()
            given = desk.answer(*order, 1, partial(made.state.sums.listed, name))
            asked.append(processor_seconds() - start)
            size = len(given.masks)
        made.state.sums.take(name, given.statement, given.masks)
    closing = made.state.sums.close(base)
    assert closing is not None
    _check_exact(made, base, closing.made.tensors)
    return SumCost(
        site_seconds=made.hiding_seconds,
        admitting_seconds=made.admitting_seconds,
        helper_seconds=statistics.median(asked),
        aggregator_seconds=median_seconds(lambda: made.state.sums.close(base), repeats, processor_seconds),
        upload_bytes=made.upload_bytes,
        helper_download_bytes=sum(map(len, order)) + listed,
        helper_answer_bytes=size,
    )


def _agree(folder: Path, tensors: Mapping[str, np.ndarray], count: int) -> Study:
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


def _check_exact(made: OrderedRound, base: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    study = made.state.study
    layout = SumLayout.of({name: tensor.shape for name, tensor in made.total.items()})
    update = mean_update(study, layout, layout.flatten(made.total), [site.name for site in study.sites])
    expected = apply_update(base, update, study.aggregation).tensors
    if any(not np.array_equal(found[name], expected[name]) for name in expected):
        raise FedcallError("the opened sum is not the sum in the clear")
