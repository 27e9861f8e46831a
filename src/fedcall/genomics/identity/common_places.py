"""Sites at which people differ often, with the frequency of the alternative base: of a public panel, or of the cohort.

Genotype likelihoods here are as simple as a sketch allows: reads are independent, and show their base unless they err
by their quality (Li 2011, section 2.2), with a small chance that a site's reads say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from fedcall.genomics.alleles import Allele
from fedcall.genomics.calling.panel import look_up_alleles, open_panel
from fedcall.genomics.identity.sketch import Sketch

LEAST_FREQUENCY = 0.05
"""Of the rarer of two bases. Rarer ones are seldom told from errors within a small cohort."""
_SEEN = 3  # reads with the alternative base, over all people
_EVIDENCE = 8.0  # log-likelihood for a variant against none, over all people
_TOO_MANY_HETEROZYGOUS = -0.4  # inbreeding coefficient below which reads of two places lie on one
_MISLED = 2e-3  # chance that reads at a site say nothing about the genotype
_PHRED = np.log(10) / 10
_WORSE = 5.0
"""Phred. Reads that show a real second base show it with the qualities that the first has; an artefact's are lower."""
_ERROR = 0.005  # of a base read, where genotypes are held against one share of wrong bases in everybody
_ROUNDS = 40
_BITS, _MASK = 40, (1 << 40) - 1  # of a position, in one number with its contig


@dataclass(frozen=True)
class Shown:
    """What everybody's reads show at sites with two bases: float64, shape (people, s) each.

    Attributes
    ----------
    first, second : reads that show the one base and the other
    first_qualities, second_qualities : sums of their qualities, Phred
    """

    first: np.ndarray
    second: np.ndarray
    first_qualities: np.ndarray
    second_qualities: np.ndarray

    @cached_property
    def likelihoods(self) -> np.ndarray:
        """Of the reads for 0, 1 and 2 copies of the second base: float64, shape (people, s, 3); sums to 1."""
        logs = np.stack(
            [
                -self.second_qualities * _PHRED - self.second * np.log(3),
                -(self.first + self.second) * np.log(2),
                -self.first_qualities * _PHRED - self.first * np.log(3),
            ],
            -1,
        )
        likelihoods = np.exp(logs - logs.max(-1, keepdims=True))
        likelihoods /= likelihoods.sum(-1, keepdims=True)
        return np.asarray((1 - _MISLED) * likelihoods + _MISLED / 3)


@dataclass(frozen=True)
class CommonPlaces:
    """Sites with two bases, and what each person's reads say about them.

    Attributes
    ----------
    contig : int64, shape (s,)
    position : int64, shape (s,)
        Sorted by contig, then position.
    frequency : float64, shape (s,)
        Of the second base among people.
    is_public : bool, shape (s,)
        Whether the frequency is that of a public panel.
    likelihoods : float64, shape (people, s, 3)
        Of the reads for 0, 1 and 2 copies of the second base; sums to 1, equal where there are no reads.
    """

    contig: np.ndarray
    position: np.ndarray
    frequency: np.ndarray
    is_public: np.ndarray
    likelihoods: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    @property
    def dosages(self) -> np.ndarray:
        """Expected copies of the second base, by reads and frequency: float64, shape (people, s)."""
        joint = self.likelihoods * priors(self.frequency)
        joint /= joint.sum(-1, keepdims=True)
        return np.asarray(joint[..., 1] + 2 * joint[..., 2])


def priors(frequency: np.ndarray) -> np.ndarray:
    """Return Hardy and Weinberg's shares of 0, 1 and 2 copies: float64, shape (s, 3)."""
    return np.stack([(1 - frequency) ** 2, 2 * frequency * (1 - frequency), frequency**2], -1)


def find_common_places(
    sketches: Sequence[Sketch], panel: Path | None = None, reference: Path | None = None
) -> CommonPlaces:
    """Return the sites at which several people show a second base at plausible frequencies.

    Parameters
    ----------
    sketches : one of each person
    panel : VCF of public allele frequencies, which are taken where it covers a site; needs `reference`
    """
    contigs = list(dict.fromkeys(name for sketch in sketches for name in sketch.contigs))
    places = [_places(sketch, contigs) for sketch in sketches]
    everywhere = np.unique(np.concatenate(places)) if places else np.empty(0, np.int64)
    shown = np.zeros((len(everywhere), 4), np.int64)
    for sketch, place in zip(sketches, places, strict=True):
        shown[np.searchsorted(everywhere, place)] += sketch.counts
    order = np.argsort(-shown, axis=1, kind="stable")
    rows = np.arange(len(everywhere))
    kept = rows[shown[rows, order[:, 1]] >= _SEEN]
    first, second = order[kept, 0], order[kept, 1]
    reads = _shown(sketches, places, everywhere[kept], first, second)
    likelihoods, (frequency, common) = reads.likelihoods, choose_common(reads)
    codes = everywhere[kept][common]
    estimated = np.zeros(int(common.sum()), bool)
    sites = CommonPlaces(codes >> _BITS, codes & _MASK, frequency[common], estimated, likelihoods[:, common])
    if panel is None or reference is None:
        return sites
    return _with_panel(sites, contigs, first[common], second[common], panel, reference)


def choose_common(reads: Shown) -> tuple[np.ndarray, np.ndarray]:
    """Return each site's frequency of the second base (float64), and whether the site is common and sound (bool).

    Errors that recur at one place in everybody pass for a second base that is common. They are told from genotypes by
    their qualities, and because everybody has about the same share of them.
    """
    likelihoods = reads.likelihoods
    frequency = _estimate(likelihoods)
    common = (frequency > LEAST_FREQUENCY) & (frequency < 1 - LEAST_FREQUENCY)
    common &= _variant_evidence(likelihoods, frequency) > _EVIDENCE
    common &= _inbreeding(likelihoods, frequency) > _TOO_MANY_HETEROZYGOUS
    common &= _lost_quality(reads) < _WORSE
    common &= _genotypes_against_one_share(reads, frequency) > 0
    return frequency, common


def _places(sketch: Sketch, contigs: list[str]) -> np.ndarray:
    """Return contig and position of each row of a sketch in one number, int64, ascending."""
    numbers = [contigs.index(name) for name in sketch.contigs]
    parts = [
        (numbers[contig] << _BITS) + np.arange(start, end, dtype=np.int64)
        for contig, start, end in sketch.windows.tolist()
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _shown(
    sketches: Sequence[Sketch], places: Sequence[np.ndarray], wanted: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Shown:
    """Return what the sketches' reads show at the wanted places, by each place's two bases."""
    found = np.zeros((4, len(sketches), len(wanted)))
    for row, (sketch, place) in enumerate(zip(sketches, places, strict=True)):
        if not len(place):
            continue
        order = np.argsort(place, kind="stable")
        rows = order[np.minimum(np.searchsorted(place[order], wanted), len(place) - 1)]
        there = place[rows] == wanted
        columns = [table[rows, base] for table in (sketch.counts, sketch.qualities) for base in (first, second)]
        found[:, row] = np.where(there, columns, 0)
    return Shown(*found)


def _estimate(likelihoods: np.ndarray) -> np.ndarray:
    """Return the frequency of the second base by expectation and maximisation, held off 0 and 1."""
    frequency = np.full(likelihoods.shape[1], 0.2)
    for _ in range(_ROUNDS):
        joint = likelihoods * priors(frequency)
        joint /= joint.sum(-1, keepdims=True)
        copies = (joint[..., 1] + 2 * joint[..., 2]).sum(0)
        frequency = (copies + 0.5) / (2 * len(likelihoods) + 1)
    return frequency


def _variant_evidence(likelihoods: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    def log_likelihood(of: np.ndarray) -> np.ndarray:
        return np.asarray(np.log((likelihoods * priors(of)).sum(-1)).sum(0))

    return np.asarray(log_likelihood(frequency) - log_likelihood(np.full(len(frequency), 1e-4)))


def _inbreeding(likelihoods: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    joint = likelihoods * priors(frequency)
    joint /= joint.sum(-1, keepdims=True)
    return np.asarray(1 - joint[..., 1].mean(0) / (2 * frequency * (1 - frequency)))


def _lost_quality(reads: Shown) -> np.ndarray:
    """Return how much lower the second base's mean quality is than the first's, over all people: float64 (s,)."""
    first = reads.first_qualities.sum(0) / np.maximum(1, reads.first.sum(0))
    return np.asarray(first - reads.second_qualities.sum(0) / np.maximum(1, reads.second.sum(0)))


def _genotypes_against_one_share(reads: Shown, frequency: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of genotypes against one share of second bases in everybody's reads: shape (s,)."""
    first, second = reads.first, reads.second
    total = second.sum(0)
    share = np.clip(total / np.maximum(1, total + first.sum(0)), 1e-6, 1 - 1e-6)
    recurrent = (second * np.log(share) + first * np.log(1 - share)).sum(0)
    right, wrong = np.log(1 - _ERROR), np.log(_ERROR)
    logs = np.stack([second * wrong + first * right, -(first + second) * np.log(2), first * wrong + second * right], -1)
    genotypes = logsumexp(logs, axis=-1, b=priors(frequency)).sum(0)
    return np.asarray(genotypes - recurrent)


def _with_panel(
    sites: CommonPlaces, contigs: list[str], first: np.ndarray, second: np.ndarray, panel: Path, reference: Path
) -> CommonPlaces:
    """Return the sites that are common in the panel, too, with its frequencies; others stay where it covers nothing."""
    names = [name.rpartition(":")[0] for name in contigs]
    spelled = [
        (names[contig], position, "ACGT"[one], "ACGT"[other])
        for contig, position, one, other in zip(
            sites.contig.tolist(), sites.position.tolist(), first.tolist(), second.tolist(), strict=True
        )
    ]
    opened = open_panel(panel, reference)
    # Which of the two is the reference's base, the panel knows: an allele equal to it is carried by nobody.
    forth = look_up_alleles(opened, [(contig, Allele(at, one, other)) for contig, at, one, other in spelled])
    back = look_up_alleles(opened, [(contig, Allele(at, other, one)) for contig, at, one, other in spelled])
    known = np.maximum(forth.chromosomes, back.chromosomes) > 0
    copies = np.where(back.copies > 0, back.chromosomes - back.copies, forth.copies)
    share = copies / np.maximum(1.0, np.maximum(forth.chromosomes, back.chromosomes))
    common = ~known | ((share > LEAST_FREQUENCY) & (share < 1 - LEAST_FREQUENCY))
    frequency = np.where(known, share, sites.frequency)[common]
    return CommonPlaces(
        sites.contig[common], sites.position[common], frequency, known[common], sites.likelihoods[:, common]
    )
