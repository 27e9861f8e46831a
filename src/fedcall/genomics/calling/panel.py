"""Allele frequencies of a public panel: how many of its chromosomes carry a candidate's allele.

They replace the prior by kind of change when calling, and go nowhere else. A rare allele tells where in the genome a
candidate lies, so no frequency is a feature of the network, stands in the examples, or is seen by training.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.errors import FedcallError
from fedcall.files import sha256_file
from fedcall.genomics.alleles import MAX_SHIFT, Allele, normalise
from fedcall.genomics.examples import Examples
from fedcall.genomics.priors import log_priors, panel_log_priors
from fedcall.genomics.reference import open_reference
from fedcall.genomics.vcf.files import check_ref, check_vcf
from fedcall.genomics.vcf.record import VcfRow
from fedcall.genomics.vcf.record import number as number_in
from fedcall.genomics.vcf.rows import kept_open, open_rows

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
_INFO_LINE = re.compile(r"##INFO=<ID=([^,>]+)")

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
    with open_rows(path, _WHAT) as vcf:
        fields = {found[1] for line in vcf.meta if (found := _INFO_LINE.match(line))}
        if not (fields & {"AF"} or {"AC", "AN"} <= fields):  # headers need not declare what their records have
            fields |= {entry.partition("=")[0] for row in islice(vcf.rows(), 100) for entry in row.info.split(";")}
        source: Source
        if {"AC", "AN"} <= fields:
            source = "counts"
        elif vcf.samples:
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
    return _look_up(
        panel,
        examples.contigs,
        examples.contig,
        examples.position,
        lambda row: Allele(int(examples.position[row]), *examples.alleles(row)),
    )


def look_up_alleles(panel: Panel, alleles: Sequence[tuple[str, Allele]]) -> PanelCounts:
    """Return what the panel knows of n alleles with their contigs, spelled as candidates are; see `look_up`."""
    contigs = tuple(dict.fromkeys(contig for contig, _ in alleles))
    return _look_up(
        panel,
        contigs,
        np.array([contigs.index(contig) for contig, _ in alleles], np.int64),
        np.array([allele.position for _, allele in alleles], np.int64),
        lambda row: alleles[row][1],
    )


def _look_up(
    panel: Panel,
    contigs: Sequence[str],
    contig_of: np.ndarray,
    positions: np.ndarray,
    allele_of: Callable[[int], Allele],
) -> PanelCounts:
    copies, chromosomes = np.zeros(len(positions)), np.zeros(len(positions))
    vcf = kept_open(panel.path, _WHAT)
    with open_reference(panel.reference) as fasta:
        for rows in _clusters(contig_of, positions):
            contig = contigs[contig_of[rows[0]]]
            first, last = (int(positions[row]) for row in (rows[0], rows[-1]))
            start = max(0, first - GAP - 2 * MAX_SHIFT)
            sequence = fasta.fetch(contig, start, last + GAP + MAX_SHIFT + _LONGEST_REF).upper()
            asked = [allele_of(int(row)) for row in rows]
            low, high = max(0, first - GAP), last + GAP + MAX_SHIFT
            rows_near = vcf.rows(spans=[(contig, low, high)], everybody=panel.source == "genotypes")
            stretch = _Stretch(panel, [row for row in rows_near if low <= row.start < high], asked, sequence, start)
            for row, allele in zip(rows, asked, strict=True):
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
    reference, features = np.asarray(examples.reference), np.asarray(examples.features)
    change = panel_log_priors(features, reference, counts.copies, counts.chromosomes, haploid)
    change -= log_priors(features, reference)
    joint = posteriors.astype(np.float64) * np.exp(change)
    shares: np.ndarray = joint / joint.sum(1, keepdims=True)
    return shares


def _knows_indels(path: Path) -> bool:
    enough, most = _RECORDS_TO_JUDGE
    count = 0
    with open_rows(path, _WHAT) as vcf:
        for row in islice(vcf.rows(), most):
            count += 1
            if any(len(alt) != len(row.ref) for alt in row.alts if alt[:1] not in "<*"):
                return True
    return count < enough


def _clusters(contigs: np.ndarray, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows that lie close to each other, by contig and position."""
    order = np.lexsort((positions, contigs))
    apart = (np.diff(contigs[order].astype(np.int64)) != 0) | (np.diff(positions[order] // _JOINED) != 0)
    yield from (rows for rows in np.split(order, np.flatnonzero(apart) + 1) if len(rows))


class _Stretch:
    """What the panel says about some alleles on a stretch of a contig; records that cannot matter are hardly read."""

    def __init__(self, panel: Panel, records: list[VcfRow], asked: list[Allele], sequence: str, start: int) -> None:
        self._panel, self._records = panel, records
        self._places = [record.start for record in records]
        self._spellings: dict[Allele, dict[Allele, tuple[float, float]]] = {allele: {} for allele in asked}
        positions = {allele.position for allele in asked}
        for record in records:
            # Only an indel or a substitution of several bases is another record's business.
            if record.start in positions or len(record.ref) > 1 or any(len(alt) > 1 for alt in record.alts):
                check_ref(panel.path, "panel", record, sequence, start)
                self._take(record, sequence, start)

    def counts(self, allele: Allele) -> tuple[float, float]:
        """Return copies and chromosomes of one of the alleles."""
        spellings = self._spellings[allele].values()
        if spellings:
            # Spelled in different ways, it was seen in different people.
            chromosomes = max(number for _, number in spellings)
            return min(chromosomes, sum(number for number, _ in spellings)), chromosomes
        behind, ahead = bisect_right(self._places, allele.position), bisect_left(self._places, allele.position)
        before = self._nearest(reversed(range(behind)), allele.position)
        after = self._nearest(range(ahead, len(self._places)), allele.position)
        if before is None or after is None or after[0] - before[0] > GAP:
            return 0.0, 0.0
        return 0.0, min(before[1], after[1])

    def _take(self, record: VcfRow, sequence: str, start: int) -> None:
        """Take in the alleles that were asked for."""
        counted = _count(record, self._panel)
        if counted is None or len(record.ref) > _LONGEST_REF or record.filters:
            return
        copies, chromosomes = counted
        for alt, number in zip(record.alts, copies, strict=True):
            spelling = Allele(record.start, record.ref, alt)
            for allele in _normal(spelling, sequence, start):
                if allele in self._spellings:
                    spellings = self._spellings[allele]
                    # The same record twice is one statement.
                    spellings[spelling] = max(spellings.get(spelling, (0.0, 0.0)), (number, chromosomes))

    def _nearest(self, indices: Iterable[int], position: int) -> tuple[int, float] | None:
        """Return place and chromosomes of the first record that says something, not too far away."""
        for index in indices:
            if abs(self._places[index] - position) > GAP:
                return None
            counted = _count(self._records[index], self._panel)
            if counted is not None:
                return self._places[index], counted[1]
        return None


def _normal(allele: Allele, sequence: str, start: int) -> list[Allele]:
    """Return an allele as candidates are spelled; nothing for one that is not spelled in bases."""
    if allele.is_snp:
        return [allele]
    return normalise(allele, sequence, start) if _BASES.issuperset(allele.ref + allele.alt) else []


def _count(record: VcfRow, panel: Panel) -> tuple[list[float], float] | None:
    """Return copies of each ALT, and chromosomes looked at; None if the record says nothing."""
    alternatives = record.alts
    if panel.source == "genotypes":
        indices = [index for genotype in record.genotypes() for index in genotype.alleles]
        chromosomes = float(sum(index is not None for index in indices))
        return ([float(indices.count(k + 1)) for k in range(len(alternatives))], chromosomes) if chromosomes else None
    stated = number_in(record.information("AN"))
    if stated is None and panel.source == "frequencies":
        stated = ASSUMED_CHROMOSOMES
    text = record.information("AC" if panel.source == "counts" else "AF") if alternatives else ""
    values = [number_in(value) for value in text.split(",")] if text else []
    if not stated or (alternatives and not text) or (text and None in values and "." in text.split(",")):
        return None
    copies = [value * (stated if panel.source == "frequencies" else 1) for value in values if value is not None]
    if len(copies) != len(alternatives) or not all(0 <= copied <= stated for copied in copies):
        raise FedcallError(
            f"{panel.path}: {record.contig}:{record.start + 1}: {', '.join((text or '').split(','))} is no count or"
            f" frequency of {len(alternatives)} alternative alleles on {stated:g} chromosomes"
        )
    return copies, float(stated)
