"""`snakemake --sdm conda`: environments that are made, activated and used again, from a channel made on the spot."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rattler
import yaml

from forked import run_forked
from offline_channel import write_channel
from rehearsal_workspace import COHORT, ROOT, STUDY, Workspace
from write_dockerfile import dockerfile

BY_HAND = ROOT / "workflow/envs/encryption.yaml"  # OpenFHE's own Python, which every part of an encrypted study needs
ENVIRONMENTS = sorted(path for path in (ROOT / "workflow/envs").glob("*.yaml") if path != BY_HAND)
RULES = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
SHIM = Path(__file__).with_name("conda_shim.py")
# As conda's own: `source activate PREFIX`.
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def dependencies(path: Path) -> list[str]:
    return yaml.safe_load(path.read_text())["dependencies"]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments__every_line_is_an_exact_strict_spec(path):
    for line in dependencies(path):
        assert rattler.MatchSpec(line, strict=True).version is not None, f"{path.name}: {line} has no version"


def test_environments__each_is_used_and_every_one_used_exists():
    used = set(re.findall(r'"\.\./envs/(\w+\.yaml)"', RULES))
    assert used == {path.name for path in (*ENVIRONMENTS, BY_HAND)}


def test_environments__the_one_made_by_hand_pins_what_make_installs():
    *conda, pip = dependencies(BY_HAND)
    pinned = {rattler.MatchSpec(line, strict=True).name.normalized: line.partition("=")[2] for line in conda}
    pinned |= dict(line.split("==") for line in pip["pip"])
    wanted = BY_HAND.with_suffix(".txt").read_text().splitlines()
    made = dict(line.split("==") for line in wanted if not line.startswith("#"))
    assert made
    assert made.items() <= pinned.items()
    assert pinned["python"] == "3.10"  # where `fedcall.protection.bfv.find_interpreter` looks for OpenFHE


def test_environments__no_pin_file_beats_them():
    # Snakemake prefers NAME.linux-64.pin.txt to NAME.yaml, and never says that the two differ.
    assert not list((ROOT / "workflow/envs").glob("*.pin.txt"))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory) -> tuple[Workspace, dict[str, str], str]:
    """Return a workspace with all environments made, the variables that lead to our conda, and what Snakemake said."""
    folder = tmp_path_factory.mktemp("conda")
    channel = write_channel(folder / "channel", [line for path in ENVIRONMENTS for line in dependencies(path)])
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/conda").write_text(f'#!/bin/sh\nexec {sys.executable} {SHIM} {root} {channel} "$@"\n')
    (root / "bin/conda").chmod(0o755)
    (root / "bin/activate").write_text(ACTIVATE)
    variables = os.environ | {"PATH": f"{root}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    workspace = Workspace.create(folder / "workspace", COHORT, STUDY)
    made = run(workspace, variables, "--conda-create-envs-only")
    return workspace, variables, made


def run(workspace: Workspace, variables: dict[str, str], *options: str) -> str:
    """Run the workflow with environments; return what it says."""
    result = run_forked(
        *("snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "1", "--sdm", "conda", *options),
        cwd=workspace.path,
        env=variables,
        together=True,
    )
    assert result.returncode == 0, result.stdout[-6000:]
    return result.stdout


def prefixes(workspace: Workspace) -> dict[str, Path]:
    """Return the folder of every environment that was made, by name."""
    texts = {path.read_text(): path.stem for path in ENVIRONMENTS}
    folder = workspace.path / ".snakemake/conda"
    return {texts[path.read_text()]: path.with_suffix("") for path in folder.glob("*.yaml")}


@pytest.mark.slow
def test_deployment__environments_hold_what_is_pinned_and_fedcall_of_this_checkout(deployed):
    workspace, _, _ = deployed
    made = prefixes(workspace)
    assert set(made) >= {"federation", "reads", "reporting", "training"}
    for name, prefix in made.items():
        records = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
        pinned = dict(line.split(" =") for line in dependencies(ROOT / f"workflow/envs/{name}.yaml"))
        assert {record["name"]: record["version"] for record in records} == pinned
        where = "import fedcall, sys; print(fedcall.__file__, sys.prefix)"
        printed = subprocess.run([prefix / "bin/python", "-c", where], capture_output=True, text=True, check=True)
        assert printed.stdout.split() == [str(ROOT / "src/fedcall/__init__.py"), str(prefix)]


@pytest.mark.slow
def test_deployment__rules_run_in_their_environment_and_environments_are_used_again(deployed):
    workspace, variables, made = deployed
    assert "Creating conda environment" in made
    command = prefixes(workspace)["federation"] / "bin/fedcall"
    original = command.with_name("fedcall-original")
    command.rename(original)
    command.write_text(f'#!/bin/sh\necho "$CONDA_PREFIX" > {workspace.path}/used\nexec {original} "$@"\n')
    command.chmod(0o755)
    said = run(workspace, variables, "--", "results/tiny/north/site.json", "results/tiny/likelihood.safetensors")
    assert "Creating conda environment" not in said
    assert (workspace.path / "used").read_text().strip() == str(command.parent.parent)
    assert (workspace.path / "results/tiny/likelihood.safetensors").is_file()


def test_dockerfile__fits_the_environments():
    assert (ROOT / "Dockerfile").read_text() == dockerfile(), "run: python tests/conda/write_dockerfile.py"
