"""Kernels are compiled once per machine; damaged records never make them leave their arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import numpy as np
from fedcall import compiled
from fedcall.genomics.reads import record_kernels
assert record_kernels.skip_header(np.zeros(20, np.uint8)) == -1
print(int("numba" not in sys.modules), next(compiled.cache_folder().glob("*skip_header*.native")).parent)
"""
# Called for the same in one process that compiles and in another that runs what the first kept.
ODD_KERNELS = """
import sys
import numpy as np
from fedcall.compiled import inlined, kernel

@inlined
def doubled(value):
    return 2 * value

@kernel
def added(values, more):
    return doubled(values.sum()) + more

@kernel
def split(values, least):
    if least < 0:
        raise ValueError("least is negative")
    return values[values >= least], np.zeros((2, 3), np.float32), len(values) > 3, added(values, least)

def shown(call):
    try:
        result = call()
        values = result if isinstance(result, tuple) else (result,)
        return [(value.tolist(), value.dtype) if getattr(value, "shape", ()) else float(value) for value in values]
    except (ValueError, ZeroDivisionError) as error:
        return repr(error)

from_python = added  # numba gets its own view of what kernels call under this module's names
values = np.arange(12, dtype=np.int64)
readonly = np.arange(4, dtype=np.int64)
readonly.flags.writeable = False
for arguments in [
    (values, 3), (values.astype(np.float32), 3), (values[::2], 3), (readonly, 3), (values, -1), (values, 2.5),
    (values, np.int64(5)), (np.zeros(0, np.int64), 1), (values.astype(">i8").astype(np.int8), 3),
    (values.reshape(3, 4)[:, 1], 3), (np.frombuffer(b"123456789", np.uint8), 52), (values, True),
]:
    print(shown(lambda: split(*arguments)))
print(shown(lambda: from_python(more=7, values=values)))
print("numba" in sys.modules, file=sys.stderr)
"""
FUZZ = Path(__file__).parents[1] / "support/fuzz_records.py"


def start(**environment: str) -> tuple[int, Path]:
    """Return (kernels found compiled, folder they lie in) of a fresh process."""
    ours = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=ours | environment, capture_output=True, text=True, check=True
    )
    hits, folder = result.stdout.split(maxsplit=1)
    return int(hits), Path(folder.strip())


def test_kernel__a_second_process_compiles_nothing(tmp_path: Path) -> None:
    first, folder = start(XDG_CACHE_HOME=str(tmp_path))
    second, _ = start(XDG_CACHE_HOME=str(tmp_path))
    assert (first, second) == (0, 1)
    assert folder.is_relative_to(tmp_path), "an installed package may be read-only"


def test_kernel__without_a_home_to_write_to(tmp_path: Path) -> None:
    nowhere = "/dev/null/cache"
    hits = [start(XDG_CACHE_HOME=nowhere, TMPDIR=str(tmp_path))[0] for _ in range(2)]
    assert hits == [0, 1]


def test_kernel__a_folder_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    _, folder = start(XDG_CACHE_HOME=str(tmp_path / "home"))
    folder.chmod(0o777)
    (tmp_path / "temporary").mkdir()
    hits, elsewhere = start(XDG_CACHE_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "temporary"))
    assert hits == 0
    assert elsewhere.is_relative_to(tmp_path / "temporary")


def test_kernel__kept_code_does_what_numba_does(tmp_path: Path) -> None:
    (tmp_path / "odd_kernels.py").write_text(ODD_KERNELS)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(**options: str) -> tuple[str, str]:
        command = [sys.executable, str(tmp_path / "odd_kernels.py")]
        done = subprocess.run(command, env=environment | options, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr.strip()

    compiling, again, plain = run(), run(), run(NUMBA_DISABLE_JIT="1")
    assert compiling[0] == again[0]
    assert (compiling[1], again[1]) == ("True", "False")
    assert "least is negative" in again[0]
    assert again[0] == plain[0], "machine code and Python agree"


def test_kernel__damaged_code_is_compiled_again(tmp_path: Path) -> None:
    _, folder = start(XDG_CACHE_HOME=str(tmp_path))
    (kept,) = folder.glob("*skip_header*.native")
    whole = kept.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], whole[:5000] + b"x" + whole[5001:]):
        kept.write_bytes(damaged)
        assert start(XDG_CACHE_HOME=str(tmp_path))[0] == 0
        kept.write_bytes(whole)
    assert start(XDG_CACHE_HOME=str(tmp_path))[0] == 1


@pytest.mark.parametrize(("records", "checked"), [(10_000, False), (2_000, True)])
def test_extract_examples__mutated_records(tmp_path: Path, records: int, checked: bool) -> None:
    environment = dict(os.environ)
    if checked:
        # Compiled anew, with every index checked: what plain code would silently read is an error here.
        environment |= {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    result = subprocess.run(
        [sys.executable, str(FUZZ), str(tmp_path), str(records)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    mutated, _, files, _, refused, *_ = result.stdout.split()
    assert int(mutated) >= records
    assert 0.2 < int(refused) / int(files) < 0.9
