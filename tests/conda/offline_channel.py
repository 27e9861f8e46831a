"""A conda channel made on the spot: packages with the names and versions of our environments, and next to no content.

Its `python` is the interpreter that runs the tests, as a virtual environment which sees all that is installed beside it
but fedcall; its `pip` is the real one. So `pip install --editable` in an environment is put to the test as well.
"""

import hashlib
import importlib.metadata
import io
import json
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

SITE_PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
PIP = '#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n'


def write_channel(folder: Path, specs: Iterable[str]) -> Path:
    """Write a channel with one package for each `name =version`; return its folder."""
    content: dict[str, dict[str, str]] = {
        "python": {
            "pyvenv.cfg": f"home = {interpreter().parent}\ninclude-system-site-packages = false\n",
            f"{SITE_PACKAGES}/beside.pth": f"{_installed_but_fedcall(folder / 'installed')}\n",
        },
        "pip": {"bin/pip": PIP},
    }
    packages = {}
    for subdir in ("noarch", "linux-64"):
        (folder / subdir).mkdir(parents=True)
    for spec in sorted(set(specs)):
        name, _, version = spec.partition(" =")
        links = {"bin/python": str(interpreter())} if name == "python" else {}
        file, record = _write_package(folder / "noarch", name, version, content.get(name, {}), links)
        packages[file] = record
    _write_index(folder / "noarch", packages)
    _write_index(folder / "linux-64", {})
    return folder


def interpreter() -> Path:
    """Return the interpreter that the tests' virtual environment is made from."""
    return Path(sys._base_executable).resolve()  # type: ignore[attr-defined]


def _installed_but_fedcall(folder: Path) -> Path:
    """Return a folder of links to everything installed beside the tests' interpreter, fedcall aside."""
    folder.mkdir(parents=True)
    site_packages = Path(str(importlib.metadata.distribution("snakemake").locate_file("")))
    for path in site_packages.iterdir():
        if "fedcall" not in path.name:
            (folder / path.name).symlink_to(path)
    return folder


def _write_package(
    folder: Path, name: str, version: str, files: dict[str, str], links: dict[str, str]
) -> tuple[str, dict]:
    """Write a package; return its file name and its entry in the channel's index."""
    record = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": [],
        "noarch": "generic",
        "subdir": "noarch",
    }
    paths = [_path(path, "hardlink", text.encode()) for path, text in files.items()]
    paths += [_path(path, "softlink", b"") for path in links]
    info = {"info/index.json": json.dumps(record), "info/paths.json": json.dumps({"paths": paths, "paths_version": 1})}
    file = f"{name}-{version}-0.tar.bz2"
    with tarfile.open(folder / file, "w:bz2", compresslevel=1) as archive:
        for path, text in {**info, **files}.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(text.encode()), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    content = (folder / file).read_bytes()
    digests = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    return file, record | digests | {"size": len(content)}


def _path(path: str, kind: str, content: bytes) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    return {"_path": path, "path_type": kind, "sha256": digest, "size_in_bytes": len(content)}


def _write_index(folder: Path, packages: dict[str, dict]) -> None:
    index = {"info": {"subdir": folder.name}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
    (folder / "repodata.json").write_text(json.dumps(index))
