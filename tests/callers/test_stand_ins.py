"""The stand-ins for GATK and DeepVariant refuse what the tools refuse, with their exit codes."""

import subprocess
import sys
from pathlib import Path

import pysam
import pytest

from fedcall.callers.preparation import prepare_reference

STAND_IN = Path(__file__).resolve().parents[1] / "support/stand_in_callers.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, STAND_IN, *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def files(simulated_cohort: Path, tmp_path: Path) -> dict[str, Path]:
    prepare_reference(simulated_cohort / "reference.fa", tmp_path / "genome.fa")
    bed = tmp_path / "regions.bed"
    bed.write_bytes((simulated_cohort / "regions.bed").read_bytes())
    return {
        "reference": tmp_path / "genome.fa",
        "reads": simulated_cohort / "north-001.bam",
        "bed": bed,
        "out": tmp_path,
    }


def haplotype_caller(files: dict[str, Path]) -> list[object]:
    return [
        *("gatk", "--java-options", "-Xmx1000m", "HaplotypeCaller", "--reference", files["reference"]),
        *("--input", files["reads"], "--intervals", files["bed"], "--emit-ref-confidence", "GVCF"),
        *("--native-pair-hmm-threads", 2, "--tmp-dir", files["out"], "--output", files["out"] / "p.g.vcf.gz"),
    ]


def deepvariant(files: dict[str, Path]) -> list[object]:
    return [
        *("run_deepvariant", "--model_type=WGS", f"--ref={files['reference']}", f"--reads={files['reads']}"),
        *(f"--regions={files['bed']}", "--sample_name=p", "--num_shards=2", "--novcf_stats_report"),
        *(f"--intermediate_results_dir={files['out'] / 'work'}", f"--output_vcf={files['out'] / 'p.vcf.gz'}"),
        f"--output_gvcf={files['out'] / 'p.g.vcf.gz'}",
    ]


def test_gatk__user_errors_end_with_2_and_wrong_options_with_1(files: dict[str, Path]) -> None:
    command = haplotype_caller(files)
    assert run(*command).returncode == 0
    assert run(*command, "--no-such-option", "x").returncode == 1
    assert run(*command[:-2]).returncode == 1  # without --output
    files["reference"].with_suffix(".dict").rename(files["out"] / "gone")
    missing = run(*command)
    assert missing.returncode == 2
    assert "Fasta dict file" in missing.stderr
    (files["out"] / "gone").write_text("@HD\tVN:1.6\n@SQ\tSN:other\tLN:100000\n")
    (files["out"] / "gone").rename(files["reference"].with_suffix(".dict"))
    assert run(*command).returncode == 2  # wrong contigs


def test_gatk__reads_without_index_are_refused(files: dict[str, Path]) -> None:
    copy = files["out"] / "copy.bam"
    copy.write_bytes(files["reads"].read_bytes())
    answer = run(*haplotype_caller(files | {"reads": copy}))
    assert answer.returncode == 2
    assert "not indexed" in answer.stderr


def test_gatk__genotyping_needs_the_index_of_its_gvcf(files: dict[str, Path]) -> None:
    assert run(*haplotype_caller(files)).returncode == 0
    gvcf, calls = files["out"] / "p.g.vcf.gz", files["out"] / "p.vcf.gz"
    command = [
        *("gatk", "--java-options", "-Xmx1000m", "GenotypeGVCFs", "--reference", files["reference"], "--variant", gvcf),
        *("--intervals", files["bed"], "--tmp-dir", files["out"], "--output", calls),
    ]
    assert run(*command).returncode == 0
    assert calls.is_file()
    Path(f"{gvcf}.tbi").unlink()
    answer = run(*command)
    assert answer.returncode == 2
    assert "An index is required" in answer.stderr


def test_deepvariant__refuses_with_1(files: dict[str, Path]) -> None:
    command = deepvariant(files)
    assert run(*command).returncode == 0
    for name in ("p.vcf.gz", "p.vcf.gz.tbi", "p.g.vcf.gz", "p.g.vcf.gz.tbi"):
        assert (files["out"] / name).is_file()
    assert run(*command, "--no_such=1").returncode == 1
    assert run(*[one for one in command if "model_type" not in str(one)]).returncode == 1
    assert run(*[str(one).replace("=WGS", "=ONT") for one in command]).returncode == 1  # its name is ONT_R104
    copy = files["out"] / "copy.bam"
    copy.write_bytes(files["reads"].read_bytes())
    answer = run(*deepvariant(files | {"reads": copy}))
    assert answer.returncode == 1
    assert "without an index" in answer.stderr
    other = files["out"] / "other.fa"
    other.write_text(">other\n" + "ACGT" * 1000 + "\n")
    missing = run(*deepvariant(files | {"reference": other}))
    assert missing.returncode == 1
    assert "fasta index" in missing.stderr
    pysam.faidx(str(other))
    wrong = run(*deepvariant(files | {"reference": other}))
    assert wrong.returncode == 1
    assert "0 bases (0.00%) were found in common" in wrong.stderr
    elsewhere = files["out"] / "elsewhere.bed"
    elsewhere.write_text("other\t0\t100\n")
    assert run(*deepvariant(files | {"bed": elsewhere})).returncode == 1


def test_versions__as_the_tools_print_them() -> None:
    assert run("gatk", "--version").stdout.startswith("The Genome Analysis Toolkit (GATK) v4.6.2.0\n")
    assert run("run_deepvariant", "--version").stdout == "DeepVariant version 1.10.0\n"
