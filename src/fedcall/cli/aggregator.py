"""`fedcall aggregator`: the coordinator's service."""

from pathlib import Path

import typer

from fedcall.cli.admission_log import log_commands
from fedcall.cli.printing import say, say_block

_STATE = typer.Option(..., "--state", help="State folder of the aggregator.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of a table.")


def register(app: typer.Typer) -> None:
    """Add the `aggregator` commands."""
    aggregator = typer.Typer(no_args_is_help=True, help="The coordinator's service.")
    aggregator.command("serve")(serve)
    aggregator.command("status")(status)
    aggregator.command("close")(close)
    aggregator.command("app")(write_app)
    aggregator.add_typer(log_commands(), name="log")
    app.add_typer(aggregator, name="aggregator")


def serve(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    state: Path = typer.Option(..., "--state", help="Folder for everything that must survive; back it up."),
    listen: str = typer.Option(
        "127.0.0.1:0", "--listen", metavar="HOST:PORT", help="Where sites connect; port 0: any."
    ),
    keys: Path = typer.Option(..., "--keys", help="Folder of the coordinator's keys."),
    initial: Path = typer.Option(..., "--initial", help="The study's first global model."),
    idle_minutes: float | None = typer.Option(
        None, "--idle-minutes", min=0.01, help="End when nobody has talked for this long; left out, never."
    ),
    names: list[str] = typer.Option(
        [], "--name", help="Name or address by which sites reach this machine, for its certificate; may be repeated."
    ),
    certificate: Path | None = typer.Option(
        None, "--tls-certificate", help="A certificate chain of your own (PEM) in place of one by STATE/ca.crt."
    ),
    certificate_key: Path | None = typer.Option(None, "--tls-key", help="Its key, mode 0600; with --tls-certificate."),
    pins: list[Path] = typer.Option(
        [], "--pin", help="Pin (pin.json) of a site that takes part with a stock SuperNode; may be repeated."
    ),
    drops: list[Path] = typer.Option(
        [],
        "--drop",
        metavar="DIR",
        help="Folder in which sites that open no connection leave sealed requests and find answers; may be repeated.",
    ),
    syft: Path | None = typer.Option(
        None, "--syft", metavar="DIR", help="The coordinator's PySyft folder, for sites that answer jobs there."
    ),
    syft_email: str = typer.Option(
        "coordinator@fedcall.example", "--syft-email", metavar="EMAIL", help="With --syft: who submits the jobs."
    ),
    datasites: list[str] = typer.Option(
        [], "--datasite", metavar="SITE=EMAIL", help="With --syft: a site's datasite; may be repeated."
    ),
    enclave: str | None = typer.Option(
        None,
        "--enclave",
        metavar="KIND",
        help="Of a sealed study: the machine this runs on, sev-snp, sgx, or simulated:FOLDER, which protects nothing.",
    ),
    endorsements: Path | None = typer.Option(
        None,
        "--endorsements",
        help="With --enclave: folder with key.der, chain.pem, revoked.crl or collateral.json, where the host hands over"
        " nothing.",
    ),
) -> None:
    """Serve a study to its sites until SIGTERM. May be killed at any moment; started again, it goes on where it was.

    Only what sites need is reachable, over TLS, and only with a key that the study registers. Send the sites the
    address and STATE/ca.crt. A finished study is served as well: a site may come back for the final model or for a
    receipt it lost.

    Example: fedcall aggregator serve --study study.json --state state --listen 0.0.0.0:8443
    --name fedcall.example.org --keys private/coordinator/keys --initial initial.safetensors
    """
    import logging

    from fedcall.attestation.enclave import open_enclave
    from fedcall.federation.aggregator.aggregation import quiet_flower
    from fedcall.federation.aggregator.service import ServeOptions
    from fedcall.federation.aggregator.service import serve as run
    from fedcall.federation.syft_jobs import SyftBox
    from fedcall.shown import log_on_stderr

    log_on_stderr(logging.WARNING)
    logging.getLogger("fedcall").setLevel(logging.INFO)
    quiet_flower()
    run(
        ServeOptions(
            study,
            state,
            listen,
            keys,
            initial,
            idle_minutes,
            tuple(names),
            certificate,
            certificate_key,
            tuple(pins),
            tuple(drops),
            None if syft is None else SyftBox(syft, syft_email),
            _by_site(datasites),
            None if enclave is None else open_enclave(enclave, endorsements),
        )
    )


def _by_site(datasites: list[str]) -> dict[str, str]:
    from fedcall.errors import FedcallError

    found = {}
    for text in datasites:
        site, separator, email = text.partition("=")
        if not separator or "@" not in email or "/" in email or site in found:
            raise FedcallError(f"--datasite {text!r}: SITE=EMAIL expected, each site once")
        found[site] = email
    return found


def status(
    state: Path = _STATE,
    as_json: bool = _JSON,
    watch: bool = typer.Option(False, "--watch", help="Show it live, until Ctrl-C."),
    html: Path | None = typer.Option(
        None, "--html", help="Also write the dashboard as a page; the same numbers go beside it as .json."
    ),
) -> None:
    """Show which round is open, who is awaited, when each site was last online, and what was refused.

    Example: fedcall aggregator status --state state --watch
    """
    import json

    from fedcall.errors import FedcallError
    from fedcall.federation.aggregator.operation import study_status

    if watch and as_json:
        raise FedcallError("--watch is for people, --json for programs; give one of them")
    if html is not None:
        from fedcall.reporting.base.pages import write_report
        from fedcall.reporting.privacy.dashboard import dashboard, dashboard_figures

        report = dashboard(state)
        write_report(report, "dashboard.html", html, html.with_suffix(".json"), dashboard_figures(report))
    if as_json:
        say_block(json.dumps(study_status(state), indent=2))
        return

    from fedcall.federation.aggregator.status_view import show, show_live

    (show_live if watch else show)(state)


def close(
    state: Path = _STATE,
    reason: str = typer.Option(..., "--reason", help="Why; the sites are told, and the log keeps it."),
    abandon: bool = typer.Option(
        False, "--abandon-open-round", help="Even if sites have answered the open round: that counts for nothing."
    ),
    operator: str | None = typer.Option(None, "--operator", help="Who does it; default: this account at this machine."),
) -> None:
    """End a study after the rounds it has: their model is the final one. It cannot be taken back.

    The service may run; it tells each site that asks for a round or for the final model, signed. A site runs its
    workflow again, and gets the final model and its reports. 'fedcall study extend' makes a study that goes on.

    Example: fedcall aggregator close --state state --reason "the budget of round 4 buys no more recall"
    """
    from fedcall.federation.aggregator.operation import close_study

    last = close_study(state, reason, abandon, operator)
    say(f"closed after round {last}; keep the service until every site has the final model")


def write_app(
    output: Path | None = typer.Option(None, "--output", help="Write the app (FAB) as well, to be looked into: unzip."),
    as_json: bool = _JSON,
) -> None:
    """Print the hash of the app that stock SuperNodes run, for the sites to pin. The same everywhere for one version.

    Example: fedcall aggregator app --output fedcall.fab
    """
    import json

    from fedcall.federation.flower.app_bundle import app_bundle, app_hash
    from fedcall.files import write_bytes

    if output is not None:
        write_bytes(output, app_bundle())
    say_block(json.dumps({"hash": app_hash()}, indent=2) if as_json else app_hash())
