"""Fixtures of the workflow's tests."""

from pathlib import Path

import pytest

from rehearsal_workspace import COHORT, STUDY, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a folder with the tiny study, nothing run."""
    return Workspace.create(tmp_path / "workspace", COHORT, STUDY)
