"""Two builds are the same bytes, whatever the machine's time, language, permissions and folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedcall.enclave_image.packages import LOCK, Package, read_lock
from fedcall.enclave_image.recipe import build
from fedcall.errors import FedcallError
from fedcall.files import sha256_file
from made_debs import made_kernel

CACHE = Path(__file__).parents[2] / "resources" / "image"
SMALL = ("libc6", "libexpat1", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "zlib1g")
_PYTHON = [one for one in read_lock(LOCK) if one.name in SMALL]


def _lock(folder: Path) -> Path:
    """Return a lock of a small Python and a made-up kernel, whose package goes into the cache beside it."""
    kernel = made_kernel(folder)
    digest = sha256_file(kernel)
    cache, lock = folder / "cache", folder / "lock"
    cache.mkdir()
    lock.mkdir()
    shutil.copy(kernel, cache / digest)
    for one in _PYTHON:
        shutil.copy(CACHE / one.sha256, cache / one.sha256)
    packages = [*_PYTHON, Package("debian", "linux-image-6-amd64", "1", digest)]
    (lock / "debian.txt").write_text("".join(f"{one.name} {one.version} {one.sha256}\n" for one in packages))
    (lock / "wheels.txt").write_text("")
    return lock


@pytest.mark.skipif(
    not all((CACHE / one.sha256).is_file() for one in _PYTHON), reason="no packages of the image: make enclave-trial"
)
def test_build__twice_is_the_same_bytes(tmp_path):
    lock = _lock(tmp_path)
    made = []
    for number, (umask, variables) in enumerate(((0o022, {}), (0o077, {"TZ": "Asia/Tokyo", "LC_ALL": "C"}))):
        output, room = tmp_path / f"image{number}", tmp_path / ("room" * (number + 1))
        room.mkdir(parents=True)
        command = [sys.executable, "-m", "fedcall", "attestation", "image", "--output", output]
        command += ["--lock", lock, "--packages", tmp_path / "cache"]
        environment = {**os.environ, **variables, "TMPDIR": str(room)}
        subprocess.run(list(map(str, command)), env=environment, umask=umask, check=True, capture_output=True)
        made.append({path.name: path.read_bytes() for path in output.iterdir()})
    assert made[0] == made[1]
    assert made[0]["cmdline"].endswith(b"fedcall.enclave=sev-snp")


def test_build__without_a_kernel(tmp_path):
    with pytest.raises(FedcallError, match="the lock names no kernel"):
        build(tmp_path, (), tmp_path / "cache")
