"""`fedcall pileup`."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pileup")(pileup)


def pileup(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; candidates in these regions only."),
    truth: Path | None = typer.Option(None, "--truth", help="VCF with true genotypes; labels the candidates."),
    sample: str | None = typer.Option(None, "--sample", help="Column of the patient in --truth."),
    output: Path = typer.Option(..., "--output", help="Examples file (safetensors) to write."),
    threads: int = typer.Option(1, "--threads", min=1, help="Processes that work side by side."),
    keep: int = typer.Option(
        100, "--keep-percent", min=1, max=100, help="Thin the reads to this share, to see the patient at a lower depth."
    ),
) -> None:
    """Find the candidate variants of one patient and encode them as examples.

    Example: fedcall pileup --alignments p1.bam --reference ref.fa --truth p1.vcf.gz --output p1.safetensors
    """
    from fedcall.genomics.examples import write_examples
    from fedcall.genomics.pileup import extract_examples

    examples = extract_examples(alignments, reference, regions, truth, sample, threads, keep=keep / 100)
    write_examples(output, examples)
    typer.echo(f"{output}: {len(examples)} candidates, {int((examples.labels >= 0).sum())} labelled")
