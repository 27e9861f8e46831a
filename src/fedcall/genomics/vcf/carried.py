"""The alleles a person carries by a VCF: split, held against the reference, left-aligned, each once."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

from fedcall.errors import FedcallError
from fedcall.genomics.reference import open_reference, reference_contigs, shared_contigs
from fedcall.genomics.reference_index import NAME_CHARACTERS
from fedcall.genomics.regions import widen_regions
from fedcall.genomics.vcf.carried_allele import Carried
from fedcall.genomics.vcf.left_alignment import Edit, ReferenceBases, agrees, normal_form, trimmed
from fedcall.genomics.vcf.lines import Span
from fedcall.genomics.vcf.record import Genotype, VcfRow
from fedcall.genomics.vcf.rows import VcfFile, open_rows, patient_column
from fedcall.genomics.vcf.settling import Settling
from fedcall.shown import shown

REGION_MARGIN = 100
"""Records are looked at this far outside the regions, bases: left alignment may move them inside."""
_BASES = re.compile("[ACGT]+")

NOT_SPELLED = "not spelled in bases"
FILTERED = "filtered"
WITHOUT_GENOTYPE = "without genotype"
NOT_CARRIED = "not carried"
BEYOND = "beyond the alleles of their record"
OTHER_CONTIGS = "on contigs that the reference lacks"
AMBIGUOUS = "where the reference has no base"

T = TypeVar("T")


@dataclass
class CarriedAlleles(Generic[T]):
    """What became of the records of one file.

    Attributes
    ----------
    alleles : by contig of the reference and position
    left_out : how many of what kind were left out
    unclear : places where the file does not say what the person has: no genotype, a failed filter, an allele that
        cannot be spelled
    """

    sample: str
    contigs: list[str]
    alleles: list[Carried[T]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unclear: list[Span] = field(default_factory=list)


def patient_file(
    vcf: VcfFile, reference: Path, sample: str | None, wanted: Iterable[str] | None = None
) -> tuple[str, list[str]]:
    """Return the patient's column and the contigs of an open VCF that the reference has, after comparing lengths.

    Parameters
    ----------
    wanted : contigs that each must be there, if the file says which it knows (in its header or its index)

    Raises
    ------
    FedcallError
        As of `choose_sample` and `shared_contigs`.
    """
    name = patient_column(vcf, sample)
    contigs: Mapping[str, int | None] = vcf.contigs
    if not contigs:
        contigs = dict.fromkeys(vcf.indexed_contigs() or (row.contig for row in vcf.rows()))
        # A file without a list and without a record says nothing about contigs, and nothing wrong.
        return name, shared_contigs(vcf.path, contigs, reference) if contigs else list(reference_contigs(reference))
    if wanted is not None:
        missing = set(wanted) - set(contigs)
        if missing:  # headers leave out contigs that their records are on
            contigs = {**dict.fromkeys(row.contig for row in vcf.rows() if row.contig in missing), **contigs}
    return name, shared_contigs(vcf.path, contigs, reference, wanted)


def read_carried(
    path: Path,
    reference: Path,
    note: Callable[[VcfRow, int], T],
    *,
    sample: str | None = None,
    spans: Sequence[Span] | None = None,
    need_contigs: bool = False,
    keep_apart: bool = False,
    what: str = "VCF file",
) -> CarriedAlleles[T]:
    """Return the alleles that one person carries.

    A record that says nothing about the person, or that cannot be spelled, is left out and counted; so is what failed a
    filter. The same change twice is one statement. Changes that coincide only when they are left-aligned are on
    one haplotype if the file says so: then they are joined (two deletions of one unit are a deletion of two).

    Parameters
    ----------
    note : what to keep of a record for the ALT of an index (from 1)
    sample : the patient's column; the only one if None
    spans : merged and sorted; only alleles that begin inside once they are left-aligned
    need_contigs : whether the file must know each contig of the spans
    keep_apart : of unphased changes that coincide only when left-aligned nobody can say whether they are on one
        haplotype or on two; keep them apart, all but one where the file places them, instead of taking them for one

    Raises
    ------
    FedcallError
        One line that names the file, and line or position: a row that is no record, or a REF that is not what
        the reference has.
    """
    path = Path(path)
    lengths = reference_contigs(reference)
    near = None if spans is None else widen_regions(spans, REGION_MARGIN, lengths)
    with open_rows(path, what) as vcf, open_reference(reference) as fasta:
        wanted = {contig for contig, _, _ in spans} if need_contigs and spans is not None else None
        name, contigs = patient_file(vcf, reference, sample, wanted)
        found: CarriedAlleles[T] = CarriedAlleles(name, contigs)
        reader = _CarriedReader(
            ReferenceBases(fasta), reference, lengths, None if spans is None else Inside(spans), found, note
        )
        same: dict[tuple[str, int, str, str], Carried[T] | list[Carried[T]]] = {}
        for row in vcf.rows(name, near):
            for carried in reader.alleles(row):
                key = (carried.contig, carried.start, carried.ref, carried.alt)
                known = same.setdefault(key, carried)
                if isinstance(known, list):
                    known.append(carried)
                elif known is not carried:
                    same[key] = [known, carried]
        several = [one for one in same.values() if isinstance(one, list)]
        found.alleles += [one for one in same.values() if not isinstance(one, list)]
        if several:
            settling = Settling(reader.bases, found.left_out, [*found.alleles, *chain.from_iterable(several)])
            found.alleles += chain.from_iterable(settling.settle(one, keep_apart) for one in several)
    order = {contig: rank for rank, contig in enumerate(lengths)}
    found.alleles.sort(key=lambda carried: (order[carried.contig], carried.start, carried.ref, carried.alt))
    return found


def check_patient_file(
    path: Path, reference: Path, sample: str | None, spans: Sequence[Span] | None, what: str, records: int = 100
) -> None:
    """Look into a person's VCF as `read_carried` would, but at no more than a few records; errors are the same."""
    lengths = reference_contigs(reference)
    with open_rows(path, what) as vcf, open_reference(reference) as fasta:
        name, contigs = patient_file(vcf, reference, sample, {contig for contig, _, _ in spans} if spans else None)
        found: CarriedAlleles[None] = CarriedAlleles(name, contigs)
        bases = ReferenceBases(fasta)
        reader: _CarriedReader[None] = _CarriedReader(bases, reference, lengths, None, found, lambda row, index: None)
        for row in islice(vcf.rows(name), records):
            for _ in reader.alleles(row):
                pass


class Inside:
    """Answer whether a 0-based position lies in merged, half-open spans."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans: dict[str, tuple[list[int], list[int]]] = {}
        for contig, start, end in spans:
            starts, ends = self._spans.setdefault(contig, ([], []))
            starts.append(start)
            ends.append(end)

    def __call__(self, contig: str, position: int) -> bool:
        return position < self.end_of(contig, position)

    def end_of(self, contig: str, position: int) -> int:
        """Return where the last span ends that begins at or before a position; -1 without one."""
        starts, ends = self._spans.get(contig, ([], []))
        index = bisect_right(starts, position) - 1
        return ends[index] if index >= 0 else -1


class _CarriedReader(Generic[T]):
    def __init__(
        self,
        bases: ReferenceBases,
        reference: Path,
        lengths: Mapping[str, int],
        inside: Inside | None,
        found: CarriedAlleles[T],
        note: Callable[[VcfRow, int], T],
    ) -> None:
        self.bases, self.reference, self.lengths, self.inside = bases, reference, lengths, inside
        self.left_out, self.unclear, self.note = found.left_out, found.unclear, note

    def alleles(self, row: VcfRow) -> Iterator[Carried[T]]:
        """Yield what one record says; count what is left out."""
        if row.contig not in self.lengths:
            self.left_out[OTHER_CONTIGS] += 1
            return
        genotype = row.genotype()
        carried = sorted({index for index in genotype.alleles if index})
        reason = self._unusable(row, genotype, carried)
        if reason is not None:
            if reason != NOT_CARRIED:
                self._doubt(row)
            if self.inside is None or self.inside(row.contig, row.start):
                self.left_out[reason] += max(1, len(carried))
            return
        phase = (row.value("PS") or "") if genotype.phased or len(genotype.alleles) == 1 else None
        by_alt = {row.alts[index - 1]: index for index in reversed(carried)}
        for alt, index in sorted(by_alt.items(), key=lambda pair: pair[1]):
            if alt == row.ref or not _BASES.fullmatch(alt):
                if alt not in (row.ref, "*"):
                    self._doubt(row)
                if self.inside is None or self.inside(row.contig, row.start):
                    self.left_out[_why_left_out(alt, row.ref)] += 1
                continue
            # One record may name an allele twice: what carries either carries it.
            same = {number for number in carried if row.alts[number - 1] == alt}
            copies = tuple(None if copy is None else int(copy in same) for copy in genotype.alleles)
            edit = trimmed(row.start, row.ref, alt)
            changes = list(self._changes(row, alt, edit))
            if changes:
                noted = self.note(row, index)
                for start, ref, new in changes:
                    yield Carried(row.contig, start, ref, new, copies, phase, edit, noted)

    def _unusable(self, row: VcfRow, genotype: Genotype, carried: Sequence[int]) -> str | None:
        """Return why nothing of a record is used, or None; refuse one that contradicts the reference."""
        if not any(copy is not None for copy in genotype.alleles):
            return WITHOUT_GENOTYPE
        if carried and row.filters:
            return FILTERED
        if carried and carried[-1] > len(row.alts):
            return BEYOND
        if row.start < 0 or not _BASES.fullmatch(row.ref):
            return NOT_SPELLED if carried else NOT_CARRIED
        if row.end > self.lengths[row.contig]:
            raise FedcallError(
                f"{row.place}: REF reaches beyond the end of '{shown(row.contig, NAME_CHARACTERS)}', which has"
                f" {self.lengths[row.contig]} bases in {self.reference}; use the reference the file was made with"
            )
        expected = self.bases(row.contig, row.start, row.end)
        if not agrees(row.ref, expected):
            if not _BASES.fullmatch(expected):
                return AMBIGUOUS if carried else NOT_CARRIED
            raise FedcallError(
                f"{row.place}: REF is {row.ref[:20]}, but {self.reference} has {expected[:20]} there: REF differs from"
                " the reference; use the one the file was made with"
            )
        return None if carried else NOT_CARRIED

    def _doubt(self, row: VcfRow) -> None:
        start, end = max(0, row.start), min(row.reach, self.lengths[row.contig])
        if start < end:
            self.unclear.append((row.contig, start, end))

    def _changes(self, row: VcfRow, alt: str, edit: Edit) -> Iterator[tuple[int, str, str]]:
        """Yield position, REF and ALT of what an allele changes, inside the spans."""
        if len(row.ref) == len(alt):
            changes = [
                (row.start + offset, before, after)
                for offset, (before, after) in enumerate(zip(row.ref, alt, strict=True))
                if before != after
            ]
        else:
            changes = [normal_form(row.contig, row.start, row.ref, alt, self.bases)]
        yield from (change for change in changes if self.inside is None or self.inside(row.contig, change[0]))


def _why_left_out(alt: str, ref: str) -> str:
    if alt == ref:
        return "equal to REF"
    return "deleted by another record" if alt == "*" else NOT_SPELLED
