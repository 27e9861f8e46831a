"""Bring alignments into one form: one reference, sorted, duplicates marked, BAM with an index."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.files import atomic_path
from fedcall.genomics.htslib import run_samtools
from fedcall.genomics.reads.opening import check_alignments, header_contigs, is_sorted, open_alignments
from fedcall.genomics.reference import reference_contigs, shared_contigs
from fedcall.genomics.regions import read_regions, widen_regions

# Reads are kept this far outside the regions, bases: mates must meet for duplicates to be found.
REGION_MARGIN = 1_000
# Programs that mark duplicates, as they name themselves in @PG lines.
DUPLICATE_MARKERS = ("markduplicates", "markdup", "samblaster", "bamsormadup")
# Above this size of the input, intermediate files are compressed lightly: disk, not time, is short then.
LARGE_FILE_BYTES = 2_000_000_000
# Reads are collated by name in buckets of about this size, compressed.
BUCKET_BYTES = 100_000_000


@dataclass(frozen=True)
class AlignmentSummary:
    """What was done to one file."""

    output: Path
    reads: int
    duplicates: int
    sorted_here: bool
    duplicates_marked_here: bool

    def sentence(self) -> str:
        """Return one line for the log."""
        steps = [
            "sorted" if self.sorted_here else "was sorted",
            "duplicates marked" if self.duplicates_marked_here else "duplicates were marked already",
        ]
        return f"{self.output}: {self.reads} reads, {self.duplicates} of them duplicates ({', '.join(steps)})"


def normalise_alignments(
    path: Path, reference: Path, output: Path, *, regions: Path | None = None, threads: int = 1
) -> AlignmentSummary:
    """Write the alignments as sorted, indexed BAM with PCR duplicates marked.

    Parameters
    ----------
    path : Path
        BAM or CRAM. Sorted input needs its index; unsorted input is sorted.
    reference : Path
        Indexed FASTA; its contigs must agree with those of the header that are used.
    output : Path
        BAM to write; the index goes to `output` + `.bai`, first, so that a finished BAM always has one.
    regions : Path, optional
        BED; only reads within `REGION_MARGIN` bases of a region are kept.
    threads : int
        Threads for sorting and compression; the output's bytes do not depend on it.

    Raises
    ------
    FedcallError
        If a check of `check_alignments` fails or the file breaks off; nothing is written then.
    """
    path, reference, output = Path(path), Path(reference), Path(output)
    spans = None if regions is None else read_regions(regions, reference)
    contigs = None if spans is None else sorted({contig for contig, _, _ in spans})
    with open_alignments(path, reference) as alignments:
        found = header_contigs(alignments)
        used = shared_contigs(path, found, reference, contigs)
        already_sorted = is_sorted(alignments)
        already_marked = _duplicates_are_marked(alignments)
    if already_sorted:
        check_alignments(path, reference, contigs)
    if spans is None and set(found) != set(used):
        spans = [(contig, 0, found[contig]) for contig in used]
    if output.resolve() == path.resolve():
        raise FedcallError(f"{output}: is the input itself; give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".normalise-", dir=output.parent) as folder,
        atomic_path(output) as bam,
        atomic_path(Path(f"{output}.bai")) as bai,
    ):
        work = _Work(path, reference, Path(folder), threads)
        selected = work.select(spans, needs_sort=not already_sorted)
        if already_marked and already_sorted:
            work.compress(selected, bam)
        elif already_marked:
            work.sort(selected, bam)
        else:
            work.mark_duplicates(selected, bam)
        run_samtools(path, "index", ["-@", str(threads - 1), "-o", str(bai), str(bam)])
        reads, duplicates = _count(bam)
    return AlignmentSummary(output, reads, duplicates, not already_sorted, not already_marked)


class _Work:
    """The samtools steps over one file, with intermediate files in one folder."""

    def __init__(self, path: Path, reference: Path, folder: Path, threads: int) -> None:
        self.path = path
        self.reference = reference
        self.folder = folder
        self.threads = str(threads - 1)
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

    def compress(self, source: Path, bam: Path) -> None:
        """Write `source`, sorted already, as BAM."""
        self._run("view", ["-b", *self._reference(), "-o", str(bam), str(source)])

    def sort(self, source: Path, bam: Path) -> None:
        """Write `source` sorted by coordinate."""
        self._run("sort", [*self._reference(), *self._scratch(), "-o", str(bam), str(source)])

    def mark_duplicates(self, source: Path, bam: Path) -> None:
        """Write `source` sorted by coordinate with duplicates marked (samtools markdup's documented chain)."""
        # Collating makes its temporary files even for a few reads, and holds one of them in memory at a time.
        buckets = min(1_024, 1 + source.stat().st_size // BUCKET_BYTES)
        options = [*self._reference(), "-n", str(buckets), "-T", str(self.folder / "collate")]
        collated = self._step("collated.bam", "collate", options, source)
        mated = self._step("mated.bam", "fixmate", ["-m"], collated, write_to_last=True)
        # Sort and index in one go would not help: marking duplicates changes the records once more.
        ordered = self._step("ordered.bam", "sort", self._scratch(), mated)
        self._run("markdup", ["-T", str(self.folder / "markdup"), str(ordered), str(bam)])

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
        run_samtools(self.path, command, ["--no-PG", "-@", self.threads, *arguments])

    def _reference(self) -> list[str]:
        # CRAM spells out MD and NM tags that were never stored unless told otherwise; BAM ignores the option.
        return ["--reference", str(self.reference), "--input-fmt-option", "decode_md=0"]

    def _scratch(self) -> list[str]:
        return ["-T", str(self.folder / "sort")]


def _duplicates_are_marked(alignments: pysam.AlignmentFile) -> bool:
    programs = alignments.header.to_dict().get("PG", [])
    lines = [" ".join(str(value) for value in program.values()).lower() for program in programs]
    return any(marker in line for marker in DUPLICATE_MARKERS for line in lines)


def _count(bam: Path) -> tuple[int, int]:
    """Return the number of reads and of duplicates among them."""
    report = pysam.flagstat("-O", "tsv", str(bam)).splitlines()
    values = {fields[2]: int(fields[0]) for fields in (line.split("\t") for line in report) if fields[0].isdigit()}
    return values["total (QC-passed reads + QC-failed reads)"], values["duplicates"]
