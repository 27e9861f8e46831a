"""Genotype likelihoods: how probable the reads are if the patient carries 0, 1 or 2 copies of the candidate.

Reads are independent given the genotype, each comes from either haplotype with probability 1/2 (Li 2011, eq. 2).
Beside the reference and the candidate a third allele is considered, so that two different alternative alleles at one
place (genotype 1/2) are not taken for two copies of each.
"""

import numpy as np

from fedcall.genomics.observations import pack_repeats
from fedcall.genomics.pileup.candidates import Candidates
from fedcall.genomics.pileup.evidence import ALT, NEITHER, OTHER, REF, ReadEvidence
from fedcall.genomics.pileup.evidence_kernels import rank_by_quality

MAX_QUALITY = 40
"""No read is believed beyond min(base quality, mapping quality, 40)."""
_ERROR = 10.0 ** (-np.arange(MAX_QUALITY + 1) / 10.0)
_HAPLOTYPES = REF, ALT, OTHER
THIRD_ALLELE = 1e-3
"""Prior weight of a haplotype that carries the third allele, relative to the reference."""
_DEPARTED_QUALITY = np.array([40, 25, 15, 10, 6])
"""The same cap for a mismatch in a read that departs from the reference nearby 0, 1, 2, … times: misaligned reads bring
their mismatches in clusters."""
DEPENDENCE = 0.85
"""Each further equal error on the same strand says only this share of the one before (Li, Ruan, Durbin 2008, theta)."""
MISSED_INDEL = 0.03
"""Probability that a read from a haplotype with an indel is aligned without it."""
SHORT_ANCHOR = 10
"""Reads aligned fewer bases beyond a repeat than this miss its indels more often, or show another one: aligners prefer
mismatches and small gaps there."""
TOGETHER = 20
"""Two gaps of one read within this distance are often one change in other words, or a misaligned repeat."""
TOGETHER_SHARE = 0.3
TOGETHER_ERROR = 0.3
"""An indel that at least this share of its reads show together with another gap is shown by chance this often."""


def log_likelihoods(evidence: ReadEvidence, candidates: Candidates) -> np.ndarray:
    """Return natural log P(reads | 0, 1, 2 copies), each row shifted to a maximum of 0.

    Returns
    -------
    float32, shape (candidates, 3)
    """
    probability = _observation_probabilities(evidence, candidates)
    rows, count = evidence.candidate, len(candidates)

    def total(first: int, second: int) -> np.ndarray:
        terms = np.log(0.5 * (probability[:, first] + probability[:, second]))
        return np.bincount(rows, weights=terms, minlength=count)

    third = np.log(THIRD_ALLELE)
    none = _log_sum(total(REF, REF), total(REF, OTHER) + third, total(OTHER, OTHER) + third)
    one = _log_sum(total(REF, ALT), total(ALT, OTHER) + third)
    result = np.stack([none, one, total(ALT, ALT)], 1)
    relative: np.ndarray = (result - result.max(1, keepdims=True, initial=-np.inf)).astype(np.float32)
    return relative


def indel_error(candidates: Candidates) -> np.ndarray:
    """Return the probability that a read of the reference haplotype shows some indel at each candidate's place.

    Returns
    -------
    float64, shape (n,); 0 for SNPs

    Notes
    -----
    Grows with the number of repeated motifs, faster for homopolymers; the shape of DRAGEN-GATK's default tables of gap
    penalties (45 Phred outside repeats, falling to about 20 in long homopolymers).
    """
    period = np.maximum(candidates.period, 1)
    repeats = _tract(candidates) / period
    homopolymer = np.clip(42.0 - 3.4 * np.maximum(repeats - 4.0, 0.0), 12.0, 42.0)
    longer = np.clip(42.0 - 3.0 * np.maximum(repeats - 2.0, 0.0), 15.0, 42.0)
    phred = np.where(period == 1, homopolymer, longer)
    return np.where(candidates.is_indel, 10.0 ** (-phred / 10.0), 0.0)


def repeats(candidates: Candidates) -> np.ndarray:
    """Return what examples keep of the repeat an indel stands in: uint8, shape (n, 3) (`observations.REPEAT`)."""
    is_indel = candidates.is_indel
    tract = np.where(is_indel, _tract(candidates), 0)
    return pack_repeats(np.where(is_indel, candidates.period, 0), tract, entangled(candidates))


def entangled(candidates: Candidates) -> np.ndarray:
    """Return which indels are mostly shown by reads that have another gap close by (bool, shape (n,)).

    Reads laid along an assembled haplotype are above suspicion: the haplotype was chosen with all its gaps.
    """
    candidate, record, settled = candidates.support.T
    order = np.lexsort((candidates.position[candidate], record))
    candidate, record, settled = candidate[order], record[order], settled[order] > 0
    position = candidates.position[candidate]
    pair = (record[1:] == record[:-1]) & (candidate[1:] != candidate[:-1]) & (np.diff(position) <= TOGETHER)
    pair &= ~settled[1:]
    together = np.zeros(len(candidate), bool)
    together[1:] |= pair
    together[:-1] |= pair
    carriers = np.bincount(candidate, minlength=len(candidates))
    in_pairs: np.ndarray = np.bincount(candidate[together], minlength=len(candidates)) > TOGETHER_SHARE * carriers
    return in_pairs


def _tract(candidates: Candidates) -> np.ndarray:
    length: np.ndarray = candidates.shift + np.maximum(-candidates.gained, 0)
    return length


def _observation_probabilities(evidence: ReadEvidence, candidates: Candidates) -> np.ndarray:
    """Return P(what the fragment shows | haplotype REF, ALT, OTHER), shape (m, 3)."""
    is_indel = candidates.is_indel[evidence.candidate]
    snps, indels = np.flatnonzero(~is_indel), np.flatnonzero(is_indel)
    result = np.ones((len(evidence.shown), 3))
    result[snps] = _base_probabilities(evidence.take(snps))
    result[indels] = _indel_probabilities(evidence.take(indels), candidates)
    result[evidence.shown == NEITHER] = 1.0
    return result


def _base_probabilities(evidence: ReadEvidence) -> np.ndarray:
    quality = np.minimum(np.minimum(evidence.base_quality, evidence.mapping_quality), MAX_QUALITY)
    cap = _DEPARTED_QUALITY[np.minimum(evidence.departures, len(_DEPARTED_QUALITY) - 1)]
    quality = np.where(evidence.shown == REF, quality, np.minimum(quality, cap))
    base_error = np.clip(_ERROR[quality], 1e-4, 0.75)
    match = 1.0 - base_error
    # The same rule for all reads of a group, and never a mismatch more probable than a match: so every further read
    # that shows an allele speaks for it, whatever the others are (test_likelihood, monotone).
    ranks = np.empty(len(quality), np.int64)
    rank_by_quality(evidence.candidate, evidence.shown, evidence.reverse, quality, ranks)
    mismatch = np.minimum((base_error / 3.0) ** (DEPENDENCE**ranks), match)
    return np.stack([np.where(evidence.shown == haplotype, match, mismatch) for haplotype in _HAPLOTYPES], 1)


def _indel_probabilities(evidence: ReadEvidence, candidates: Candidates) -> np.ndarray:
    shown = evidence.shown
    mapping_error = _ERROR[np.minimum(evidence.mapping_quality, MAX_QUALITY)]
    gained = np.minimum(indel_error(candidates)[evidence.candidate] + mapping_error, 0.4)
    anchor = np.clip(1.0 - evidence.end_distance / SHORT_ANCHOR, 0.0, 1.0)
    confused = np.minimum(gained + 0.4 * anchor, 0.6)
    by_chance = np.where(entangled(candidates)[evidence.candidate], np.maximum(gained, TOGETHER_ERROR), gained)
    missed = np.minimum(gained + MISSED_INDEL + 0.4 * anchor, 0.6)
    result = np.empty((len(shown), 3))
    for haplotype in _HAPLOTYPES:
        if haplotype == REF:
            result[:, REF] = np.select([shown == REF, shown == ALT], [1.0 - gained, by_chance], confused)
        else:
            other = np.select([shown == REF, shown == ALT], [missed, by_chance], confused)
            result[:, haplotype] = np.where(shown == haplotype, 1.0 - missed, other)
    return result


def _log_sum(*terms: np.ndarray) -> np.ndarray:
    largest = np.maximum.reduce(terms)
    total: np.ndarray = largest + np.log(np.add.reduce([np.exp(term - largest) for term in terms]))
    return total
