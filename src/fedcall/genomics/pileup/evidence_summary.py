"""Summarise the evidence of each candidate in numbers that mean the same at any depth, read length and site."""

import numpy as np

from fedcall.genomics.examples import BASES, CENTRE, FEATURES, SUBSTITUTIONS
from fedcall.genomics.pileup.candidates import Candidates
from fedcall.genomics.pileup.evidence import ALT, REF, ReadEvidence

LIMIT = 3.0
LOW_MAPPING_QUALITY = 20
_FAR_FROM_END = 20


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
    depth = np.bincount(evidence.candidate, minlength=count).astype(np.float64)
    columns: dict[str, np.ndarray] = {}
    mean: dict[str, np.ndarray] = {}
    reads: dict[str, np.ndarray] = {}
    orientation: dict[str, np.ndarray] = {}
    for name, shown in (("ref", REF), ("alt", ALT)):
        own = evidence.shown == shown
        rows = evidence.candidate[own]
        reads[name] = np.bincount(rows, minlength=count).astype(np.float64)

        def total(values: np.ndarray, rows: np.ndarray = rows, own: np.ndarray = own) -> np.ndarray:
            return np.bincount(rows, weights=values[own].astype(np.float64), minlength=count)

        divisor = np.maximum(reads[name], 1.0)
        columns[f"{name}_base_quality"] = total(evidence.base_quality) / divisor / 40.0
        columns[f"{name}_mapping_quality"] = total(np.minimum(evidence.mapping_quality, 60)) / divisor / 60.0
        columns[f"{name}_low_mapping_quality"] = total(evidence.mapping_quality < LOW_MAPPING_QUALITY) / divisor
        columns[f"{name}_read_end"] = total(np.clip(evidence.end_distance, 0, _FAR_FROM_END)) / divisor / _FAR_FROM_END
        columns[f"{name}_departures"] = total(np.minimum(evidence.departures, 6)) / divisor / 2.0
        # One pseudo-read keeps a single read from looking like a certain bias.
        mean[name] = total(1 - 2 * evidence.reverse.astype(np.int64)) / (reads[name] + 1.0)
        columns[f"{name}_strand"] = mean[name]
        orientation[name] = total(evidence.orientation)
        columns[f"{name}_orientation"] = orientation[name] / (reads[name] + 1.0)
    columns["strand_bias"] = columns["alt_strand"] - columns["ref_strand"]
    columns["orientation_bias"] = columns["alt_orientation"] - columns["ref_orientation"]
    columns["log_depth"] = np.log2(depth + 1.0) / 3.0 - 1.0
    columns["log_alt_depth"] = np.log2(reads["alt"] + 1.0) / 3.0
    columns["allele_fraction"] = reads["alt"] / np.maximum(depth, 1.0)
    columns["log_ratio_het_ref"] = _squash(log_likelihoods[:, 1] - log_likelihoods[:, 0])
    columns["log_ratio_hom_het"] = _squash(log_likelihoods[:, 2] - log_likelihoods[:, 1])
    columns["other_candidates"] = others / 4.0
    columns |= _allele_columns(candidates)
    # Standard deviations from even odds: grows with the number of reads, as the evidence for an artefact does.
    signed = orientation["alt"] / np.sqrt(reads["alt"] + 1.0)
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
