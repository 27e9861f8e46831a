"""Garbage through the real port of a running aggregator: whatever a registered node sends, nobody else notices."""

import os
import random
import resource
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from safetensors.numpy import save

from consortium import Consortium, make_consortium
from fedcall.documents import verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.operation import study_status
from fedcall.federation.aggregator.service import Endpoint, read_endpoint
from fedcall.federation.flower.fleet import NodeRefused, Unreachable, exchange
from fedcall.federation.flower.messages import Request
from fedcall.keys import read_node_key
from fedcall.study.admission_log import Decided, read_lines
from fedcall.study.claims import Receipt
from fedcall.weights import read_weights
from mutations import mutate_bytes, mutate_document, mutate_update

REQUESTS = int(os.environ.get("FEDCALL_FUZZ_HTTP", "60"))
MEMORY_MB = 300


@pytest.fixture(scope="module")
def consortium(tmp_path_factory) -> Consortium:
    sites = {"north": 40, "south": 20, "west": 20}
    return make_consortium(tmp_path_factory.mktemp("http"), 1, sites, admission={"max_refusals": 10**9})


@pytest.fixture(scope="module")
def endpoint(consortium) -> Iterator[Endpoint]:
    command = [
        *(sys.executable, "-m", "fedcall", "aggregator", "serve", "--study", str(consortium.study_path)),
        *("--state", str(consortium.state), "--keys", str(consortium.keys("coordinator"))),
        *("--initial", str(consortium.initial), "--listen", "127.0.0.1:0"),
    ]
    log = open(consortium.folder / "serve.log", "wb")  # noqa: SIM115  (as long as the process)
    process = subprocess.Popen(command, stdout=log, stderr=log)
    end = time.monotonic() + 300
    while (found := read_endpoint(consortium.state)) is None and time.monotonic() < end:
        assert process.poll() is None, (consortium.folder / "serve.log").read_text()
        time.sleep(0.2)
    assert found is not None
    yield found
    process.send_signal(signal.SIGTERM)
    process.wait(300)
    log.close()


def send(consortium: Consortium, endpoint: Endpoint, site: str, request: Request):
    """Visit the aggregator as a site, again if a killed or disturbed visit of it still counts as online."""
    end = time.monotonic() + 300
    while True:
        try:
            ca, key = consortium.state / endpoint.ca, read_node_key(consortium.keys(site))
            return exchange(endpoint.address, ca, key, request, time.monotonic() + 300)
        except (NodeRefused, Unreachable):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@pytest.mark.slow
def test_gate__garbage_is_refused_and_the_study_goes_on(consortium, endpoint, monkeypatch):
    """FEDCALL_FUZZ_HTTP=2000 for the full number: 19 in 20 are requests of Flower's protocol, mutated and signed with a
    real node key (south's); the rest are whole visits (west's) with a garbled claim or update."""
    study = consortium.study
    base = read_weights(consortium.initial)
    tensors = consortium.update("west", 1, base)
    claim = consortium.sign_claim(consortium.claim("west", 1, base.digest, tensors), "west")
    update = save(tensors)
    recorded = _recorded(monkeypatch, lambda: send(consortium, endpoint, "south", Request("fetch", study.digest, 1)))
    assert {path.rpartition("/")[2] for path, _, _ in recorded} >= {"activate-node", "push-messages", "push-object"}
    processes = _processes(consortium.state)
    memory = _memory_mb(processes)
    generator = random.Random(9)
    statuses: dict[int, int] = {}
    answers: dict[str, int] = {}
    context = ssl.create_default_context(cafile=str(consortium.state / endpoint.ca))
    with httpx.Client(base_url=f"https://{endpoint.address}", verify=context, timeout=300) as client:
        for number in range(REQUESTS):
            if number % 20:
                status = _send_mutated(generator, client, recorded, consortium)
                statuses[status] = statuses.get(status, 0) + 1
            else:
                garbled = generator.choice([mutate_bytes, mutate_document])(generator, claim)
                pair = (garbled, update) if number % 40 else (claim, mutate_update(generator, update))
                if pair == (claim, update):
                    continue
                kind = _answer_to(consortium, endpoint, Request("upload", study.digest, 1, *pair))
                answers[kind] = answers.get(kind, 0) + 1
    grown = _memory_mb(_processes(consortium.state)) - memory
    print(f"statuses {statuses}, visits {answers}, memory grew by {grown:.0f} MB")
    assert _processes(consortium.state) == processes, "no process died"
    assert grown < MEMORY_MB
    assert sum(site["accepted_rounds"] for site in study_status(consortium.state)["sites"]) == 0

    honest = consortium.update("north", 1, base)
    signed = consortium.sign_claim(consortium.claim("north", 1, base.digest, honest), "north")
    answer = send(consortium, endpoint, "north", Request("upload", study.digest, 1, signed, save(honest)))
    receipt = verify(answer.document, Receipt, study.coordinator)
    assert (receipt.status, receipt.reason) == ("accepted", "ok"), "another site notices nothing"
    log = send(consortium, endpoint, "north", Request("log", study.digest, 1))
    own = [line for line in read_lines(log.document, "log") if isinstance(line.entry, Decided)]
    assert [line.entry.site for line in own] == ["north"], "a site sees its own decisions"
    assert own[0].head == receipt.log_head


def _answer_to(consortium: Consortium, endpoint: Endpoint, request: Request) -> str:
    try:
        answer = send(consortium, endpoint, "west", request)
    except FedcallError as error:
        return str(error)[:40]
    if answer.kind != "receipt":
        return answer.kind
    receipt = verify(answer.document, Receipt, consortium.study.coordinator)
    assert receipt.status not in ("accepted", "withheld")
    return receipt.reason


def _send_mutated(generator, client, recorded, consortium) -> int:
    path, headers, body = generator.choice(recorded)
    content = mutate_bytes(generator, body or b"\0")
    for _ in range(generator.choice([0, 0, 3])):
        content = mutate_bytes(generator, content or b"\0")
    if generator.random() < 0.9:
        headers = {**headers, **_signed_headers(consortium)}
    else:
        name = generator.choice(list(headers))
        headers = {**headers, name: mutate_bytes(generator, headers[name].encode()).decode("latin-1")[:500]}
    if generator.random() < 0.05:
        path = generator.choice(["/v1/control/x", "/v1/runtime/x", "/", path + "%2e%2e", "/v1/fleet/../control/x"])
    kept = {name: value for name, value in headers.items() if value.isprintable() and value.isascii()}
    try:
        return client.post(path, content=content, headers=kept).status_code
    except httpx.HTTPError:  # the gate cut the connection
        return 0


def _signed_headers(consortium: Consortium) -> dict[str, str]:
    key = read_node_key(consortium.keys("south"))
    timestamp = now().isoformat()
    return {
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": timestamp,
        "flwr-signature": b64encode(sign_message(key, timestamp.encode())).decode(),
    }


def _recorded(monkeypatch, visit) -> list[tuple[str, dict[str, str], bytes]]:
    """Return path, headers and body of every request that an honest visit makes."""
    found: list[tuple[str, dict[str, str], bytes]] = []
    true_send = httpx.Client.send

    def record(self, request, **options):
        headers = {name: value for name, value in request.headers.items() if name.startswith(("flwr", "content-type"))}
        found.append((request.url.path, headers, request.read()))
        return true_send(self, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", record)
        visit()
    return found


def _processes(folder: Path) -> list[int]:
    """Return the ids of the processes that name a folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


def _memory_mb(processes: list[int]) -> float:
    pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes)
    return pages * resource.getpagesize() / 1e6
