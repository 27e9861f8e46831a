"""Sites at which people differ often, with the frequency of the alternative base: of a public panel, or of the cohort.

Genotype likelihoods here are as simple as a sketch allows: reads are independent, and show their base unless they err
by their quality (Li 2011, section 2.2), with a small chance that a site's reads say nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
_ROUNDS = 40
_BITS, _MASK = 40, (1 << 40) - 1  # of a position, in one number with its contig


@dataclass(frozen=True)
class CommonSites:
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


def find_common_sites(
    sketches: Sequence[Sketch], panel: Path | None = None, reference: Path | None = None
) -> CommonSites:
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
    likelihoods = np.stack(
        [
            _likelihoods(sketch, place, everywhere[kept], first, second)
            for sketch, place in zip(sketches, places, strict=True)
        ]
    )
    frequency, common = choose_common(likelihoods)
    codes = everywhere[kept][common]
    estimated = np.zeros(int(common.sum()), bool)
    sites = CommonSites(codes >> _BITS, codes & _MASK, frequency[common], estimated, likelihoods[:, common])
    if panel is None or reference is None:
        return sites
    return _with_panel(sites, contigs, first[common], second[common], panel, reference)


def choose_common(likelihoods: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each site's frequency of the second base (float64), and whether the site is common and sound (bool)."""
    frequency = _estimate(likelihoods)
    common = (frequency > LEAST_FREQUENCY) & (frequency < 1 - LEAST_FREQUENCY)
    common &= _variant_evidence(likelihoods, frequency) > _EVIDENCE
    common &= _inbreeding(likelihoods, frequency) > _TOO_MANY_HETEROZYGOUS
    return frequency, common


def _places(sketch: Sketch, contigs: list[str]) -> np.ndarray:
    """Return contig and position of each row of a sketch in one number, int64, ascending."""
    numbers = [contigs.index(name) for name in sketch.contigs]
    parts = [
        (numbers[contig] << _BITS) + np.arange(start, end, dtype=np.int64)
        for contig, start, end in sketch.windows.tolist()
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _likelihoods(
    sketch: Sketch, places: np.ndarray, wanted: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Return the likelihoods of 0, 1 and 2 copies of the second base at the wanted places: float64, shape (s, 3)."""
    order = np.argsort(places, kind="stable")
    found = np.minimum(np.searchsorted(places[order], wanted), max(0, len(places) - 1))
    rows = order[found] if len(places) else np.zeros(len(wanted), np.int64)
    there = places[rows] == wanted if len(places) else np.zeros(len(wanted), bool)
    reads = [np.where(there, sketch.counts[rows, base], 0).astype(float) for base in (first, second)]
    qualities = [np.where(there, sketch.qualities[rows, base], 0).astype(float) for base in (first, second)]
    return likelihoods_of(*reads, *qualities)


def likelihoods_of(
    first: np.ndarray, second: np.ndarray, first_qualities: np.ndarray, second_qualities: np.ndarray
) -> np.ndarray:
    """Return the likelihoods of 0, 1 and 2 copies of the second base from reads and sums of their qualities, Phred.

    All of one shape; the result has a further axis of 3 that sums to 1.
    """
    logs = np.stack(
        [
            -second_qualities * _PHRED - second * np.log(3),
            -(first + second) * np.log(2),
            -first_qualities * _PHRED - first * np.log(3),
        ],
        -1,
    )
    likelihoods = np.exp(logs - logs.max(-1, keepdims=True))
    likelihoods /= likelihoods.sum(-1, keepdims=True)
    return np.asarray((1 - _MISLED) * likelihoods + _MISLED / 3)


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


def _with_panel(
    sites: CommonSites, contigs: list[str], first: np.ndarray, second: np.ndarray, panel: Path, reference: Path
) -> CommonSites:
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
    return CommonSites(
        sites.contig[common], sites.position[common], frequency, known[common], sites.likelihoods[:, common]
    )
