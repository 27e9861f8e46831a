"""`fedcall call`, `call-classical` and `concordance` through the shell."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from fedcall.model.caller import build_model, save_model
from forked import run_forked

FEDCALL = Path(sys.executable).with_name("fedcall")


def fedcall(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_forked("fedcall", *arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "fresh.safetensors"
    save_model(path, build_model(), {"study": "ab" * 32})
    return path


def call(model: Path, cohort: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    files = ("--alignments", cohort / "north-001.bam", "--reference", cohort / "reference.fa")
    return fedcall("call", "--model", model, *files, "--regions", cohort / "regions.bed", "--output", output, *more)


@pytest.fixture(scope="module")
def calls(model: Path, simulated_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("calls") / "calls.vcf.gz"
    done = call(model, simulated_cohort, output)
    assert done.returncode == 0, done.stderr
    return output


def concordance(cohort: Path, calls: Path, *more: str | Path, **files: Path) -> subprocess.CompletedProcess[str]:
    given = {
        "truth": cohort / "north-001.truth.vcf.gz",
        "calls": calls,
        "regions": cohort / "regions.bed",
        "reference": cohort / "reference.fa",
        **files,
    }
    return fedcall("concordance", *(part for name, path in given.items() for part in (f"--{name}", path)), *more)


def test_call__fresh_model_calls_like_a_likelihood_and_bcftools_accepts_it(calls, simulated_cohort, tmp_path):
    with pysam.VariantFile(str(calls)) as file:
        assert list(file.header.samples) == ["north-001"]
        assert len(list(file)) > 5
    header = gzip.decompress(calls.read_bytes()).decode()
    assert f"##fedcall_study={'ab' * 32}" in header
    assert str(simulated_cohort) not in header
    reference = simulated_cohort / "reference.fa"
    arguments = ["-c", "e", "-m", "-any", "-f", str(reference), "-o", str(tmp_path / "n.vcf"), str(calls)]
    pysam.bcftools.norm(*arguments, catch_stdout=False)
    assert "[W::" not in pysam.bcftools.norm.get_messages()


def test_call__equal_inputs_equal_bytes_and_the_sample_is_named(model, calls, simulated_cohort, tmp_path):
    again = tmp_path / "again.vcf.gz"
    assert call(model, simulated_cohort, again).returncode == 0
    assert again.read_bytes() == calls.read_bytes()
    assert call(model, simulated_cohort, again, "--sample", "X").returncode == 0
    with pysam.VariantFile(str(again)) as file:
        assert list(file.header.samples) == ["X"]


def test_call__loads_nothing_that_only_training_needs(model, simulated_cohort, tmp_path):
    script = (
        "import sys; from fedcall.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'torch', 'opacus', 'pandas', 'scipy.stats', 'flwr', 'numba'} & sys.modules.keys()))"
    )
    files = {"--model": model, "--alignments": "north-001.bam", "--reference": "reference.fa"}
    files |= {"--regions": "regions.bed", "--output": tmp_path / "calls.vcf.gz"}
    words = [word for name, file in files.items() for word in (name, str(simulated_cohort / file))]
    command = [sys.executable, "-c", script, "call", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "", done.stdout + done.stderr
    with pysam.VariantFile(str(tmp_path / "calls.vcf.gz")) as calls:  # the list is not short because nothing ran
        assert len(list(calls)) > 10


def test_call__no_model(simulated_cohort, tmp_path):
    done = call(tmp_path / "none.safetensors", simulated_cohort, tmp_path / "calls.vcf.gz")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"fedcall: {tmp_path / 'none.safetensors'}: no such model file"]
    assert list(tmp_path.iterdir()) == []


def test_call_classical__then_concordance(simulated_cohort, tmp_path):
    output = tmp_path / "calls.vcf.gz"
    files = ("--alignments", simulated_cohort / "north-001.bam", "--reference", simulated_cohort / "reference.fa")
    done = fedcall("call-classical", *files, "--regions", simulated_cohort / "regions.bed", "--output", output)
    assert done.returncode == 0, done.stderr
    done = concordance(simulated_cohort, output, "--json", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "c.json").read_text())
    snps = result["snps"]
    assert snps["f1"] > 0.5
    assert snps["tp"] + snps["fn"] > 0
    assert f"{snps['f1']:.4f}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_concordance__truth_against_itself(simulated_cohort, tmp_path):
    done = concordance(simulated_cohort, simulated_cohort / "north-001.truth.vcf.gz", "--json", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "c.json").read_text())
    assert (result["all"]["f1"], result["all"]["fp"], result["all"]["fn"]) == (1.0, 0, 0)
    assert result["all"]["tp"] > 0


def test_concordance__regions_of_another_reference(simulated_cohort, calls, tmp_path):
    regions = tmp_path / "regions.bed"
    regions.write_text("chrOther\t0\t100\n")
    done = concordance(simulated_cohort, calls, "--json", tmp_path / "c.json", regions=regions)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "chrOther" in done.stderr
    assert not (tmp_path / "c.json").exists()


def test_concordance__no_such_truth(simulated_cohort, calls, tmp_path):
    done = concordance(simulated_cohort, calls, truth=tmp_path / "none.vcf.gz")
    assert done.returncode == 2
    assert done.stderr.startswith(f"fedcall: {tmp_path / 'none.vcf.gz'}: no such VCF file")
