"""`fedcall utility` through the shell: what it refuses."""

import subprocess
from pathlib import Path

import pytest

from forked import run_forked

ROOT = Path(__file__).resolve().parents[2]


def fedcall_utility(cohort: Path, sheet: Path, *more: object) -> subprocess.CompletedProcess[str]:
    options = {
        "study": ROOT / "config/utility/patient.yaml",
        "samples": sheet,
        "reference": cohort / "reference.fa",
        "results": cohort,
        "initial": cohort / "initial.safetensors",
        "output": cohort / "point.json",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return run_forked("fedcall", "utility", *given, *more)


def test_utility__private_people_are_refused_in_one_line(simulated_cohort: Path):
    sheet = simulated_cohort / "private.tsv"
    rows = (simulated_cohort / "samples.tsv").read_text().splitlines(keepends=True)
    sheet.write_text("".join(row if "\tpublic\t" in row else row.replace("\tno\n", "\tyes\n") for row in rows))
    done = fedcall_utility(simulated_cohort, sheet)
    sheet.unlink()
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "6 of 6 people are private" in done.stderr
    assert not (simulated_cohort / "point.json").exists()


@pytest.mark.parametrize("epsilon", [0, -1, "nan"])
def test_utility__epsilon_must_be_positive(simulated_cohort: Path, epsilon: object):
    done = fedcall_utility(simulated_cohort, simulated_cohort / "samples.tsv", "--epsilon", epsilon)
    assert done.returncode == 2
    assert f"--epsilon {epsilon}: must be positive" in done.stderr
