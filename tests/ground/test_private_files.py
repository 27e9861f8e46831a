"""Folders with patients in them are for their owner alone, whatever the umask; a full disk is one line."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcall.errors import no_room
from fedcall.federation.aggregator.service import holding
from fedcall.files import make_private_folder, replace_private, write_bytes
from fedcall.keys import create_keys
from fedcall.privacy.ledger.ledger import Ledger

FEDCALL = Path(sys.executable).with_name("fedcall")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_make_private_folder__whatever_the_umask(tmp_path, umask):
    make_private_folder(tmp_path / "a/b/c")
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o700] * 3
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    make_private_folder(tmp_path / "open", mend=False)
    assert mode(tmp_path / "open") == 0o777
    make_private_folder(tmp_path / "open")
    assert mode(tmp_path / "open") == 0o700


def test_folders__of_keys_ledger_and_state(tmp_path, umask):
    create_keys(tmp_path / "private/north/keys", "north")
    Ledger.open(tmp_path / "elsewhere/ledger.sqlite", bytes(32)).close()
    replace_private(tmp_path / "records/p1.json", b"{}")
    with holding(tmp_path / "state"):
        pass
    folders = ["private", "private/north", "private/north/keys", "elsewhere", "records", "state"]
    assert {name: mode(tmp_path / name) for name in folders} == dict.fromkeys(folders, 0o700)
    files = ["private/north/keys/secret", "elsewhere/ledger.sqlite", "records/p1.json"]
    assert {name: mode(tmp_path / name) for name in files} == dict.fromkeys(files, 0o600)


def test_no_room__in_the_words_of_each_library():
    assert "/x: cannot be written (No space left on device)" in str(no_room(OSError(errno.ENOSPC, "", "/x")))
    assert no_room(RuntimeError("safetensors: IO error: No space left on device (os error 28)")) is not None
    assert no_room(OSError(errno.EDQUOT, "Disk quota exceeded")) is not None
    assert no_room(FileNotFoundError(errno.ENOENT, "No such file", "/x")) is None
    assert no_room(ValueError("28")) is None


def on_a_tiny_disk(folder: Path, kilobytes: int, command: list[object]) -> subprocess.CompletedProcess[str]:
    """Run a command while `folder` is a file system of so many kilobytes (user namespace; Linux)."""
    folder.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, str(folder), *map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    if not shutil.which("unshare") or on_a_tiny_disk(folder, 64, ["true"]).returncode:
        pytest.skip("this system lets nobody mount a small file system (unshare -rm)")
    return folder


def test_commands__a_full_disk_is_one_line(tiny, tmp_path):
    """Every writer through the shell: what it says, and that nothing half-written stays is `atomic_path`'s."""
    (tmp_path / "terms.yaml").write_text("name: demo\n")
    full = tiny / "out"
    commands = {
        "train-public": [*("--terms", tmp_path / "terms.yaml"), *("--output", full / "model.safetensors")],
        "simulate": [*("--seed", 1, "--site", "a=1"), *("--region-length", 5000, "--output", full / "cohort")],
    }
    for name, options in commands.items():
        done = on_a_tiny_disk(tiny, 16, [FEDCALL, name, *options])
        assert done.returncode == 2, (name, done.stderr[-2000:])
        [line] = [line for line in done.stderr.splitlines() if "cannot be written" in line]
        assert line.startswith("fedcall: ")
        assert "No space left on device" in line
        assert "Traceback" not in done.stderr


def test_atomic_path__a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_bytes(tmp_path / "update.safetensors", b"x")
    assert str(tmp_path / "update.safetensors") in str(no_room(raised.value))
    assert list(tmp_path.iterdir()) == []
