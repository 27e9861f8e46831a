"""The documentation builds without a warning: every link leads somewhere, every page is reachable."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

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
    above = [p.name for p in REPOSITORY.glob("*.md")]
    pages = [*above, "config/README.md", *(f"docs/{p.name}" for p in REPOSITORY.glob("docs/*.md"))]
    missing = [page for page in pages if not (site / page).with_suffix(".html").exists()]
    assert missing == []


def test_documentation__reference_names_every_key_and_every_command(site: Path) -> None:
    configuration = (site / "docs/reference/configuration.html").read_text()
    commands = (site / "docs/reference/command-line.html").read_text()
    assert all(key in configuration for key in ("approved_study", "noise_multiplier", "alignments", "log_head"))
    assert all(f"fedcall {name}" in commands for name in ("ledger verify", "train-round", "privacy plan"))


def snakemake_commands() -> list[tuple[str, str]]:
    """Return (file, words after `snakemake`) of the commands that pages and configurations tell people to run."""
    written = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("config/**/*.*")]
    found = []
    for path in written:
        text = path.read_text().replace("\\\n", " ")
        inline = re.findall(r"`snakemake ([^`]+ [^`]+)`", text)
        lines = re.findall(r"^[ #$]*snakemake (-.*|[a-z_]+ -.*)$", text, re.MULTILINE)
        found += [(path.name, words) for words in inline + lines]
    return found


@pytest.mark.parametrize(("page", "words"), snakemake_commands())
def test_documentation__snakemake_takes_the_commands_as_they_are_meant(page: str, words: str) -> None:
    options = get_argument_parser().parse_args(shlex.split(words, comments=True))
    # Options such as --configfile and --quiet take every word that follows, a target too.
    assert all(str(path).endswith(".yaml") for path in options.configfile or ()), page
    assert all("=" in str(item) for item in options.config or ()), page
    assert all(re.fullmatch(r"[a-z_]+", str(target)) for target in options.targets), page


def test_documentation__the_plan_is_that_of_the_file_it_names() -> None:
    page = (REPOSITORY / "docs/running-a-study.md").read_text()
    shown = page.split("$ fedcall privacy plan --study study.yaml\n")[1].split("```")[0]
    command = [sys.executable, "-m", "fedcall", "privacy", "plan", "--study", "docs/pilot/study.yaml"]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout == shown
