"""`fedcall concordance`: how good calls are, against truth."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command `concordance`."""
    app.command("concordance")(concordance)


def concordance(
    truth: Path = typer.Option(..., "--truth", help="VCF of true genotypes."),
    calls: Path = typer.Option(..., "--calls", help="VCF of calls, with one genotype column."),
    regions: Path = typer.Option(..., "--regions", help="BED of confident regions; only variants inside count."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    sample: str | None = typer.Option(None, "--sample", help="The patient's column in the truth, if it has several."),
    json: Path | None = typer.Option(None, "--json", help="Also write everything as JSON to this file."),
) -> None:
    """Compare calls with truth: precision, recall and F1 of SNPs and indels, by genotype.

    Both files are normalised (indels left-aligned, records split); variants written in different ways count as equal
    if they spell the same haplotypes within 30 bases. A truth that holds SNPs only says nothing about indels.

    Example: fedcall concordance --truth truth.vcf.gz --calls calls.vcf.gz --regions confident.bed
    --reference genome.fa --sample NA12878 --json concordance.json
    """
    from fedcall.files import write_text
    from fedcall.genomics.concordance import compare

    result = compare(truth, calls, regions, reference, sample)
    if json is not None:
        write_text(json, result.model_dump_json(indent=1) + "\n")

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    typer.echo(f"{'type':<7}{'truth':>8}{'calls':>8}{'precision':>11}{'recall':>9}{'F1':>9}{'genotype errors':>17}")
    for name, figures in (("SNPs", result.snps), ("indels", result.indels), ("all", result.all)):
        if figures is None:
            typer.echo(f"{name:<7}{'(the truth holds SNPs only)':>30}")
            continue
        typer.echo(
            f"{name:<7}{figures.tally.truth:>8}{figures.tally.calls:>8}{show(figures.precision):>11}"
            f"{show(figures.recall):>9}{show(figures.f1):>9}{figures.genotype_errors:>17}"
        )
