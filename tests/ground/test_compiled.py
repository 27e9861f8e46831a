"""Kernels are compiled once per machine; damaged records never make them leave their arrays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import numpy as np
from fedcall import compiled
from fedcall.genomics.reads import record_kernels
assert record_kernels.skip_header(np.zeros(20, np.uint8)) == -1
print(len(record_kernels.skip_header.stats.cache_hits), record_kernels.skip_header._cache.cache_path)
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
    # The folder of this version's kernels; numba makes one for each source folder below it.
    ours = tmp_path / "home/fedcall/kernels" / folder.relative_to(tmp_path / "home/fedcall/kernels").parts[0]
    ours.chmod(0o777)
    (tmp_path / "temporary").mkdir()
    hits, elsewhere = start(XDG_CACHE_HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "temporary"))
    assert hits == 0
    assert elsewhere.is_relative_to(tmp_path / "temporary")


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
