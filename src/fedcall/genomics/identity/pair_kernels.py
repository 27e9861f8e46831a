"""Loops over all pairs of people and all common sites."""

import numpy as np

from fedcall.compiled import kernel

SAME, ONE, APART = 0, 1, 2
"""Columns of the sums: both alleles shared by descent, one of them, different genotypes where two people are one."""


@kernel
def compare_pairs(
    likelihoods: np.ndarray,
    dosages: np.ndarray,
    frequency: np.ndarray,
    is_public: np.ndarray,
    weights: np.ndarray,
    segments: np.ndarray,
    pairs: np.ndarray,
    shares: np.ndarray,
    shared: np.ndarray,
    apart: np.ndarray,
    expected: np.ndarray,
) -> None:
    """Sum up, pair by pair, what the reads say for shared alleles and against.

    Parameters
    ----------
    likelihoods : float64, shape (people, sites, 3)
    dosages : float64, shape (people, sites); expected copies of the second base
    frequency, is_public : shape (sites,); frequencies that are not public are estimated again without the pair
    weights : float64, shape (sites,); less than 1 where sites are linked
    segments : int64, shape (sites,); numbers of stretches that are inherited apart
    pairs : int64, shape (p, 2)
    shares : float64, shape (k,); of sites whose genotypes differ though the two are said to be one
    shared : float64, shape (p, segments, 2), written: weighted log-likelihood ratio against no shared allele, of two
        shared alleles and of one
    apart : float64, shape (p, k), written: log-likelihood ratio of "independent genotypes at this share of the sites,
        else one person" against "one person", sites unweighted
    expected : float64, shape (p,), written: weighted expectation of the first ratio for one person with reads as good
    """
    people = len(likelihoods)
    total = dosages.sum(0)
    for pair in range(len(pairs)):
        one, other = pairs[pair, 0], pairs[pair, 1]
        for site in range(len(frequency)):
            f = frequency[site]
            if not is_public[site]:
                rest = total[site] - dosages[one, site] - dosages[other, site]
                f = min(0.95, max(0.05, (rest + 0.4) / (2 * (people - 2) + 2)))
            q = 1 - f
            a0, a1, a2 = likelihoods[one, site, 0], likelihoods[one, site, 1], likelihoods[one, site, 2]
            b0, b1, b2 = likelihoods[other, site, 0], likelihoods[other, site, 1], likelihoods[other, site, 2]
            p0, p1, p2 = q * q, 2 * q * f, f * f
            first, second = a0 * p0 + a1 * p1 + a2 * p2, b0 * p0 + b1 * p1 + b2 * p2
            none = first * second
            both = a0 * b0 * p0 + a1 * b1 * p1 + a2 * b2 * p2
            half = (
                a0 * p0 * (b0 * q + b1 * f) + a1 * p1 * (b0 * q / 2 + b1 / 2 + b2 * f / 2) + a2 * p2 * (b1 * q + b2 * f)
            )
            weight, segment = weights[site], segments[site]
            shared[pair, segment, 0] += weight * np.log(both / none)
            shared[pair, segment, 1] += weight * np.log(half / none)
            for k in range(len(shares)):
                apart[pair, k] += np.log((1 - shares[k]) + shares[k] * none / both)
            # One person's genotypes agree by a ratio of 1 / p; reads that leave them open tell less.
            sharpness = max(0.0, (max(a0, a1, a2) * max(b0, b1, b2) - 1 / 9) / (8 / 9))
            expected[pair] -= weight * sharpness * (p0 * np.log(p0) + p1 * np.log(p1) + p2 * np.log(p2))
