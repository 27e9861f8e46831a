"""What of each package goes into the image: libraries, Python, a kernel and few modules; no program but Python."""

import shutil
import stat
import zipfile

import pytest

from fedcall.enclave_image.archive import Tree
from fedcall.enclave_image.contents import add_debian, add_kernel, add_wheel
from fedcall.enclave_image.recipe import image_tree
from fedcall.errors import FedcallError
from made_debs import made_deb, made_kernel

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")


def test_add_debian__libraries_and_python_and_no_other_program(tmp_path):
    tree = Tree()
    files = {
        "bin/sh": b"shell",
        "usr/bin/ssh": b"logins",
        "usr/bin/python3.11": b"python",
        "usr/sbin/init": b"init",
        "lib/x86_64-linux-gnu/libc.so.6": b"library",
        "usr/lib/python3.11/os.py": b"pass",
        "usr/lib/python3.11/test/x.py": b"test",
        "usr/share/doc/x": b"words",
    }
    add_debian(tree, made_deb(tmp_path, "things", files, {"usr/lib/python3.11/link.so": "/lib/x.so"}))
    assert set(tree.entries) == {
        "usr/bin/python3.11",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib/python3.11/os.py",
        "usr/lib/python3.11/link.so",
    }
    assert stat.S_ISLNK(tree.entries["usr/lib/python3.11/link.so"].mode)
    with pytest.raises(FedcallError, match="no Debian package"):
        add_debian(tree, tmp_path / "things" / "DEBIAN" / "control")


def test_add_kernel__modules_in_the_order_in_which_they_can_be_loaded(tmp_path):
    tree, package = Tree(), made_kernel(tmp_path)
    assert add_kernel(tree, package) == b"kernel"
    order = tree.entries["usr/lib/modules/order"].content.decode().split()
    for first, then in (("virtio", "virtio_pci"), ("virtio", "9pnet_virtio"), ("9pnet", "9p")):
        assert order.index(first) < order.index(then)
    assert "sev_guest" in order
    assert "bluetooth" not in order
    with pytest.raises(FedcallError, match="the kernel has no module infiniband"):
        add_kernel(Tree(), package, ("infiniband",))


def test_add_wheel__without_tests_scripts_and_headers(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name in ("a/b.py", "a/tests/t.py", "a/c.h", "a-1.data/scripts/run", "a-1.dist-info/METADATA"):
            wheel.writestr(name, b"")
    tree = Tree()
    add_wheel(tree, tmp_path / "a.whl")
    assert {path.removeprefix("usr/lib/python3/dist-packages/") for path in tree.entries} == {
        "a/b.py",
        "a-1.dist-info/METADATA",
    }


def test_image_tree__the_first_program_is_ours():
    tree, _ = image_tree(())
    assert tree.entries["init"].content.startswith(b"#!/usr/bin/python3.11 -I\n")
    programs = {path for path, entry in tree.files() if stat.S_ISREG(entry.mode) and entry.mode & 0o111}
    assert programs == {"init"}
