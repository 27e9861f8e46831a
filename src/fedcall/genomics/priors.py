"""How probable variants are before any read is seen: by kind of change, or by what a panel of public genomes shows."""

import numpy as np

from fedcall.genomics.examples import BASES, CENTRE, FEATURES, IS_INDEL

KINDS = ("CpG transition", "TpG transition", "transition", "transversion", "indel")
"""A CpG's C mutates to T some ten times as often as any other C; TpG is what that leaves behind (Nachman and Crowell
2000, table 4). Both strands: the G of CpG and the A of CpA count alike."""
CPG, TPG, TRANSITION, TRANSVERSION, INDEL = range(len(KINDS))

_HETEROZYGOUS = np.array([5.5e-3, 5.7e-4, 4.2e-4, 1.16e-4, 3.6e-4])
_HOMOZYGOUS = np.array([2.9e-3, 4.2e-4, 2.5e-4, 6.8e-5, 1.85e-4])
"""Share of the places where a change of each kind is possible at which a person carries it once, or twice: counted over
200 people of 1000 Genomes, 500 kb of chromosome 20 (`shared/data/haplotypes_1kgp`). Indels: chosen on NA12878."""
_LENIENCE = 2.5
"""A call is worth making when it is right with a probability above F1/2, not above 1/2 (Lipton et al. 2014), and the
likelihoods do not know that a candidate was chosen for having a read: both shift the odds by the same factor for every
candidate. Chosen on training people at 2–9x and NA12878."""
_LENIENCE_HOMOZYGOUS = 1.3
_LEAST_UNSEEN = np.array([1e-2, 1e-3])
"""However large a panel, this share of a person's heterozygous and homozygous changes counts as missing from it:
populations have grown, and a hospital's patients need not be of the panel's populations. Of the 200 people above, 0.8 %
of the heterozygous ones are missing from 190 others."""

_PARTNER = np.array([2, 3, 0, 1])  # of a transition: A-G, C-T
_REF, _ALT = FEATURES.index(f"ref_{BASES[0]}"), FEATURES.index(f"alt_{BASES[0]}")


def kinds(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the kind of each candidate as an index into `KINDS`.

    Parameters
    ----------
    features : float32, shape (n, len(FEATURES))
    reference : uint8, shape (n, 33)
        As `Examples` holds them.

    Returns
    -------
    int64, shape (n,)
    """
    ref, alt = features[:, _REF : _REF + 4].argmax(1), features[:, _ALT : _ALT + 4].argmax(1)
    before, after = reference[:, CENTRE - 1], reference[:, CENTRE + 1]
    a, c, g, t = range(4)
    cpg = ((ref == c) & (after == g)) | ((ref == g) & (before == c))
    tpg = ((ref == t) & (after == g)) | ((ref == a) & (before == c))
    changes = np.select([alt != _PARTNER[ref], cpg, tpg], [TRANSVERSION, CPG, TPG], TRANSITION)
    return np.where(features[:, IS_INDEL] > 0, INDEL, changes)


def log_priors(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return log P(0/0), log P(0/1), log P(1/1) of each candidate, from what kind of change it is.

    Parameters
    ----------
    features, reference : as for `kinds`

    Returns
    -------
    float64, shape (n, 3)
        Natural logarithms; probabilities sum to 1.
    """
    by_kind: np.ndarray = _TABLE[kinds(features, reference)]
    return by_kind


def panel_log_priors(
    features: np.ndarray, reference: np.ndarray, copies: np.ndarray, chromosomes: np.ndarray, haploid: np.ndarray
) -> np.ndarray:
    """Return log P(0/0), log P(0/1), log P(1/1) of each candidate, from what a panel shows.

    Parameters
    ----------
    features, reference : as for `kinds`
    copies, chromosomes : float64, shape (n,)
        Of the panel's chromosomes, those with the candidate's allele, and all. With 0 chromosomes: the prior by kind.
    haploid : bool, shape (n,)
        Where a patient has one copy: there 1/1 is that copy, and 0/1 means nothing.

    Returns
    -------
    float64, shape (n, 3)
        Natural logarithms; probabilities sum to 1.

    Notes
    -----
    Hardy-Weinberg proportions, averaged over what the allele's frequency x may be. Before the panel was looked at, the
    density of alleles of frequency x is θ/x, with θ the heterozygosity of their kind (Fu 1995: θ/i sites with i copies
    in a sample of any size). So of c > 0 copies on n chromosomes, x is Beta(c, n - c + 1): smoothed by one chromosome
    without the allele. An allele that is not among the n has E[2x(1-x)] = 2θ/(n+2) and E[x²] = θ/((n+1)(n+2)): of its
    prior by kind, the shares 2/(n+2) and 2/((n+1)(n+2)). No allele is less probable than one that the panel lacks.
    """
    without = chromosomes - copies + 1.0
    once, twice = 2.0 * copies / (without + 1.0), copies * (copies + 1.0) / (without * (without + 1.0))
    named = np.stack([once, np.where(haploid, copies / without, twice)], 1)
    unseen = np.stack([2.0 / (chromosomes + 2.0), 2.0 / ((chromosomes + 1.0) * (chromosomes + 2.0))], 1)
    unseen[haploid, 1] = unseen[haploid, 0]
    by_kind = log_priors(features, reference)
    absent = np.exp(by_kind[:, 1:] - by_kind[:, :1]) * np.maximum(unseen, _LEAST_UNSEEN)
    odds = np.maximum(named * _LENIENCE * np.array([1.0, _LENIENCE_HOMOZYGOUS]), absent)
    joint = np.concatenate([np.ones((len(odds), 1)), odds], 1)
    of_panel: np.ndarray = np.log(joint / joint.sum(1, keepdims=True))
    return of_panel


def _table() -> np.ndarray:
    once, twice = _LENIENCE * _HETEROZYGOUS, _LENIENCE * _LENIENCE_HOMOZYGOUS * _HOMOZYGOUS
    return np.log(np.stack([1.0 - once - twice, once, twice], 1))


_TABLE = _table()
