"""Hold fedcall against htslib on every VCF, BAM, CRAM, SAM and BED of some folders; see README.md."""

import argparse
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pysam

from fedcall.errors import FedcallError
from fedcall.genomics.reads.alignment_records import DROPPED_FLAGS, MIN_MAPPING_QUALITY, fetch_records
from fedcall.genomics.reads.opening import open_alignments
from fedcall.genomics.regions import merge_spans, read_regions
from fedcall.genomics.vcf.record import Genotype, VcfRow
from fedcall.genomics.vcf.rows import open_rows

VARIANTS = (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")
ALIGNMENTS = (".bam", ".cram", ".sam")
REGIONS = (".bed", ".bed.gz")
FINDINGS = ("only refused here", "different", "traceback")
_CONTIGS = 30

Record = tuple[object, ...]


@dataclass(frozen=True)
class Outcome:
    """How one file ended: same, refused, skipped, or one of `FINDINGS`; and what was said."""

    path: str
    outcome: str
    said: str = ""


def walk(folders: list[Path]) -> Iterator[Outcome]:
    """Yield the outcome of each file that has one of the suffixes."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                outcome = look_at(path)
                if outcome is not None:
                    yield outcome


def look_at(path: Path) -> Outcome | None:
    """Return how a file ends, or None for a file of no kind that fedcall reads."""
    try:
        if path.name.endswith(VARIANTS):
            return compare_variants(path)
        if path.name.endswith(ALIGNMENTS):
            return compare_alignments(path)
        if path.name.endswith(REGIONS):
            return compare_regions(path)
    except Exception as error:
        return Outcome(str(path), "traceback", f"{type(error).__name__}: {error}")
    return None


def compare_variants(path: Path) -> Outcome:
    """Compare place, alleles and genotypes of all records and all people."""
    try:
        with open_rows(path) as vcf:
            everybody = bool(vcf.samples)
            own = [
                (row.contig, row.start, row.ref, row.alts, *(_known(row, genotype) for genotype in row.genotypes()))
                for row in vcf.rows(everybody=everybody)
            ]
    except FedcallError as error:
        try:
            list(_records(path))
        except (OSError, ValueError, EOFError):
            return _refused(path, error, "refused")
        return _refused(path, error, "only refused here")
    try:
        others = list(_records(path))
    except (OSError, ValueError, EOFError) as error:
        return Outcome(str(path), "same", f"htslib refuses: {error}")
    if own == others:
        return Outcome(str(path), "same", f"{len(own)} records")
    first = next((pair for pair in zip(own, others, strict=False) if pair[0] != pair[1]), None)
    return Outcome(str(path), "different", f"{len(own)} records, htslib {len(others)}; first {str(first)[:300]}")


def _known(row: VcfRow, genotype: Genotype) -> tuple[int | None, ...]:
    """Return the alleles as pysam shows them: those that the record does not have are unknown."""
    beyond = len(row.alts)
    return tuple(None if allele is None or allele > beyond else allele for allele in genotype.alleles)


def _records(path: Path) -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as folder:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b" and content[12:14] != b"BC":  # pysam opens no gzip; htslib's tools read it
            path = Path(folder) / "plain.vcf"
            path.write_bytes(gzip.decompress(content))
        yield from _htslib_records(path)


def _htslib_records(path: Path) -> Iterator[Record]:
    with pysam.VariantFile(str(path)) as variants:
        for record in variants:
            known = "GT" in record.format
            genotypes = [sample.allele_indices or () if known else () for sample in record.samples.values()]
            alts = tuple(alt.upper() for alt in record.alts or ())
            place = record.contig, record.start, (record.ref or "").upper(), alts
            # Where FORMAT has no GT, a file with people still has a column for each.
            yield (*place, *(tuple(genotype) for genotype in genotypes if known))


def compare_alignments(path: Path) -> Outcome:
    """Compare the number of usable reads on up to 30 contigs."""
    with tempfile.TemporaryDirectory() as folder:
        reference = _reference(path, Path(folder))
        if reference is None:
            return Outcome(str(path), "skipped", "a CRAM whose reference is not in its folder, or no header")
        try:
            with open_alignments(path, reference) as alignments:
                if not alignments.has_index():
                    return Outcome(str(path), "skipped", "no index")
                contigs = list(zip(alignments.references, alignments.lengths, strict=True))[:_CONTIGS]
            own = [
                len(fetch_records(path, reference, contig, rank, 0, length))
                for rank, (contig, length) in enumerate(contigs)
            ]
        except FedcallError as error:
            return _refused(path, error, "refused" if path.suffix == ".sam" or _htslib_refuses(path) else FINDINGS[0])
        with pysam.AlignmentFile(str(path), reference_filename=str(reference)) as alignments:
            others = [
                sum(
                    not read.flag & DROPPED_FLAGS and read.mapping_quality >= MIN_MAPPING_QUALITY
                    for read in alignments.fetch(contig)
                )
                for contig, _ in contigs
            ]
    if own == others:
        return Outcome(str(path), "same", f"{sum(own)} reads")
    return Outcome(str(path), "different", f"reads by contig {own}, htslib {others}"[:300])


def _reference(path: Path, folder: Path) -> Path | None:
    """Return the reference beside a CRAM; for other files an index of the header's contigs is enough."""
    if path.suffix == ".cram":
        beside = [file for file in path.parent.glob("*.fa*") if Path(f"{file}.fai").is_file()]
        return beside[0] if len(beside) == 1 else None
    try:
        with pysam.AlignmentFile(str(path), check_sq=False, ignore_truncation=True) as alignments:
            contigs = list(zip(alignments.references, alignments.lengths, strict=True))
    except (OSError, ValueError, EOFError):
        contigs = []
    contigs = contigs or [("none", 1)]
    (folder / "header.fa").touch()
    (folder / "header.fa.fai").write_text("".join(f"{name}\t{length}\t1\t60\t61\n" for name, length in contigs))
    return folder / "header.fa"


def _htslib_refuses(path: Path) -> bool:
    try:
        with pysam.AlignmentFile(str(path)) as alignments:
            for _ in alignments:
                pass
    except (OSError, ValueError, EOFError):
        return True
    return False


def compare_regions(path: Path) -> Outcome:
    """Compare the bases covered with what the three columns say, on a reference as long as they need."""
    plain: dict[str, list[tuple[int, int]]] = {}
    for contig, start, end in _plain_spans(path):
        plain.setdefault(contig, []).append((start, end))
    ends = {contig: max(end for _, end in spans) + 1 for contig, spans in plain.items()} or {"none": 1}
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "r.fa"
        reference.touch()
        index = "".join(f"{contig}\t{end}\t1\t60\t61\n" for contig, end in ends.items())
        Path(f"{reference}.fai").write_text(index)
        try:
            own = read_regions(path, reference)
        except FedcallError as error:
            sound = plain and all(start <= end for spans in plain.values() for start, end in spans)
            return _refused(path, error, FINDINGS[0] if sound else "refused")
    others = [
        (contig, *span) for contig, spans in plain.items() for span in merge_spans(s for s in spans if s[0] < s[1])
    ]
    return Outcome(str(path), "same" if own == others else "different", f"{len(own)} regions")


def _plain_spans(path: Path) -> list[tuple[str, int, int]]:
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    rows = [line.split() for line in content.decode("latin-1").splitlines() if not line.startswith("#")]
    rows = [row for row in rows if len(row) > 2 and row[1].isdecimal() and row[2].isdecimal()]
    return [(row[0], int(row[1]), int(row[2])) for row in rows]


def _refused(path: Path, error: FedcallError, outcome: str) -> Outcome:
    said = str(error)
    return Outcome(str(path), "traceback" if "\n" in said else outcome, said)


def main() -> None:
    """Walk the folders of the command line; exit 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="also write every outcome to this file")
    options = parser.parse_args()
    pysam.set_verbosity(0)
    outcomes = []
    for outcome in walk(options.folders):
        outcomes.append(outcome)
        if outcome.outcome in FINDINGS:
            print(f"{outcome.outcome}: {outcome.path}: {outcome.said}")
    counts = Counter(outcome.outcome for outcome in outcomes)
    print(f"{len(outcomes)} files: " + (", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    sys.exit(any(counts[name] for name in FINDINGS))


if __name__ == "__main__":
    main()
