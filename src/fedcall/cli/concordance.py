"""`fedcall concordance`, `errors` and `allele-counts`: how good calls are, where they are wrong, and what is rare."""

from pathlib import Path

import typer

from fedcall.cli.printing import say
from fedcall.errors import FedcallError
from fedcall.shown import shown


def register(app: typer.Typer) -> None:
    """Add the commands `concordance`, `errors` and `allele-counts`."""
    app.command("concordance")(concordance)
    app.command("errors")(errors)
    app.command("allele-counts")(allele_counts)


def concordance(
    truth: Path = typer.Option(..., "--truth", help="VCF of true genotypes."),
    calls: Path = typer.Option(..., "--calls", help="VCF of calls, with one genotype column."),
    regions: Path = typer.Option(..., "--regions", help="BED of confident regions; only variants inside count."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    sample: str | None = typer.Option(None, "--sample", help="The patient's column in the truth, if it has several."),
    allele_counts: Path | None = typer.Option(
        None, "--allele-counts", help="Table of 'fedcall allele-counts': also report recall of rare variants."
    ),
    panel: Path | None = typer.Option(
        None, "--panel", help="VCF of public allele frequencies: also report recall by frequency there."
    ),
    within: list[str] = typer.Option(
        [], "--within", help="Count only here, too (CONTIG or CONTIG:FIRST-LAST); may be given often."
    ),
    outside: list[Path] = typer.Option(
        [], "--outside", help="BED of people who were trained on: count only outside of it. May be given often."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write everything as JSON to this file."),
) -> None:
    """Compare calls with truth: precision, recall and F1 of SNPs and indels, by genotype.

    Both files are normalised (indels left-aligned, records split); variants written in different ways count as equal
    if they spell the same haplotypes within 30 bases. A truth that holds SNPs only says nothing about indels.

    Example: fedcall concordance --truth truth.vcf.gz --calls calls.vcf.gz --regions confident.bed
    --reference genome.fa --sample NA12878 --json concordance.json
    """
    from fedcall.files import write_text
    from fedcall.genomics.concordance.comparison import Rarity, compare

    result = compare(truth, calls, regions, reference, sample, Rarity(allele_counts, panel), within, outside)
    if json is not None:
        write_text(json, result.model_dump_json(indent=1) + "\n")

    for reason, count in result.left_out.items():
        say(f"left out of the {reason}: {count}", err=True)

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    say(f"{'type':<7}{'truth':>8}{'calls':>8}{'precision':>11}{'recall':>9}{'F1':>9}{'genotype errors':>17}")
    for name, figures in (("SNPs", result.snps), ("indels", result.indels), ("all", result.all)):
        if figures is None:
            say(f"{name:<7}{'(the truth holds SNPs only)':>30}")
            continue
        say(
            f"{name:<7}{figures.tally.truth:>8}{figures.tally.calls:>8}{show(figures.precision):>11}"
            f"{show(figures.recall):>9}{show(figures.f1):>9}{figures.genotype_errors:>17}"
        )


def errors(
    truth: Path = typer.Option(..., "--truth", help="VCF of true genotypes."),
    calls: Path = typer.Option(..., "--calls", help="VCF of calls, with one genotype column."),
    alignments: Path = typer.Option(..., "--alignments", help="The patient's BAM or CRAM, indexed."),
    regions: Path = typer.Option(..., "--regions", help="BED of confident regions; only variants inside count."),
    reference: Path = typer.Option(..., "--reference", help="Reference FASTA, indexed."),
    sample: str | None = typer.Option(None, "--sample", help="The patient's column in the truth, if it has several."),
    output: Path = typer.Option(..., "--output", help="JSON file to write; the evaluation report draws it."),
    limit: int = typer.Option(50, "--limit", min=1, help="Errors to keep, worst first."),
    against: list[str] = typer.Option(
        [], "--against", metavar="NAME=VCF", help="Another caller's calls of the patient; may be given often."
    ),
    agreement: Path | None = typer.Option(
        None, "--agreement", help="Also write, as JSON, where these calls (named 'final') and the others agree."
    ),
) -> None:
    """List the worst errors of calls with the reads around each, and where other callers disagree.

    What is wrong is what 'fedcall concordance' counts as wrong. The files hold reads: they stay where these are.

    Example: fedcall errors --truth truth.vcf.gz --calls calls.vcf.gz --alignments NA12878.bam
    --regions confident.bed --reference genome.fa --sample NA12878 --output errors.json
    """
    from fedcall.files import write_text
    from fedcall.genomics.concordance.worst_errors import worst_errors

    others = dict(named_calls(text) for text in against)
    found = worst_errors(truth, calls, alignments, regions, reference, sample, limit)
    write_text(output, found.model_dump_json(indent=1) + "\n")
    if agreement is not None:
        from fedcall.callers.agreement import Case, agreement_of
        from fedcall.genomics.regions import read_regions

        case = Case(truth, reference, read_regions(regions, reference), sample)
        together = agreement_of(case, {"final": calls, **others}, alignments)
        write_text(agreement, together.model_dump_json(indent=1) + "\n")
    say(f"{output}: {found.errors_in_all} errors, {len(found.errors)} of them drawn")
    for error in found.errors[:10]:
        say(
            f"  {shown(error.contig, 60)}:{error.position} {error.ref[:12]}>{error.alt[:12]} {error.kind},"
            f" shown by {error.supporting} of {error.depth} reads"
        )


def allele_counts(
    labels: list[Path] = typer.Argument(..., metavar="LABELS_VCF...", help="Files of 'fedcall normalise-labels'."),
    output: Path = typer.Option(..., "--output", help="Table to write; 'fedcall concordance' reads it."),
) -> None:
    """Count how many copies of each allele the truths of held-out people have: one copy among them is a rare variant.

    Never count training patients: what is rare would then depend on them, and figures of the evaluation would tell
    about their genotypes. The table holds patients' alleles: it stays where they are.

    Example: fedcall allele-counts labels/*.vcf.gz --output allele_counts.tsv
    """
    from fedcall.genomics.truth.allele_counts import count_alleles, write_allele_counts

    counts = count_alleles(labels)
    write_allele_counts(output, counts)
    rare = sum(copies == 1 for copies in counts.values())
    say(f"{output}: {len(counts)} alleles of {len(labels)} people, {rare} of them carried once")


def named_calls(text: str) -> tuple[str, Path]:
    """Return the name and the file in NAME=VCF; without a name it is that of the file."""
    name, separator, file = text.partition("=")
    if not separator:
        name, file = Path(text).name.partition(".")[0], text
    if not name or not file:
        raise FedcallError(f"'{text}': NAME=VCF is needed, such as gatk=P001.gatk.vcf.gz")
    return name, Path(file)
