"""A hospital's folders are closed to other users of the machine before any job, whatever the umask was."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedcall.workflow.private_folders import protect_folders


def run(is_rehearsal: bool, handover: Path | None = None) -> SimpleNamespace:
    config = SimpleNamespace(
        ledger="private/{site}/ledger.sqlite",
        sketches="private/{site}/sketches",
        site_key="private/{site}/keys",
        handover=handover,
    )
    return SimpleNamespace(config=config, sites=("north",), is_rehearsal=is_rehearsal, charges_for_good=None)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_protect_folders__of_a_hospital(tmp_path, monkeypatch, umask):
    monkeypatch.chdir(tmp_path)
    before = os.umask(umask)
    try:
        Path("results/pilot").mkdir(parents=True)
        Path("drop").mkdir()
        told = protect_folders(run(False, Path("drop")))
        was = f"is for its owner alone now (mode was {0o777 & ~umask:04o}, 0700 is)"
        assert told == [f"results: {was}", f"drop: {was}"]
        assert protect_folders(run(False, Path("drop"))) == []
    finally:
        os.umask(before)
    names = ("results", "logs", "benchmarks", "private", "private/north", "private/north/sketches", "drop")
    assert {name: stat.S_IMODE(Path(name).stat().st_mode) for name in names} == dict.fromkeys(names, 0o700)


def test_protect_folders__of_a_rehearsal_keys_and_ledger_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir(mode=0o755)
    protect_folders(run(True))
    assert stat.S_IMODE(Path("results").stat().st_mode) == 0o755
    assert stat.S_IMODE(Path("private/north").stat().st_mode) == 0o700
