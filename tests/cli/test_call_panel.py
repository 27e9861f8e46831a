"""`fedcall call --panel` through the shell: what it changes, what it leaves alone, and what it refuses."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from fedcall.files import sha256_file
from fedcall.genomics.concordance.comparison import Concordance, compare
from fedcall.genomics.shards import gather_calls
from fedcall.model.caller import build_model, save_model
from forked import run_forked
from panel_of_people import write_panel

FEDCALL = Path(sys.executable).with_name("fedcall")
PATIENT = "north-001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panel")
    save_model(path / "model", build_model())
    return path


@pytest.fixture(scope="module")
def panel(folder: Path, simulated_cohort: Path) -> Path:
    """A panel of the cohort's other six people."""
    others = [path for path in simulated_cohort.glob("*.truth.vcf.gz") if not path.name.startswith(PATIENT)]
    assert len(others) == 6
    return write_panel(folder / "panel.vcf", others)


def call(folder: Path, cohort: Path, name: str, *more: str | Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = folder / f"{name}.vcf.gz"
    files = ("--alignments", cohort / f"{PATIENT}.bam", "--reference", cohort / "reference.fa")
    command = ["call", "--model", folder / "model", *files, "--regions", cohort / "regions.bed"]
    command += ["--output", output, *more]
    return output, run_forked("fedcall", *command)


def called(folder: Path, cohort: Path, name: str, *more: str | Path) -> Path:
    output, done = call(folder, cohort, name, *more)
    assert done.returncode == 0, done.stderr
    return output


def score(cohort: Path, calls: Path) -> Concordance:
    return compare(cohort / f"{PATIENT}.truth.vcf.gz", calls, cohort / "regions.bed", cohort / "reference.fa")


def test_call_panel__fewer_false_calls_no_true_one_lost_and_the_header_says_so(folder, panel, simulated_cohort):
    without = called(folder, simulated_cohort, "without")
    with_panel = called(folder, simulated_cohort, "with", "--panel", panel)
    before, after = score(simulated_cohort, without), score(simulated_cohort, with_panel)
    assert after.all.fp < before.all.fp
    assert after.all.allele_tp >= before.all.allele_tp - 1  # one that nobody else carries
    header = gzip.decompress(with_panel.read_bytes()).decode()
    assert f"##fedcall_panel={sha256_file(panel)}\n" in header
    assert str(folder) not in header
    assert (before.panel, after.panel) == (None, sha256_file(panel))
    assert "fedcall_panel" not in gzip.decompress(without.read_bytes()).decode()


def test_call_panel__shards_call_what_the_whole_does(folder, panel, simulated_cohort, tmp_path):
    whole = called(folder, simulated_cohort, "whole", "--panel", panel)
    options = ("--panel", panel, "--shard")
    parts = [called(folder, simulated_cohort, f"part-{k}", *options, f"{k}/3") for k in (1, 2, 3)]
    assert gather_calls(parts, tmp_path / "gathered.vcf.gz") > 5
    assert (tmp_path / "gathered.vcf.gz").read_bytes() == whole.read_bytes()


def test_call_panel__one_copy_of_the_genome_is_expected_by_frequency(folder, panel, simulated_cohort, tmp_path):
    haploid = tmp_path / "haploid.bed"
    haploid.write_text((simulated_cohort / "regions.bed").read_text())
    calls = called(folder, simulated_cohort, "haploid", "--panel", panel, "--ploidy-bed", haploid)
    records = [line.split("\t") for line in gzip.decompress(calls.read_bytes()).decode().splitlines() if line[0] != "#"]
    assert len(records) > 5
    assert {record[9].split(":")[0] for record in records} == {"1"}


def test_call_panel__of_other_contigs_or_without_index(folder, panel, simulated_cohort, tmp_path):
    truths = [simulated_cohort / "north-002.truth.vcf.gz"]
    other = write_panel(tmp_path / "other.vcf", truths, contig="chr1")
    bare = tmp_path / "bare.vcf.gz"
    bare.write_bytes(panel.read_bytes())
    for wrong, message in (
        (other, "no contig in common with"),
        (bare, "index is missing; make it with: tabix -p vcf"),
        (tmp_path / "none.vcf.gz", "no such panel VCF"),
        (simulated_cohort / "regions.bed", "not a VCF file"),
    ):
        output, done = call(folder, simulated_cohort, "refused", "--panel", wrong)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert f"fedcall: {wrong}: {message}" in done.stderr
        assert not output.exists()
