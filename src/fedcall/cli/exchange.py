"""`fedcall fetch` and `fedcall upload`: a site's short exchanges with the aggregator."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.sites import each_site
from fedcall.errors import FedcallError
from fedcall.shown import shown

if TYPE_CHECKING:
    from fedcall.federation.site.visits import Visitor

STUDY = typer.Option(..., "--study", help="Signed study (study.json).")
SITES = typer.Option(
    ...,
    "--site",
    help="Name of this site; in a rehearsal again for each other one, then {site} in paths stands for it.",
)
KEYS = typer.Option(..., "--keys", help="Folder of this site's keys.")
AGGREGATOR = typer.Option(None, "--aggregator", metavar="HOST:PORT", help="Address of the consortium's aggregator.")
CA = typer.Option(None, "--ca", help="Certificate of the authority that signed the aggregator's certificate.")
REHEARSAL = typer.Option(
    None, "--rehearsal", metavar="STATE_DIR", help="Rehearse: start an aggregator on this machine if none is alive."
)
COORDINATOR_KEYS = typer.Option(None, "--coordinator-keys", help="With --rehearsal: folder of the coordinator's keys.")
INITIAL = typer.Option(None, "--initial", help="With --rehearsal: the study's first global model.")
HANDOVER = typer.Option(
    None, "--handover", metavar="DIR", help="Folder that this site's stock SuperNode carries to the aggregator."
)
DEADLINE = typer.Option(
    10.0, "--deadline-minutes", min=0.1, help="Give up after this long without an aggregator; rerunning resumes."
)


def register(app: typer.Typer) -> None:
    """Add the `fetch` and `upload` commands."""
    app.command()(fetch)
    app.command("fetch-log")(fetch_log)
    app.command()(upload)


def fetch(
    study: Path = STUDY,
    sites: list[str] = SITES,
    keys: Path = KEYS,
    number: int = typer.Option(..., "--round", min=1, help="Round to train next; the study's rounds + 1: final model."),
    aggregator: str | None = AGGREGATOR,
    ca: Path | None = CA,
    handover: Path | None = HANDOVER,
    rehearsal: Path | None = REHEARSAL,
    coordinator_keys: Path | None = COORDINATOR_KEYS,
    initial: Path | None = INITIAL,
    deadline_minutes: float = DEADLINE,
    wait_minutes: float | None = typer.Option(
        None,
        "--wait-minutes",
        min=0,
        help="Give up when the round is not open after this long; left out, the study's deadline of a round.",
    ),
    output: Path = typer.Option(..., "--output", help="The global model (safetensors)."),
) -> None:
    """Fetch the global model going into a round; wait until the round is open, when enough sites have answered.

    The model is written only if the coordinator signed its digest.

    Example: fedcall fetch --study study.json --site north --keys private/north/keys --round 1
    --aggregator fedcall.example.org:443 --ca ca.crt --output global.safetensors
    """
    import dataclasses

    from fedcall.federation.site.visits import fetch_global

    for site, (own_keys, own_output) in each_site(sites, keys, output):
        visitor = make_visitor(
            study, site, own_keys, aggregator, ca, handover, rehearsal, coordinator_keys, initial, deadline_minutes
        )
        minutes = wait_minutes
        if minutes is None:  # in a rehearsal every site has answered before anybody asks
            minutes = 0 if rehearsal else visitor.study.aggregation.deadline_minutes
        opening = fetch_global(dataclasses.replace(visitor, wait_seconds=60 * minutes), number, own_output)
        typer.echo(f"round {number}: {own_output}")
        if site in opening.outliers:
            typer.echo(
                f"round {number - 1}: the update of site '{site}' was unlike the other sites' and was left out;"
                " 'fedcall fetch-log' tells why"
            )


def fetch_log(
    study: Path = STUDY,
    sites: list[str] = SITES,
    keys: Path = KEYS,
    aggregator: str | None = AGGREGATOR,
    ca: Path | None = CA,
    handover: Path | None = HANDOVER,
    rehearsal: Path | None = REHEARSAL,
    coordinator_keys: Path | None = COORDINATOR_KEYS,
    initial: Path | None = INITIAL,
    deadline_minutes: float = DEADLINE,
    output: Path = typer.Option(..., "--output", help="The admission log (JSON lines)."),
) -> None:
    """Fetch the aggregator's admission log: this site's decisions in full, those on other sites as digests.

    It is written only if its chain is whole. 'fedcall report privacy' takes from it what became of an update after its
    receipt, and 'fedcall aggregator log verify' holds it against this site's receipts.

    Example: fedcall fetch-log --study study.json --site north --keys private/north/keys
    --aggregator fedcall.example.org:443 --ca ca.crt --output admission.jsonl
    """
    from fedcall.federation.site.visits import fetch_log as run

    for site, (own_keys, own_output) in each_site(sites, keys, output):
        visitor = make_visitor(
            study, site, own_keys, aggregator, ca, handover, rehearsal, coordinator_keys, initial, deadline_minutes
        )
        typer.echo(f"{own_output}: {run(visitor, own_output)} lines")


def upload(
    study: Path = STUDY,
    sites: list[str] = SITES,
    keys: Path = KEYS,
    number: int = typer.Option(..., "--round", min=1, help="Round the update belongs to."),
    update: Path = typer.Option(..., "--update", help="The update (safetensors); without tensors when withheld."),
    claim: Path = typer.Option(..., "--claim", help="The signed claim that travels with it."),
    aggregator: str | None = AGGREGATOR,
    ca: Path | None = CA,
    handover: Path | None = HANDOVER,
    rehearsal: Path | None = REHEARSAL,
    coordinator_keys: Path | None = COORDINATOR_KEYS,
    initial: Path | None = INITIAL,
    deadline_minutes: float = DEADLINE,
    receipt: Path = typer.Option(..., "--receipt", help="The aggregator's signed receipt (JSON)."),
) -> None:
    """Upload one update and its claim; leave with the signed receipt.

    Uploading the same files again gives the same receipt. A refusal is no error: the receipt says why.

    Example: fedcall upload --study study.json --site north --keys private/north/keys --round 1
    --update update.safetensors --claim claim.json --aggregator fedcall.example.org:443 --ca ca.crt
    --receipt receipt.json
    """
    from fedcall.federation.site.visits import upload_update

    for site, (own_keys, own_update, own_claim, own_receipt) in each_site(sites, keys, update, claim, receipt):
        visitor = make_visitor(
            study, site, own_keys, aggregator, ca, handover, rehearsal, coordinator_keys, initial, deadline_minutes
        )
        answer = upload_update(visitor, number, own_update, own_claim, own_receipt)
        prefix = f"{site}: " if len(sites) > 1 else ""
        typer.echo(f"{prefix}round {number}: {answer.status} ({answer.reason}): {shown(answer.sentence, 600)}")


def make_visitor(
    study_path: Path,
    site: str,
    keys: Path,
    aggregator: str | None,
    ca: Path | None,
    handover: Path | None,
    rehearsal: Path | None,
    coordinator_keys: Path | None,
    initial: Path | None,
    deadline_minutes: float,
) -> "Visitor":
    """Return a site on its way to the aggregator, by whichever of the three ways was given."""
    import signal
    import sys

    from fedcall.study.terms import read_study

    # A Python exit, so that the node is deactivated; else the aggregator would take it for online for a minute.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    study = read_study(study_path)
    study.site(site)
    if sum(way is not None for way in (aggregator, rehearsal, handover)) != 1:
        raise FedcallError("give one of --aggregator HOST:PORT with --ca, --handover DIR, or --rehearsal STATE_DIR")

    from fedcall.federation.site.handover import Handover
    from fedcall.federation.site.visits import Place, Visitor

    if rehearsal is not None:
        if coordinator_keys is None or initial is None:
            raise FedcallError("--rehearsal needs --coordinator-keys and --initial, to start an aggregator")

        from fedcall.federation.aggregator.rehearsal import Rehearsal, ensure_aggregator

        plan = Rehearsal(study_path, rehearsal, coordinator_keys, initial)

        def locate() -> Place | Handover:
            endpoint = ensure_aggregator(plan)
            return Place(endpoint.address, plan.state / endpoint.ca)

    elif handover is not None:
        folder = Handover(handover)

        def locate() -> Place | Handover:
            return folder

    else:
        if ca is None or not ca.is_file():
            raise FedcallError(f"--ca {ca}: no such file; --aggregator needs the certificate of its authority")
        if not aggregator or not aggregator.rpartition(":")[2].isdecimal():
            raise FedcallError(f"--aggregator {aggregator!r}: HOST:PORT expected")
        place = Place(aggregator, ca)

        def locate() -> Place | Handover:
            return place

    return Visitor(study, site, keys, locate, 60 * deadline_minutes)
