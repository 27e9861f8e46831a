"""Several commands on one line, with `--then` between them."""

import subprocess
from pathlib import Path

import pytest

from fedcall.cli.commands import in_turn
from forked import run_forked


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments, cwd=folder)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Two people of 1 kb, their truths normalised in one line."""
    size = ("--region-length", 1000, "--depth", 4, "--holdout", 0, "--public", 0)
    assert run(tmp_path, "simulate", "--site", "north=2", *size, "--output", ".").returncode == 0
    return tmp_path


def labels(name: str, output: str) -> tuple[str, ...]:
    files = ("--truth", f"{name}.truth.vcf.gz", "--reference", "reference.fa", "--output", output)
    return ("normalise-labels", *files)


def test_then__writes_what_each_command_writes_alone(people: Path) -> None:
    both = run(people, *labels("north-001", "1.vcf.gz"), "--then", *labels("north-002", "2.vcf.gz"))
    assert both.returncode == 0, both.stderr
    alone = [run(people, *labels(f"north-00{number}", f"alone-{number}.vcf.gz")) for number in (1, 2)]
    for number in (1, 2):
        together, apart = (people / name for name in (f"{number}.vcf.gz", f"alone-{number}.vcf.gz"))
        assert together.read_bytes() == apart.read_bytes()
    assert both.stdout.replace(" 1.vcf", " alone-1.vcf").count("\n") == sum(one.stdout.count("\n") for one in alone)


def test_then__ends_with_the_first_that_fails_and_its_exit_status(people: Path) -> None:
    ended = run(people, *labels("nobody", "1.vcf.gz"), "--then", *labels("north-002", "2.vcf.gz"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("fedcall: ")
    assert len(ended.stderr.splitlines()) == 1
    assert not (people / "2.vcf.gz").exists()


def test_then__a_wrong_option_of_a_later_command_is_a_mistake(people: Path) -> None:
    ended = run(people, *labels("north-001", "1.vcf.gz"), "--then", "gather", "--nonsense", "x")
    assert ended.returncode == 2
    assert "--nonsense" in ended.stderr


def test_in_turn__a_line_without_it_is_one_command() -> None:
    assert in_turn(["check", "config.yaml"]) == [["check", "config.yaml"]]
    assert in_turn([]) == [[]]
