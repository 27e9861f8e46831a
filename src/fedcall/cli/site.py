"""`fedcall site`: a hospital's own keys."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the `site` commands."""
    site = typer.Typer(no_args_is_help=True, help="A hospital's own keys.")
    site.command("keygen")(keygen)
    app.add_typer(site, name="site")


def keygen(
    name: str = typer.Option(..., "--name", help="The site's name in every study: letters, digits, '-' and '_'."),
    output: Path = typer.Option(..., "--output", help="Folder for the keys; private, never a workflow output."),
) -> None:
    """Make a site's keys, once; run again, it shows those already there.

    The folder holds three private files and site.json. Send only site.json to the coordinator, by a way that
    proves it is yours.

    Example: fedcall site keygen --name north --output private/north/keys
    """
    from pydantic import TypeAdapter, ValidationError

    from fedcall.errors import FedcallError
    from fedcall.federation.study import Name
    from fedcall.keys import create_keys

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise FedcallError(
            f"--name {name!r}: a site's name is 1 to 64 letters, digits, '-' or '_', and starts with a letter or digit"
        ) from None
    identity = create_keys(output, name)
    typer.echo(f"site        {identity.name}")
    typer.echo(f"signing key {identity.public_key}")
    typer.echo(f"public file {output / 'site.json'}   (send this one to the coordinator; keep the rest)")
