"""`fedcall align`, `normalise-alignments`, `normalise-labels`, `confident-regions`: a patient's files in one form."""

from pathlib import Path
from typing import Literal

import typer

from fedcall.cli.printing import say


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("align")(align)
    app.command("normalise-alignments")(normalise_alignments)
    app.command("normalise-labels")(normalise_labels)
    app.command("confident-regions")(confident_regions)


def align(
    reads1: Path = typer.Option(..., "--reads1", help="FASTQ of first mates, or of single reads; plain or gzipped."),
    reads2: Path | None = typer.Option(None, "--reads2", help="FASTQ of second mates, in the same order."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    sample: str = typer.Option(..., "--sample", help="Name of the patient, for the read group."),
    output: Path = typer.Option(
        ..., "--output", help="BAM to write, in the order of the reads; normalise-alignments sorts it."
    ),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads for mapping and sorting."),
) -> None:
    """Align short reads with minimap2's short-read preset (about 12 GB of memory for a human genome).

    Example: fedcall align --reads1 p1_1.fastq.gz --reads2 p1_2.fastq.gz --reference ref.fa --sample p1 --output p1.bam
    """
    from fedcall.genomics.reads.align import align_reads

    count = align_reads(reads1, reads2, reference, sample, output, threads=threads)
    say(f"{output}: {count} reads aligned")


def confident_regions(
    gvcf: Path = typer.Option(..., "--gvcf", help="gVCF of GATK HaplotypeCaller or DeepVariant."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    sample: str | None = typer.Option(None, "--sample", help="Column of the patient; may be left out if there is one."),
    quality: int = typer.Option(20, "--quality", min=0, help="Lowest GQ of a genotype that counts as sure."),
    output: Path = typer.Option(..., "--output", help="BED to write."),
) -> None:
    """Write where a gVCF is sure of the genotype, variant or not: the confident regions of its calls.

    Example: fedcall confident-regions --gvcf p1.g.vcf.gz --reference ref.fa --output p1.bed
    """
    from fedcall.genomics.truth.confident_regions import write_confident_regions

    bases = write_confident_regions(gvcf, reference, output, sample=sample, quality=quality)
    say(f"{output}: {bases} bases with GQ {quality} or more")


def normalise_alignments(
    alignments: Path = typer.Option(..., "--alignments", help="BAM, CRAM or SAM of one patient, in any order."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; keep reads in and around these regions only."),
    output: Path = typer.Option(..., "--output", help="BAM to write; its index is written beside it."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads for compression and sorting."),
    keep_duplicate_marks: bool = typer.Option(
        False, "--keep-duplicate-marks", help="Mark no duplicates and leave marks as they are: for amplicons."
    ),
    clear_duplicate_marks: bool = typer.Option(
        False, "--clear-duplicate-marks", help="Take away all marks of duplicates: for amplicons that were marked."
    ),
) -> None:
    """Check alignments against the reference; write them sorted, with duplicates marked, and indexed.

    Example: fedcall normalise-alignments --alignments p1.cram --reference ref.fa --output p1.bam
    """
    from fedcall.errors import FedcallError
    from fedcall.genomics.reads.normalise_alignments import normalise_alignments as normalise

    if keep_duplicate_marks and clear_duplicate_marks:
        raise FedcallError("--keep-duplicate-marks and --clear-duplicate-marks: choose one of them")
    duplicates: Literal["mark", "keep", "clear"] = (
        "keep" if keep_duplicate_marks else "clear" if clear_duplicate_marks else "mark"
    )
    summary = normalise(alignments, reference, output, regions=regions, threads=threads, duplicates=duplicates)
    say(summary.sentence())
    if (warning := summary.warning()) is not None:
        say(warning, err=True)


def normalise_labels(
    truth: Path = typer.Option(..., "--truth", help="VCF or BCF with the patient's true genotypes."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; keep variants that start in these regions only."),
    sample: str | None = typer.Option(None, "--sample", help="Column of the patient; may be left out if there is one."),
    output: Path = typer.Option(..., "--output", help="Bgzipped VCF to write; its tabix index is written beside it."),
) -> None:
    """Check true variants against the reference; write the patient's own, split, left-aligned and indexed.

    Example: fedcall normalise-labels --truth cohort.vcf.gz --sample p1 --reference ref.fa --output p1.vcf.gz
    """
    from fedcall.genomics.truth.normalise_labels import normalise_labels as normalise

    summary = normalise(truth, reference, output, regions=regions, sample=sample)
    say(summary.sentence())
