"""`fedcall fetch`, `fetch-log` and `upload`: a site's short exchanges with the aggregator."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.connection import Connection, make_visitor, with_connection
from fedcall.cli.printing import say
from fedcall.cli.sites import each_site
from fedcall.shown import shown

if TYPE_CHECKING:
    from fedcall.study.opened_sums import OpenedSum
    from fedcall.study.terms import Study


def register(app: typer.Typer) -> None:
    """Add the `fetch`, `fetch-log` and `upload` commands."""
    app.command()(with_connection(fetch))
    app.command("fetch-log")(with_connection(fetch_log))
    app.command()(with_connection(upload))


def fetch(
    connection: Connection,
    number: int = typer.Option(..., "--round", min=1, help="Round to train next; the study's rounds + 1: final model."),
    wait_minutes: float | None = typer.Option(
        None,
        "--wait-minutes",
        min=0,
        help="Give up when the round is not open after this long; left out, the study's deadline of a round.",
    ),
    closing: Path | None = typer.Option(
        None,
        "--closing",
        help="Where to keep that the coordinator closed the study early; when it is there, the final model is fetched.",
    ),
    output: Path = typer.Option(..., "--output", help="The global model (safetensors)."),
) -> None:
    """Fetch the global model going into a round; wait until the round is open, when enough sites have answered.

    The model is written only if the coordinator signed its digest and, where updates are opened only as sums, if every
    helper signed the sum that made it.

    Example: fedcall fetch --study study.json --site north --keys private/north/keys --round 1
    --aggregator fedcall.example.org:443 --ca ca.crt --output global.safetensors
    """
    import dataclasses

    from fedcall.federation.site.visits import fetch_global

    for site, (own_keys, own_output) in each_site(connection.sites, connection.keys, output):
        visitor = make_visitor(connection, site, own_keys)
        minutes = wait_minutes
        if minutes is None:  # in a rehearsal every site has answered before anybody asks
            minutes = 0 if connection.rehearsal else visitor.study.aggregation.deadline_minutes
        opening = fetch_global(dataclasses.replace(visitor, wait_seconds=60 * minutes), number, own_output, closing)
        say(f"round {number}: {own_output}")
        if opening.opened is not None:
            say(_sum_line(visitor.study, site, number - 1, opening.opened))
        if site in opening.outliers:
            say(
                f"round {number - 1}: the update of site '{site}' was unlike the other sites' and was left out;"
                " 'fedcall fetch-log' tells why"
            )


def _sum_line(study: "Study", site: str, number: int, opened: "OpenedSum") -> str:
    """Return who was in the sum of a round, verified."""
    from fedcall.study.opened_sums import own_update, verify_sum

    order = verify_sum(study, number, opened)
    if order is None:
        return f"round {number}: no sum was opened"
    signers = ", ".join(helper.name for helper in study.protection.helpers)
    own = "" if own_update(order, site) else f"; '{site}' is not in it"
    return f"round {number}: sum over {', '.join(order.sites)}, signed by the coordinator and {signers}{own}"


def fetch_log(
    connection: Connection,
    output: Path = typer.Option(..., "--output", help="The admission log (JSON lines)."),
) -> None:
    """Fetch the aggregator's admission log: this site's decisions in full, those on other sites as digests.

    It is written only if its chain is whole. 'fedcall report privacy' takes from it what became of an update after its
    receipt, and 'fedcall aggregator log verify' holds it against this site's receipts.

    Example: fedcall fetch-log --study study.json --site north --keys private/north/keys
    --aggregator fedcall.example.org:443 --ca ca.crt --output admission.jsonl
    """
    from fedcall.federation.site.visits import fetch_log as run

    for site, (own_keys, own_output) in each_site(connection.sites, connection.keys, output):
        visitor = make_visitor(connection, site, own_keys)
        say(f"{own_output}: {run(visitor, own_output)} lines")


def upload(
    connection: Connection,
    number: int = typer.Option(..., "--round", min=1, help="Round the update belongs to."),
    update: Path = typer.Option(..., "--update", help="The update (safetensors); without tensors when withheld."),
    claim: Path = typer.Option(..., "--claim", help="The signed claim that travels with it."),
    receipt: Path = typer.Option(..., "--receipt", help="The aggregator's signed receipt (JSON)."),
) -> None:
    """Upload one update and its claim; leave with the signed receipt.

    Uploading the same files again gives the same receipt; once the round is closed, it also says with whom the update
    was summed, with the helpers' signatures. A refusal is no error: the receipt says why.

    Example: fedcall upload --study study.json --site north --keys private/north/keys --round 1
    --update update.safetensors --claim claim.json --aggregator fedcall.example.org:443 --ca ca.crt
    --receipt receipt.json
    """
    from fedcall.federation.site.visits import upload_update

    for site, (own_keys, own_update, own_claim, own_receipt) in each_site(
        connection.sites, connection.keys, update, claim, receipt
    ):
        visitor = make_visitor(connection, site, own_keys)
        answer = upload_update(visitor, number, own_update, own_claim, own_receipt)
        prefix = f"{site}: " if len(connection.sites) > 1 else ""
        say(f"{prefix}round {number}: {answer.status} ({answer.reason}): {shown(answer.sentence, 600)}")
