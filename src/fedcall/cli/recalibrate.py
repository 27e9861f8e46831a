"""`fedcall recalibrate`: what a patient's own reads say about their base qualities."""

from pathlib import Path

import typer

from fedcall.cli.printing import say


def register(app: typer.Typer) -> None:
    """Add the command `recalibrate`."""
    app.command("recalibrate")(recalibrate)


def recalibrate(
    alignments: Path = typer.Option(..., "--alignments", help="BAM or CRAM of one patient, sorted and indexed."),
    reference: Path = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped."),
    regions: Path | None = typer.Option(None, "--regions", help="BED; look at a sample of these regions only."),
    panel: Path | None = typer.Option(
        None, "--panel", help="VCF of public allele frequencies, bgzipped and indexed: its sites are left out."
    ),
    output: Path = typer.Option(
        ..., "--output", help="Table (JSON) to write, for 'fedcall pileup' and 'fedcall call'."
    ),
) -> None:
    """Measure a patient's base qualities from mismatches that are most likely no variants; it needs no labels.

    The table lowers qualities that clearly say too much, and those of mismatches that damage explains (oxidation,
    formalin); where reads and qualities agree it is empty, and pileups are bit for bit as without it. It is made from
    one patient's reads, is used on them alone, and stays at the hospital.

    Example: fedcall recalibrate --alignments p1.bam --reference ref.fa --output p1.base_qualities.json
    """
    from fedcall.genomics.base_qualities.applying import reads_digest
    from fedcall.genomics.base_qualities.table import write_table
    from fedcall.genomics.calling.panel import open_panel
    from fedcall.genomics.pileup.extraction import spans_of
    from fedcall.genomics.recalibration.counting import count_errors
    from fedcall.genomics.recalibration.fitting import fit_table

    spans = spans_of(alignments, reference, regions)
    known = open_panel(panel, reference) if panel is not None else None
    table = fit_table(count_errors(alignments, reference, spans, known), reads_digest(alignments))
    write_table(output, table)
    for line in (f"{output}:", *table.in_words()):
        say(line)
