"""`fedcall normalise-alignments` and `fedcall normalise-labels`."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("normalise-alignments")(normalise_alignments)
    app.command("normalise-labels")(normalise_labels)


def normalise_alignments(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; keep reads in and around these regions only."),
    output: Path = typer.Option(..., "--output", help="BAM to write; its index is written beside it."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads for compression and sorting."),
) -> None:
    """Check alignments against the reference; write them sorted, with duplicates marked, and indexed.

    Example: fedcall normalise-alignments --alignments p1.cram --reference ref.fa --output p1.bam
    """
    from fedcall.genomics.normalise_alignments import normalise_alignments as normalise

    summary = normalise(alignments, reference, output, regions=regions, threads=threads)
    typer.echo(summary.sentence())


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
    from fedcall.genomics.normalise_labels import normalise_labels as normalise

    summary = normalise(truth, reference, output, regions=regions, sample=sample)
    typer.echo(summary.sentence())
