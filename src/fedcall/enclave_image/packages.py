"""What goes into the image: Debian packages and wheels, each by version and digest (`lock/`), and how they are fetched.

`apt-get` and `pip` fetch what is not in the cache; whatever has another digest than the lock says is refused.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedcall.errors import FedcallError
from fedcall.files import write_text

LOCK = Path(__file__).with_name("lock")
_PIP = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
    *("--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"),
    *("--abi", "abi3", "--abi", "none", "--dest", "."),
    *(word for minor in range(36, 16, -1) for word in ("--platform", f"manylinux_2_{minor}_x86_64")),
    *("--platform", "manylinux2014_x86_64"),
)


@dataclass(frozen=True)
class _Client:
    """A program that fetches packages into the folder it runs in, what its files are called, what it needs."""

    command: tuple[str, ...]
    pattern: str
    need: str


_DEBIAN = _Client(("apt-get", "-qq", "download"), "*.deb", "a Debian 12 with its current package lists")
_PYPI = _Client(_PIP, "*.whl", "access to PyPI")


@dataclass(frozen=True)
class Package:
    """A package of Debian's, or a wheel of PyPI's."""

    kind: Literal["debian", "wheel"]
    name: str
    version: str
    sha256: str


def read_lock(folder: Path = LOCK) -> tuple[Package, ...]:
    """Return the packages that `debian.txt` and `wheels.txt` of a folder name, one a line: name, version, SHA-256.

    Raises
    ------
    FedcallError
        If a line is written otherwise.
    """
    found = []
    kinds: tuple[tuple[Literal["debian", "wheel"], str], ...] = (("debian", "debian.txt"), ("wheel", "wheels.txt"))
    for kind, name in kinds:
        path = folder / name
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 3 or len(words[2]) != 64 or set(words[2]) - set("0123456789abcdef"):
                raise FedcallError(f"{path}: line {number}: name, version and SHA-256 expected, found {line!r}")
            found.append(Package(kind, *words))
    return tuple(found)


def renew(folder: Path, constraints: Path, cache: Path) -> tuple[Package, ...]:
    """Write the lock anew: Debian's packages as they are today, wheels as constraints name them; return it.

    Which packages there are stays; a kernel goes by Debian's newest for the machine (`linux-image-amd64`).

    Raises
    ------
    FedcallError
        If a package cannot be had.
    """
    pinned = dict(line.split("==") for line in constraints.read_text().splitlines() if "==" in line and line[0] != "#")
    known = {_plain(name): version for name, version in pinned.items()}
    found = []
    for kind, name in (("debian", "debian.txt"), ("wheel", "wheels.txt")):
        lines = [line for line in (folder / name).read_text().splitlines() if line.startswith("#")]
        for old in read_lock(folder):
            if old.kind != kind:
                continue
            new = _newest_debian(old.name, cache) if kind == "debian" else _newest_wheel(old.name, known, cache)
            found.append(new)
            lines.append(f"{new.name} {new.version} {new.sha256}")
        write_text(folder / name, "\n".join(lines) + "\n")
    return tuple(found)


def fetch(packages: Sequence[Package], cache: Path) -> dict[Package, Path]:
    """Return each package's file, from the cache or fetched into it.

    Raises
    ------
    FedcallError
        If a package cannot be had, or has another digest.
    """
    cache.mkdir(parents=True, exist_ok=True)
    missing = [one for one in packages if not _is_there(one, cache)]
    for kind, ask in (("debian", _ask_debian), ("wheel", _ask_pypi)):
        wanted = [one for one in missing if one.kind == kind]
        if wanted:
            ask(wanted, cache)
    return {one: cache / one.sha256 for one in packages}


def _is_there(package: Package, cache: Path) -> bool:
    path = cache / package.sha256
    return path.is_file() and _digest(path) == package.sha256


def _ask_debian(packages: Sequence[Package], cache: Path) -> None:
    names = [f"{one.name}:amd64={one.version}" for one in packages]
    _fetch_locked(_DEBIAN, names, packages, cache)


def _ask_pypi(packages: Sequence[Package], cache: Path) -> None:
    names = [f"{one.name}=={one.version}" for one in packages]
    _fetch_locked(_PYPI, names, packages, cache)


def _newest_debian(name: str, cache: Path) -> Package:
    if name.startswith("linux-image-"):
        shown = subprocess.run(
            ["apt-cache", "depends", "--important", "linux-image-amd64"], capture_output=True, text=True, check=False
        )
        name = next((word for word in shown.stdout.split() if word.startswith("linux-image-6")), name)
    path = _fetch_newest(_DEBIAN, f"{name}:amd64", cache)
    shown = subprocess.run(
        ["dpkg-deb", "--show", "--showformat=${Version}", str(path)], capture_output=True, text=True, check=True
    )
    return Package("debian", name, shown.stdout, path.name)


def _newest_wheel(name: str, known: Mapping[str, str], cache: Path) -> Package:
    version = known.get(_plain(name))
    if version is None:
        raise FedcallError(
            f"wheels.txt: {name}: constraints.txt names no version of it; leave it out if it is not needed"
        )
    path = _fetch_newest(_PYPI, f"{name}=={version}", cache)
    return Package("wheel", name, version, path.name)


def _fetch_newest(client: _Client, name: str, cache: Path) -> Path:
    """Fetch one file and keep it under its digest."""
    with _fetched(client, [name], cache) as (found, said):
        if len(found) != 1:
            raise FedcallError(f"{name}: not to be had ({said or 'no answer'})")
        ((digest, path),) = found.items()
        return path.replace(cache / digest)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fetch_locked(client: _Client, names: Sequence[str], packages: Sequence[Package], cache: Path) -> None:
    """Fetch files with a client, and keep those whose digests are asked for under their digests."""
    with _fetched(client, names, cache) as (found, said):
        for one in packages:
            if one.sha256 not in found:
                raise FedcallError(
                    f"{one.name} {one.version}: not to be had with SHA-256 {one.sha256[:16]}…; needed is {client.need},"
                    f" or the file itself as {cache / one.sha256}" + (f" ({said})" if said else "")
                )
            found[one.sha256].replace(cache / one.sha256)


@contextmanager
def _fetched(client: _Client, names: Sequence[str], cache: Path) -> Iterator[tuple[dict[str, Path], str | None]]:
    """Run a client in an empty folder inside the cache; yield what it fetched, by digest, and its last word.

    What is left in the folder after use is removed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as room:
        try:
            done = subprocess.run([*client.command, *names], cwd=room, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise FedcallError(
                f"{client.command[0]}: not installed; fetching the image's packages needs {client.need}"
            ) from None
        said = done.stderr.strip().splitlines()
        yield {_digest(path): path for path in Path(room).glob(client.pattern)}, said[-1] if said else None


def _digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
