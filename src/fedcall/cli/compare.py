"""`fedcall compare`: any callers' VCFs of one patient against one truth, side by side."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the command `compare`."""
    app.command("compare")(compare)


def compare(
    truth: Path = typer.Option(..., "--truth", help="VCF of true genotypes."),
    calls: list[Path] = typer.Option(
        ..., "--calls", metavar="[NAME=]VCF", help="Calls of one caller, plain or compressed; may be given often."
    ),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    regions: Path | None = typer.Option(
        None, "--regions", help="BED of confident regions, or a gVCF; else the whole reference counts."
    ),
    sample: str | None = typer.Option(None, "--sample", help="The patient's column in the truth, if it has several."),
    alignments: Path | None = typer.Option(
        None, "--alignments", help="The patient's BAM or CRAM, indexed: reads at disagreements are drawn."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write everything as JSON to this file."),
    html: Path | None = typer.Option(None, "--html", help="Also write a self-contained page to this file."),
) -> None:
    """Compare callers on one patient: accuracy with intervals, paired differences, where they disagree.

    The first file is what the others are compared with. All are brought into one form and compared as
    'fedcall concordance' does; the callers' names are those given, or those of the files.

    Example: fedcall compare --truth truth.vcf.gz --calls ours=P001.vcf.gz --calls gatk=P001.gatk.vcf.gz
    --regions confident.bed --reference genome.fa --alignments P001.bam --html compared.html
    """
    from fedcall.cli.concordance import named_calls

    named: dict[str, Path] = {}
    for text in calls:
        name, path = named_calls(str(text))
        if name in named:
            raise FedcallError(f"two files of calls are called '{name}'; name them: --calls NAME={path}")
        named[name] = path

    from fedcall.files import write_text
    from fedcall.reporting.base.pages import render, to_json
    from fedcall.reporting.comparison.report import as_text, compare_files, comparison_figures

    report = compare_files(truth, named, reference, regions, sample, alignments)
    if json is not None:
        write_text(json, to_json(report))
    if html is not None:
        write_text(html, render(report, "comparison.html", comparison_figures(report)))
    for row in report.left_out:
        say(f"{row.caller}: left out of the {row.reason}: {row.count}", err=True)
    say_block(as_text(report))
