"""`fedcall regions`: what training leaves out, and where models can be compared on regions nobody trained on."""

from pathlib import Path

import typer

STUDY = typer.Option(..., "--study", help="Terms of the study (YAML), or the signed study: evaluation.regions.")
REFERENCE = typer.Option(..., "--reference", help="Indexed FASTA, plain or bgzipped.")
OUTPUT = typer.Option(..., "--output", help="BED to write.")

regions_app = typer.Typer(
    name="regions", help="Regions to train on, and regions that nobody trained on.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(regions_app)


@regions_app.command("training")
def training(
    study: Path = STUDY,
    reference: Path = REFERENCE,
    regions: Path | None = typer.Option(None, "--regions", help="BED of a patient; left out, the whole reference."),
    output: Path = OUTPUT,
) -> None:
    """Write a patient's regions without those the study keeps for the evaluation, and 100 bases around them.

    Example: fedcall regions training --study study.json --reference genome.fa --regions confident.bed --output t.bed
    """
    from fedcall.genomics.unseen import training_regions, write_bed
    from fedcall.study.terms import read_study_terms

    left = training_regions(regions, reference, read_study_terms(study).unseen_regions)
    typer.echo(f"{output}: {write_bed(output, left)} bases to train on")


@regions_app.command("unseen")
def unseen(
    study: Path = STUDY,
    reference: Path = REFERENCE,
    regions: Path = typer.Option(..., "--regions", help="BED of a held-out person."),
    trained: list[Path] = typer.Option(
        [], "--trained", help="BED of people who were trained on; without any, nothing is known to be unseen."
    ),
    output: Path = OUTPUT,
) -> None:
    """Write the part of a held-out person's regions that nobody trained on; an empty BED if there is none.

    Where the study agrees on evaluation.regions they alone count; else, what lies outside of all --trained.

    Example: fedcall regions unseen --study study.json --reference genome.fa --regions confident.bed --output u.bed
    """
    from fedcall.genomics.unseen import unseen_regions, write_bed
    from fedcall.study.terms import read_study_terms

    left = unseen_regions(regions, reference, read_study_terms(study).unseen_regions, trained or None)
    typer.echo(f"{output}: {write_bed(output, left)} bases that nobody trained on")
