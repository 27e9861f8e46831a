"""Allele frequencies of a public panel: how many of its chromosomes carry a candidate's allele.

They replace the prior by kind of change when calling, and go nowhere else. A rare allele tells where in the genome a
candidate lies, so no frequency is a feature of the network, stands in the examples, or is seen by training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pysam

from fedcall.errors import FedcallError
from fedcall.files import sha256_file
from fedcall.genomics.alleles import MAX_SHIFT, Allele, normalise
from fedcall.genomics.examples import Examples
from fedcall.genomics.priors import log_priors, panel_log_priors
from fedcall.genomics.reads import open_reference
from fedcall.genomics.vcf_files import check_ref, check_vcf, known_contigs, open_vcf

ASSUMED_CHROMOSOMES = 1_000
"""Of a panel that gives frequencies (AF) and does not say of how many chromosomes (AN)."""
GAP = 1_000
"""Between two records closer than this, bases, the panel covers what it has no record of: people differ so often that
a longer gap was not looked at. Longer ones leave the prior by kind."""
_RECORDS_TO_JUDGE = 100, 10_000
"""At least so many records, and no indel among the first so many: the panel holds SNPs only."""
_LONGEST_REF = 1_000
_JOINED = 20_000
_WHAT = "panel VCF"
_BASES = set("ACGT")

Source = Literal["counts", "genotypes", "frequencies"]


@dataclass(frozen=True)
class Panel:
    """A VCF of public allele frequencies, checked against its reference.

    Attributes
    ----------
    source : what is read of a record
    knows_indels : False if it holds SNPs only, and so says nothing about an indel
    """

    path: Path
    reference: Path
    source: Source
    knows_indels: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return sha256_file(self.path)


@dataclass(frozen=True)
class PanelCounts:
    """What a panel knows of n candidates.

    Attributes
    ----------
    copies : float64, shape (n,)
        Chromosomes of the panel that carry the candidate's allele; 0 if it names no such allele.
    chromosomes : float64, shape (n,)
        Chromosomes that were looked at; 0 where the panel does not cover the place.
    """

    copies: np.ndarray
    chromosomes: np.ndarray


def open_panel(path: Path, reference: Path) -> Panel:
    """Check a panel: bgzipped and indexed, contigs of the reference, and something to count.

    Counts in INFO (AC and AN) come first: tools that leave people out keep them right, as they do not AF. Then come
    genotypes, then AF.

    Raises
    ------
    FedcallError
        Naming the file and what is wrong.
    """
    path = Path(path)
    check_vcf(path, reference, _WHAT)
    with open_vcf(path, _WHAT) as variants:
        fields = set(variants.header.info)
        source: Source
        if {"AC", "AN"} <= fields:
            source = "counts"
        elif len(variants.header.samples):
            source = "genotypes"
        elif "AF" in fields:
            source = "frequencies"
        else:
            raise FedcallError(
                f"{path}: no allele frequencies: neither INFO/AC with INFO/AN, nor INFO/AF, nor genotypes"
            )
    return Panel(path, Path(reference), source, _knows_indels(path))


def look_up(panel: Panel, examples: Examples) -> PanelCounts:
    """Return what the panel knows of each candidate; a candidate's counts do not depend on what other rows there are.

    Records are held against the reference, split by allele, and left-aligned, as truths are. Records that failed a
    filter of the panel name no allele.

    Raises
    ------
    FedcallError
        If a REF differs from the reference, or counts are impossible; the message names the place.
    """
    copies, chromosomes = np.zeros(len(examples)), np.zeros(len(examples))
    with open_vcf(panel.path, _WHAT, panel.source != "genotypes") as variants, open_reference(panel.reference) as fasta:
        known = known_contigs(variants)
        for rows in _clusters(examples):
            contig = examples.contigs[examples.contig[rows[0]]]
            if contig not in known:
                continue
            first, last = (int(examples.position[row]) for row in (rows[0], rows[-1]))
            start = max(0, first - GAP - 2 * MAX_SHIFT)
            sequence = fasta.fetch(contig, start, last + GAP + MAX_SHIFT + _LONGEST_REF).upper()
            stretch = _Stretch()
            for record in _fetch(variants, panel, contig, max(0, first - GAP), last + GAP + MAX_SHIFT):
                check_ref(panel.path, "panel", record, sequence, start)
                stretch.add(record, panel, sequence, start)
            for row in rows:
                allele = Allele(int(examples.position[row]), *examples.alleles(row))
                if allele.is_snp or panel.knows_indels:
                    copies[row], chromosomes[row] = stretch.counts(allele)
    return PanelCounts(copies, chromosomes)


def with_panel(posteriors: np.ndarray, examples: Examples, counts: PanelCounts, haploid: np.ndarray) -> np.ndarray:
    """Return posteriors as they are with the panel's prior in place of the prior by kind.

    By Bayes' rule a posterior is likelihood times prior, so the new one is the old one times new over old prior.

    Parameters
    ----------
    posteriors : float, shape (n, 3)
    examples : Examples, n rows
    counts : from `look_up`
    haploid : bool, shape (n,)
        Where the patient has one copy of the genome.

    Returns
    -------
    float64, shape (n, 3)
        Rows sum to 1.
    """
    reference, scalars = np.asarray(examples.reference), np.asarray(examples.scalars)
    change = panel_log_priors(scalars, reference, counts.copies, counts.chromosomes, haploid)
    change -= log_priors(scalars, reference)
    joint = posteriors.astype(np.float64) * np.exp(change)
    return joint / joint.sum(1, keepdims=True)


def _knows_indels(path: Path) -> bool:
    enough, most = _RECORDS_TO_JUDGE
    count = 0
    with open_vcf(path, _WHAT, without_samples=True) as variants:
        try:
            for record in islice(variants, most):
                count += 1
                if any(len(alt) != len(record.ref) for alt in record.alts or () if alt[0] not in "<*"):
                    return True
        except (OSError, ValueError) as error:
            raise FedcallError(f"{path}: not a readable VCF ({error})") from None
    return count < enough


def _clusters(examples: Examples) -> Iterator[np.ndarray]:
    """Yield rows whose candidates lie close to each other, by contig and position."""
    order = np.lexsort((examples.position, examples.contig))
    contigs, positions = examples.contig[order].astype(np.int64), examples.position[order]
    apart = (np.diff(contigs) != 0) | (np.diff(positions // _JOINED) != 0)
    yield from (rows for rows in np.split(order, np.flatnonzero(apart) + 1) if len(rows))


def _fetch(
    variants: pysam.VariantFile, panel: Panel, contig: str, start: int, end: int
) -> Iterator[pysam.VariantRecord]:
    """Yield records that begin in [start, end)."""
    try:
        for record in variants.fetch(contig, start, end):
            if start <= record.start < end:
                yield record
    except (OSError, ValueError) as error:
        raise FedcallError(f"{panel.path}: cannot be read near {contig}:{start + 1} ({error})") from None


class _Stretch:
    """What the panel says about a stretch of a contig."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._chromosomes: list[float] = []
        self._spellings: dict[Allele, dict[Allele, tuple[float, float]]] = {}

    def add(self, record: pysam.VariantRecord, panel: Panel, sequence: str, start: int) -> None:
        """Take in a record that begins behind all before it."""
        counted = _count(record, panel)
        if counted is None:
            return
        copies, chromosomes = counted
        self._places.append(record.start)
        self._chromosomes.append(chromosomes)
        if len(record.ref) > _LONGEST_REF or any(name != "PASS" for name in record.filter):
            return
        for alt, number in zip(record.alts or (), copies, strict=True):
            if not set(alt.upper() + record.ref.upper()) <= _BASES:
                continue
            spelling = Allele(record.start, record.ref.upper(), alt.upper())
            for allele in normalise(spelling, sequence, start):
                spellings = self._spellings.setdefault(allele, {})
                # The same record twice is one statement.
                spellings[spelling] = max(spellings.get(spelling, (0.0, 0.0)), (number, chromosomes))

    def counts(self, allele: Allele) -> tuple[float, float]:
        """Return copies and chromosomes of a normalised allele."""
        spellings = self._spellings.get(allele)
        if spellings:
            # Spelled in different ways, it was seen in different people.
            chromosomes = max(number for _, number in spellings.values())
            return min(chromosomes, sum(number for number, _ in spellings.values())), chromosomes
        after = int(np.searchsorted(self._places, allele.position))
        before = after if after < len(self._places) and self._places[after] == allele.position else after - 1
        if before < 0 or after == len(self._places) or self._places[after] - self._places[before] > GAP:
            return 0.0, 0.0
        return 0.0, min(self._chromosomes[before], self._chromosomes[after])


def _count(record: pysam.VariantRecord, panel: Panel) -> tuple[list[float], float] | None:
    """Return copies of each ALT, and chromosomes looked at; None if the record says nothing."""
    alternatives = record.alts or ()
    if panel.source == "genotypes":
        indices = [index for sample in record.samples.values() for index in sample.allele_indices or ()]
        chromosomes = float(sum(index is not None for index in indices))
        return ([float(indices.count(k + 1)) for k in range(len(alternatives))], chromosomes) if chromosomes else None
    chromosomes = _info(record, "AN")
    if chromosomes is None and panel.source == "frequencies":
        chromosomes = ASSUMED_CHROMOSOMES
    values = _info(record, "AC" if panel.source == "counts" else "AF") if alternatives else ()
    values = values if isinstance(values, tuple) else (values,)
    if not chromosomes or None in values:
        return None
    copies = [float(value) * (chromosomes if panel.source == "frequencies" else 1) for value in values]
    if len(copies) != len(alternatives) or not all(0 <= number <= chromosomes for number in copies):
        raise FedcallError(
            f"{panel.path}: {record.contig}:{record.pos}: {', '.join(map(str, values))} is no count or frequency of"
            f" {len(alternatives)} alternative alleles on {chromosomes} chromosomes"
        )
    return copies, float(chromosomes)


def _info(record: pysam.VariantRecord, field: str) -> Any:
    # `get` fails for a field that the header does not declare.
    return record.info[field] if field in record.header.info and field in record.info else None
