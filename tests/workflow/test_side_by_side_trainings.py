"""Sites of a rehearsal train in one command: what each gets is what a command of its own would give it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from example_patients import write_patient
from fedcall.documents import write_signed
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.keys import create_keys, read_secret, read_signing_key
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.weights import weights_digest
from fedcall.workflow.side_by_side_trainings import train_sites
from forked import run_forked

SITES = ("north", "south", "east", "west")
SECONDS = 600
TERMS = PrivacyTerms(noise_multiplier=2.0, sampling_rate=0.5, steps_per_round=8, rows_per_unit=8, delta=0.03)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a study and three patients at each of four sites."""
    folder = tmp_path_factory.mktemp("consortium")
    coordinator = create_keys(folder / "coordinator", "coordinator")
    members = []
    for number, site in enumerate(SITES):
        public = create_keys(folder / "keys" / site, site)
        members.append(Site(name=site, public_key=public.public_key, node_key=public.node_key, patients=3))
        (folder / "examples" / site).mkdir(parents=True)
        for patient in range(3):
            write_patient(folder / "examples" / site / f"{site}{patient}.safetensors", 3 * number + patient)
    model = build_model()
    save_model(folder / "initial.safetensors", model)
    study = Study(
        name="tiny",
        coordinator=coordinator.public_key,
        sites=tuple(members),
        model=ModelTerms(initial_weights=weights_digest(weights_of(model))),
        rounds=2,
        privacy=TERMS,
    )
    write_signed(folder / "study.json", study, read_signing_key(folder / "coordinator"))
    return folder


def command(consortium: Path, out: Path, sites: tuple[str, ...], *options: object) -> list[str]:
    for site in sites:
        (out / site).mkdir(parents=True, exist_ok=True)
    named = [one for site in sites for one in ("--site", site)]
    patients = [one for site in sites for one in ("--patients", f"{site}={site}0,{site}1,{site}2")]
    return [
        *(sys.executable, "-m", "fedcall", "train-round", "--study", str(consortium / "study.json"), *named),
        *("--round", "1", "--model", str(consortium / "initial.safetensors"), *patients),
        *("--keys", str(consortium / "keys/{site}"), "--ledger", str(out / "{site}/ledger.sqlite")),
        *("--examples", str(consortium / "examples/{site}/{patient}.safetensors")),
        *("--update", str(out / "{site}/update"), "--claim", str(out / "{site}/claim"), *map(str, options)),
    ]


def run(consortium: Path, out: Path, sites: tuple[str, ...], *options: object) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *command(consortium, out, sites, *options)[3:])


def kinds(consortium: Path, out: Path, site: str) -> list[str]:
    with Ledger.open_to_read(out / site / "ledger.sqlite", read_secret(consortium / "keys" / site)) as ledger:
        return [row.kind for row in ledger.rows()]


@pytest.fixture(scope="module")
def alone(consortium: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each site trained by a command of its own."""
    out = tmp_path_factory.mktemp("alone")
    for site in SITES:
        forget(consortium)
        done = run(consortium, out, (site,))
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(autouse=True)
def forget_the_ledgers(consortium: Path) -> None:
    forget(consortium)


def forget(consortium: Path) -> None:
    """Keep no memory of another run's ledgers beside the keys."""
    for head in consortium.glob("keys/*/ledger.head"):
        head.unlink()


def same(one: Path, other: Path, site: str) -> bool:
    return all((one / site / name).read_bytes() == (other / site / name).read_bytes() for name in ("update",))


@pytest.mark.parametrize("threads", [1, 3])
def test_train_sites__the_same_bytes_as_each_alone(consortium: Path, alone: Path, tmp_path: Path, threads: int) -> None:
    done = run(consortium, tmp_path, SITES, "--threads", threads)
    assert done.returncode == 0, done.stderr
    for site in SITES:
        assert same(tmp_path, alone, site)
        assert kinds(consortium, tmp_path, site) == ["reserve", "release"]
        assert f"site {site}, round 1" in done.stdout


def test_train_sites__one_that_fails_stops_no_other(consortium: Path, alone: Path, tmp_path: Path) -> None:
    (tmp_path / "east").mkdir()
    (tmp_path / "east/ledger.sqlite").write_bytes(b"no ledger")
    for _ in range(2):
        done = run(consortium, tmp_path, SITES, "--threads", 2)
        assert done.returncode == 2
        said = [line for line in done.stderr.splitlines() if not line.startswith("private training: ")]
        assert len(said) == 1, done.stderr
        assert "site 'east': " in said[0]
        for site in set(SITES) - {"east"}:
            assert same(tmp_path, alone, site)
            assert kinds(consortium, tmp_path, site) == ["reserve", "release"]
    (tmp_path / "east/ledger.sqlite").unlink()
    done = run(consortium, tmp_path, SITES, "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("outcome  returned") == 3
    assert same(tmp_path, alone, "east")


@pytest.mark.parametrize("moment", ["reserve", "release"])
def test_train_sites__kill_9_in_the_middle_loses_nothing_and_charges_once(
    consortium: Path, alone: Path, tmp_path: Path, moment: str
) -> None:
    process = subprocess.Popen(command(consortium, tmp_path, SITES, "--threads", 2), stdout=subprocess.DEVNULL)
    end = time.monotonic() + SECONDS
    while not any(moment in rows for rows in seen(consortium, tmp_path).values()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(running, workers)):
        assert time.monotonic() < end, "a training goes on after its command was killed"
        time.sleep(0.05)
    before = {site: rows for site, rows in seen(consortium, tmp_path).items() if rows}
    assert before
    done = run(consortium, tmp_path, SITES, "--threads", 2)
    assert done.returncode == 0, done.stderr
    for site in SITES:
        assert same(tmp_path, alone, site)
        assert kinds(consortium, tmp_path, site) == ["reserve", "release"]
    assert done.stdout.count("outcome  returned") == sum("release" in rows for rows in before.values())


def seen(consortium: Path, out: Path) -> dict[str, list[str]]:
    """Return what the ledgers hold, of those that can be read already."""
    found = {}
    for site in SITES:
        try:
            found[site] = kinds(consortium, out, site)
        except Exception:
            found[site] = []
    return found


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(one) for task in tasks for one in task.read_text().split()]


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_train_sites__a_refusal_anywhere_is_a_refusal() -> None:
    def train(site: str) -> object:
        raise PrivacyRefusal("no") if site == "south" else FedcallError("mistake")

    with pytest.raises(PrivacyRefusal, match=r"site 'north': mistake; site 'south': no"):
        train_sites(train, ("north", "south"), 1)  # type: ignore[arg-type]


def test_train_round__says_how_several_sites_are_given(consortium: Path, tmp_path: Path) -> None:
    whole = command(consortium, tmp_path, ("north", "south"))
    for old, new in (
        (str(consortium / "examples/{site}/{patient}.safetensors"), str(consortium / "examples/north0.safetensors")),
        (str(tmp_path / "{site}/ledger.sqlite"), str(tmp_path / "ledger.sqlite")),
        ("south=south0,south1,south2", "east=east0"),
    ):
        done = run_forked("fedcall", *(new if one == old else one for one in whole[3:]))
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*/ledger.sqlite"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of so many bytes, which can be made larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(size: str) -> Path:
        again = ",remount" if os.path.ismount(folder) else ""
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}{again}", "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system of our own (needs root): {done.stderr.strip()}")
        return folder

    yield sized
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
@pytest.mark.parametrize("size", ["32k", "224k"])
def test_train_round__on_a_disk_that_is_full_says_so_in_one_line_and_loses_nothing(
    consortium: Path, alone: Path, tiny_disk: Callable[[str], Path], size: str
) -> None:
    disk = tiny_disk(size)
    full = run(consortium, disk, ("north",))
    assert full.returncode == 2, full.stderr
    said = [line for line in full.stderr.splitlines() if not line.startswith("private training: ")]
    assert len(said) == 1, full.stderr
    assert "make room" in said[0]
    assert not any((disk / "north" / name).exists() for name in ("update", "claim"))
    tiny_disk("16m")
    done = run(consortium, disk, ("north",))
    assert done.returncode == 0, done.stderr
    assert same(disk, alone, "north")
    assert kinds(consortium, disk, "north") == ["reserve", "release"]
