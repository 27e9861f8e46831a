"""What is taken of each package: libraries, Python, kernel and a few modules; no shell, no other program."""

import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedcall.enclave_image.archive import Tree
from fedcall.errors import FedcallError

PYTHON = "usr/bin/python3.11"
SITE = "usr/lib/python3/dist-packages"
MODULES = "usr/lib/modules"

# What the kernel loads for the machine: its bus, its network, the folder that the host lends, the SEV firmware.
KERNEL_MODULES = ("virtio_pci", "virtio_net", "9pnet_virtio", "9p", "sev-guest", "configfs")

_LIBRARY = re.compile(r"(usr/)?lib(64)?/.*\.so[.\d]*$")
_PYTHON_LIBRARY = re.compile(r"usr/lib/python3\.11/")
_LEFT_OUT = re.compile(
    r"(^|/)(tests?|testing|__pycache__|include|idlelib|lib2to3|ensurepip|distutils|pydoc_data|tkinter|turtledemo)/"
    r"|\.(pyi|pyx|pxd|h|hpp|c|cpp|a|exe)$|/(gconv|audit)/"
)
# Needed although they are called tests: numpy and scipy import them.
_KEPT = re.compile(r"/(numpy|scipy)/.*testing/|/numpy/_core/tests/_natype\.py$")


def add_debian(tree: Tree, package: Path) -> None:
    """Add the libraries, and Python, of a Debian package."""
    for member, content in _members(package):
        path = member.name.removeprefix("./")
        # Debian 12 has one folder for /lib and /usr/lib.
        path = re.sub(r"^lib(64)?/", r"usr/lib\1/", path)
        if not (_LIBRARY.match(path) or _PYTHON_LIBRARY.match(path) or path == PYTHON) or _LEFT_OUT.search(path):
            continue
        if member.issym():
            tree.link(path, member.linkname)
        elif member.isfile():
            tree.file(path, content, bool(member.mode & 0o111))


def add_wheel(tree: Tree, wheel: Path) -> None:
    """Add what a wheel installs, without its tests and scripts."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = f"/{name}"
            if path.endswith("/") or ".data/" in path or (_LEFT_OUT.search(path) and not _KEPT.search(path)):
                continue
            tree.file(f"{SITE}/{name}", archive.read(name))


def add_own(tree: Tree, package: Path) -> None:
    """Add a package of Python files as it lies in its folder, as its wheel would install it."""
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            tree.file(f"{SITE}/{package.name}/{path.relative_to(package).as_posix()}", path.read_bytes())


def add_kernel(tree: Tree, package: Path, wanted: Sequence[str] = KERNEL_MODULES) -> bytes:
    """Add modules of a kernel's package, in the order in which they are to be loaded; return the kernel.

    Raises
    ------
    FedcallError
        If the package has no kernel, or lacks a module.
    """
    kernel, modules = b"", {}
    for member, content in _members(package):
        path = member.name.removeprefix("./")
        if path.startswith("boot/vmlinuz-"):
            kernel = content
        elif path.endswith(".ko"):
            modules[_module_name(Path(path).stem)] = content
    if not kernel:
        raise FedcallError(f"{package}: no kernel in it (boot/vmlinuz-…)")
    order: list[str] = []
    for name in wanted:
        _in_order(_module_name(name), modules, order, package)
    for name in order:
        tree.file(f"{MODULES}/{name}.ko", modules[name])
    tree.file(f"{MODULES}/order", "".join(f"{name}\n" for name in order).encode())
    return kernel


def _in_order(name: str, modules: dict[str, bytes], order: list[str], package: Path) -> None:
    """Append a module to the order, after those it says that it depends on (its .modinfo section)."""
    if name in order:
        return
    if name not in modules:
        raise FedcallError(f"{package}: the kernel has no module {name}")
    said = re.search(rb"\0depends=([^\0]*)\0", modules[name])
    for other in said[1].decode().split(",") if said and said[1] else ():
        _in_order(_module_name(other), modules, order, package)
    order.append(name)


def _module_name(name: str) -> str:
    return name.replace("-", "_")


def _members(package: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=False)
    if done.returncode:
        raise FedcallError(f"{package}: no Debian package ({done.stderr.decode(errors='replace').strip()})")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            handle = archive.extractfile(member) if member.isfile() else None
            yield member, handle.read() if handle else b""
