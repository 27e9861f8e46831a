"""`fedcall recalibrate` through the shell, and what pileup and call do with its table."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedcall.files import sha256_file
from fedcall.genomics.examples import open_examples
from fedcall.model.caller import build_model, save_model
from forked import run_forked
from reads_with_errors import oxidised, write_person

FEDCALL = Path(sys.executable).with_name("fedcall")


def fedcall(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recalibrate")
    write_person(path, 0.01, 35, oxidised(0.02), name="patient.bam")
    write_person(path, 0.01, 35, seed=2, name="other.bam")
    save_model(path / "model", build_model())
    return path


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    output = folder / "patient.json"
    done = fedcall(
        "recalibrate",
        "--alignments",
        folder / "patient.bam",
        "--reference",
        folder / "reference.fa",
        "--output",
        output,
    )
    assert done.returncode == 0, done.stderr
    assert "qualities are lowered" in done.stdout
    assert "G>T in read 1" in done.stdout
    return output


def test_pileup_and_call__use_the_table_and_say_so(folder: Path, table: Path) -> None:
    files = ("--alignments", folder / "patient.bam", "--reference", folder / "reference.fa")
    counts, calls = [], []
    for name, more in (("plain", ()), ("table", ("--recalibration", table))):
        assert fedcall("pileup", *files, *more, "--output", folder / f"{name}.safetensors").returncode == 0
        counts.append(len(open_examples(folder / f"{name}.safetensors")))
        output = folder / f"{name}.vcf.gz"
        assert fedcall("call", "--model", folder / "model", *files, *more, "--output", output).returncode == 0
        calls.append(gzip.decompress(output.read_bytes()).decode())
    assert "##fedcall_recalibration" not in calls[0]
    assert f"##fedcall_recalibration={sha256_file(table)}\n" in calls[1]
    # The person has no variant: every call is an error, or damage.
    false = [sum(not line.startswith("#") for line in text.splitlines()) for text in calls]
    assert false[1] < false[0] / 5


@pytest.mark.parametrize("command", ["pileup", "call"])
def test_recalibration__of_other_reads_is_refused_in_one_line(folder: Path, table: Path, command: str) -> None:
    files = ("--alignments", folder / "other.bam", "--reference", folder / "reference.fa", "--recalibration", table)
    more = ("--model", folder / "model") if command == "call" else ()
    done = fedcall(command, *more, *files, "--output", folder / "refused.vcf.gz")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"fedcall: {table}: made from other reads")
    assert not (folder / "refused.vcf.gz").exists()


def test_recalibration__missing_or_damaged_is_refused(folder: Path, table: Path) -> None:
    files = ("--alignments", folder / "patient.bam", "--reference", folder / "reference.fa")
    damaged = folder / "damaged.json"
    damaged.write_text(json.dumps(json.loads(table.read_text()) | {"counted": -1}))
    for path, words in ((folder / "none.json", "cannot be read"), (damaged, "counted")):
        done = fedcall("pileup", *files, "--recalibration", path, "--output", folder / "refused.safetensors")
        assert done.returncode == 2
        assert done.stderr.startswith(f"fedcall: {path}: ")
        assert words in done.stderr
