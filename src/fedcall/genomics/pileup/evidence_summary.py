"""Summarise the evidence of each candidate in numbers that mean the same at any depth, read length and site."""

import numpy as np

from fedcall.genomics.examples import BASES, CENTRE, FEATURES, SUBSTITUTIONS
from fedcall.genomics.pileup.candidates import Candidates
from fedcall.genomics.pileup.evidence import ALT, REF, ReadEvidence
from fedcall.genomics.pileup.evidence_kernels import sum_evidence

LIMIT = 3.0
LOW_MAPPING_QUALITY = 20
_FAR_FROM_END = 20
_HIGHEST_MAPPING_QUALITY = 60
_MOST_DEPARTURES = 6


def summarise(
    evidence: ReadEvidence, candidates: Candidates, log_likelihoods: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Return the scalar features in the order of `FEATURES`.

    Parameters
    ----------
    log_likelihoods : float32, shape (n, 3)
    others : int64, shape (n,)
        Further candidates within the window.

    Returns
    -------
    float32, shape (n, len(SCALARS)), all within [-3, 3]
    """
    count = len(candidates)
    sums = np.zeros((2, 8, count), np.int64)
    sum_evidence(
        evidence.candidate,
        evidence.shown,
        evidence.base_quality,
        evidence.mapping_quality,
        evidence.end_distance,
        evidence.departures,
        evidence.reverse,
        evidence.orientation,
        _HIGHEST_MAPPING_QUALITY,
        LOW_MAPPING_QUALITY,
        _FAR_FROM_END,
        _MOST_DEPARTURES,
        sums,
    )
    depth = np.bincount(evidence.candidate, minlength=count).astype(np.float64)
    columns: dict[str, np.ndarray] = {}
    for name, own in (("ref", sums[REF]), ("alt", sums[ALT])):
        number, quality, mapping, low, end, departures, forward, orientation = own.astype(np.float64)
        divisor = np.maximum(number, 1.0)
        columns[f"{name}_base_quality"] = quality / divisor / 40.0
        columns[f"{name}_mapping_quality"] = mapping / divisor / _HIGHEST_MAPPING_QUALITY
        columns[f"{name}_low_mapping_quality"] = low / divisor
        columns[f"{name}_read_end"] = end / divisor / _FAR_FROM_END
        columns[f"{name}_departures"] = departures / divisor / 2.0
        # One pseudo-read keeps a single read from looking like a certain bias.
        columns[f"{name}_strand"] = forward / (number + 1.0)
        columns[f"{name}_orientation"] = orientation / (number + 1.0)
    columns["strand_bias"] = columns["alt_strand"] - columns["ref_strand"]
    columns["orientation_bias"] = columns["alt_orientation"] - columns["ref_orientation"]
    columns["log_depth"] = np.log2(depth + 1.0) / 3.0 - 1.0
    columns["log_alt_depth"] = np.log2(number + 1.0) / 3.0
    columns["allele_fraction"] = number / np.maximum(depth, 1.0)
    columns["log_ratio_het_ref"] = _squash(log_likelihoods[:, 1] - log_likelihoods[:, 0])
    columns["log_ratio_hom_het"] = _squash(log_likelihoods[:, 2] - log_likelihoods[:, 1])
    columns["other_candidates"] = others / 4.0
    columns |= _allele_columns(candidates)
    # Standard deviations from even odds: grows with the number of reads, as the evidence for an artefact does.
    signed = orientation / np.sqrt(number + 1.0)
    kind = _substitution(candidates)
    for index, substitution in enumerate(SUBSTITUTIONS):
        columns[f"orientation_bias_{substitution}"] = np.where(kind == index, signed, 0.0)
    table = np.stack([columns[name] for name in FEATURES], 1).reshape(count, len(FEATURES))
    clipped: np.ndarray = np.clip(table, -LIMIT, LIMIT).astype(np.float32)
    return clipped


def count_neighbours(positions: np.ndarray) -> np.ndarray:
    """Return for each of the sorted positions how many others lie within the window (int64)."""
    last = np.searchsorted(positions, positions + CENTRE, side="right")
    first = np.searchsorted(positions, positions - CENTRE, side="left")
    return last - first - 1


def _allele_columns(candidates: Candidates) -> dict[str, np.ndarray]:
    is_indel, length = candidates.is_indel, candidates.gained
    tract = np.where(is_indel, candidates.shift + np.maximum(-length, 0), 0)
    columns = {
        "is_indel": is_indel.astype(np.float64),
        "is_insertion": (length > 0).astype(np.float64),
        "indel_length": np.sign(length) * np.log2(np.abs(length) + 1.0) / 2.0,
        "homopolymer_length": np.where(candidates.period == 1, tract, 0) / 8.0,
        "repeat_length": tract / 16.0,
    }
    for code, base in enumerate(BASES):
        columns[f"ref_{base}"], columns[f"alt_{base}"] = (candidates.bases == code).T.astype(np.float64)
    return columns


def _substitution(candidates: Candidates) -> np.ndarray:
    """Return the index of each SNP in `SUBSTITUTIONS`, -1 for indels (int64)."""
    index = np.full((len(BASES), len(BASES)), -1, np.int64)
    for place, substitution in enumerate(SUBSTITUTIONS):
        index[BASES.index(substitution[0]), BASES.index(substitution[-1])] = place
    return np.where(candidates.is_indel, -1, index[*candidates.bases.T])


def _squash(log_ratio: np.ndarray) -> np.ndarray:
    """Map a log ratio to (-3, 3): linear near 0, where it matters, and levelling off."""
    return LIMIT * np.tanh(log_ratio.astype(np.float64) / 10.0)
