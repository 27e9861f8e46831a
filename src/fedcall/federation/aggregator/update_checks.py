"""Checks of an update itself: its file, its tensors, and whether it carries the noise that was agreed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from fedcall.errors import FedcallError
from fedcall.privacy.mechanism.adaptive_clipping import step_clip_norms
from fedcall.privacy.mechanism.update_noise import norm_bounds, update_noise_std
from fedcall.privacy.terms import PrivacyTerms
from fedcall.protection.bfv import check_polynomials
from fedcall.protection.encrypting import TENSOR as CIPHERTEXTS
from fedcall.protection.encrypting import ciphertext_shape
from fedcall.protection.sealing import SEALED_SEED_BYTES
from fedcall.study.claims import Claim, ReasonCode
from fedcall.study.terms import Study
from fedcall.weights import UNREADABLE, weights_digest

HEADER_BYTES = 64 * 1024  # names, shapes and metadata of an update file
_SEALED_CHARACTERS = 4 * math.ceil(SEALED_SEED_BYTES / 3)  # base64


class Refused(Exception):  # noqa: N818  (an outcome, not an error)
    """An update or claim is refused: a reason code, and a sentence for the site."""

    def __init__(self, reason: ReasonCode, sentence: str) -> None:
        super().__init__(sentence)
        self.reason: ReasonCode = reason
        self.sentence = sentence


@dataclass(frozen=True)
class OpenRound:
    """The round that collects updates: its number, its base and the shapes an update must have."""

    number: int
    base: str
    shapes: Mapping[str, tuple[int, ...]]  # of the trainable tensors
    largest_weight: float = 0.0  # absolute, of the trainable tensors
    is_masked: bool = False  # updates are int32 modulo 2^32, of which nothing can be seen
    encrypted_values: int | None = None  # numbers of the vector, if updates are ciphertexts; `shapes` are theirs then
    is_ordered: bool = False  # the sum was ordered, and the round takes no more updates

    @property
    def max_update_bytes(self) -> int:
        """Size that no update file of this model passes."""
        return sum(self.dtype.itemsize * math.prod(shape) for shape in self.shapes.values()) + HEADER_BYTES

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an update's numbers."""
        if self.encrypted_values is not None:
            return np.dtype(np.uint64)
        return np.dtype(np.int32 if self.is_masked else np.float32)

    @property
    def values(self) -> int:
        """Numbers in the vector that an update is, or hides."""
        if self.encrypted_values is not None:
            return self.encrypted_values
        return sum(math.prod(shape) for shape in self.shapes.values())


def open_round(
    study: Study, number: int, base: str, model: Mapping[str, np.ndarray], is_ordered: bool = False
) -> OpenRound:
    """Return the open round of a study that begins with a model; `base` is the model's content digest."""
    tensors = {name: model[name] for name in study.model.trainable_names(model)}
    shapes, values = {name: tensor.shape for name, tensor in tensors.items()}, sum(one.size for one in tensors.values())
    largest = max(float(np.abs(tensor).max(initial=0)) for tensor in tensors.values())
    if study.protection.is_encrypted:
        shapes = {CIPHERTEXTS: ciphertext_shape(values)}
    return OpenRound(
        number,
        base,
        shapes,
        largest,
        study.sends_sums,
        values if study.protection.is_encrypted else None,
        is_ordered,
    )


def read_update(claim: Claim, open_round: OpenRound, update: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of an update that is whole, is the one claimed, and fits the model; else raise Refused."""
    check_size(open_round, update)
    tensors = _load(update)
    digest = weights_digest(tensors)
    if digest != claim.update:
        raise Refused("malformed", f"the update has digest {digest}, the claim says {claim.update}")
    check_names(tensors, open_round)
    for name, shape in sorted(open_round.shapes.items()):
        check_tensor(name, tensors[name], shape, open_round.dtype)
    if open_round.encrypted_values is not None:
        _check_ciphertexts(tensors[CIPHERTEXTS])
    return tensors


def check_size(open_round: OpenRound, update: bytes) -> None:
    """Refuse a file larger than the model allows, before anything in it is looked at."""
    if len(update) > open_round.max_update_bytes:
        raise Refused(
            "too-large",
            f"an update of this model has at most {open_round.max_update_bytes} bytes, found {len(update)}",
        )


def check_names(tensors: Mapping[str, np.ndarray], open_round: OpenRound) -> None:
    """Refuse missing, extra and renamed tensors."""
    if set(tensors) != set(open_round.shapes):
        odd = sorted(set(tensors) ^ set(open_round.shapes))[0]
        verb = "is not trainable here" if odd in tensors else "is missing"
        raise Refused("tensor-names", f"tensor '{odd[:80]}' {verb}; exactly the trainable tensors are expected")


def check_tensor(name: str, tensor: np.ndarray, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
    """Refuse another shape, dtype, or values that are not finite."""
    if tensor.shape != shape:
        raise Refused("tensor-shape", f"tensor '{name}' has shape {tensor.shape}, {shape} is expected")
    if tensor.dtype != dtype:
        raise Refused("tensor-dtype", f"tensor '{name}' is {tensor.dtype}, {np.dtype(dtype)} is expected")
    if not np.isfinite(tensor).all():
        raise Refused("not-finite", f"tensor '{name}' has values that are not finite")


def check_envelope(study: Study, claim: Claim, values: int) -> None:
    """Refuse an update that is not hidden as the study says; whether a seed opens only its helper can see."""
    mode, envelope = study.protection.mode if study.sends_sums else "plain", claim.envelope
    found = envelope.kind if envelope else "plain"
    if found != mode:
        raise Refused("mechanism", f"protection '{found}' was used, '{mode}' is agreed")
    if envelope is None:
        return
    if envelope.values != values:
        raise Refused("malformed", f"the envelope is for {envelope.values} numbers, the update has {values}")
    key = study.protection.encryption
    if envelope.kind == "encrypted" and key is not None and envelope.key != key.digest:
        raise Refused("mechanism", f"the update is encrypted to key {envelope.key}, the study's is {key.digest}")
    helpers = [helper.name for helper in study.protection.helpers]
    if [seed.helper for seed in envelope.seeds] != helpers:
        raise Refused("malformed", f"the envelope must hold one seed for each helper, in order: {', '.join(helpers)}")
    odd = next((seed.helper for seed in envelope.seeds if len(seed.seed) != _SEALED_CHARACTERS), None)
    if odd is not None:
        raise Refused("malformed", f"the seed for helper '{odd}' has not the {_SEALED_CHARACTERS} characters of one")


def check_noise_floor(study: Study, claim: Claim, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse an update too short to carry the agreed noise."""
    norm, (floor, _) = _norm(tensors), _bounds_of(study, claim, tensors)
    if norm < floor:
        raise Refused(
            "noise-floor", f"the update's norm {norm:.4g} is below {floor:.4g}: it cannot carry the agreed noise"
        )


def check_norm_ceiling(study: Study, claim: Claim, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse an update longer than noise and clipped gradients can make it, or than the study allows."""
    norm, (_, ceiling) = _norm(tensors), _bounds_of(study, claim, tensors)
    agreed = study.admission.max_update_norm
    ceiling = ceiling if agreed is None else min(agreed, ceiling)
    if norm > ceiling:
        raise Refused("norm-ceiling", f"the update's norm {norm:.4g} is above {ceiling:.4g}")


def claimed_noise_std(study: Study, claim: Claim) -> float:
    """Return the standard deviation of the noise in each coordinate of an update that was admitted with this claim."""
    return update_noise_std(*noise_of_claim(study, claim))


def noise_of_claim(study: Study, claim: Claim) -> tuple[PrivacyTerms, float, float, int, Sequence[float]]:
    """Return what the noise of an update with this claim follows from: the arguments of `update_noise_std`."""
    terms = study.training
    clip_norms = step_clip_norms(study.privacy, claim.clipping)
    return study.privacy, study.step_size, terms.iterate_averaging, study.units(claim.site), clip_norms


def noise_floor_share(study: Study, site: str, parameters: int) -> float:
    """Return the share of the agreed noise below which every update of a site is refused.

    It is below 1 by the chance of the noise itself, and by what clipped gradients could undo of earlier steps' noise;
    small models, small noise and many steps make it small. 1 without noise agreed.
    """
    terms, units = study.training, study.units(site)
    arguments = (study.privacy, study.step_size, terms.iterate_averaging, units)
    noise = update_noise_std(*arguments) * math.sqrt(parameters)
    return norm_bounds(*arguments, parameters).floor / noise if noise > 0 else 1.0


def _check_ciphertexts(tensor: np.ndarray) -> None:
    try:
        check_polynomials(tensor.astype("<u8", copy=False).tobytes(), 2 * len(tensor), "the ciphertexts")
    except FedcallError as error:
        raise Refused("range", str(error)) from None


def _load(update: bytes) -> dict[str, np.ndarray]:
    try:
        tensors = load(update)
        exact = _is_exact(update, tensors)
    except UNREADABLE as error:
        raise Refused("malformed", f"the update is not a complete safetensors file ({error})") from None
    if not exact:
        raise Refused("malformed", "the update is not written as safetensors writes it: one content, one file")
    return tensors


def _is_exact(update: bytes, tensors: Mapping[str, np.ndarray]) -> bool:
    """Say whether these are the bytes that safetensors writes for the tensors, with at most one entry of metadata.

    A header can say the same in many ways (spaces, order, a name twice, of which readers take either), and hold more.
    """
    header = json.loads(update[8 : 8 + int.from_bytes(update[:8], "little")])
    metadata = header.get("__metadata__")
    if metadata is not None and len(metadata) > 1:
        return False
    return bool(save(dict(tensors), metadata=metadata) == update)


def _norm(tensors: Mapping[str, np.ndarray]) -> float:
    return math.sqrt(sum(float(np.square(tensor, dtype=np.float64).sum()) for tensor in tensors.values()))


def _bounds_of(study: Study, claim: Claim, tensors: Mapping[str, np.ndarray]) -> tuple[float, float]:
    terms = study.training
    return _bounds(
        study.privacy,
        study.step_size,
        terms.iterate_averaging,
        study.units(claim.site),
        sum(tensor.size for tensor in tensors.values()),
        tuple(step_clip_norms(study.privacy, claim.clipping)),
    )


@lru_cache(maxsize=256)
def _bounds(
    terms: PrivacyTerms,
    learning_rate: float,
    averaging: float,
    units: int,
    parameters: int,
    clip_norms: tuple[float, ...],
) -> tuple[float, float]:
    bounds = norm_bounds(terms, learning_rate, averaging, units, parameters, clip_norms)
    return bounds.floor, bounds.ceiling
