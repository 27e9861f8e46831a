"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

import processor_seconds
from built_once import built_once
from chosen_tests import QUICK, order
from rehearsal_workspace import COHORT, STUDY, Workspace

# Continuous integration tries the same cases every time; everybody else tries new ones. A busy machine is no failure.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what this suite's command line knows beside pytest's."""
    processor_seconds.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Measure what tests cost where that is asked for."""
    processor_seconds.plug_in(config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files that are not quick unread where only quick tests are asked for."""
    if config.getoption("markexpr").startswith("quick") and collection_path.suffix == ".py":
        return collection_path.relative_to(ROOT).as_posix() not in QUICK
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests, and begin with the files that take longest."""
    for item in items:
        if item.path.relative_to(ROOT).as_posix() in QUICK:
            item.add_marker("quick")
    items.sort(key=lambda item: order(item.path.relative_to(ROOT).as_posix()))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public sequencing data beside the checkout, or skip."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no public sequencing data at {folder}")
    return folder


@pytest.fixture(scope="session")
def simulated_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small simulated cohort: two hospitals of two, one holdout each, one public; 12 kb."""
    from fedcall.simulation.cohort import simulate_cohort
    from fedcall.workflow.configuration import SimulatedCohort

    cohort = SimulatedCohort(
        seed=7, sites={"north": 2, "south": 2}, holdout=1, public=1, region_length=12_000, depth=20.0
    )
    return built_once(tmp_path_factory, "cohort", lambda folder: simulate_cohort(cohort, folder))


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a folder in which the tiny study was rehearsed to its end; tests that change it must leave it whole."""
    return Workspace(built_once(tmp_path_factory, "rehearsal", _rehearse))


def _rehearse(folder: Path) -> None:
    result = Workspace.create(folder, COHORT, STUDY).snakemake("--quiet", "rules", "reason")
    assert result.returncode == 0, result.stdout[-6000:]
