"""`fedcall study`: make, sign and read the agreement of all sites."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the `study` commands."""
    study = typer.Typer(no_args_is_help=True, help="The agreement all sites sign.")
    study.command("new")(new)
    study.command("sign")(sign)
    study.command("check")(check)
    app.add_typer(study, name="study")


def new(
    terms: Path = typer.Option(..., "--terms", help="Terms of the study (YAML): rounds, model, privacy, aggregation."),
    initial: Path = typer.Option(
        ..., "--initial", help="First global model (safetensors); the study names its digest."
    ),
    coordinator: Path = typer.Option(..., "--coordinator", help="Public file (site.json) of the coordinator's keys."),
    sites: list[str] = typer.Option(
        ...,
        "--site",
        metavar="SITE.JSON=PATIENTS[+HELDOUT]",
        help="A site's public file, its declared number of patients, and of held-out ones who judge the final model.",
    ),
    helpers: list[Path] = typer.Option(
        [], "--helper", metavar="HELPER.JSON", help="A helper's public file, where updates are masked; may be repeated."
    ),
    output: Path = typer.Option(..., "--output", help="The complete study (YAML), for people to review."),
) -> None:
    """Fill the terms with sites, coordinator and initial weights.

    Example: fedcall study new --terms study.yaml --initial initial.safetensors --coordinator coordinator/site.json
    --site north/site.json=40 --site south/site.json=25 --output study.full.yaml
    """
    from fedcall.files import write_text
    from fedcall.study.drafting import complete_terms, review_yaml

    complete = complete_terms(terms, initial, coordinator, sites, helpers)
    write_text(output, review_yaml(complete))
    typer.echo(f"wrote {output}: read it, then sign it with 'fedcall study sign'")


def sign(
    study: Path = typer.Option(..., "--study", help="Complete study (YAML), from 'fedcall study new'."),
    keys: Path = typer.Option(..., "--keys", help="Folder of the coordinator's keys."),
    output: Path = typer.Option(..., "--output", help="Signed study (study.json)."),
) -> None:
    """Sign a complete study with the coordinator's key.

    Example: fedcall study sign --study study.full.yaml --keys private/coordinator/keys --output study.json
    """
    from fedcall.study.drafting import sign_study

    signed = sign_study(study, keys, output)
    typer.echo(f"study {signed.name} {signed.digest}")


def check(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Check a signed study's signature and rules, and print its digest and what it agrees.

    A site approves a study by this digest (config key approved_study).

    Example: fedcall study check --study study.json
    """
    import json

    from fedcall.study.drafting import summarise
    from fedcall.study.terms import read_study

    summary = summarise(read_study(study))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        typer.echo(f"{key.replace('_', ' '):<{width}}  {value}")
