"""A hospital that runs Flower's own SuperNode, beside one with fedcall's client, in the same study."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from flwr.cli.install import install_from_fab

from consortium import make_consortium
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import apply_update
from fedcall.federation.flower.app_bundle import app_bundle, app_hash, pin_app, read_pins
from fedcall.federation.flower.superlink import free_port
from fedcall.federation.site.visits import Visitor
from fedcall.study.sums import SumLayout, mean_update
from fedcall.weights import read_weights, weights_digest
from masked_consortium import make_masked_consortium
from service import HelperProcess, Service, served


@contextmanager
def supernode(service: Service, site: str, handover: Path, trusted: Path) -> Iterator[Path]:
    """Run a stock SuperNode as its manual says; yield its log."""
    home = service.consortium.folder / "flower"
    home.mkdir()
    binaries = Path(sys.executable).parent
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        *(binaries / "flower-supernode", "--superlink", service.endpoint.address, "--root-certificates", service.ca),
        *("--auth-supernode-private-key", service.consortium.keys(site) / "node.key", "--port", free_port()),
        *("--node-config", f'handover="{handover}"', "--trusted-entities", trusted),
    ]
    with open(home / "log", "wb") as log:
        node = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)
    try:
        yield home / "log"
    finally:
        node.terminate()
        try:
            node.wait(300)
        except subprocess.TimeoutExpired:
            node.kill()


def visitors_of(service: Service, handover: Path, drop: Path) -> list[Visitor]:
    """Return three hospitals: with a connection of its own, through a SuperNode, and with files in a folder."""
    return [service.visitor("north"), service.visitor("south", through=handover), service.dropper("east", drop)]


@pytest.mark.slow
def test_supernode__takes_part_beside_our_client_and_a_site_that_leaves_files_in_a_folder(tmp_path):
    held_out = {"east": 3, "north": 4, "south": 2}
    patients = {"east": 30, "north": 40, "south": 20}
    consortium = make_consortium(tmp_path, 1, patients, held_out, evaluation={"epsilon": 0.5})
    pin = pin_app(app_hash(), tmp_path / "pin")
    handover, drop = tmp_path / "handover", tmp_path / "drop"
    drop.mkdir()
    with (
        served(consortium, "--pin", pin, "--drop", drop) as service,
        supernode(service, "south", handover, pin.with_name("trusted.yaml")) as log,
        ThreadPoolExecutor(3) as together,
    ):
        visitors = visitors_of(service, handover, drop)
        try:
            finals = list(together.map(service.take_part, visitors))
            judged = list(together.map(service.judge, visitors))
        except FedcallError:
            print(log.read_text()[-4000:], service.output()[-2000:])
            raise
    assert finals[0] == finals[1] == finals[2]
    assert judged[0] == judged[1] == judged[2], "one verdict, whichever way it came"
    assert {site.site: site.people for site in judged[0].sites} == held_out


@pytest.mark.slow
def test_supernode__sends_a_masked_update_beside_our_client_and_a_site_with_a_folder(tmp_path):
    """Three ways to take part, and a helper: one sum, and its model."""
    consortium = make_masked_consortium(tmp_path, rounds=1)
    pin = pin_app(app_hash(), tmp_path / "pin")
    handover, drop = tmp_path / "handover", tmp_path / "drop"
    drop.mkdir()
    base = read_weights(consortium.initial)
    with (
        served(consortium, "--pin", pin, "--drop", drop) as service,
        supernode(service, "south", handover, pin.with_name("trusted.yaml")),
        ThreadPoolExecutor(3) as together,
    ):
        helper = HelperProcess(service)
        visitors = visitors_of(service, handover, drop)
        try:
            finals = list(together.map(service.take_part, visitors))
        finally:
            helper.kill()
    assert finals[0] == finals[1] == finals[2]
    total = consortium.total(1, base)
    layout = SumLayout.of({name: tensor.shape for name, tensor in total.items()})
    clear = mean_update(consortium.study, layout, layout.flatten(total), ["east", "north", "south"])
    expected = apply_update(base.tensors, clear, consortium.study.aggregation).tensors
    final = read_weights(tmp_path / "north.2.global.safetensors")
    assert final.digest == weights_digest({**base.tensors, **expected})


@pytest.mark.slow
def test_supernode__runs_no_app_that_the_site_did_not_pin(tmp_path):
    consortium = make_consortium(tmp_path, rounds=1)
    other = pin_app(app_hash(), tmp_path / "other")
    mine = pin_app(app_hash(), tmp_path / "mine")
    with (
        served(consortium, "--pin", other) as service,
        supernode(service, "south", tmp_path / "handover", mine.with_name("trusted.yaml")) as log,
    ):
        end = time.monotonic() + 300
        while "FAB verification failed" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.5)
        assert "FAB verification failed" in log.read_text()
        while "no reply" not in service.output() and time.monotonic() < end:
            time.sleep(0.5)
        assert "serve with --pin and the site's pin.json" in service.output()


def test_app__installs_as_flower_checks_it_and_its_hash_is_fixed(tmp_path):
    assert hashlib.sha256(app_bundle()).hexdigest() == app_hash()
    installed = install_from_fab(app_bundle(), tmp_path, skip_prompt=True)
    assert (installed / "fedcall_gateway/client_app.py").exists()
    with zipfile.ZipFile(BytesIO(app_bundle())) as archive:
        source = archive.read("fedcall_gateway/client_app.py").decode()
    for word in ("torch", "fedcall.", "subprocess", "exec(", "eval(", "import_module"):
        assert word not in source


def test_pin_app__another_hash(tmp_path):
    with pytest.raises(FedcallError, match="has hash"):
        pin_app("0" * 64, tmp_path)
    assert not list(tmp_path.iterdir())


def test_read_pins__of_another_app(tmp_path):
    pin = pin_app(app_hash(), tmp_path)
    assert set(read_pins([pin])) > {"valid_license"}
    pin.write_text(pin.read_text().replace(app_hash(), "0" * 64))
    with pytest.raises(FedcallError, match="pins app"):
        read_pins([pin])
