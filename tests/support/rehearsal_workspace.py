"""A working directory in which the workflow of this checkout runs a small rehearsal."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from built_once import copied
from forked import run_forked

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]

COHORT = {"seed": 7, "sites": {"north": 3, "south": 3}, "holdout": 1, "public": 2, "region_length": 4000, "depth": 20}
STUDY = {
    "name": "tiny",
    "rounds": 2,
    "privacy": {
        "noise_multiplier": 2.0,
        "sampling_rate": 0.5,
        "steps_per_round": 3,
        "rows_per_unit": 16,
        "delta": 0.01,
        "max_epsilon": 20.0,
    },
}


@dataclass(frozen=True)
class Workspace:
    """A folder with a configuration, and the workflow to run in it."""

    path: Path

    @classmethod
    def create(cls, path: Path, cohort: dict, study: dict) -> "Workspace":
        (path / "config").mkdir(parents=True)
        (path / "config/study.yaml").write_text(yaml.safe_dump(study))
        (path / "config/config.yaml").write_text(yaml.safe_dump({"study": "config/study.yaml", "cohort": cohort}))
        return cls(path)

    def copy(self, path: Path) -> "Workspace":
        """Return a copy with everything in it, times of files included."""
        return type(self)(copied(self.path, path))

    def snakemake(self, *options: object, timeout: int = 1800) -> subprocess.CompletedProcess[str]:
        """Run the workflow; its two streams together are the result's `stdout`."""
        return run_forked(
            *("snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", *options),
            cwd=self.path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            together=True,
            timeout=timeout,
        )

    def fedcall(self, *arguments: object) -> str:
        """Run a command of fedcall that must succeed; return what it prints."""
        return run_forked("fedcall", *arguments, cwd=self.path, check=True).stdout
