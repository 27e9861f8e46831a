"""`fedcall quarantine`: refused updates and sites, and what an operator does about them."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block

_STATE = typer.Option(..., "--state", help="State folder of the aggregator.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")
_REASON = typer.Option(..., "--reason", help="Why; it goes into the log.")
_OPERATOR = typer.Option(None, "--operator", help="Who does it; left out, user@host. It goes into the log.")


def register(app: typer.Typer) -> None:
    """Add `fedcall quarantine list|show|add|release`."""
    quarantine = typer.Typer(no_args_is_help=True, help="Refused updates and quarantined sites.")
    quarantine.command("list")(list_refused)
    quarantine.command("show")(show)
    quarantine.command("add")(add)
    quarantine.command("release")(release)
    app.add_typer(quarantine, name="quarantine")


def list_refused(state: Path = _STATE, as_json: bool = _JSON) -> None:
    """List refused updates and what operators did, oldest first, and the quarantined sites.

    Example: fedcall quarantine list --state state
    """
    import json

    from fedcall.federation.aggregator.operation import interventions, refusals, study_status

    rows, done = refusals(state), interventions(state)
    quarantined = [site["site"] for site in study_status(state)["sites"] if site["quarantined"]]
    if as_json:
        say_block(json.dumps({"quarantined_sites": quarantined, "refused": rows, "interventions": done}, indent=2))
        return
    if rows:
        say(f"{'refused':<38} {'time (UTC)':<17} {'status':<11} reason")
    for row in rows:
        say(f"{row['id']:<38} {row['time'][:16]:<17} {row['status']:<11} {row['reason']}")
    if done:
        say(f"{'operator':<38} {'time (UTC)':<17} {'action':<11} site: reason")
    for row in done:
        say(f"{row['operator'][:38]:<38} {row['time'][:16]:<17} {row['action']:<11} {row['site']}: {row['reason']}")
    say(f"{len(rows)} refused; quarantined sites: {', '.join(quarantined) or 'none'}")


def show(
    identifier: str = typer.Argument(..., metavar="ID", help="Identifier from 'fedcall quarantine list'."),
    state: Path = _STATE,
    as_json: bool = _JSON,
) -> None:
    """Show one refused update: why it was refused, its claim and where its files are.

    Example: fedcall quarantine show north-2-0f3c9d21aa04 --state state
    """
    import json

    from fedcall.federation.aggregator.operation import refusal

    found = refusal(state, identifier)
    if as_json:
        say_block(json.dumps(found, indent=2))
        return
    for key in ("id", "time", "site", "round", "status", "reason", "sentence"):
        say(f"{key:<10} {found[key]}")
    for path in found["files"]:
        say(f"{'file':<10} {path}")
    for key, value in (found["claim"] or {}).items():
        say(f"{'claim':<10} {key}: {json.dumps(value)}")


def add(
    site: str = typer.Argument(..., help="Name of the site."),
    state: Path = _STATE,
    reason: str = _REASON,
    operator: str | None = _OPERATOR,
) -> None:
    """Quarantine a site that is gone for good or not to be trusted: rounds no longer wait for it.

    What was accepted before stays accepted; what comes from now on is refused until the site is released.

    Example: fedcall quarantine add north --state state --reason "left the consortium"
    """
    from fedcall.federation.aggregator.operation import set_aside

    set_aside(state, site, reason, operator)
    say(f"site '{site}' is quarantined")


def release(
    site: str = typer.Argument(..., help="Name of the quarantined site."),
    state: Path = _STATE,
    reason: str = _REASON,
    operator: str | None = _OPERATOR,
) -> None:
    """Let a quarantined site back in. Its refused updates stay refused and its spent budget stays spent.

    Example: fedcall quarantine release north --state state --reason "clipping bug fixed in 1.2.1"
    """
    from fedcall.federation.aggregator.operation import release_site

    release_site(state, site, reason, operator)
    say(f"site '{site}' is released")
