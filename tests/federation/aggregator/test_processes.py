"""A real federation on loopback: SuperLink, ServerApp, our Fleet client, two sites, through the command line."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consortium import Consortium, make_consortium
from fedcall.documents import read_signed
from fedcall.federation.aggregator.service import read_endpoint
from fedcall.federation.certificates import ensure_certificates
from fedcall.study.claims import Receipt
from fedcall.weights import read_weights


def _fedcall(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedcall", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def _endpoint(consortium: Consortium) -> list[object]:
    return [
        *("--rehearsal", consortium.state, "--coordinator-keys", consortium.keys("coordinator")),
        *("--initial", consortium.initial),
    ]


def _fetch(consortium: Consortium, site: str, number: int) -> Path:
    output = consortium.folder / f"{site}.{number}.global.safetensors"
    done = _fedcall(
        *("fetch", "--study", consortium.study_path, "--site", site, "--keys", consortium.keys(site)),
        *("--round", number, *_endpoint(consortium), "--output", output),
    )
    assert done.returncode == 0, done.stderr
    return output


def _upload(consortium: Consortium, site: str, number: int, update: Path, claim: Path) -> tuple[bytes, Receipt]:
    receipt = consortium.folder / f"{site}.{number}.receipt.json"
    done = _fedcall(
        *("upload", "--study", consortium.study_path, "--site", site, "--keys", consortium.keys(site)),
        *("--round", number, "--update", update, "--claim", claim, *_endpoint(consortium), "--receipt", receipt),
    )
    assert done.returncode == 0, done.stderr
    return receipt.read_bytes(), read_signed(receipt, Receipt, consortium.study.coordinator or "")


def _fetch_with_a_wrong_authority(consortium: Consortium, address: str) -> None:
    ca = ensure_certificates(consortium.folder / "impostor", ()).authority
    done = _fedcall(
        *("fetch", "--study", consortium.study_path, "--site", "north", "--keys", consortium.keys("north")),
        *("--round", 1, "--aggregator", address, "--ca", ca, "--output", consortium.folder / "never.safetensors"),
    )
    assert done.returncode == 2
    assert "not signed by" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def _processes(folder: Path) -> list[str]:
    """Return the command lines of living processes that name a folder (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text and int(path.parent.name) != os.getpid():
            found.append(text)
    return found


def _wait_until_gone(folder: Path, seconds: float) -> list[str]:
    end = time.monotonic() + seconds
    while (alive := _processes(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    return alive


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="counts processes in /proc")
def test_rehearsal__two_sites_two_rounds_and_a_kill(tmp_path):
    consortium = make_consortium(tmp_path)
    sites = ("north", "south")
    receipts = {}
    for number in (1, 2):
        with ThreadPoolExecutor(2) as together:  # two jobs at once start one aggregator
            fetched = together.map(_fetch, [consortium] * 2, sites, [number] * 2)
            models = dict(zip(sites, fetched, strict=True))
        assert models["north"].read_bytes() == models["south"].read_bytes()
        for site in sites:
            update, claim = consortium.write_answer(site, number, models[site], tmp_path)
            receipts[site, number], receipt = _upload(consortium, site, number, update, claim)
            assert (receipt.status, receipt.accepted_rounds) == ("accepted", number), receipt.sentence
        if number == 1:
            again, _ = _upload(consortium, "south", 1, update, claim)
            assert again == receipts["south", 1]
            endpoint = read_endpoint(consortium.state)
            assert endpoint is not None
            _fetch_with_a_wrong_authority(consortium, endpoint.address)
            os.kill(endpoint.pid, signal.SIGKILL)
            assert not _wait_until_gone(tmp_path, 300), "the SuperLink must die with its supervisor"
    final = {site: _fetch(consortium, site, 3) for site in sites}
    assert final["north"].read_bytes() == final["south"].read_bytes()
    assert read_weights(final["north"]).digest != read_weights(consortium.initial).digest
    assert not _wait_until_gone(tmp_path, 300), "the aggregator must end by itself when the study is done"
    assert not (consortium.state / "endpoint.json").exists()


def test_fetch__nobody_there(tmp_path):
    consortium = make_consortium(tmp_path)
    ca = ensure_certificates(tmp_path / "tls", ()).authority
    done = _fedcall(
        *("fetch", "--study", consortium.study_path, "--site", "north", "--keys", consortium.keys("north")),
        *("--round", 1, "--aggregator", "127.0.0.1:9", "--ca", ca, "--deadline-minutes", 0.1),
        *("--output", tmp_path / "model.safetensors"),
    )
    assert done.returncode == 2
    assert "run the same command" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "model.safetensors").exists()


def test_fetch__several_sites_need_a_path_each(tmp_path):
    consortium = make_consortium(tmp_path)
    done = _fedcall(
        *("fetch", "--study", consortium.study_path, "--site", "north", "--site", "south"),
        *("--keys", consortium.keys("{site}"), "--round", 1, "--aggregator", "127.0.0.1:9", "--ca", tmp_path / "ca"),
        *("--output", tmp_path / "model.safetensors"),
    )
    assert done.returncode == 2
    assert "model.safetensors: several sites need a path each" in done.stderr


def test_serve__asks_for_the_name_of_an_open_address(tmp_path):
    consortium = make_consortium(tmp_path)
    done = _fedcall(
        *("aggregator", "serve", "--study", consortium.study_path, "--state", consortium.state),
        *("--listen", "0.0.0.0:8443", "--keys", consortium.keys("coordinator"), "--initial", consortium.initial),
    )
    assert done.returncode == 2
    assert "--name" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
