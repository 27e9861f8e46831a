"""The workflow by the community's standards, and everything that must be kept in step with something else."""

import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from fedcall.workflow.configuration import Config
from fedcall.workflow.schemas import SCHEMAS, schema_path, schema_text

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
SNAKEFILES = [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
ENVIRONMENTS = sorted((ROOT / "workflow/envs").glob("*.yaml"))
# Environments of other people's callers, and of OpenFHE; what is in them is pinned in themselves.
OTHER_PROGRAMS = ("encryption", "freebayes", "gatk")
# Names that differ between conda-forge and PyPI.
PYPI_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "python-isal": "isal"}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / str(command[0]), *map(str, command[1:])],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("snakemake", "--lint"),
        ("snakefmt", "--check", "Snakefile", "workflow"),
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        pytest.param(("mypy",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_tools__find_nothing(command):
    result = run(*command)
    assert result.returncode == 0, result.stdout[-4000:]


def rules() -> dict[str, str]:
    """Return the text of every rule that stands on its own, by name."""
    found = {}
    for path in SNAKEFILES:
        blocks = re.split(r"^[ ]*(?=(?:use )?rule \w+)", path.read_text(), flags=re.MULTILINE)
        for block in blocks:
            match = re.match(r"rule (\w+):", block)
            if match:
                found[match[1]] = block
    return found


@pytest.mark.parametrize("name", [name for name in rules() if name != "all"])
def test_rules__have_log_benchmark_environment_and_resources(name):
    text = rules()[name]
    for directive in ("log", "benchmark", "(conda|container)", "threads", "resources", "shell"):
        assert re.search(rf"^ +{directive}:", text, flags=re.MULTILINE), f"rule {name} lacks {directive}"
    assert "mem_mb=" in text
    assert "runtime=" in text
    assert f'"logs/{name}/' in text
    assert f'"benchmarks/{name}/' in text


@pytest.mark.parametrize("rule", ["train_round", "judge_models"])
def test_rules__training_is_never_retried(rule):
    assert re.search(r"^ +retries: 0", rules()[rule], flags=re.MULTILINE)


def test_rules__local_are_those_that_use_the_network():
    text = (ROOT / "workflow/Snakefile").read_text()
    listed = re.search(r"localrules:\n((?: +\w+,\n)+)", text)
    assert listed is not None
    network = {name for name, block in rules().items() if "{params.endpoint}" in block}
    assert set(re.findall(r"\w+", listed[1])) == network | {"all"}


@pytest.mark.parametrize("path", SNAKEFILES, ids=lambda path: path.name)
def test_snakefiles__are_short_and_name_no_absolute_path(path):
    text = path.read_text()
    assert len(text.splitlines()) < 150
    assert not re.search(r"""["'\s](/(?:home|root|work|tmp|usr|opt|data)\b)""", text)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas__in_sync_with_models(name):
    path = schema_path(ROOT / "workflow/schemas", name)
    assert path.read_text() == schema_text(name), "run: python -m fedcall.workflow.schemas"


@pytest.mark.parametrize(
    ("schema", "file"),
    [("config", path.name) for path in sorted((ROOT / "config").glob("*.yaml")) if path.name != "study.yaml"]
    + [("study", str(path.relative_to(ROOT / "config"))) for path in sorted((ROOT / "config").rglob("study.yaml"))]
    + [
        ("study", f"{folder}/{study.name}")
        for folder in ("ceu", "utility")
        for study in sorted((ROOT / "config" / folder).glob("*.yaml"))
    ],
)
def test_schemas__accept_the_configurations_that_ship(schema, file):
    content = yaml.safe_load((ROOT / "config" / file).read_text())
    jsonschema.validate(content, yaml.safe_load(schema_text(schema)))


def test_configuration__every_key_is_documented():
    readme = (ROOT / "config/README.md").read_text()
    for name in ("config", "samples", "study"):
        schema = yaml.safe_load(schema_text(name))
        parts = [schema, *(schema["$defs"][part] for part in schema.get("$defs", {}) if part != "Site")]
        for key in (key for part in parts for key in part.get("properties", {})):
            assert f"`{key}`" in readme, f"config/README.md does not say what '{key}' means"


def test_configuration__defaults_are_as_documented():
    readme = (ROOT / "config/README.md").read_text()
    for key in ("ledger", "site_key", "device"):
        assert f"| `{key}` | `{Config.model_fields[key].default}` |" in readme


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments__pins_agree_with_constraints(path):
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    assert path.with_suffix(".post-deploy.sh").is_file() is (path.stem not in OTHER_PROGRAMS)
    if path.stem in OTHER_PROGRAMS:
        return  # neither fedcall nor anything of its constraints is in them
    for line in environment["dependencies"]:
        name, _, version = line.partition(" =")
        if name not in ("python", "pip"):
            assert version == constraints()[PYPI_NAMES.get(name, name)], f"{path.name}: {line}"


def test_constraints__cover_every_dependency():
    text = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'^ +"([A-Za-z0-9-]+)[\[>=<"]', text.split("[project.scripts]")[0], flags=re.MULTILINE)
    missing = {name.lower() for name in named} - set(constraints())
    assert not missing - {"license"}
