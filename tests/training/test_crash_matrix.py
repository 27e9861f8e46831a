"""kill -9 anywhere in a round: the ledger never holds less than what left the site, and a rerun is the same release.

Children are forked from this process, so that each costs no imports. `FEDCALL_CRASH_POINTS` sets the number of random
moments; 200 were run before release.
"""

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from crashes import dying
from example_patients import write_patient
from fedcall.documents import read_unverified
from fedcall.errors import FedcallError
from fedcall.keys import create_keys, read_secret
from fedcall.model.caller import build_model, save_model, weights_of
from fedcall.privacy.ledger import ledger as ledger_module
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.terms import ModelTerms, Site, Study
from fedcall.training import dp_sgd, rounds
from fedcall.weights import weights_digest

POINTS = int(os.environ.get("FEDCALL_CRASH_POINTS", "12"))
PATIENTS, STEPS = 2, 3


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Keys, study, patients and the release an undisturbed round makes."""
    folder = tmp_path_factory.mktemp("site")
    identity = create_keys(folder / "keys", "north")
    save_model(folder / "initial.safetensors", build_model())
    for seed in range(PATIENTS):
        write_patient(folder / f"p{seed}.safetensors", seed, 12)
    study = Study(
        name="tiny",
        coordinator=identity.public_key,
        sites=(Site(name="north", public_key=identity.public_key, node_key="ssh", patients=PATIENTS),),
        model=ModelTerms(initial_weights=weights_digest(weights_of(build_model()))),
        privacy=PrivacyTerms(
            noise_multiplier=2.0, sampling_rate=0.5, steps_per_round=STEPS, rows_per_unit=4, delta=0.03
        ),
    )
    return folder, study


class Run:
    """One round in a folder of its own; the key folder is shared, and its memory of the ledger is not."""

    def __init__(self, site, folder: Path) -> None:
        self.source, self.study = site
        self.folder = folder
        shutil.copytree(self.source / "keys", folder / "keys")
        self.ledger = folder / "ledger.sqlite"
        self.update, self.claim = folder / "out" / "update.safetensors", folder / "out" / "claim.json"

    def train(self) -> None:
        initial = self.source / "initial.safetensors"
        patients = [self.source / f"p{seed}.safetensors" for seed in range(PATIENTS)]
        files = rounds.RoundFiles(self.folder / "keys", initial, patients, self.ledger, self.update, self.claim)
        rounds.train_round(self.study, "north", 1, files)

    def start(self, prepare=lambda: None) -> multiprocessing.Process:
        def child():
            prepare()
            self.train()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        return process

    def kinds(self) -> list[str]:
        if not self.ledger.is_file():
            return []
        with Ledger.open(self.ledger, read_secret(self.folder / "keys")) as ledger:
            assert ledger.verify() is None
            return [row.kind for row in ledger.rows()]

    def check_and_finish(self) -> None:
        """Whatever left is charged; a rerun gives it again, byte for byte, and charges nothing twice."""
        kinds = self.kinds()
        assert kinds in ([], ["reserve"], ["reserve", "release"])
        left = {path: path.read_bytes() for path in (self.update, self.claim) if path.exists()}
        if left:
            assert kinds == ["reserve", "release"]
        artefacts = self.ledger.with_name("ledger.sqlite.artefacts")
        stored = [path.read_bytes() for path in artefacts.glob("[0-9a-f]*")] if artefacts.exists() else []
        self.train()
        assert self.kinds() == ["reserve", "release"]
        assert all(path.read_bytes() == content for path, content in left.items())
        for content in stored:  # what was stored before the kill is what left after it
            assert self.update.read_bytes() in content
        with Ledger.open_to_read(self.ledger) as ledger:
            charge = next(iter(ledger.rows()))
        assert read_unverified(self.claim.read_bytes(), Claim)[0].ledger_head == charge.digest


BOUNDARIES = {
    "before reserve": (dying(Ledger, "reserve", "before"), []),
    "after the charge, before the head file": (dying(Ledger, "_update_head", "before"), ["reserve"]),
    "after reserve": (dying(Ledger, "reserve", "after"), ["reserve"]),
    "after the key folder remembers": (dying(rounds, "remember_ledger", "after"), ["reserve"]),
    "mid-training": (dying(dp_sgd, "private_step", "after", 2), ["reserve"]),
    "before release": (dying(Ledger, "release", "before"), ["reserve"]),
    "before writing the artefact": (dying(ledger_module, "write_bytes", "before"), ["reserve"]),
    "after writing the artefact": (dying(ledger_module, "write_bytes", "after"), ["reserve"]),
    "after release": (dying(Ledger, "release", "after"), ["reserve", "release"]),
    "between update and claim": (dying(rounds, "write_bytes", "after"), ["reserve", "release"]),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_train_round__kill_9_at_a_boundary_loses_nothing_and_charges_once(site, tmp_path, boundary):
    prepare, expected = BOUNDARIES[boundary]
    run = Run(site, tmp_path)
    process = run.start(prepare)
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    assert run.kinds() == expected
    run.check_and_finish()


def test_train_round__kill_9_at_random_moments_loses_nothing_and_charges_once(site, tmp_path):
    """A round that ends before its moment tells how long rounds take here; the next moment is drawn from that."""
    moments, seconds, killed = random.Random(7), 10.0, 0
    for attempt in range(5 * POINTS):
        run = Run(site, tmp_path / str(attempt))
        process, began = run.start(), time.monotonic()
        process.join(moments.uniform(0, seconds))
        if process.exitcode is None:
            process.kill()
        else:
            seconds = time.monotonic() - began
        process.join(600)
        killed += process.exitcode == -signal.SIGKILL
        run.check_and_finish()
        shutil.rmtree(run.folder)
        if killed == POINTS:
            return
    pytest.fail(f"only {killed} of {5 * POINTS} rounds were killed")


def test_train_round__two_processes_at_once_make_one_release(site, tmp_path):
    run = Run(site, tmp_path)
    processes = [run.start() for _ in range(2)]
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0, 0]
    assert run.kinds() == ["reserve", "release"]
    run.check_and_finish()


@pytest.mark.parametrize("size", [0, 4096, 40_000, 70_000])
def test_train_round__a_full_disk_is_a_users_error_and_loses_nothing(site, tmp_path, size):
    """Files cannot grow beyond `size` bytes: an ENOSPC without a disk to fill (setrlimit(2))."""
    run = Run(site, tmp_path)

    def child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            run.train()
        except FedcallError as error:
            os._exit(7 if str(error).count("\n") == 0 else 8)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(600)
    assert process.exitcode == 7, errno.errorcode.get(process.exitcode, process.exitcode)
    assert not run.update.exists()
    assert not run.claim.exists()
    run.check_and_finish()
