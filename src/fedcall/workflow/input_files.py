"""Look into the files that a run names, before any job: what would fail in an hour and can be seen in a moment.

Of each file the header, the index and the first records are read, so that a cohort is looked at in seconds.
"""

import zlib
from pathlib import Path

from fedcall.callers.availability import refuse_reads
from fedcall.errors import FedcallError
from fedcall.files import open_binary
from fedcall.genomics.calling.panel import open_panel
from fedcall.genomics.index_files import LONGEST_CONTIG, reference_needs_csi
from fedcall.genomics.reads.long_reads import refuse_long_fastq, refuse_long_reads
from fedcall.genomics.reads.opening import check_alignments, open_alignments, samples_of
from fedcall.genomics.reference import open_reference
from fedcall.genomics.regions import read_regions
from fedcall.genomics.vcf.carried import check_patient_file
from fedcall.workflow.configuration import Patient
from fedcall.workflow.run import Run


def check_input_files(run: Run, upstream: bool = False) -> list[str]:
    """Refuse files that cannot be read or do not belong together; simulated people's are made later.

    Returns a line for each patient whose reads bear the name of another patient of the sheet.

    Parameters
    ----------
    upstream : alignments, reads and references that are not there yet are made by another workflow

    Raises
    ------
    FedcallError
        On the first mistake found: the file, the place in it, what to do, and whose file it is.
    """
    if run.config.cohort is not None:
        return []
    _refuse_two_kinds(run)
    looked_at = _LookedAt()
    warnings: list[str] = []
    scored = {name for names in run.scored.values() for name in names}
    for patient in run.patients:
        reference = patient.reference or run.config.reference
        assert reference is not None  # a sheet comes with one
        if upstream and not reference.is_file():
            continue
        try:
            looked_at.patient(patient, reference, upstream)
            warnings += _named_like_another(run, patient, reference)
            if patient.patient in scored:
                refuse_reads(patient.patient, patient.alignments, reference, run.config.callers)
        except FedcallError as error:
            raise FedcallError(f"{error} (patient '{patient.patient}')") from None
    if run.config.panel is not None and run.config.reference is not None and run.config.reference.is_file():
        open_panel(run.config.panel, run.config.reference)
    return warnings


def _named_like_another(run: Run, patient: Patient, reference: Path) -> list[str]:
    """Return a line if the read groups name another patient of the sheet, and not this one: is it the other's file?"""
    if patient.alignments is None or not patient.alignments.is_file():
        return []
    with open_alignments(patient.alignments, reference) as alignments:
        names = samples_of(alignments)
    if not names or names[0] in _names(patient):
        return []
    others = [other for other in run.patients if other.charged != patient.charged and names[0] in _names(other)]
    return [
        f"{patient.alignments}: the reads of patient '{patient.patient}' are named '{names[0]}' in their read groups,"
        f" as is patient '{other.patient}' of the sheet: is it the right file?"
        for other in others[:1]
    ]


def _names(patient: Patient) -> set[str]:
    return {patient.patient, patient.charged, patient.sample or patient.patient}


class _LookedAt:
    """References and regions that many patients share are looked at once."""

    def __init__(self) -> None:
        self._lengths: dict[Path, dict[str, int]] = {}
        self._regions: dict[tuple[Path, Path], list[tuple[str, int, int]]] = {}

    def patient(self, patient: Patient, reference: Path, upstream: bool) -> None:
        lengths = self._reference(reference)
        spans = None
        if patient.regions is not None and not patient.has_gvcf_regions:
            spans = self._bed(patient.regions, reference)
        used = lengths if spans is None else {contig for contig, _, _ in spans}
        if patient.haploid is not None:
            self._bed(patient.haploid, reference)
        name = patient.sample or patient.patient
        if patient.has_gvcf_regions and patient.regions is not None:
            check_patient_file(patient.regions, reference, name, None, "gVCF")
        if patient.truth is not None:
            check_patient_file(patient.truth, reference, name, spans, "truth VCF")
        if patient.alignments is not None and not (upstream and not patient.alignments.exists()):
            check_alignments(patient.alignments, reference, None if spans is None else used)
            refuse_long_reads(patient.alignments, reference)
        for reads in (patient.reads1, patient.reads2):
            if reads is not None and not (upstream and not reads.exists()):
                _check_fastq(reads)
                refuse_long_fastq(reads)

    def _reference(self, path: Path) -> dict[str, int]:
        if path not in self._lengths:
            with open_reference(path) as fasta:
                self._lengths[path] = dict(zip(fasta.references, fasta.lengths, strict=True))
        return self._lengths[path]

    def _bed(self, bed: Path, reference: Path) -> list[tuple[str, int, int]]:
        if (bed, reference) not in self._regions:
            self._regions[bed, reference] = read_regions(bed, reference)
        return self._regions[bed, reference]


def _refuse_two_kinds(run: Run) -> None:
    """Refuse a run of which some references have contigs beyond 512 Mb: its files have indexes of one kind."""
    if not run.needs_csi:
        return
    short = next((reference for reference in run.references if not reference_needs_csi(reference)), None)
    if short is not None:
        raise FedcallError(
            f"{short}: no contig is longer than {LONGEST_CONTIG} bases, and one of another reference of the sheet is,"
            " whose files need indexes of another kind (.csi); give its patients a run of their own"
        )
    if "gatk" in run.config.callers:
        raise FedcallError(
            f"callers: 'gatk' writes indexes .tbi, which reach {LONGEST_CONTIG} bases, and a contig of"
            f" {run.references[0]} is longer; leave 'gatk' out"
        )


def _check_fastq(path: Path) -> None:
    try:
        with open_binary(path) as handle:
            start = handle.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise FedcallError(f"{path}: not a readable FASTQ file ({error})") from None
    if start != b"@":
        raise FedcallError(f"{path}: not a FASTQ file: its first record does not begin with '@'")
