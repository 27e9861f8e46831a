"""Compile loops once per machine and version, not once per process.

A kernel is compiled by numba at its first call for arguments of a kind. Its machine code is kept in a folder of the
user's own, under the digest of all kernels and of what compiled them; later processes run it from there without
importing numba (`native.py`). numba's own cache lies in the same folder, for arguments that only numba can tell apart.
`NUMBA_CACHE_DIR` names another folder, for example one made with a container's image.
"""

import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from fedcall import native

Function = TypeVar("Function", bound=Callable[..., Any])


class Kernel:
    """A function that runs as machine code, called like the Python function it was made of."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self._options = options
        self._entries: dict[Hashable, Callable[..., Any]] = {}
        functools.update_wrapper(self, function)
        _KERNELS.append(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named:
            code = self.function.__code__
            arguments = (*arguments, *(named.pop(name) for name in code.co_varnames[len(arguments) : code.co_argcount]))
            if named:
                raise TypeError(f"{self.function.__name__}() got unexpected arguments: {', '.join(named)}")
        key = native.key_of(arguments)
        entry = self._entries.get(key)
        if entry is None:
            return self._first_call(key, arguments)
        return entry(*arguments)

    def __getattr__(self, name: str) -> Any:
        # numba looks at kernels that other kernels call.
        if name == "_numba_dispatcher" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """numba's own view of this kernel."""
        import numba

        numba.config.CACHE_DIR = str(_folder())
        return numba.njit(self.function, cache=True, nogil=True, **self._options)

    def _first_call(self, key: Hashable | None, arguments: tuple[Any, ...]) -> Any:
        if key is None:
            return self._with_numba()(*arguments)
        path = native.path_of(_folder(), self.function, key)
        entry = native.load(path, self.function)
        if entry is not None:
            self._entries[key] = entry
            return entry(*arguments)
        dispatcher = self._with_numba()
        signature = tuple(dispatcher.typeof_pyval(argument) for argument in arguments)
        result = dispatcher(*arguments)
        compiled = dispatcher.overloads.get(signature)
        if compiled is not None:
            native.keep(path, compiled)
        self._entries[key] = dispatcher
        return result

    def _with_numba(self) -> Any:
        """Return numba's dispatcher, after giving numba its own view of the kernels that kernels call."""
        for kernel in _KERNELS:
            names = kernel.function.__globals__
            for name in kernel.function.__code__.co_names:
                if isinstance(names.get(name), Kernel):
                    names[name] = names[name].dispatcher
        return self.dispatcher


_KERNELS: list[Kernel] = []


def kernel(function: Function) -> Function:
    """Compile a function at its first call, or load what an earlier process compiled; it runs without the GIL."""
    return function if _uncompiled() else cast(Function, Kernel(function))


def inlined(function: Function) -> Function:
    """Compile a small function into each kernel that calls it."""
    return function if _uncompiled() else cast(Function, Kernel(function, inline="always"))


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


@functools.cache
def _folder() -> Path:
    """Return the folder of this process's kernels; what `NUMBA_CACHE_DIR` names is kept apart by digest, too."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    return Path(given) / _digest_of_kernels() if given else cache_folder()


@functools.cache
def _digest_of_kernels() -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} numpy {np.__version__}".encode())
    # Options of numba change what it compiles: NUMBA_BOUNDSCHECK checks every index.
    options = {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}
    options.pop("NUMBA_CACHE_DIR", None)
    digest.update(repr(sorted(options.items())).encode())
    for package in ("numba", "llvmlite"):
        # The version, read from the file: importing numba is what this saves.
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.origin is not None
        digest.update(Path(found.origin).with_name("_version.py").read_bytes())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.stem.endswith("_kernels") or path.stem in ("compiled", "native", "record_fields", "read_places"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _uncompiled() -> bool:
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
