"""Build the image: `vmlinuz`, `initrd.img`, `cmdline`, and `contents.json`, which says what they were made from."""

import hashlib
import json
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedcall.enclave_image.archive import Tree, initramfs
from fedcall.enclave_image.contents import PYTHON, SITE, add_debian, add_kernel, add_own, add_wheel
from fedcall.enclave_image.packages import Package, fetch
from fedcall.errors import FedcallError
from fedcall.files import write_bytes, write_text

# panic: a machine that fails switches off. The kind of machine is measured with the rest.
COMMAND_LINE = "console=ttyS0 panic=-1 loglevel=4 fedcall.enclave={kind}"

OWN = Path(__file__).parents[1]

_INIT = f"""#!/{PYTHON} -I
from fedcall.enclave_image.init import main

main()
"""
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/tmp:/nowhere\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost fedcall\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# One process, in the order of names: the bytes of compiled files depend on neither time nor machine.
_COMPILE = """
import marshal, pathlib, sys, importlib.util
from importlib._bootstrap_external import _code_to_hash_pyc
root, prefix = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
for path in sorted(prefix.rglob("*.py")):
    source = path.read_bytes()
    name = "/" + path.relative_to(root).as_posix()
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except SyntaxError:
        continue
    # Marshalling what was read back does not depend on which objects the compiler happened to share.
    code = marshal.loads(marshal.dumps(code))
    target = path.parent / "__pycache__" / (path.stem + ".cpython-311.pyc")
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(_code_to_hash_pyc(code, importlib.util.source_hash(source), False))
"""
_COMPRESS = "import gzip, sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read(), 6, mtime=0))"


def build(output: Path, packages: Sequence[Package], cache: Path, kind: str = "sev-snp") -> dict[str, str]:
    """Build the image into a folder; return the SHA-256 of each of its files.

    Files are compiled and compressed by the image's own Python, so the same packages and the same fedcall give the same
    bytes on every machine.

    Parameters
    ----------
    packages : sequence of Package
        The lock: what goes in, by digest (`read_lock`).
    cache : Path
        Where fetched packages lie.
    kind : str
        `sev-snp`, or `simulated` for a trial in emulation.

    Raises
    ------
    FedcallError
        If a package cannot be had, two bring the same file, or the image's Python does not run here (x86-64 only).
    """
    tree, kernel = image_tree(tuple(fetch(packages, cache).items()))
    if not kernel:
        raise FedcallError("the lock names no kernel (linux-image-…)")
    own = own_digest()
    packed = _compiled_and_packed(tree)
    made = {
        "vmlinuz": kernel,
        "initrd.img": packed,
        "cmdline": COMMAND_LINE.format(kind=kind).encode(),
    }
    for name, content in made.items():
        write_bytes(output / name, content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}
    told = {"files": digests, "fedcall": own, "packages": [asdict(package) for package in packages]}
    write_text(output / "contents.json", json.dumps(told, indent=2) + "\n")
    return digests


def image_tree(files: Sequence[tuple[Package, Path]]) -> tuple[Tree, bytes]:
    """Return what the image holds, before Python files are compiled, and the kernel (empty without its package)."""
    tree, kernel = Tree(), b""
    for package, path in files:
        if package.kind == "wheel":
            add_wheel(tree, path)
        elif package.name.startswith("linux-image-"):
            kernel = add_kernel(tree, path)
        else:
            add_debian(tree, path)
    add_own(tree, OWN)
    _finish(tree)
    return tree, kernel


def own_digest() -> str:
    """Return the SHA-256 of fedcall's own files as they go into an image."""
    tree = Tree()
    add_own(tree, OWN)
    return hashlib.sha256(initramfs(tree)).hexdigest()


def _finish(tree: Tree) -> None:
    """Add what no package brings: the first program, and the few files that libraries look for."""
    tree.file("init", _INIT.encode(), is_executable=True)
    for path, text in _ACCOUNTS.items():
        tree.file(path, text.encode())
    for path, target in (("lib", "usr/lib"), ("lib64", "usr/lib64")):
        tree.link(path, target)
    for path in ("dev", "proc", "sys", "tmp", "lent"):
        tree.folder(path)


def _compiled_and_packed(tree: Tree) -> bytes:
    """Return the initramfs, with compiled Python files, compressed; both by the image's own Python."""
    with tempfile.TemporaryDirectory(prefix="fedcall-image-") as name:
        root = Path(name)
        for path, entry in tree.entries.items():
            if path.startswith("usr/") and not (root / path).exists():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                if stat.S_ISLNK(entry.mode):
                    target = entry.content.decode()
                    (root / path).symlink_to(f"{root}/usr{target}" if target.startswith("/lib") else target)
                elif stat.S_ISREG(entry.mode):
                    (root / path).write_bytes(entry.content)
                    (root / path).chmod(stat.S_IMODE(entry.mode))
        for prefix in ("usr/lib/python3.11", SITE):
            _own_python(root, _COMPILE, str(root), str(root / prefix))
        for compiled in sorted(root.rglob("*.pyc")):
            tree.file(compiled.relative_to(root).as_posix(), compiled.read_bytes())
        return _own_python(root, _COMPRESS, stdin=initramfs(tree))


def _own_python(root: Path, program: str, *arguments: str, stdin: bytes = b"") -> bytes:
    libraries = root / "usr" / "lib" / "x86_64-linux-gnu"
    command = [
        *(str(root / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
        *(str(root / PYTHON), "-s", "-S", "-B", "-c", program, *arguments),
    ]
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(command, input=stdin, env=environment, capture_output=True, check=False)
    except OSError as error:
        raise FedcallError(f"the image's Python does not run here ({error.strerror}); build on x86-64 Linux") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise FedcallError(f"the image's Python failed: {said[-1] if said else done.returncode}")
    return done.stdout
