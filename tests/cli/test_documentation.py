"""The documentation builds without a warning: every link leads somewhere, every page is reachable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site."""
    output = tmp_path_factory.mktemp("docs")
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(output)]
    run = subprocess.run(sphinx, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    assert run.returncode == 0, run.stderr
    return output


def test_documentation__every_page_in_the_repository_is_on_the_site(site: Path) -> None:
    pages = ["README.md", "CHANGELOG.md", "config/README.md", *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md"))]
    missing = [page for page in pages if not (site / page).with_suffix(".html").exists()]
    assert missing == []


def test_documentation__reference_names_every_key_and_every_command(site: Path) -> None:
    configuration = (site / "docs/reference/configuration.html").read_text()
    commands = (site / "docs/reference/command-line.html").read_text()
    assert all(key in configuration for key in ("approved_study", "noise_multiplier", "alignments", "log_head"))
    assert all(f"fedcall {name}" in commands for name in ("ledger verify", "train-round", "privacy plan"))
