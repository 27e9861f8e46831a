"""A sealed study over HTTPS: sites verify before they upload, whoever is killed or carries their requests."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedcall.attestation.checks import EvidenceRefused
from fedcall.attestation.enclave import create_simulated
from fedcall.federation.site.visits import Place, Visitor
from fedcall.study.evidence_exchange import read_record, record_folder
from fedcall.weights import read_weights
from sealed_consortium import SITES, make_sealed_consortium
from service import kill, processes, served, start, stop
from tls_relay import tls_relay


@pytest.fixture
def consortium(tmp_path):
    return make_sealed_consortium(tmp_path)


def test_service__a_whole_study_with_kills_and_a_folder(consortium):
    reference = consortium.open_state(consortium.folder / "reference")
    for number in (1, 2):
        for site in SITES:
            consortium.send(reference, site, number, keep=False)
        assert reference.close_round_if_due()
    drop = consortium.folder / "drop"
    drop.mkdir()
    options = ("--enclave", f"simulated:{consortium.machine}", "--drop", drop)
    with served(consortium, *options) as service:
        visitors = [service.visitor("east"), service.visitor("north"), service.dropper("south", drop)]

        def play(number: int) -> None:
            def one(visitor):
                receipt = service.upload(visitor, number, service.fetch(visitor, number))
                assert receipt.status == "accepted", receipt.sentence

            with ThreadPoolExecutor(3) as pool:
                list(pool.map(one, visitors))

        service.upload(visitors[0], 1, service.fetch(visitors[0], 1))
        kill(processes(service)["worker"])
        play(1)
        address = service.endpoint.address
        kill(*processes(service).values())
        service.process.wait()
        stop(service)
        again = start(consortium, *options, listen=address)
        try:
            play(2)
            final = again.fetch(visitors[1], 3)
        finally:
            stop(again)
    assert read_weights(final).digest == read_weights(reference.model_path(3)).digest
    for site, seen in (("east", True), ("north", True), ("south", False)):
        record = read_record(record_folder(consortium.folder / f"{site}.2.receipt.json"))
        assert (record.site, record.round, record.tls_seen) == (site, 2, seen)
    assert list(consortium.state.rglob("accepted/*.safetensors")) == []
    assert len(list(consortium.state.rglob("accepted/*.sealed"))) == 6


def test_service__a_relay_with_a_certificate_of_its_own_gets_nothing(consortium, tmp_path):
    """A proxy that ends TLS and passes everything on: the site sees another key than the evidence is bound to."""
    with served(consortium, "--enclave", f"simulated:{consortium.machine}") as service:
        model = service.fetch(service.visitor("north"), 1)
        with tls_relay(service.endpoint.address, service.ca, tmp_path / "relay") as (address, authority):
            place = Place(address, authority)
            visitor = Visitor(consortium.study, "north", consortium.keys("north"), lambda: place, 60)
            assert service.fetch(visitor, 1).read_bytes() == model.read_bytes(), "it passes on what is no secret"
            with pytest.raises(EvidenceRefused, match="the evidence was relayed, or a proxy stands before"):
                service.upload(visitor, 1, model)
        assert (tmp_path / "north.1.receipt.json").exists() is False
        assert service.upload(service.visitor("north"), 1, model).status == "accepted"
    assert len(consortium.open_state().log.decisions) == 1


def test_serve__outside_of_an_enclave_or_in_one_that_the_study_does_not_accept(consortium, tmp_path):
    def serve(*options: object) -> tuple[int, str]:
        command = [
            *(sys.executable, "-m", "fedcall", "aggregator", "serve", "--study", consortium.study_path),
            *("--state", consortium.state, "--keys", consortium.keys("coordinator")),
            *("--initial", consortium.initial, *options),
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
        return done.returncode, done.stderr

    create_simulated(tmp_path / "other")
    own = ("--enclave", f"simulated:{consortium.machine}")
    for options, code, said in (
        ((), 2, "serve it inside an enclave, with --enclave"),
        (("--enclave", "tdx"), 2, "one of sev-snp, sgx"),
        (("--enclave", f"simulated:{tmp_path / 'other'}"), 3, "evidence refused (root)"),
        ((*own, "--syft", tmp_path, "--syft-email", "a@b.c"), 2, "--syft: jobs of data carry no question"),
    ):
        found, told = serve(*options)
        assert (found, said in told) == (code, True), told
