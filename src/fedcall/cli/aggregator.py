"""`fedcall aggregator` and `fedcall quarantine`: the coordinator's service and what its operator does."""

from pathlib import Path

import typer

_STATE = typer.Option(..., "--state", help="State folder of the aggregator.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")


def register(app: typer.Typer) -> None:
    """Add the `aggregator` and `quarantine` commands."""
    aggregator = typer.Typer(no_args_is_help=True, help="The coordinator's service.")
    aggregator.command("serve")(serve)
    aggregator.command("status")(status)
    app.add_typer(aggregator, name="aggregator")
    quarantine = typer.Typer(no_args_is_help=True, help="Refused updates and quarantined sites.")
    quarantine.command("list")(list_refused)
    quarantine.command("show")(show)
    quarantine.command("release")(release)
    app.add_typer(quarantine, name="quarantine")


def serve(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    state: Path = typer.Option(..., "--state", help="Folder for everything that must survive; back it up."),
    listen: str = typer.Option("127.0.0.1:0", "--listen", metavar="HOST:PORT", help="Loopback address; port 0: any."),
    keys: Path = typer.Option(..., "--keys", help="Folder of the coordinator's keys."),
    initial: Path = typer.Option(..., "--initial", help="The study's first global model."),
    idle_minutes: float | None = typer.Option(
        None, "--idle-minutes", min=0.01, help="End when nobody has talked for this long; left out, never."
    ),
) -> None:
    """Serve a study to its sites until SIGTERM. May be killed at any moment; started again, it goes on where it was.

    A finished study is served as well: a site may come back for the final model or for a receipt it lost.

    Example: fedcall aggregator serve --study study.json --state state --listen 127.0.0.1:8443
    --keys private/coordinator/keys --initial initial.safetensors
    """
    import logging

    from fedcall.federation.aggregator import ServeOptions
    from fedcall.federation.aggregator import serve as run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("fedcall").setLevel(logging.INFO)
    # A filter, because importing Flower sets its logger's level.
    logging.getLogger("flwr").addFilter(lambda record: record.levelno >= logging.WARNING)
    run(ServeOptions(study, state, listen, keys, initial, idle_minutes))


def status(state: Path = _STATE, as_json: bool = _JSON) -> None:
    """Show which round is open, who has answered, and whether an aggregator is alive.

    Example: fedcall aggregator status --state state
    """
    import json

    from fedcall.federation.operation import study_status

    found = study_status(state)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    alive = f"alive at {found['address']}" if found["alive"] else "not running"
    progress = "done" if found["done"] else f"round {found['open_round']} of {found['rounds']}"
    typer.echo(f"study {found['study']}: {progress}, aggregator {alive}")
    for site in found["sites"]:
        quarantined = ", QUARANTINED" if site["quarantined"] else ""
        answer = "" if found["done"] else site["answer"] or "no answer yet"
        typer.echo(
            f"  {site['site']:<20} {answer:<14} {site['accepted_rounds']} accepted,"
            f" {site['refusals']} refused{quarantined}"
        )


def list_refused(state: Path = _STATE, as_json: bool = _JSON) -> None:
    """List refused updates, oldest first, and quarantined sites.

    Example: fedcall quarantine list --state state
    """
    import json

    from fedcall.federation.operation import refusals, study_status

    rows = refusals(state)
    quarantined = [site["site"] for site in study_status(state)["sites"] if site["quarantined"]]
    if as_json:
        typer.echo(json.dumps({"quarantined_sites": quarantined, "refused": rows}, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['id']:<40} {row['time']}  {row['reason']:<17} {row['sentence']}")
    typer.echo(f"{len(rows)} refused; quarantined sites: {', '.join(quarantined) or 'none'}")


def show(
    identifier: str = typer.Argument(..., metavar="ID", help="Identifier from 'fedcall quarantine list'."),
    state: Path = _STATE,
    as_json: bool = _JSON,
) -> None:
    """Show one refused update: its claim and why it was refused.

    Example: fedcall quarantine show north-2-0f3c9d21aa04 --state state
    """
    import json

    from fedcall.federation.operation import refusal

    found = refusal(state, identifier)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        typer.echo(f"{key:<10} {json.dumps(value) if isinstance(value, dict) else value}")


def release(
    site: str = typer.Argument(..., help="Name of the quarantined site."),
    state: Path = _STATE,
    reason: str = typer.Option(..., "--reason", help="Why; it goes into the log."),
) -> None:
    """Let a quarantined site back in. Its refused updates stay refused and its spent budget stays spent.

    Example: fedcall quarantine release north --state state --reason "clipping bug fixed in 1.2.1"
    """
    from fedcall.federation.operation import release_site

    release_site(state, site, reason)
    typer.echo(f"site '{site}' is released")
