"""The likelihood's own constants as tensors of the model: what sequencing does wrong, wherever in the genome.

Examples hold the likelihood that the constants of `genomics.pileup.likelihood` give, and what each fragment shows. A
model's chemistry adds what other constants would change, Δ = L(chemistry) − L(0): with tensors of zero nothing,
exactly.
A place in the genome is no input, so none can be learned: candidates that look alike are changed alike, everywhere.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fedcall.genomics.examples import BASES, FEATURES, IS_INDEL, Examples
from fedcall.genomics.priors import kinds
from fedcall.model import chemistry_belief_kernels as layout
from fedcall.model import chemistry_kernels as kernels

PREFIX = "chemistry."
FLOOR = -30.0
"""Smallest log posterior the model sees: beyond it only rounding would speak."""
FRAGMENTS = layout.FRAGMENTS
"""Column of `observed` from which on fragments follow."""
LARGEST = 6.0
"""No constant moves further from today's value than this, whatever noise adds; in nats."""


class ChemistryTensor(NamedTuple):
    """One tensor: its shape, what one unit of it is worth in nats, and what it means."""

    shape: tuple[int, ...]
    scale: float
    meaning: str


TENSORS: dict[str, ChemistryTensor] = {
    "base_level": ChemistryTensor((1,), 0.7, "log error of all bases, whatever their quality"),
    "base_quality": ChemistryTensor((8,), 0.3, "logarithm of how fast it falls with quality, in eight steps of 5"),
    "mapping_level": ChemistryTensor((1,), 0.1, "log error of all reads, whatever their mapping quality"),
    "mapping_quality": ChemistryTensor((4,), 0.1, "logarithm of how fast it falls with it, in four steps of 10"),
    "limit": ChemistryTensor((1,), 0.1, "how far a read is believed at most, beyond quality 40"),
    "departures": ChemistryTensor((5,), 0.1, "log error of a mismatch in a read with 0, 1, 2, 3, 4 departures nearby"),
    "cycle": ChemistryTensor((2, 4), 0.3, "log error near the read's 5' end, 3' end: below 5, 10, 20 bases, more"),
    "strand": ChemistryTensor((1,), 0.1, "log error of all reads of the reverse strand"),
    "substitution": ChemistryTensor((12,), 0.3, "log error of each substitution as the read has it"),
    "orientation": ChemistryTensor((12,), 0.6, "log error of each substitution as the fragment's F1R2 strand has it"),
    "damage": ChemistryTensor(
        (4, 12),
        1.0,
        "how much more of each substitution there is than errors explain, as the read has it: anywhere, at its 5' end,"
        " at its 3' end; and as the fragment's F1R2 strand has it",
    ),
    "fading": ChemistryTensor((2,), 0.3, "log number of bases in which damage at the 5' end, the 3' end halves"),
    "shared": ChemistryTensor((2,), 0.1, "how much further equal errors say: log odds for bases, logarithm for indels"),
    "third": ChemistryTensor((1,), 0.1, "log weight of a haplotype with a third allele"),
    "homopolymer": ChemistryTensor((2, 10), 0.3, "log error of deletion, insertion by length of a homopolymer, to 10"),
    "repeat": ChemistryTensor((2, 6), 0.3, "log error of deletion, insertion by copies of a longer motif, to 6"),
    "missed": ChemistryTensor((2,), 0.3, "log rate at which a read of a deletion, an insertion is aligned without it"),
    "anchor": ChemistryTensor((1,), 0.3, "log rate at which reads that end near a repeat miss its indels"),
    "together": ChemistryTensor((1,), 0.3, "log error of an indel that reads show together with another gap"),
    "balance": ChemistryTensor(
        (3,), 0.1, "log odds that a read comes from the other haplotype: SNP, deletion, insertion"
    ),
    "prior": ChemistryTensor((5, 2), 0.1, "log odds of one and two copies by kind of change (`priors.KINDS`)"),
}
SHAPES: dict[str, tuple[int, ...]] = {PREFIX + name: tensor.shape for name, tensor in TENSORS.items()}
_SCALES = np.concatenate([np.full(int(np.prod(one.shape)), one.scale) for one in TENSORS.values()])
_REF, _ALT = FEATURES.index(f"ref_{BASES[0]}"), FEATURES.index(f"alt_{BASES[0]}")
_INSERTED = FEATURES.index("is_insertion")

Tensors = Mapping[str, np.ndarray]


def observed(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Return what a chemistry looks at: int32, shape (b, FRAGMENTS + most fragments), for `chemistry_kernels`."""
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    features, reference = np.asarray(examples.features[rows]), np.asarray(examples.reference[rows])
    begins, ends = examples.observation_offsets[rows], examples.observation_offsets[rows + 1]
    counts = ends - begins
    found = np.full((len(rows), layout.FRAGMENTS + int(counts.max(initial=0))), -1, np.int32)
    found[:, layout.IS_INDEL] = features[:, IS_INDEL] > 0
    found[:, layout.REF_BASE] = features[:, _REF : _REF + 4].argmax(1)
    found[:, layout.ALT_BASE] = features[:, _ALT : _ALT + 4].argmax(1)
    found[:, layout.KIND] = kinds(features, reference)
    found[:, layout.INSERTED] = features[:, _INSERTED] > 0
    found[:, layout.PERIOD : layout.FRAGMENTS] = examples.repeats[rows]
    places = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    packed = examples.observations[np.repeat(begins, counts) + places]
    found[np.repeat(np.arange(len(rows)), counts), layout.FRAGMENTS + places] = packed.astype(np.int32)
    return found


def constants_of(parts: Mapping[str, np.ndarray], units: int = 1) -> np.ndarray:
    """Return the constants of chemistry tensors by their short names: float64, shape (units, CONSTANTS)."""
    joined = np.concatenate([np.asarray(parts[name], np.float64).reshape(units, -1) for name in TENSORS], 1)
    constants: np.ndarray = np.clip(joined * _SCALES, -LARGEST, LARGEST)
    return constants


def change(rows: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """Return what chemistry adds to the log likelihoods of rows of `observed`: float64, shape (b, 3)."""
    learned, fresh = np.empty((2, len(rows), 3))
    if not len(rows):
        return learned
    kernels.likelihoods(rows, constants, learned)
    kernels.likelihoods(rows, np.zeros((1, layout.CONSTANTS)), fresh)
    return np.asarray(learned - fresh)


def change_gradients(rows: np.ndarray, constants: np.ndarray, backprops: np.ndarray, units: int) -> np.ndarray:
    """Return gradients per unit of tensors, joined, from those of `change`: float64, shape (units, CONSTANTS)."""
    found = np.zeros((units, layout.CONSTANTS))
    if len(rows):
        kernels.gradients(rows, constants, np.ascontiguousarray(backprops, np.float64), found)
    return np.where(np.abs(constants) < LARGEST, found * _SCALES, 0.0)


def with_chemistry(log_posteriors: np.ndarray, added: np.ndarray | None = None) -> np.ndarray:
    """Return log posteriors with what chemistry adds, normalised where that is anything, and not below `FLOOR`.

    Parameters
    ----------
    log_posteriors : float32, shape (b, 3)
    added : float64, shape (b, 3), optional
    """
    result = log_posteriors
    if added is not None:
        joint = log_posteriors + added
        joint -= joint.max(1, keepdims=True, initial=-np.inf)
        joint -= np.log(np.exp(joint).sum(1, keepdims=True))
        result = np.where((added == 0).all(1, keepdims=True), log_posteriors, joint.astype(np.float32))
    return np.asarray(np.maximum(result, np.float32(FLOOR)))


def chemistry_of(tensors: Tensors) -> np.ndarray | None:
    """Return the constants of a model's tensors, float64, shape (1, CONSTANTS); None if all are as untrained."""
    parts = {name: tensors[PREFIX + name] for name in TENSORS}
    return constants_of(parts) if any(part.any() for part in parts.values()) else None


def joined_parts(joined: np.ndarray) -> dict[str, np.ndarray]:
    """Cut what belongs to all constants, shape (units, CONSTANTS), into {short name: (units, *shape)}."""
    sizes = [int(np.prod(one.shape)) for one in TENSORS.values()]
    parts = np.split(joined, np.cumsum(sizes)[:-1], axis=1)
    return {name: part.reshape(-1, *TENSORS[name].shape) for name, part in zip(TENSORS, parts, strict=True)}
