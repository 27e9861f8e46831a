"""Machine code of the kernels, kept on disk and run again without importing numba.

Importing numba and letting it load its own cache takes most of a second of processor time, which a workflow pays in
each of its hundreds of short jobs. What numba compiled is ordinary object code with an entry that takes Python's
arguments; llvmlite links it to three of numba's extension modules, which load without the rest of numba.

Only what a process compiled with numba itself is kept, under the digest of everything it depends on (`compiled.py`).
Any doubt (another type of argument, a damaged file, an entry that cannot be linked) leads back to numba.
"""

import builtins
import ctypes
import hashlib
import importlib.machinery
import importlib.util
import os
import pickle
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fedcall.files import atomic_path

_LOCK = threading.RLock()
_KNOWN_NUMBA = ("0.68.",)
"""Versions whose internals this file was tried with; the kernels of any other are left to numba."""
# Of numpy's flags: C and Fortran order, aligned, writable. numba compiles for each apart.
_C_ORDER, _F_ORDER, _ALIGNED, _WRITABLE = 0x1, 0x2, 0x100, 0x400
_FLAGS = _C_ORDER | _F_ORDER | _ALIGNED | _WRITABLE
_SCALARS = frozenset({bool, int, float, bytes, *(kind for kind in np.sctypeDict.values() if kind is not np.object_)})
_UNPICKLE = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
# Extension modules of numba that compiled code calls, with the prefix numba gives the names in each.
_HELPERS = (("_helperlib", "numba_"), ("_dynfunc", "numba_"), ("core.runtime._nrt_python", "NRT_"))


def key_of(arguments: tuple[Any, ...]) -> Hashable | None:
    """Return what numba compiles apart for these arguments: their types; nothing if only numba can tell."""
    key: list[Hashable] = []
    for argument in arguments:
        kind: Any = type(argument)
        if kind is np.ndarray:
            flags = argument.flags.num & _FLAGS
            key.append((argument.dtype, argument.ndim, flags & ~_F_ORDER if flags & _C_ORDER else flags))
        elif kind in _SCALARS:
            key.append(kind)
        else:
            return None
    return tuple(key)


def path_of(folder: Path, function: Callable[..., Any], key: Hashable) -> Path:
    """Return where the code of a function for arguments of one kind lies on this type of processor."""
    digest = hashlib.sha256(repr((_processor(), key)).encode()).hexdigest()[:16]
    return folder / f"{function.__module__}.{function.__qualname__}.{digest}.native"


def keep(path: Path, compiled: Any) -> None:
    """Write what numba compiled; nothing if it needs more of numba than is known here.

    Parameters
    ----------
    compiled : numba's CompileResult
    """
    import numba  # what was compiled came from it

    if not numba.__version__.startswith(_KNOWN_NUMBA):
        return
    try:
        if compiled.reload_init or compiled.objectmode or compiled.lifted:
            return
        found = getattr(compiled, "referenced_envs", None) or compiled._find_referenced_environments()
        environments = {environment.env_name: list(environment.consts) for environment in found}
        own = compiled.target_context.get_env_name(compiled.fndesc)
        environments[own] = list(compiled.environment.consts)
        content = pickle.dumps(
            {
                "entry": compiled.fndesc.llvm_cpython_wrapper_name,
                "own": own,
                "environments": environments,
                "object": compiled.library._get_compiled_object(),
            }
        )
        with atomic_path(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
    except (AttributeError, OSError, RuntimeError, TypeError, ValueError, pickle.PicklingError):
        return  # a folder that cannot be written, or a numba that is built otherwise: it loads its own cache


def load(path: Path, function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the entry of code that `keep` wrote, or nothing."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    try:
        with _LOCK:
            return _machine().link(pickle.loads(content[32:]), function)
    except (AttributeError, ImportError, KeyError, RuntimeError, pickle.UnpicklingError):
        return None


class _Machine:
    """LLVM's linker in this process, with the names that compiled code refers to."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm = llvm
        modules = {name: _extension(name) for name, _ in _HELPERS}
        for name, prefix in _HELPERS:
            for helper, address in modules[name].c_helpers.items():
                # The runtime's own begin with an underscore and have no prefix.
                own = prefix == "NRT_" and helper.startswith("_")
                llvm.add_symbol(helper if own else prefix + helper, address)
        llvm.add_symbol("_Py_NoneStruct", id(None))
        # numba's own way to objects that code returns, such as the type of arrays, imports numba.
        self._unpickled: dict[bytes, Any] = {}
        self._unpickle = _UNPICKLE(self._object_of)
        llvm.add_symbol("numba_unpickle", ctypes.cast(self._unpickle, ctypes.c_void_p).value)
        for value in vars(builtins).values():
            if isinstance(value, type) and issubclass(value, BaseException):
                llvm.add_symbol(f"PyExc_{value.__name__}", id(value))
        self._dynfunc = modules["_dynfunc"]
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        self._environments: list[Any] = []  # compiled code points at them

    def link(self, code: dict[str, Any], function: Callable[..., Any]) -> Callable[..., Any]:
        self._engine.add_object_file(self._llvm.object_file.ObjectFileRef.from_data(code["object"]))
        self._engine.finalize_object()
        for name, constants in code["environments"].items():
            address = self._engine.get_global_value_address(name)
            environment = self._dynfunc.Environment(function.__globals__)
            environment.consts[:] = constants
            self._environments.append(environment)
            if name == code["own"]:
                own = environment
            if address:
                ctypes.c_void_p.from_address(address).value = id(environment)
        entry = self._engine.get_function_address(code["entry"])
        if not entry:
            raise KeyError(code["entry"])
        module = importlib.import_module(function.__module__)
        made: Callable[..., Any] = self._dynfunc.make_function(module, function.__name__, "", entry, own, (self,))
        return made

    def _object_of(self, address: int, length: int, _: int) -> Any:
        content = ctypes.string_at(address, length)
        if content not in self._unpickled:
            self._unpickled[content] = pickle.loads(content)
        return self._unpickled[content]


_machines: list[_Machine] = []
_processors: list[str] = []


def _machine() -> _Machine:
    if not _machines:
        _machines.append(_Machine())
    return _machines[0]


def _processor() -> str:
    if not _processors:
        import llvmlite.binding as llvm

        features = llvm.get_host_cpu_features()
        _processors.append(f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {sorted(features.items())}")
    return _processors[0]


def _extension(name: str) -> ModuleType:
    """Load an extension module of numba without running numba's own `__init__`."""
    found = importlib.util.find_spec("numba")
    if found is None or not found.submodule_search_locations:
        raise ImportError("numba")
    *folders, stem = name.split(".")
    folder = Path(found.submodule_search_locations[0], *folders)
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            # Under its full name: when numba itself is imported later, Python gives it this very module.
            loader = importlib.machinery.ExtensionFileLoader(f"numba.{name}", os.fspath(path))
            spec = importlib.util.spec_from_file_location(f"numba.{name}", path, loader=loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
            return module
    raise ImportError(f"numba.{name}")
