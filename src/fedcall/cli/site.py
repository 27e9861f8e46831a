"""`fedcall site`: a hospital's own keys."""

from pathlib import Path

import typer

from fedcall.cli.printing import say
from fedcall.cli.sites import each_site


def register(app: typer.Typer) -> None:
    """Add the `site` commands."""
    site = typer.Typer(no_args_is_help=True, help="A hospital's own keys.")
    site.command("keygen")(keygen)
    site.command("rotate-keys")(rotate_keys)
    site.command("pin-app")(pin_app)
    app.add_typer(site, name="site")


def keygen(
    names: list[str] = typer.Option(
        ...,
        "--name",
        help="The site's name in every study: letters, digits, '-' and '_'. In a rehearsal again for each other site,"
        " then {site} in paths is replaced by it.",
    ),
    output: Path = typer.Option(..., "--output", help="Folder for the keys; private, never a workflow output."),
    public: Path | None = typer.Option(None, "--public", help="Where a copy of site.json is to lie."),
) -> None:
    """Make a site's keys, once; run again, it shows those already there.

    The folder holds three private files and site.json. Send only site.json to the coordinator, by a way that
    proves it is yours.

    Example: fedcall site keygen --name north --output private/north/keys
    """
    import shutil

    from fedcall.keys import create_keys

    for name in names:
        check_name(name)
    for name, (folder, *copies) in each_site(names, output, *([public] if public else [])):
        identity = create_keys(folder, name)
        say(f"site        {identity.name}")
        say(f"signing key {identity.public_key}")
        say(f"public file {folder / 'site.json'}   ({_where_to(name)}; keep the rest)")
        for copy in copies:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "site.json", copy)


def rotate_keys(
    keys: Path = typer.Option(..., "--keys", help="The site's key folder."),
) -> None:
    """Replace the site's signing and node keys, because somebody may have seen them; the ledger stays as it is.

    The old keys are kept in a folder beside, for studies that are over. A study that runs knows the old keys only: the
    coordinator closes it and makes one that goes on ('fedcall study extend --site SITE.JSON=PATIENTS').

    Example: fedcall site rotate-keys --keys private/north/keys
    """
    from fedcall.keys import rotate_keys as rotate

    identity, old = rotate(keys)
    say(f"site        {identity.name}")
    say(f"signing key {identity.public_key}")
    say(f"public file {keys / 'site.json'}   ({_where_to(identity.name)}; keep the rest)")
    say(f"old keys    {old}   (delete them once no study needs them)")


def _where_to(name: str) -> str:
    if name == "coordinator":
        return "'fedcall study new' takes this one, and every study tells it to the hospitals"
    return "send this one to the coordinator"


def check_name(name: str) -> None:
    """Refuse a name that no site or helper can have in a study."""
    from pydantic import TypeAdapter, ValidationError

    from fedcall.errors import FedcallError
    from fedcall.study.terms import Name

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise FedcallError(
            f"--name {name!r}: a name is 1 to 64 letters, digits, '-' or '_', and starts with a letter or digit"
        ) from None


def pin_app(
    digest: str = typer.Option(..., "--hash", help="The app's hash, as the coordinator published it."),
    output: Path = typer.Option(..., "--output", help="Folder for trusted.yaml and pin.json."),
) -> None:
    """Let this site's stock SuperNode run one app of fedcall, and never another.

    Only for a hospital that takes part with a SuperNode it already runs. Start that with --trusted-entities
    trusted.yaml, and send pin.json to the coordinator. The key that signs the pin is thrown away at once, so that it
    can sign nothing else.

    Example: fedcall site pin-app --hash 4f0c…9e --output private/north/app
    """
    from fedcall.federation.flower.app_bundle import pin_app as pin

    path = pin(digest, output)
    say(f"trusted {output / 'trusted.yaml'}   (for flower-supernode --trusted-entities)")
    say(f"pin     {path}   (send this one to the coordinator)")
