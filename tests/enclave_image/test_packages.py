"""The lock: what goes into the image, by digest; it names what constraints.txt names."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from fedcall.enclave_image.packages import Package, fetch, read_lock, renew
from fedcall.errors import FedcallError
from made_debs import made_deb

ROOT = Path(__file__).parents[2]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_lock__wheels_are_the_versions_that_everything_else_is_tested_with():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    known = {_plain(name): version for name, version in pinned.items()}
    wheels = {_plain(one.name): one.version for one in read_lock() if one.kind == "wheel"}
    assert wheels.items() <= known.items(), "make the lock again: fedcall attestation image --help"
    assert not {"torch", "numba", "pandas", "snakemake"} & set(wheels), "the aggregator needs none of them"


def test_lock__brings_no_shell_and_no_server_of_logins():
    names = {one.name for one in read_lock() if one.kind == "debian"}
    assert not [name for name in names if re.search(r"bash|dash|busybox|ssh|coreutils|systemd|login", name)]
    assert any(name.startswith("linux-image-") for name in names)


def test_fetch__takes_nothing_of_another_digest(tmp_path, monkeypatch):
    right = hashlib.sha256(b"right").hexdigest()
    package = Package("debian", "made-up", "1", right)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    with pytest.raises(FedcallError, match="apt-get: not installed"):
        fetch([package], tmp_path / "cache")
    client = tmp_path / "bin" / "apt-get"
    client.write_text("#!/bin/sh\nprintf wrong > made-up_1_amd64.deb\n")
    client.chmod(0o755)
    with pytest.raises(FedcallError, match="made-up 1: not to be had with SHA-256"):
        fetch([package], tmp_path / "cache")
    client.write_text("#!/bin/sh\nprintf right > made-up_1_amd64.deb\n")
    assert fetch([package], tmp_path / "cache")[package].read_bytes() == b"right"
    client.unlink()
    assert fetch([package], tmp_path / "cache")[package].read_bytes() == b"right", "it is in the cache"
    (tmp_path / "cache" / right).write_bytes(b"wrong")
    with pytest.raises(FedcallError, match="apt-get: not installed"):
        fetch([package], tmp_path / "cache")


def test_read_lock__a_line_that_is_none(tmp_path):
    (tmp_path / "debian.txt").write_text("# names\nlibc6 2.36\n")
    (tmp_path / "wheels.txt").write_text("")
    with pytest.raises(FedcallError, match=r"debian.txt: line 2: name, version and SHA-256 expected"):
        read_lock(tmp_path)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")
def test_renew__takes_what_debian_has_today(tmp_path, monkeypatch):
    package = made_deb(tmp_path, "libmadeup", {"usr/lib/libmadeup.so.1": b"new"})
    client = tmp_path / "bin" / "apt-get"
    client.parent.mkdir()
    client.write_text(f"#!/bin/sh\ncp {package} .\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")
    lock = tmp_path / "lock"
    lock.mkdir()
    (lock / "debian.txt").write_text(f"# of Debian\nlibmadeup 0 {'0' * 64}\n")
    (lock / "wheels.txt").write_text("# of PyPI\n")
    (tmp_path / "constraints.txt").write_text("# exact\nnumpy==2.4.6\n")
    renewed = renew(lock, tmp_path / "constraints.txt", tmp_path / "cache")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    assert renewed == (Package("debian", "libmadeup", "1", digest),) == read_lock(lock)
    assert (lock / "debian.txt").read_text().startswith("# of Debian\n")
    assert fetch(renewed, tmp_path / "cache")[renewed[0]].read_bytes() == package.read_bytes()
    (lock / "wheels.txt").write_text(f"madeup 0 {'0' * 64}\n")
    with pytest.raises(FedcallError, match=r"madeup: constraints\.txt names no version of it"):
        renew(lock, tmp_path / "constraints.txt", tmp_path / "cache")
