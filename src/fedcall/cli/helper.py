"""`fedcall helper`: the organisation that takes masks off sums."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.printing import say, say_block
from fedcall.errors import FedcallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcall.federation.site.visits import Place

_STUDY = typer.Option(..., "--study", help="Signed study (study.json) that this organisation approved.")
_KEYS = typer.Option(..., "--keys", help="Folder of the helper's keys.")
_STATE = typer.Option(..., "--state", help="Folder of the helper's log; back it up, and never put an old one back.")
_JSON = typer.Option(False, "--json", help="Print JSON instead of lines.")


def register(app: typer.Typer) -> None:
    """Add the `helper` commands."""
    helper = typer.Typer(
        no_args_is_help=True, help="A helper: takes the masks off sums of hospitals' updates, and off nothing less."
    )
    helper.command("keygen")(keygen)
    helper.command("serve")(serve)
    helper.command("status")(status)
    helper.command("verify")(verify)
    app.add_typer(helper, name="helper")


def keygen(
    name: str = typer.Option(..., "--name", help="The helper's name in every study: letters, digits, '-' and '_'."),
    output: Path = typer.Option(..., "--output", help="Folder for the keys; private."),
    public: Path | None = typer.Option(None, "--public", help="Where a copy of helper.json is to lie."),
) -> None:
    """Make a helper's keys, once; run again, it shows those already there.

    Send only helper.json to the coordinator, by a way that proves it is yours. Whoever has sealing.key and the masked
    updates knows the updates: it never leaves this machine.

    Example: fedcall helper keygen --name ethics-office --output private/helper/keys
    """
    import shutil

    from fedcall.cli.site import check_name
    from fedcall.protection.helper_keys import create_helper_keys

    check_name(name)
    identity = create_helper_keys(output, name)
    say(f"helper      {identity.name}")
    say(f"signing key {identity.public_key}")
    say(f"sealing key {identity.hpke_key}")
    say(f"public file {output / 'helper.json'}   (send this one to the coordinator; keep the rest)")
    if public is not None:
        public.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(output / "helper.json", public)


def serve(
    study: Path = _STUDY,
    keys: Path = _KEYS,
    state: Path = _STATE,
    approved: str | None = typer.Option(
        None, "--approved-study", help="Digest of the study as it was approved; serving stops if the file has another."
    ),
    aggregator: str | None = typer.Option(None, "--aggregator", metavar="HOST:PORT", help="Address of the aggregator."),
    ca: Path | None = typer.Option(None, "--ca", help="Certificate of the authority that signed the aggregator's."),
    rehearsal: Path | None = typer.Option(
        None, "--rehearsal", metavar="STATE_DIR", help="Serve a rehearsal's aggregator for as long as it lives."
    ),
) -> None:
    """Answer the coordinator's sum orders until the study is done. Needs outgoing connections only.

    For each round it gives the sum of the masks of one list of hospitals, once that list, the coordinator's signature
    and every hospital's were verified, and never that of another list. May be killed at any moment and started again.

    Example: fedcall helper serve --study study.json --keys private/helper/keys --state private/helper/state
    --aggregator fedcall.example.org:8443 --ca ca.crt
    """
    import logging

    from fedcall.federation.aggregator.rehearsal import note_that_done
    from fedcall.federation.helper.service import STUDY_IS_DONE, HelperService
    from fedcall.federation.helper.service import serve as run
    from fedcall.shown import log_on_stderr
    from fedcall.study.terms import read_study

    _leave_on_sigterm()
    log_on_stderr(logging.WARNING)
    logging.getLogger("fedcall").setLevel(logging.INFO)
    found = read_study(study)
    if approved is not None and approved != found.digest:
        raise FedcallError(f"{study}: has digest {found.digest}, --approved-study is {approved}")
    lonely = None if rehearsal is None else 60.0
    ended = run(HelperService(found, keys, state, _locate(aggregator, ca, rehearsal), lonely))
    if rehearsal is not None and ended == STUDY_IS_DONE:
        note_that_done(rehearsal, state, found)
    say(ended)


def status(study: Path = _STUDY, keys: Path = _KEYS, state: Path = _STATE, as_json: bool = _JSON) -> None:
    """Show which rounds were opened with this helper's masks, for whom, and when it last heard of the aggregator.

    Example: fedcall helper status --study study.json --keys private/helper/keys --state private/helper/state
    """
    import json

    from fedcall.federation.helper.status import helper_status, status_lines
    from fedcall.study.terms import read_study

    found = helper_status(read_study(study), keys, state)
    say_block(json.dumps(found, indent=2) if as_json else "\n".join(status_lines(found)))


def verify(
    study: Path = _STUDY,
    keys: Path = _KEYS,
    state: Path = _STATE,
    log: Path | None = typer.Option(
        None, "--log", help="The aggregator's admission log (from it or any site): are all answers in it in this log?"
    ),
) -> None:
    """Check that the log is whole, and not older than an answer that this helper gave.

    Example: fedcall helper verify --study study.json --keys private/helper/keys --state private/helper/state
    --log admission.jsonl
    """
    from fedcall.federation.helper.status import verify_log
    from fedcall.study.terms import read_study

    say(verify_log(read_study(study), keys, state, log))


def _locate(aggregator: str | None, ca: Path | None, rehearsal: Path | None) -> "Callable[[], Place | None]":
    from fedcall.federation.site.visits import Place

    if (aggregator is None) == (rehearsal is None):
        raise FedcallError("give one of --aggregator HOST:PORT with --ca, or --rehearsal STATE_DIR")
    if rehearsal is not None:
        from fedcall.federation.aggregator.service import is_held, read_endpoint

        folder = rehearsal

        def find() -> Place | None:
            endpoint = read_endpoint(folder) if is_held(folder) else None
            return None if endpoint is None else Place(endpoint.address, folder / endpoint.ca)

        return find
    if ca is None or not ca.is_file():
        raise FedcallError(f"--ca {ca}: no such file; --aggregator needs the certificate of its authority")
    if not aggregator or not aggregator.rpartition(":")[2].isdecimal():
        raise FedcallError(f"--aggregator {aggregator!r}: HOST:PORT expected")
    place = Place(aggregator, ca)
    return lambda: place


def _leave_on_sigterm() -> None:
    """Leave by a Python exit, so that the node is deactivated; else the aggregator takes it for online for a minute."""
    import signal
    import sys

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
