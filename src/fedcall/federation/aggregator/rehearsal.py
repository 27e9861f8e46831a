"""A rehearsal's aggregator and helpers: started by whoever needs them first, each in a session of its own.

The aggregator is gone when it is idle, and the helpers are once there is no aggregator any more.
"""

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.federation.aggregator.service import Endpoint, is_held, read_endpoint
from fedcall.files import make_private_folder, write_text
from fedcall.study.terms import Study, read_study

IDLE_MINUTES = 5.0
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Rehearsal:
    """What it takes to start the embedded aggregator.

    Each helper has `helper_keys`/NAME/keys; `more` are further options of `fedcall aggregator serve`.
    """

    study: Path
    state: Path
    coordinator_keys: Path
    initial: Path
    helper_keys: Path | None = None
    more: tuple[str, ...] = ()


def ensure_aggregator(rehearsal: Rehearsal) -> Endpoint:
    """Return the endpoint of the living aggregator of this rehearsal; start it and its helpers if there are none.

    Two jobs may call this at once; a file lock lets one of them start it and the other wait.

    Raises
    ------
    FedcallError
        If it does not come up; the message quotes the end of its log.
    """
    state = Path(rehearsal.state)
    make_private_folder(state)
    with open(state / "start.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = None if is_held(state) else _start(rehearsal)
        start_helpers(rehearsal)
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            endpoint = read_endpoint(state)
            if endpoint is not None and _is_current(endpoint, child) and is_held(state):
                return endpoint
            if child is None and not is_held(state):
                child = _start(rehearsal)  # the one we waited for ended just now
            elif child is not None and child.poll() is not None:
                break
            time.sleep(0.1)
    log = state / "aggregator.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    raise FedcallError(f"the rehearsal's aggregator did not start: {lines[-1] if lines else 'no output'} (see {log})")


def start_helpers(rehearsal: Rehearsal) -> None:
    """Start the helpers that are not there and have something to do.

    One started twice ends at once, because the first holds its folder.
    """
    from fedcall.federation.helper.service import is_serving

    if rehearsal.helper_keys is None:
        return
    study = read_study(rehearsal.study)
    for helper in study.protection.helpers:
        keys = (rehearsal.helper_keys / helper.name / "keys").resolve()
        state = keys.parent / "answers"
        if is_serving(state) or _is_done(Path(rehearsal.state), state, study):
            continue
        command = [
            *(sys.executable, "-m", "fedcall", "helper", "serve", "--study", str(Path(rehearsal.study).resolve())),
            *("--keys", str(keys), "--state", str(state), "--rehearsal", str(Path(rehearsal.state).resolve())),
        ]
        _detached(command, Path(rehearsal.state) / f"helper-{helper.name}.log")


def note_that_done(state: Path, helper_state: Path, study: Study) -> None:
    """Note beside the aggregator's state that a helper has nothing to do any more, so that nobody starts it again.

    Who throws the aggregator's state away and begins anew throws the note away, too.
    """
    write_text(_done_note(Path(state), Path(helper_state)), f"{study.digest}\n")


def _is_done(state: Path, helper_state: Path, study: Study) -> bool:
    try:
        return _done_note(state, helper_state).read_text().strip() == study.digest
    except FileNotFoundError:
        return False


def _done_note(state: Path, helper_state: Path) -> Path:
    return state / f"helper-{helper_state.resolve().parent.name}.done"


def _is_current(endpoint: Endpoint, child: subprocess.Popen[bytes] | None) -> bool:
    """Say whether an endpoint is that of a living process, and of the one we started if we did."""
    if child is not None:
        return endpoint.pid == child.pid
    try:
        os.kill(endpoint.pid, 0)
    except OSError:
        return False
    return True


def _start(rehearsal: Rehearsal) -> subprocess.Popen[bytes]:
    state = Path(rehearsal.state).resolve()
    command = [
        *(sys.executable, "-m", "fedcall", "aggregator", "serve"),
        *("--study", str(Path(rehearsal.study).resolve()), "--state", str(state), "--listen", "127.0.0.1:0"),
        *("--keys", str(Path(rehearsal.coordinator_keys).resolve())),
        *("--initial", str(Path(rehearsal.initial).resolve()), "--idle-minutes", str(IDLE_MINUTES)),
        *rehearsal.more,
    ]
    return _detached(command, state / "aggregator.log")


def _detached(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
