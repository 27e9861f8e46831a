"""Bring alignments into one form: one reference, sorted, duplicates marked, BAM with an index."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pysam

from fedcall.errors import FedcallError
from fedcall.files import atomic_path
from fedcall.genomics.htslib import run_samtools
from fedcall.genomics.index_files import htslib_name, needs_csi
from fedcall.genomics.reads.duplicates import duplicates_are_marked, umi_tag
from fedcall.genomics.reads.equal_names import name_again, name_apart, share_names
from fedcall.genomics.reads.opening import check_alignments, header_contigs, open_alignments
from fedcall.genomics.reads.packed_reference import refuse_other_reference
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.regions import read_regions, widen_regions

# Reads are kept this far outside the regions, bases: mates must meet for duplicates to be found.
REGION_MARGIN = 1_000
# Above this size of the input, intermediate files are compressed lightly: disk, not time, is short then.
LARGE_FILE_BYTES = 2_000_000_000
# Reads are collated by name in buckets of about this size, compressed.
BUCKET_BYTES = 100_000_000
Duplicates = Literal["mark", "keep", "clear"]
# Share of duplicates above which it is said aloud: libraries of whole genomes and exomes stay below.
MANY_DUPLICATES = 0.5


@dataclass(frozen=True)
class AlignmentSummary:
    """What was done to one file."""

    output: Path
    reads: int
    duplicates: int
    sorted_here: bool
    duplicates_marked_here: bool
    umis: str | None = None

    def warning(self) -> str | None:
        """Return a line to say aloud where most reads are duplicates, which nobody looks at afterwards."""
        if self.reads == 0 or self.duplicates <= MANY_DUPLICATES * self.reads:
            return None
        remedy = (
            "mark none with --keep-duplicate-marks (column 'duplicates': keep)"
            if self.duplicates_marked_here
            else "take away the marks that the file brings with --clear-duplicate-marks (column 'duplicates': clear)"
        )
        return (
            f"{self.output}: warning: {self.duplicates} of {self.reads} reads are marked as duplicates and will not be"
            f" looked at; if they are amplicons, which begin and end alike by design, {remedy}"
        )

    def sentence(self) -> str:
        """Return one line for the log."""
        steps = [
            "sorted" if self.sorted_here else "was sorted",
            "duplicates marked" if self.duplicates_marked_here else "marks of duplicates left as they were",
        ]
        steps += [f"told apart by UMIs in {self.umis}"] if self.umis is not None else []
        return f"{self.output}: {self.reads} reads, {self.duplicates} of them duplicates ({', '.join(steps)})"


def normalise_alignments(
    path: Path,
    reference: Path,
    output: Path,
    *,
    regions: Path | None = None,
    threads: int = 1,
    duplicates: Duplicates = "mark",
) -> AlignmentSummary:
    """Write the alignments as sorted, indexed BAM with PCR duplicates marked.

    Parameters
    ----------
    path : Path
        BAM, CRAM or SAM. What has no index is sorted, whatever its header says.
    reference : Path
        Indexed FASTA; its contigs must agree with those of the header that are used.
    output : Path
        BAM to write; the index goes to `output` + `.bai` (`.csi` where a contig of the reference is longer than
        512 Mb), first, so that a finished BAM always has one.
    regions : Path, optional
        BED; only reads within `REGION_MARGIN` bases of a region are kept.
    threads : int
        Threads for sorting and compression; the output's bytes do not depend on it.
    duplicates : str
        `mark` marks PCR duplicates unless a program did so before; where all reads have UMIs, only reads of one UMI are
        copies of each other. `keep` leaves marks as they are, and `clear` takes them away: for amplicons.

    Raises
    ------
    FedcallError
        If a check of `check_alignments` fails or the file breaks off; nothing is written then.
    """
    path, reference, output = Path(path), Path(reference), Path(output)
    spans = None if regions is None else read_regions(regions, reference)
    contigs = None if spans is None else sorted({contig for contig, _, _ in spans})
    with open_alignments(path, reference, text=True) as alignments:
        found = header_contigs(alignments)
        used = shared_contigs(path, found, reference, contigs)
        # An index proves the order; a header only says so.
        already_sorted = alignments.has_index() if alignments.is_bam or alignments.is_cram else False
        already_marked = duplicates != "mark" or duplicates_are_marked(alignments.header)
    umis = None if already_marked else umi_tag(path, reference)
    if already_sorted:
        check_alignments(path, reference, contigs)
    if spans is None and set(found) != set(used):
        spans = [(contig, 0, found[contig]) for contig in used]
    if output.resolve() == path.resolve():
        raise FedcallError(f"{output}: is the input itself; give another --output")
    suffix = ".csi" if needs_csi(reference_contigs(reference).values()) else ".bai"
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".normalise-", dir=output.parent) as folder,
        atomic_path(output) as bam,
        atomic_path(Path(f"{output}{suffix}")) as index,
    ):
        work = _Work(path, reference, Path(folder), threads)
        selected = work.select(spans, needs_sort=not already_sorted)
        if duplicates == "clear":
            selected = work.clear_marks(selected)
        if already_marked and already_sorted:
            work.compress(selected, bam)
        elif already_marked:
            work.sort(selected, bam)
        else:
            work.mark_duplicates(selected, bam, umis)
        kind = ["-c"] if suffix == ".csi" else []
        names = [htslib_name(index), htslib_name(bam)]
        run_samtools(path, "index", [*kind, "-@", str(threads - 1), "-o", *names])
        # Of an earlier file of this name: htslib would take it for this one's.
        Path(f"{output}{'.bai' if kind else '.csi'}").unlink(missing_ok=True)
        reads, marked = _count(bam)
    return AlignmentSummary(output, reads, marked, not already_sorted, not already_marked, umis)


class _Work:
    """The samtools steps over one file, with intermediate files in one folder."""

    def __init__(self, path: Path, reference: Path, folder: Path, threads: int) -> None:
        # By names that no tool takes for an option, whatever the user's files are called.
        self.path = Path(htslib_name(path))
        self.reference = Path(htslib_name(reference))
        self.folder = Path(htslib_name(folder))
        self.threads = str(threads - 1)
        self.renamed: Path | None = None
        self.level = "1" if path.stat().st_size > LARGE_FILE_BYTES else "0"

    def select(self, spans: Sequence[tuple[str, int, int]] | None, needs_sort: bool) -> Path:
        """Return the file to go on with: the input itself, or its reads near the spans, as BAM."""
        if spans is None:
            return self.path
        lengths = reference_contigs(self.reference)
        bed = self.folder / "regions.bed"
        bed.write_text("".join(f"{c}\t{s}\t{e}\n" for c, s, e in widen_regions(spans, REGION_MARGIN, lengths)))
        # -M walks the index once over all regions; without an index every read is looked at.
        access = [] if needs_sort else ["-M"]
        return self._step("selected.bam", "view", [*access, "-L", str(bed), *self._reference()], self.path)

    def clear_marks(self, source: Path) -> Path:
        """Return the reads without any mark of a duplicate."""
        return self._step("cleared.bam", "view", ["--remove-flags", "0x400", *self._reference()], source)

    def compress(self, source: Path, bam: Path) -> None:
        """Write `source`, sorted already, as BAM."""
        self._run("view", ["-b", *self._reference(), "-o", htslib_name(bam), str(source)])

    def sort(self, source: Path, bam: Path) -> None:
        """Write `source` sorted by coordinate."""
        self._run("sort", [*self._reference(), *self._scratch(), "-o", htslib_name(bam), str(source)])

    def mark_duplicates(self, source: Path, bam: Path, umis: str | None) -> None:
        """Write `source` sorted by coordinate with duplicates marked (samtools markdup's documented chain).

        `umis` is a tag: reads that differ in it are no copies of each other.
        """
        # Reads that are no pair keep their names to themselves: two of one name are not each other's mates.
        single, paired = self._by_pairing(source)
        parts = [part for part in (single, None if paired is None else self._mated(paired)) if part is not None]
        # Sort and index in one go would not help: marking duplicates changes the records once more.
        options = [*self._reference(), *self._scratch()]
        ordered = [self._step(f"ordered{k}.bam", "sort", options, part) for k, part in enumerate(parts)]
        whole = ordered[0]
        if len(ordered) > 1:
            whole = self.folder / "ordered.bam"
            level = ["--output-fmt", f"bam,level={self.level}"]
            self._run("merge", ["-c", "-p", *level, "-o", str(whole), *(str(part) for part in ordered)])
        barcode = [] if umis is None else ["--barcode-tag", umis]
        marked = bam if self.renamed is None else self.folder / "marked.bam"
        self._run("markdup", [*barcode, "-T", str(self.folder / "markdup"), str(whole), htslib_name(marked)])
        if self.renamed is not None:
            name_again(marked, bam)

    def _by_pairing(self, source: Path) -> tuple[Path | None, Path | None]:
        """Return the reads that are no pair and those that are; the source itself where all are one or the other."""
        report = _report("-@", self.threads, *self._reference()[2:], str(source))
        if report["paired in sequencing"] == report["primary"]:
            return None, source
        if report["paired in sequencing"] == 0:
            return source, None
        level = ["--output-fmt", f"bam,level={self.level}"]
        chosen = {option: self.folder / f"paired{option}.bam" for option in ("-F", "-f")}
        for option, target in chosen.items():
            self._run("view", [option, "0x1", *self._reference(), *level, "-o", str(target), str(source)])
        return chosen["-F"], chosen["-f"]

    def _mated(self, source: Path) -> Path:
        """Return paired reads with what each must know of its mate."""
        # Collating makes its temporary files even for a few reads, and holds one of them in memory at a time.
        buckets = min(1_024, 1 + source.stat().st_size // BUCKET_BYTES)
        options = [*self._reference(), "-n", str(buckets), "-T", str(self.folder / "collate")]
        collated = self._step("collated.bam", "collate", options, source)
        if share_names(collated):
            self.renamed = self.folder / "renamed.bam"
            name_apart(collated, self.renamed)
            collated.unlink()
            collated = self.renamed
        return self._step("mated.bam", "fixmate", ["-m"], collated, write_to_last=True)

    def _step(self, name: str, command: str, options: list[str], source: Path, *, write_to_last: bool = False) -> Path:
        target = self.folder / name
        output_format = ["--output-fmt", f"bam,level={self.level}"]
        if write_to_last:
            self._run(command, [*options, *output_format, str(source), str(target)])
        else:
            self._run(command, [*options, *output_format, "-o", str(target), str(source)])
        if source.parent == self.folder:
            source.unlink()
        return target

    def _run(self, command: str, arguments: list[str]) -> None:
        # --no-PG: the lines would name temporary files, and the same input must give the same bytes.
        try:
            run_samtools(self.path, command, ["--no-PG", "-@", self.threads, *arguments])
        except FedcallError:
            refuse_other_reference(self.path, self.reference)
            raise

    def _reference(self) -> list[str]:
        # CRAM spells out MD and NM tags that were never stored unless told otherwise; BAM ignores the option.
        return ["--reference", str(self.reference), "--input-fmt-option", "decode_md=0"]

    def _scratch(self) -> list[str]:
        return ["-T", str(self.folder / "sort")]


def _count(bam: Path) -> tuple[int, int]:
    """Return the number of reads and of duplicates among them."""
    report = _report(htslib_name(bam))
    return report["total (QC-passed reads + QC-failed reads)"], report["duplicates"]


def _report(*arguments: str) -> dict[str, int]:
    """Return what samtools flagstat counts, reads that failed quality control among them."""
    lines = (line.split("\t") for line in pysam.flagstat("-O", "tsv", *arguments).splitlines())
    return {fields[2]: int(fields[0]) + int(fields[1]) for fields in lines if fields[0].isdigit()}
