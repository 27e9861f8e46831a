"""The options that every exchange with the aggregator has, and the site that goes there with them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from fedcall.federation.site.visits import Place, Visitor, Way
    from fedcall.study.terms import Study


@dataclass(frozen=True)
class Connection:
    """The options of every exchange: who goes to which aggregator, and how."""

    study: Path = typer.Option(..., "--study", help="Signed study (study.json).")
    sites: list[str] = typer.Option(
        ...,
        "--site",
        help="Name of this site; in a rehearsal again for each other one, then {site} in paths is replaced by it.",
    )
    keys: Path = typer.Option(..., "--keys", help="Folder of this site's keys.")
    aggregator: str | None = typer.Option(
        None, "--aggregator", metavar="HOST:PORT", help="Address of the consortium's aggregator."
    )
    ca: Path | None = typer.Option(
        None, "--ca", help="Certificate of the authority that signed the aggregator's certificate."
    )
    handover: Path | None = typer.Option(
        None, "--handover", metavar="DIR", help="Folder that this site's stock SuperNode carries to the aggregator."
    )
    drop: Path | None = typer.Option(
        None,
        "--drop",
        metavar="DIR",
        help="Folder for sealed requests and answers, which anything may carry to the aggregator and back.",
    )
    syft: Path | None = typer.Option(
        None, "--syft", metavar="DIR", help="This site's PySyft folder, in which the coordinator leaves jobs of data."
    )
    datasite: str | None = typer.Option(
        None, "--datasite", metavar="EMAIL", help="With --syft: this site's datasite; {site} in it stands for the name."
    )
    rehearsal: Path | None = typer.Option(
        None, "--rehearsal", metavar="STATE_DIR", help="Rehearse: start an aggregator on this machine if none is alive."
    )
    coordinator_keys: Path | None = typer.Option(
        None, "--coordinator-keys", help="With --rehearsal: folder of the coordinator's keys."
    )
    initial: Path | None = typer.Option(None, "--initial", help="With --rehearsal: the study's first global model.")
    helper_keys: Path | None = typer.Option(
        None, "--helper-keys", help="With --rehearsal of masked updates: folder in which each helper has NAME/keys."
    )
    enclave: str | None = typer.Option(
        None, "--enclave", metavar="simulated:FOLDER", help="With --rehearsal of sealed updates: the simulated machine."
    )
    deadline_minutes: float = typer.Option(
        10.0, "--deadline-minutes", min=0.1, help="Give up after this long without an aggregator; rerunning resumes."
    )


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options of `Connection` in place of its argument `connection`."""
    shared = [field.name for field in fields(Connection)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(Connection(**{name: given.pop(name) for name in shared}), **given)

    own = list(inspect.signature(command).parameters.values())[1:]
    types = get_type_hints(Connection)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(Connection)
    ]
    parameters = [*options, *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own)]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
    return run


def make_visitor(connection: Connection, site: str, keys: Path) -> "Visitor":
    """Return a site on its way to the aggregator, by the one way that was given; a rehearsal may go through PySyft."""
    import signal
    import sys

    from fedcall.federation.site.visits import Visitor
    from fedcall.study.terms import read_study

    # A Python exit, so that the node is deactivated; else the aggregator would take it for online for a minute.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    study = read_study(connection.study)
    study.site(site)
    ways = (connection.aggregator, connection.rehearsal or connection.syft, connection.handover, connection.drop)
    if sum(way is not None for way in ways) != 1:
        raise FedcallError(
            "give one of --aggregator HOST:PORT with --ca, --drop DIR, --handover DIR, --syft DIR with --datasite"
            " EMAIL, or --rehearsal STATE_DIR"
        )
    folder = _folder(connection, study, site, keys)
    if connection.rehearsal is not None:
        locate = _rehearsed(connection, study, folder)
    else:
        way = folder or _address(connection)

        def locate() -> "Way":
            return way

    return Visitor(study, site, keys, locate, 60 * connection.deadline_minutes)


def _folder(connection: Connection, study: "Study", site: str, keys: Path) -> "Way | None":
    """Return the folder through which the site takes part; None if it connects."""
    if connection.syft is not None:
        from fedcall.federation.site.datasite import Datasite
        from fedcall.federation.syft_jobs import SyftBox

        if connection.datasite is None:
            raise FedcallError("--syft needs --datasite EMAIL, whose jobs to answer")
        box = SyftBox(connection.syft, _email(connection.datasite, site))
        return Datasite(box, study, keys, approves_all=connection.rehearsal is not None)
    if connection.drop is not None:
        from fedcall.federation.site.drop import Drop
        from fedcall.keys import read_signing_key

        assert study.coordinator is not None  # read_study refuses an incomplete study
        return Drop(connection.drop, study.digest, site, read_signing_key(keys), study.coordinator)
    if connection.handover is not None:
        from fedcall.federation.site.handover import Handover

        return Handover(connection.handover)
    return None


def _rehearsed(connection: Connection, study: "Study", folder: "Way | None") -> "Callable[[], Way]":
    """Return what starts a rehearsal's aggregator, if none is alive, and says where it is."""
    from fedcall.federation.aggregator.rehearsal import Rehearsal, ensure_aggregator
    from fedcall.federation.site.visits import Place

    if connection.rehearsal is None or connection.coordinator_keys is None or connection.initial is None:
        raise FedcallError("--rehearsal needs --coordinator-keys and --initial, to start an aggregator")
    more: list[str] = [] if connection.enclave is None else ["--enclave", connection.enclave]
    if connection.syft is not None and connection.datasite is not None:
        more += ["--syft", str(connection.syft.resolve())]
        for one in study.sites:
            more += ["--datasite", f"{one.name}={_email(connection.datasite, one.name)}"]
    plan = Rehearsal(
        connection.study,
        connection.rehearsal,
        connection.coordinator_keys,
        connection.initial,
        connection.helper_keys,
        tuple(more),
    )

    def locate() -> "Way":
        endpoint = ensure_aggregator(plan)
        return folder or Place(endpoint.address, plan.state / endpoint.ca)

    return locate


def _address(connection: Connection) -> "Place":
    from fedcall.federation.site.visits import Place

    aggregator, ca = connection.aggregator, connection.ca
    if ca is None or not ca.is_file():
        raise FedcallError(f"--ca {ca}: no such file; --aggregator needs the certificate of its authority")
    if not aggregator or not aggregator.rpartition(":")[2].isdecimal():
        raise FedcallError(f"--aggregator {aggregator!r}: HOST:PORT expected")
    return Place(aggregator, ca)


def _email(pattern: str, site: str) -> str:
    return pattern.replace("{site}", site)
