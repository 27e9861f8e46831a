"""`fedcall callers`: what the workflow does around other people's callers."""

from pathlib import Path

import typer

from fedcall.cli.printing import say
from fedcall.errors import FedcallError

callers = typer.Typer(
    name="callers",
    help="Prepare files for other callers (freebayes, GATK, DeepVariant), and take in what they wrote.",
    no_args_is_help=True,
)

REFERENCE = typer.Option(..., "--reference", help="Reference FASTA, indexed.")


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(callers)


@callers.command("reference")
def reference(
    reference: Path = REFERENCE,
    output: Path = typer.Option(
        ..., "--output", help="Plain FASTA to make (genome.fa), with .fai and .dict beside it."
    ),
) -> None:
    """Make a plain reference with index and sequence dictionary, as GATK and freebayes read it.

    A plain FASTA is linked, a bgzipped one written out.

    Example: fedcall callers reference --reference genome.fa.gz --output resources/genome.fa
    """
    from fedcall.callers.preparation import prepare_reference

    prepare_reference(reference, output)
    say(f"{output}: {reference} with its index and dictionary")


@callers.command("regions")
def regions(
    reference: Path = REFERENCE,
    regions: Path | None = typer.Option(None, "--regions", help="BED to call in; else all of the reference."),
    output: Path = typer.Option(..., "--output", help="BED to write: merged, in the order of the reference."),
) -> None:
    """Write the regions to call in as every caller reads them: three columns, merged, in the order of the reference.

    Example: fedcall callers regions --reference genome.fa --regions exome.bed --output regions.bed
    """
    from fedcall.callers.preparation import write_regions

    say(f"{output}: {write_regions(reference, output, regions)} bases")


@callers.command("collect")
def collect(
    caller: str = typer.Option(..., "--caller", help="freebayes, gatk or deepvariant."),
    calls: Path = typer.Option(..., "--calls", help="VCF that it wrote, of one sample."),
    version_file: Path = typer.Option(..., "--version-file", help="What it printed when asked for its version."),
    image: str | None = typer.Option(None, "--image", help="Container it ran in."),
    reference: Path = REFERENCE,
    sample: str = typer.Option(..., "--sample", help="Name for the genotype column: the patient's."),
    output: Path = typer.Option(..., "--output", help="Calls to write (.vcf.gz); the index is written beside them."),
) -> None:
    """Take in another caller's calls: checked against the reference, sorted, with its version in the header.

    Records are left as the caller wrote them; those below the quality its authors advise get the filter LowQual.

    Example: fedcall callers collect --caller gatk --calls P001.gatk.vcf.gz --version-file version.txt
    --reference genome.fa --sample P001 --output P001.vcf.gz
    """
    from fedcall.callers.catalogue import CATALOGUE
    from fedcall.callers.collecting import CallerVersion, collect_calls

    known = next((name for name in CATALOGUE if name == caller), None)
    if known is None:
        raise FedcallError(f"no caller is called '{caller}' (allowed: {', '.join(CATALOGUE)})")
    found = collect_calls(known, calls, reference, sample, output, CallerVersion(version_file, image))
    marked = f", {found.low_quality} of them marked as below its least quality" if found.low_quality else ""
    say(f"{output}: {found.records} records of {found.software}{marked}")
