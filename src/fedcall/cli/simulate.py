"""`fedcall simulate`."""

from pathlib import Path

import typer

from fedcall.errors import FedcallError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("simulate")(simulate)


def simulate(
    site: list[str] = typer.Option(..., "--site", metavar="NAME=PATIENTS", help="A hospital, its training patients."),
    output: Path = typer.Option(..., "--output", help="Folder to write to; made if missing."),
    seed: int = typer.Option(1, "--seed", min=0, help="Same seed and options, same bytes."),
    holdout: int = typer.Option(3, "--holdout", min=0, help="Held-out patients per hospital."),
    public: int = typer.Option(6, "--public", min=0, help="Public patients, free of the hospitals' artefact."),
    public_holdout: int = typer.Option(
        0, "--public-holdout", min=0, help="Held-out public people, sequenced by the hospitals: with their artefact."
    ),
    region_length: int = typer.Option(20_000, "--region-length", help="Length of the sequenced region, bases."),
    depth: float = typer.Option(20.0, "--depth", help="Mean depth, reads."),
    threads: int = typer.Option(1, "--threads", min=1, help="Patients simulated at the same time."),
) -> None:
    """Make a cohort with known truth: patients of several hospitals and public ones.

    The hospitals' reads carry oxidised guanine (G>T in one read orientation), the public ones do not:
    something true that only private data can teach. Writes reference, BAM and truth VCF per patient,
    regions.bed and samples.tsv.

    Example: fedcall simulate --seed 1 --site north=40 --site south=40 --output cohort --threads 2
    """
    from pydantic import ValidationError

    from fedcall.documents import describe
    from fedcall.simulation.cohort import simulate_cohort
    from fedcall.workflow.configuration import SimulatedCohort

    try:
        cohort = SimulatedCohort(
            seed=seed,
            sites=_sites(site),
            holdout=holdout,
            public=public,
            public_holdout=public_holdout,
            region_length=region_length,
            depth=depth,
        )
    except ValidationError as error:
        raise FedcallError(f"simulate: {describe(error)}") from None
    simulate_cohort(cohort, output, threads)


def _sites(options: list[str]) -> dict[str, int]:
    sites: dict[str, int] = {}
    for option in options:
        name, separator, patients = option.partition("=")
        if not separator or not patients.isdigit():
            raise FedcallError(f"--site: found '{option}'; needed: NAME=PATIENTS, for example north=40")
        if name in sites:
            raise FedcallError(f"--site: '{name}' is given twice")
        if name == "public":
            raise FedcallError("--site: 'public' is the name of the public rows; choose another")
        sites[name] = int(patients)
    return sites
