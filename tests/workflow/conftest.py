"""Fixtures of the workflow's tests."""

from pathlib import Path

import pytest
from rehearsal_workspace import COHORT, STUDY, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a folder with the tiny study, nothing run."""
    return Workspace.create(tmp_path / "workspace", COHORT, STUDY)


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a folder in which the tiny study was rehearsed to its end; tests that change it must leave it whole."""
    workspace = Workspace.create(tmp_path_factory.mktemp("rehearsal") / "workspace", COHORT, STUDY)
    result = workspace.snakemake("--quiet", "rules", "reason")
    assert result.returncode == 0, result.stdout[-6000:]
    return workspace
