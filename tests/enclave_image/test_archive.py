"""The initramfs: what the kernel unpacks, the same bytes from the same tree."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from fedcall.enclave_image.archive import Tree, initramfs
from fedcall.errors import FedcallError

FILES = {"init": b"#!x\n", "usr/lib/a": b"", "usr/lib/b/c": bytes(range(256)), "usr/lib/b/d": b"odd"}


def made(order: list[str]) -> Tree:
    tree = Tree()
    for path in order:
        tree.file(path, FILES[path], is_executable=path == "init")
    tree.link("lib", "usr/lib")
    tree.folder("dev")
    return tree


def test_initramfs__depends_on_nothing_but_the_tree():
    names = list(FILES)
    first = initramfs(made(names))
    for seed in range(3):
        random.Random(seed).shuffle(names)
        assert initramfs(made(names)) == first


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio")
def test_initramfs__is_what_cpio_unpacks(tmp_path):
    subprocess.run(["cpio", "-idm", "--quiet"], input=initramfs(made(list(FILES))), cwd=tmp_path, check=True)
    assert {path: (tmp_path / path).read_bytes() for path in FILES} == FILES
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "usr/lib/a").stat().st_mtime == 0
    assert (tmp_path / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "dev").is_dir()


def test_tree__two_packages_with_one_file():
    tree = made(list(FILES))
    tree.file("usr/lib/a", b"")
    with pytest.raises(FedcallError, match="usr/lib/a: two packages bring it"):
        tree.file("usr/lib/a", b"another")
    with pytest.raises(FedcallError, match="no path inside an image"):
        tree.file("../outside", b"")
