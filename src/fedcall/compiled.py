"""Compile loops once per machine and version, not once per process.

numba keeps compiled code beside the source, which an installed package may not allow and which misses that a kernel of
another module changed. Here it lies in a folder of the user's own, under the digest of all kernels; inside, numba keeps
each type of processor apart. `NUMBA_CACHE_DIR` names another folder, for example one made with a container's image.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function at its first call, or load what an earlier process compiled; it runs without the GIL."""
    return cast(Function, numba.njit(function, cache=True, nogil=True))


def inlined(function: Function) -> Function:
    """Compile a small function into each kernel that calls it."""
    return cast(Function, numba.njit(function, cache=True, nogil=True, inline="always"))


def cache_folder() -> Path:
    """Return the folder for compiled kernels: the first the user alone can write to, of `candidate_folders`.

    Compiled code is executed when it is loaded, so nobody else may be able to write it.
    """
    for folder in candidate_folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            found = folder.stat()
        except OSError:
            continue
        if found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="fedcall-kernels-"))


def candidate_folders() -> list[Path]:
    """Return where compiled kernels may lie, best first: the user's cache, else the machine's temporary folder."""
    digest = _digest_of_kernels()
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    temporary = Path(tempfile.gettempdir()) / f"fedcall-{os.getuid()}"
    return [Path(cache) / "fedcall" / "kernels" / digest, temporary / "kernels" / digest]


def _digest_of_kernels() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.stem.endswith("_kernels") or path.stem in ("compiled", "record_fields"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = str(cache_folder())
