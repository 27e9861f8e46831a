"""An aggregator as a service for tests, started as people do, and sites that visit it from this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consortium import Consortium
from fedcall.federation.aggregator.service import Endpoint, read_endpoint
from fedcall.federation.site.drop import Drop
from fedcall.federation.site.handover import Handover
from fedcall.federation.site.visits import (
    Place,
    Visitor,
    fetch_global,
    fetch_log,
    fetch_verdict,
    upload_judgement,
    upload_update,
)
from fedcall.keys import read_signing_key
from fedcall.study.claims import Receipt
from fedcall.study.judgement import Verdict
from fedcall.weights import read_weights


@dataclass
class Service:
    """A running `fedcall aggregator serve`."""

    consortium: Consortium
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> Endpoint:
        found = read_endpoint(self.consortium.state)
        assert found is not None
        return found

    @property
    def ca(self) -> Path:
        return self.consortium.state / "ca.crt"

    def output(self) -> str:
        return (self.consortium.folder / "serve.log").read_text()

    def visitor(self, site: str, address: str | None = None, through: Path | None = None) -> Visitor:
        place = Place(address or self.endpoint.address, self.ca) if through is None else Handover(through)
        return Visitor(self.consortium.study, site, self.consortium.keys(site), lambda: place, 600, 600)

    def dropper(self, site: str, folder: Path) -> Visitor:
        """Return a site that leaves sealed messages in a folder."""
        return drop_visitor(self.consortium, site, folder, 60)

    def fetch(self, visitor: Visitor, number: int) -> Path:
        output = self.consortium.folder / f"{visitor.site}.{number}.global.safetensors"
        fetch_global(visitor, number, output)
        return output

    def upload(self, visitor: Visitor, number: int, model: Path) -> Receipt:
        update, claim = self.consortium.write_answer(visitor.site, number, model, self.consortium.folder)
        receipt = self.consortium.folder / f"{visitor.site}.{number}.receipt.json"
        return upload_update(visitor, number, update, claim, receipt)

    def take_part(self, visitor: Visitor) -> bytes:
        """Go through all rounds of the study; return the final model."""
        for number in range(1, self.consortium.study.rounds + 1):
            receipt = self.upload(visitor, number, self.fetch(visitor, number))
            assert receipt.status == "accepted", receipt.sentence
        return self.fetch(visitor, self.consortium.study.rounds + 1).read_bytes()

    def judge(self, visitor: Visitor) -> Verdict:
        """Upload a judgement of the final model, twice, and return the verdict, which stands in the log."""
        folder, site = self.consortium.folder, visitor.site
        final = read_weights(folder / f"{site}.{self.consortium.study.rounds + 1}.global.safetensors").digest
        judgement, receipt = folder / f"{site}.judgement.json", folder / f"{site}.judgement.receipt.json"
        judgement.write_bytes(self.consortium.judgement(site, final, 1000 * len(site)))
        answer = upload_judgement(visitor, judgement, receipt)
        assert answer.status == "accepted", answer.sentence
        assert upload_judgement(visitor, judgement, receipt) == answer
        verdict = fetch_verdict(visitor, judgement, folder / f"{site}.verdict.json")
        log = folder / f"{site}.admission.jsonl"
        fetch_log(visitor, log)
        assert any('"concluded"' in line for line in log.read_text().splitlines())
        return verdict


class HelperProcess:
    """A running `fedcall helper serve`."""

    def __init__(self, service: Service, name: str = "notary", address: str | None = None) -> None:
        consortium = service.consortium
        self.log = consortium.folder / f"{name}.log"
        command = [
            *(sys.executable, "-m", "fedcall", "helper", "serve", "--study", consortium.study_path),
            *("--keys", consortium.keys(name), "--state", consortium.folder / "helpers" / name),
            *("--aggregator", address or service.endpoint.address, "--ca", service.ca),
        ]
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def drop_visitor(consortium: Consortium, site: str, folder: Path, seconds: float) -> Visitor:
    """Return a site that takes part through a folder, and looks there for an answer for so many seconds."""
    study = consortium.study
    drop = Drop(folder, study.digest, site, read_signing_key(consortium.keys(site)), study.coordinator)
    return Visitor(study, site, consortium.keys(site), lambda: drop, seconds, seconds)


def start(consortium: Consortium, *options: object, listen: str = "127.0.0.1:0") -> Service:
    """Start an aggregator and wait until it is up."""
    (consortium.state / "endpoint.json").unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "fedcall", "aggregator", "serve", "--study", consortium.study_path),
        *("--state", consortium.state, "--keys", consortium.keys("coordinator"), "--initial", consortium.initial),
        *("--listen", listen, *options),
    ]
    with open(consortium.folder / "serve.log", "ab") as log:
        service = Service(consortium, subprocess.Popen(list(map(str, command)), stdout=log, stderr=log))
    wait_until_up(service)
    return service


def wait_until_up(service: Service) -> None:
    end = time.monotonic() + 600  # a machine that does much else starts it late
    while read_endpoint(service.consortium.state) is None:
        assert service.process.poll() is None, service.output()
        assert time.monotonic() < end, service.output()
        time.sleep(0.1)


def stop(service: Service) -> int:
    if service.process.poll() is None:
        service.process.send_signal(signal.SIGTERM)
    try:
        return service.process.wait(300)
    finally:
        service.process.kill()


@contextmanager
def served(consortium: Consortium, *options: object, listen: str = "127.0.0.1:0") -> Iterator[Service]:
    """Run an aggregator for as long as the block lasts."""
    service = start(consortium, *options, listen=listen)
    try:
        yield service
    finally:
        stop(service)


def processes(service: Service) -> dict[str, int]:
    """Return the process ids of the service by role (Linux)."""
    worker = _child_of(service.process.pid, "")
    return {
        "supervisor": service.process.pid,
        "worker": worker,
        "superlink": _child_of(worker, "fedcall.federation.flower.hop"),
        "gate": _child_of(worker, "fedcall.federation.flower.gate"),
    }


def _child_of(parent: int, word: str) -> int:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if int(fields[1]) == parent and word in command:
            return int(path.parent.name)
    raise AssertionError(f"process {parent} has no child {word!r}")


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
