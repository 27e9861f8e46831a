"""Fixtures shared by all tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public sequencing data beside the checkout, or skip."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no public sequencing data at {folder}")
    return folder


@pytest.fixture(scope="session")
def simulated_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small simulated cohort: two hospitals of two, one holdout each, one public; 12 kb."""
    from fedcall.configuration import SimulatedCohort
    from fedcall.genomics.simulate import simulate_cohort

    folder = tmp_path_factory.mktemp("cohort")
    cohort = SimulatedCohort(
        seed=7, sites={"north": 2, "south": 2}, holdout=1, public=1, region_length=12_000, depth=20.0
    )
    simulate_cohort(cohort, folder)
    return folder
