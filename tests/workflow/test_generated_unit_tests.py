"""`snakemake --generate-unit-tests`: of the rules that read and write data alone, tests come out that pass."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rehearsal_workspace import BIN, ROOT, Workspace

RULES = (
    "prepare_training_patient",
    "prepare_patient",
    "call_variants",
    "call_classical",
    "evaluate_baselines",
    "evaluate_patient",
)


@pytest.mark.slow
def test_generated_unit_tests__pass_where_no_key_is_needed(rehearsal: Workspace, tmp_path: Path) -> None:
    folder = rehearsal.copy(tmp_path / "run").path
    # Snakemake makes tests where the workflow lies: in a clone.
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    tests = [f".tests/unit/test_{rule}.py" for rule in RULES]
    # Options for our pytest, such as --processor-seconds, are unknown to the one that runs there.
    ours = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    for command in ([BIN / "snakemake", "--generate-unit-tests"], [BIN / "pytest", "-q", *tests]):
        ran = subprocess.run(
            command,
            cwd=folder,
            env=ours | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert ran.returncode == 0, ran.stdout[-4000:]
    # Keys and ledgers are no inputs: no copy of them lies in a folder of tests that somebody might share.
    assert not [*folder.glob(".tests/**/secret"), *folder.glob(".tests/**/ledger.sqlite*")]
