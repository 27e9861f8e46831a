"""Records of candidates with nothing else called near them, as most are: their text in one go, a column at a time."""

import numpy as np

from fedcall.genomics.examples import Examples

MAX_GQ = 99
FLOOR = 1e-30
"""No genotype is less probable: what is written stays finite."""
FORMAT = "GT:GQ:PL:DP:AD"


def groups_of(examples: Examples, rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return where groups begin among rows; what is called in one group leaves all others as they are.

    Two rows of different groups neither begin at one position nor lie over a common base, nor does a gap of one lie
    directly behind the other.

    Parameters
    ----------
    rows : int64, shape (m,); in the order of contigs and positions
    ranks : int64, shape (m,); place of each row's contig in that order

    Returns
    -------
    int64, shape (groups + 1,), the last is m
    """
    if not len(rows):
        return np.zeros(1, np.int64)
    key = ranks.astype(np.int64) << 40
    starts = key + examples.position[rows]
    ends = starts + examples.allele_offsets[2 * rows + 1] - examples.allele_offsets[2 * rows]
    apart = np.flatnonzero(starts[1:] > np.maximum.accumulate(ends)[:-1]) + 1
    return np.concatenate([[0], apart, [len(rows)]])


def lone_records(
    examples: Examples, posteriors: np.ndarray, rows: np.ndarray, haploid: np.ndarray
) -> list[tuple[tuple[str, int], str]]:
    """Return the records of candidates, none of which is near another; `calls` writes the same of any one by itself.

    Parameters
    ----------
    posteriors : float, shape (n, 3)
    rows : int64, shape (m,); the most probable genotype of each is not 0/0
    haploid : bool, shape (m,); where the genotype is of one copy, and the posterior of one alternative allele zero

    Returns
    -------
    Of each row its place (contig's name, 0-based start) and its text.
    """
    values = np.maximum(posteriors[rows].astype(np.float64), FLOOR)
    values /= (values[:, 0] + values[:, 1] + values[:, 2])[:, None]
    values[haploid, 1] = 0.0
    values[haploid] /= values[haploid].sum(1, keepdims=True)
    dosages = posteriors[rows].argmax(1)
    # Summing the others keeps the digits that 1 - P(best) loses.
    wrong = values[:, 0] + np.where(dosages == 2, values[:, 1], values[:, 2])
    quality = np.clip(np.rint(-10 * np.log10(np.maximum(wrong, FLOOR))), 0, MAX_GQ).astype(np.int64)
    phred = -10 * np.log10(np.maximum(values, FLOOR))
    scaled = np.rint(phred - phred.min(1, keepdims=True, initial=np.inf)).astype(np.int64)
    names = examples.contigs
    places = [
        (names[contig], start)
        for contig, start in zip(examples.contig[rows].tolist(), examples.position[rows].tolist(), strict=True)
    ]
    columns = zip(
        places,
        examples.alleles_of(rows),
        phred[:, 0].tolist(),
        np.where(haploid, 0, dosages).tolist(),
        quality.tolist(),
        scaled.tolist(),
        examples.depth[rows].tolist(),
        examples.allele_depths[rows].tolist(),
        strict=True,
    )
    lines = [
        f"{name}\t{start + 1}\t.\t{ref}\t{alt}\t{unlike:.2f}\tPASS\t.\t{FORMAT}\t{_GENOTYPES[dosage]}:{sure}:"
        f"{f'{zero},{one},{two}' if dosage else f'{zero},{two}'}:{depth}:{ref_depth},{alt_depth}"
        for (name, start), (ref, alt), unlike, dosage, sure, (zero, one, two), depth, (ref_depth, alt_depth) in columns
    ]
    return list(zip(places, lines, strict=True))


_GENOTYPES = "1", "0/1", "1/1"
"""By dosage; 0 stands for one copy of the genome, which is the alternative allele."""
